"""Rows encoded a second time, in other company: what shows that a row's embedding follows from its own weights alone.

As many rows as before are encoded by the fitted encoder in a fresh process: half of them are rows of the test, in
another order, and the others are training rows from one side of the range of weights. So whatever an encoder takes from
the rows beside one, their mean, their ranks or their order, is another one now; and it cannot answer from memory.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from zoo_bench.evaluation.failing import EncoderError
from zoo_bench.protocol.computing import Computing
from zoo_bench.protocol.parts import rows_of
from zoo_bench.protocol.views import WeightsView, random_order
from zoo_gen.zoo import ZooView

# Networks of float32 give a row other last digits at another place of a batch, because sums are added in another order:
# some 1e-7 of what is added, which cancellation makes up to 1e-4 of an embedding's spread. GPUs multiply in TF32 or
# bfloat16, whose unit is 4e-4 to 4e-3. What somebody hides below these shares of the spread is not found.
SHARE_OF_SPREAD, SHARE_OF_SPREAD_ON_GPU = 1e-3, 2e-2
UNITS = 64  # of float32, relative to the largest value: where the spread is small beside the values themselves
_SAMPLE = 2048  # rows that tell the spread


@dataclass(frozen=True)
class Company:
    """The rows that are encoded a second time."""

    view: WeightsView
    places: np.ndarray  # int64 (checked,): which rows of `view` are rows of the test
    rows: np.ndarray  # int64 (checked,): which rows of the test, models outermost, these are

    @classmethod
    def of(cls, test: ZooView, others: Sequence[ZooView], *, hide_activation: bool = False) -> "Company":
        """Draw them: half of a test's rows, and as many of `others` of its architecture, else of its own again."""
        weights, computing = _rows([test], hide_activation=hide_activation)
        checked = random_order(len(weights))[: (len(weights) + 1) // 2]
        alike = [view for view in others if view.layout == test.layout]
        around, theirs = _rows(alike, hide_activation=hide_activation) if alike else (weights, computing)
        company = _one_side(around, len(weights) - len(checked))
        together = np.concatenate([weights[checked], around[company]])
        order = random_order(len(together))
        rows = together[order]
        rows.flags.writeable = False
        computing = computing.part(checked).followed_by(theirs.part(company)).part(order)
        return cls(WeightsView(rows, test.layout, computing), np.argsort(order)[: len(checked)], checked)


def check_again(
    what: str, first: np.ndarray, second: np.ndarray, company: Company, test: ZooView, *, start: int, gpu: bool
) -> None:
    """Refuse an encoder whose output for a row changes with the rows beside it.

    Args:
        what: begins the message: the encoder and what it returned.
        first: what it returned for the test's rows (row, ...), models outermost.
        second: what it returned for the company's rows (row, ...).
        company: the rows.
        test: whose rows were checked.
        start: the number of the test's first row among all test rows.
        gpu: whether it computes on a GPU.

    Raises:
        EncoderError: a row changed beyond rounding; the message has its number, model and epoch.
    """
    change = changed(first[company.rows], second[company.places], among=first, gpu=gpu)
    if change is None:
        return
    row, by = int(company.rows[change[0]]), change[1]
    models, epochs = rows_of([test])
    raise EncoderError(
        f"{what} row {start + row} (model {models[row]}, epoch {epochs[row]}) changed {by} when other rows "
        "stood beside it; expected that it follows from the row's own weights"
    )


def changed(before: np.ndarray, now: np.ndarray, *, among: np.ndarray, gpu: bool = False) -> tuple[int, str] | None:
    """Return which row changed most, and by how much; None if nothing changed, or rounding explains it.

    Args:
        before: embeddings (row, dimension) or predictions (row,).
        now: what is there instead.
        among: all embeddings or predictions that tell the spread (other row, ...).
        gpu: whether they were computed on a GPU.
    """
    if before.shape != now.shape:
        return 0, f"its shape from {before.shape[1:]} to {now.shape[1:]}"
    if np.array_equal(before, now):
        return None
    if before.dtype.kind == "U":
        rows = np.flatnonzero(before != now)
        if len(rows) <= len(before) // 1000:  # names that rounding decides
            return None
        return int(rows[0]), f"from {before[rows[0]]} to {now[rows[0]]}"
    unit = float(np.finfo(among.dtype).eps) if among.dtype.kind == "f" else 0.0
    earlier, later, values = (part.reshape(len(part), -1).astype(np.float64) for part in (before, now, among))
    allowed, spread = _rounding(values, earlier, share=SHARE_OF_SPREAD_ON_GPU if gpu else SHARE_OF_SPREAD, unit=unit)
    difference = np.abs(later - earlier)
    excess = difference - allowed
    if (excess <= 0).all():
        return None
    row, dimension = np.unravel_index(int(np.argmax(excess / np.maximum(spread, 1e-300))), excess.shape)
    if not spread[dimension]:
        return int(row), f"by {difference[row, dimension]:.2g}, where most are equal,"
    return int(row), f"by {difference[row, dimension] / spread[dimension]:.2g} of its spread"


def without_rounding(train: np.ndarray, others: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return embeddings (row, dimension) with 0 in dimensions that vary by less than rounding among training rows.

    What a check cannot tell from rounding must not be blown up by a probe that divides by the deviation.
    """
    largest = np.abs(train).max(axis=0, initial=0)
    quiet = np.ptp(train.astype(np.float64), axis=0) <= UNITS * np.finfo(np.float32).eps * largest
    parts = [train, *others]
    return [np.where(quiet, np.zeros((), part.dtype), part) for part in parts] if quiet.any() else parts


def _rows(views: Sequence[ZooView], *, hide_activation: bool) -> tuple[np.ndarray, Computing]:
    """Return the weights (row, 1, parameter) of the rows of views of one architecture, and how they compute."""
    weights = np.concatenate([view.weights.reshape(-1, 1, view.layout.size) for view in views])
    return weights, reduce(Computing.followed_by, (Computing.of(v, hide_activation=hide_activation) for v in views))


def _one_side(weights: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of so many rows (row, 1, parameter) with the least norms, or the greatest; some twice."""
    norms = np.einsum("rcp,rcp->r", weights, weights, dtype=np.float64)
    order = np.argsort(norms)[:: secrets.choice((1, -1))]
    return np.resize(order, count)


def _rounding(values: np.ndarray, checked: np.ndarray, *, share: float, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what rounding may change (checked, dimension), and the spread of each dimension (dimension,).

    The spread is that of the middle 98 % of a sample, so that a few huge values do not allow all others everything;
    these have an allowance of their own.
    """
    sample = values[:: max(1, len(values) // _SAMPLE)]
    # Values that are there, and none in between: of few rows, one huge value would pull the middle along.
    low, high = np.percentile(sample, 1, axis=0, method="higher"), np.percentile(sample, 99, axis=0, method="lower")
    spread = np.clip(sample, low, high).std(axis=0)
    beyond = np.abs(checked - np.clip(checked, low, high))
    largest = np.maximum(np.abs(low), np.abs(high))
    units = UNITS * float(np.finfo(np.float32).eps) + 2 * unit
    return share * (spread + beyond) + units * (largest + beyond), spread
