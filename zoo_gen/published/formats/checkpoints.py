"""Where the states of runs stand on the axis of checkpoints: at their epochs, or one after another where few share any.

A zoo has a place for each epoch of each model. Where every run was kept at steps of its own, nearly all would be empty
and their number the square of the states': then a run's states are its first, its second, and so on.
"""

from dataclasses import dataclass

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.published.account import Account

_MOST_PLACES = 8  # for each state, above which its number takes the place of its epoch
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Places:
    """The axis of checkpoints, and the place of each state on it."""

    epochs: np.ndarray  # int32 (checkpoint,), rising
    of_row: np.ndarray  # int64 (row,), positions among them
    means: str  # what `epochs` are: "epoch", or "state" where they only count

    @property
    def epoch_of_row(self) -> np.ndarray:
        """What stands on the axis for each state, int32 (row,)."""
        return self.epochs[self.of_row]


def placed(model: np.ndarray, epoch: np.ndarray, *, where: str, account: Account, means: str = "epoch") -> Places:
    """Return the places of states, and note it where epochs only count.

    Args:
        model: int64 (row,), the run of each state, numbered from 0.
        epoch: int64 (row,), its epoch or step.
        where: how messages name the source.
        account: where it is noted.
        means: what the numbers are.
    """
    wrong = epoch[(epoch < 0) | (epoch > _LARGEST)]
    if len(wrong):
        raise ZooError(f"{where}: has {means} {wrong[0]}; expected 0 to {_LARGEST:,}")
    epochs, of_row = np.unique(epoch, return_inverse=True)
    of_row = of_row.astype(np.int64)
    counts = np.bincount(model) if len(model) else np.zeros(1, dtype=np.int64)
    if len(counts) * len(epochs) <= _MOST_PLACES * len(model) or counts.max() == len(epochs):
        return Places(epochs.astype(np.int32), of_row, means)
    order = np.lexsort((epoch, model))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.empty(len(model), dtype=np.int64)
    rank[order] = np.arange(len(model)) - starts[model[order]]
    again = np.flatnonzero((np.diff(model[order]) == 0) & (np.diff(epoch[order]) == 0)) + 1
    if len(again):  # two states at one place, which the caller refuses
        rank[order[again]] = rank[order[again - 1]]
    account.note(
        f"{len(model):,} states stand at {len(epochs):,} different {means}s: on the axis of checkpoints they are the "
        f"1st to {_ordinal(int(counts.max()))} state of each run; the {means} of each is in states.parquet"
    )
    return Places(np.arange(1, counts.max() + 1, dtype=np.int32), rank, "state")


def _ordinal(number: int) -> str:
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
