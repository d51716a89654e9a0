"""The sums over pairs of rows of Kendall's tau-b, exact, for many resamples of models at once.

A model drawn w times counts w times, so a resample is a weight a model and no row is copied. Up to 2,000 models, pairs
are summed once into tables of model by model: ranks are cut into buckets, a matrix product settles all pairs that
differ in both buckets, and only the rest is compared. Tables of more models would not fit into memory; there, opposed
pairs are counted in n log n a resample, bit by bit of the ranks.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

MOST_MODELS = 2000  # whose tables are made: 3 x 32 MB
_BUCKETS = 64  # of ranks, a side
_PAIRS_AT_ONCE = 2**22  # that are compared together
_NUMBERS_AT_ONCE = 2**18  # rows x resamples that are worked on together: they stay in the processor's cache

# Of each resample, in ordered pairs: concordant less opposed; not tied in the truth; not tied in the predictions.
Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


def tau_sums(
    truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, *, n_models: int
) -> Callable[[np.ndarray], Sums]:
    """Return what gives the sums of tau-b, (resample,) each, from how often each model is drawn, (resample, model).

    Args:
        truth: true values (row,).
        predicted: predicted values (row,).
        members: the column of each row's model among the draws, int64 (row,).
        n_models: the number of columns.
    """
    few, many = (np.unique(values, return_inverse=True)[1].astype(np.int64) for values in (truth, predicted))
    if n_models <= MOST_MODELS:
        return tables(few, many, members, n_models=n_models)
    if few.max() <= many.max():
        return SortedPairs(few, many, members).sums

    def swapped(draws: np.ndarray) -> Sums:
        difference, first, second = SortedPairs(many, few, members).sums(draws)
        return difference, second, first

    return swapped


def tables(
    first: np.ndarray, second: np.ndarray, members: np.ndarray, *, n_models: int
) -> Callable[[np.ndarray], Sums]:
    """Return the sums from tables (model, model) of dense ranks (row,)."""
    difference = _products_of_signs(first, second, members, n_models)
    tied = [_tied(ranks, members, n_models) for ranks in (first, second)]

    def sums(draws: np.ndarray) -> Sums:
        def total(table: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", draws @ table, draws)

        pairs = (draws @ np.bincount(members, minlength=n_models)) ** 2
        return total(difference), pairs - total(tied[0]), pairs - total(tied[1])

    return sums


def _tied(ranks: np.ndarray, members: np.ndarray, n_models: int) -> np.ndarray:
    """Return how many ordered pairs of rows of two models are tied, float64 (model, model)."""
    shape = (n_models, int(ranks.max()) + 1)
    counts = sparse.csr_array((np.ones(len(ranks)), (members, ranks)), shape=shape)
    return (counts @ counts.T).toarray()


def _products_of_signs(first: np.ndarray, second: np.ndarray, members: np.ndarray, n_models: int) -> np.ndarray:
    """Return the sum over pairs of rows of two models of sign x sign, concordant less opposed (model, model)."""
    buckets = [_bucket(ranks) for ranks in (first, second)]
    counts = np.zeros((n_models, _BUCKETS, _BUCKETS))
    np.add.at(counts, (members, *buckets), 1.0)
    signs = counts
    for axis in (1, 2):  # below less above, along each side
        signs = 2 * np.cumsum(signs, axis=axis) - signs - signs.sum(axis=axis, keepdims=True)
    found = counts.reshape(n_models, -1) @ signs.reshape(n_models, -1).T
    for number, (bucket, ranks) in enumerate(zip(buckets, (first, second), strict=True)):
        order = np.lexsort((members, bucket))
        for rows in np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1):
            if ranks[rows[0]] == ranks[rows].min() == ranks[rows].max():
                continue  # all tied
            models, starts = np.unique(members[rows], return_index=True)
            step = max(1, _PAIRS_AT_ONCE // len(rows))
            for start in range(0, len(rows), step):  # many ties make a bucket of many rows
                part = rows[start : start + step]
                pairs = _signs(first[part], first[rows]) * _signs(second[part], second[rows])
                if number == 1:  # pairs that share both buckets are counted already
                    pairs *= buckets[0][part, None] != buckets[0][rows]
                its, its_starts = np.unique(members[part], return_index=True)
                summed = np.add.reduceat(np.add.reduceat(pairs, its_starts, axis=0, dtype=np.int64), starts, axis=1)
                found[np.ix_(its, models)] += summed
    return found


def _bucket(ranks: np.ndarray) -> np.ndarray:
    """Return the bucket of each rank (row,): about as many rows in each, equal ranks always together."""
    counts = np.bincount(ranks)
    middle = np.cumsum(counts) - counts
    return (middle * _BUCKETS // len(ranks))[ranks]


def _signs(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the signs of the differences of ranks, int8 (row, other)."""
    return (rows[:, None] > others).view(np.int8) - (rows[:, None] < others).view(np.int8)


