"""Cross-entropy of names whose logits are linear in the features: its value, gradient and curvature.

Logits matter up to a number that all names of a row share, so coefficients have a column for each contrast of names,
one less than there are names.

To read a matrix of many rows from memory takes longer than to multiply with it by a few columns. So rows lie in float32
and go through in blocks that a core's cache holds, each for the logits and for the gradient at once. Loss and gradient
are computed in float64, and in float32 the curvature, which only guides the steps.
"""

from functools import cache
from itertools import combinations

import numpy as np
from scipy.linalg import helmert

_BLOCK = 2**17  # numbers of a block: in float64 it fills half of a core's cache
_ROWS_SQUARED = 2048  # at once
_CERTAIN = 1e-6  # of the largest curvature of a row, below which a row is left out: the least that float32 tells


@cache  # it is asked for with every block of rows
def contrasts(n_names: int) -> np.ndarray:
    """Return what each contrast adds to the logit of each name (name, contrast).

    They are orthonormal, so that a penalty of them is one of the coefficients of names. Of two names the first has the
    logit 0, and one column of coefficients bears the penalty once.
    """
    return np.array([[0.0], [1.0]]) if n_names == 2 else helmert(n_names).T


def logits(rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return the logit of each name (row, name).

    Args:
        rows: (row, feature).
        coefficients: (feature or intercept, contrast), the intercepts last.
    """
    of_contrasts = rows @ coefficients[:-1] + coefficients[-1]
    return of_contrasts @ contrasts(coefficients.shape[1] + 1).T.astype(of_contrasts.dtype)


class CrossEntropy:
    """The mean cross-entropy of rows as a function of coefficients (feature or intercept, contrast).

    Args:
        rows: float32 (row, feature).
        truth: one-hot, float64 (row, name).
    """

    def __init__(self, rows: np.ndarray, truth: np.ndarray) -> None:
        self._rows, self._truth = rows, truth
        self._contrasts = contrasts(truth.shape[1])
        self._shares = np.full_like(truth, 1 / truth.shape[1])
        size = max(1, _BLOCK // max(1, rows.shape[1]))  # rows that are all the same have no feature that varies
        self._blocks = [slice(start, start + size) for start in range(0, len(rows), size)]
        self._wide = np.empty((size, rows.shape[1]))

    def loss(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and the gradient, float64 (feature or intercept, contrast)."""
        value, gradient = 0.0, np.zeros_like(coefficients)
        self._shares = np.empty_like(self._truth)
        for block in self._blocks:
            narrow, truth = self._rows[block], self._truth[block]
            rows = self._wide[: len(narrow)]
            rows[...] = narrow
            of_names = logits(rows, coefficients)
            of_names -= of_names.max(axis=1, keepdims=True)
            shares = np.exp(of_names)  # scipy's softmax takes longer to begin than a block does
            sums = shares.sum(axis=1, keepdims=True)
            shares /= sums
            value += np.log(sums).sum() - (of_names * truth).sum()
            self._shares[block] = shares
            _add(gradient, rows, (shares - truth) @ self._contrasts)
        return value / len(self._rows), gradient / len(self._rows)

    def squares(self) -> np.ndarray:
        """Return the diagonal of `curvature`, float64 (contrast, feature or intercept)."""
        means = self._shares @ self._contrasts
        variances = (self._shares @ self._contrasts**2 - means**2).T
        sums = np.zeros((len(variances), self._rows.shape[1]))
        for block in self._blocks:
            sums += variances[:, block].astype(np.float32) @ self._rows[block] ** 2
        return np.concatenate([sums, variances.sum(axis=1, keepdims=True)], axis=1) / len(self._rows)

    def curvature(self) -> np.ndarray:
        """Return the second derivative by each two coefficients where `loss` was asked last, before that at 0.

        Its shape is (contrast, feature or intercept, contrast, feature or intercept), float32. That by the logits of a
        row whose names have the shares p is diag(p) - pp', the sum over pairs of names j < k of
        p_j p_k (e_j - e_k)(e_j - e_k)'. Rows that nearly all tell two names apart are left out of their pair.
        """
        n_coefficients, n_contrasts = self._rows.shape[1] + 1, self._contrasts.shape[1]
        pairs = list(combinations(range(len(self._contrasts)), 2))
        of_pairs = np.zeros((len(pairs), n_coefficients, n_coefficients), np.float32)
        for pair, (one, other) in enumerate(pairs):
            weights = self._shares[:, one] * self._shares[:, other]
            (in_doubt,) = np.nonzero(weights > _CERTAIN * weights.max())
            for start in range(0, len(in_doubt), _ROWS_SQUARED):
                some = in_doubt[start : start + _ROWS_SQUARED]
                roots = np.sqrt(weights[some, None], dtype=np.float32)
                rows = np.concatenate([roots * self._rows[some], roots], axis=1)
                of_pairs[pair] += rows.T @ rows  # numpy computes one triangle and copies it
        apart = np.array([self._contrasts[one] - self._contrasts[other] for one, other in pairs], np.float32)
        apart /= np.float32(np.sqrt(len(self._rows)))
        sums = np.empty((n_contrasts, n_coefficients, n_contrasts, n_coefficients), np.float32)
        for row, column in np.ndindex(n_contrasts, n_contrasts):
            sums[row, :, column] = np.tensordot(apart[:, row] * apart[:, column], of_pairs, axes=1)
        return sums


def _add(sums: np.ndarray, rows: np.ndarray, by_contrasts: np.ndarray) -> None:
    """Add derivatives by the coefficients (feature or intercept, contrast) from those of each row (row, contrast)."""
    sums[:-1] += rows.T @ by_contrasts
    sums[-1] += by_contrasts.sum(axis=0)
