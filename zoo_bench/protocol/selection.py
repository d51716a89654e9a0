"""Selection: scores of predictions of the validation models, for encoders that are not shown these models' labels.

Whoever has the labels can learn from them, and with a fifth more training models than others win. So they stay in the
process that evaluates, and an encoder is told how well its predictions score. From scores of many predictions labels
could be worked out, so a score that is not better than the best by its uncertainty is told as that best one: the Ladder
of Blum and Hardt ("The Ladder: A Reliable Leaderboard for Machine Learning Competitions", ICML 2015, section 3).
"""

import math

import numpy as np

from zoo_bench.protocol.problem import Metric
from zoo_gen.errors import ZooError

LOWEST_R2 = -1.0  # a score is never lower, and a few wild predictions do not hide the order
LEAST_ERROR = 1e-9  # 1 - score; what is below is as good as right
MOST_SCORES = 1000  # that a fit may ask for
FEWEST_ROWS = 128  # that are scored, where there are as many


class Selection:
    """Scores predictions of the validation rows in one fit.

    Args:
        target: what is predicted, for messages.
        metric: what ranks it.
        truth: the labels of all rows (row,): numbers, NaN where one is missing, or names, empty where one is missing.
    """

    def __init__(self, target: str, metric: Metric, truth: np.ndarray) -> None:
        self._target, self._metric, self._truth = target, metric, truth
        self._is_number = truth.dtype.kind == "f"
        self._present = np.isfinite(truth) if self._is_number else truth != ""
        self._rows: np.ndarray | None = None  # that are scored, from the first score on
        self._count = 0
        self._best: float | None = None  # score that was told
        self.left_out = int((~self._present).sum())

    def score(self, predicted: np.ndarray, *, rows: np.ndarray | None = None) -> float:
        """Return the score of predictions (row,) if it is better than the best of this fit so far, else that one.

        Better means that the error, 1 - score, is smaller by a factor of exp(-1 / sqrt(rows)), and in these steps it is
        told. 1 is the best score of all.

        Numbers score by R2, and where tau-b ranks by the mean of both: tau is blind to the size of an error, and of
        some dozen networks it is a rough number. Names score by the share that is right. Rows without a value count
        for nothing.

        Args:
            predicted: in the order of the rows of the validation views, view after view.
            rows: the numbers of the rows that are predicted, where that is not all of them: always the same ones.

        Raises:
            ZooError: predictions and rows do not fit each other, no row has a value, or scores are asked for too often.
        """
        chosen = np.arange(len(self._truth)) if rows is None else np.asarray(rows)
        self._check(chosen, predicted := np.asarray(predicted))
        present = self._present[chosen]
        if not present.any():
            raise ZooError(f"{self._target} is missing for all validation models; expected values to select by")
        truth, values = self._truth[chosen][present], predicted[present]
        step = 1 / math.sqrt(len(truth))
        error = math.log(max(1 - self._value(truth, values), LEAST_ERROR))
        if self._best is None or error <= math.log(1 - self._best) - step:
            self._best = 1 - math.exp(round(error / step) * step)
        return self._best

    def _check(self, rows: np.ndarray, predicted: np.ndarray) -> None:
        self._count += 1
        if self._count > MOST_SCORES:
            raise ZooError(f"asked for more than {MOST_SCORES} scores of validation models in one fit")
        expected = "numbers" if self._is_number else "names"
        if predicted.dtype.kind not in ("biuf" if self._is_number else "U"):
            raise ZooError(f"predictions to score are of type {predicted.dtype}; expected {expected}")
        every = len(self._truth)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) != len(rows):
            raise ZooError("rows to score are no list of different numbers of validation rows")
        if len(rows) < min(every, FEWEST_ROWS) or rows.min(initial=0) < 0 or rows.max(initial=0) >= every:
            raise ZooError(f"{len(rows)} rows to score; expected {min(every, FEWEST_ROWS)} or more of the {every} rows")
        if predicted.shape != rows.shape:
            raise ZooError(f"predictions to score have shape {predicted.shape}; expected {rows.shape}, a value a row")
        if self._rows is not None and not np.array_equal(rows, self._rows):
            raise ZooError("other rows to score than before; expected the same validation rows throughout a fit")
        self._rows = rows

    def _value(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        if not self._is_number:
            return float((truth == predicted).mean())
        with np.errstate(over="ignore", invalid="ignore"):
            error = float(np.mean((predicted.astype(np.float64) - truth) ** 2))
        if not math.isfinite(error):
            return LOWEST_R2
        variance = float(truth.var())
        if variance == 0:
            return 1 - min(error, 1 - LOWEST_R2)
        r2 = max(1 - error / variance, LOWEST_R2)
        if self._metric != "kendall_tau":
            return r2
        from scipy import stats  # which listing encoders does without

        tau = float(stats.kendalltau(predicted, truth).statistic)
        return (r2 + (tau if np.isfinite(tau) else -1.0)) / 2