class SortedPairs:
    """The orders that two columns of dense ranks need, found once for all resamples.

    Rows stand in the order of the second column. Within each group of first ranks that agree in the higher bits, a row
    with the next bit set that stands before one without it is opposed to it.
    """

    def __init__(self, few: np.ndarray, many: np.ndarray, members: np.ndarray) -> None:
        # Among equal values of one side the other side rises, so that tied pairs never look opposed.
        order = np.lexsort((few, many))
        few, many = few[order], many[order]
        self._owners = members[order]
        self._many = _starts(many)
        self._both = np.union1d(self._many, _starts(few))
        by_few = np.argsort(few, kind="stable")
        self._few_owners, self._few = self._owners[by_few], _starts(few[by_few])
        self._levels = list(_levels(few, self._owners))

    def sums(self, draws: np.ndarray) -> Sums:
        """Return the sums of each resample, from how often each model is drawn (resample, model)."""
        step = max(1, _NUMBERS_AT_ONCE // len(self._owners))
        parts = [self._sums(draws[start : start + step]) for start in range(0, len(draws), step)]
        difference, few, many = (np.concatenate(column) for column in zip(*parts, strict=True))
        return difference, few, many

    def _sums(self, draws: np.ndarray) -> Sums:
        weights = draws[:, self._owners]
        total = weights.sum(axis=1)
        many, both = (_squares(weights, starts) for starts in (self._many, self._both))
        few = _squares(draws[:, self._few_owners], self._few)
        opposed = np.zeros(len(draws))
        for owners, is_set, starts in self._levels:
            weights = draws[:, owners]
            ones = weights * is_set
            zeros = weights - ones
            before = np.cumsum(ones, axis=1)
            outside = np.zeros((len(draws), len(starts)))
            outside[:, 1:] = before[:, starts[1:] - 1]
            opposed += np.einsum("ij,ij->i", zeros, before)
            opposed -= np.einsum("ij,ij->i", np.add.reduceat(zeros, starts, axis=1), outside)
        untied = total**2 - few - many + both
        return untied - 4 * opposed, total**2 - few, total**2 - many


def _levels(ranks: np.ndarray, owners: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each bit of the ranks: the owners of rows by group, whether the bit is set, where groups start."""
    for bit in range(int(ranks.max()).bit_length()):
        groups = ranks >> (bit + 1)
        order = np.argsort(groups, kind="stable")
        is_set = ((ranks[order] >> bit) & 1).astype(np.float64)
        starts = _starts(groups[order])
        # Rows of a group in which all have the same bit stand in no pair.
        sizes = np.diff(np.append(starts, len(ranks)))
        mixed = np.add.reduceat(is_set, starts)
        kept = np.repeat((mixed > 0) & (mixed < sizes), sizes)
        if kept.any():
            yield owners[order][kept], is_set[kept], _starts(groups[order][kept])


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return where runs of equal values start."""
    return np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])


def _squares(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sum over groups of the squared weight of each (resample,)."""
    return (np.add.reduceat(weights, starts, axis=1) ** 2).sum(axis=1)
