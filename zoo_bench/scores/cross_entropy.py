"""Cross-entropy of names whose logits are linear in the features: its value, gradient and curvature.

Logits matter up to a number that all names of a row share, so coefficients have a column for each contrast of names,
one less than there are names.

To read a matrix of many rows from memory takes longer than to multiply with it by a few columns. So rows lie in float32
and go through in blocks that a core's cache holds, each for the logits and for the gradient at once. Loss and gradient
are computed in float64, and in float32 the curvatures, which only guide the steps.
"""

from functools import cache
from itertools import combinations

import numpy as np
from scipy.linalg import helmert

_BLOCK = 2**17  # numbers of a block: in float64 it fills half of a core's cache
_ROWS_SQUARED = 2048  # at once


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
        size = max(1, _BLOCK // rows.shape[1])
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

    def curved(self, direction: np.ndarray) -> np.ndarray:
        """Return the product with the curvature where `loss` was asked last, (feature or intercept, contrast)."""
        direction = direction.astype(np.float32)
        sums = np.zeros(direction.shape)
        for block in self._blocks:
            rows, shares = self._rows[block], self._shares[block]
            change = logits(rows, direction)
            change = shares * (change - (shares * change).sum(axis=1, keepdims=True))
            _add(sums, rows, (change @ self._contrasts).astype(np.float32))
        return sums / len(self._rows)

    def squares(self) -> np.ndarray:
        """Return the diagonal of `curvature` (feature or intercept, contrast)."""
        means = self._shares @ self._contrasts
        variances = self._shares @ self._contrasts**2 - means**2
        sums = np.zeros((self._rows.shape[1], means.shape[1]))
        for block in self._blocks:
            sums += (self._rows[block] ** 2).T @ variances[block].astype(np.float32)
        return np.concatenate([sums, variances.sum(axis=0, keepdims=True)]) / len(self._rows)

    def curvature(self) -> np.ndarray:
        """Return the second derivative by each two coefficients where `loss` was asked last, before that at 0.

        Its shape is (feature or intercept, contrast, feature or intercept, contrast). That by the logits of a row whose
        names have the shares p is diag(p) - pp', the sum over pairs of names j < k of p_j p_k (e_j - e_k)(e_j - e_k)'.
        """
        n_rows, n_coefficients = len(self._rows), self._rows.shape[1] + 1
        n_contrasts = self._contrasts.shape[1]
        sums = np.zeros((n_coefficients, n_contrasts, n_coefficients, n_contrasts))
        for one, other in combinations(range(len(self._contrasts)), 2):
            roots = np.sqrt(self._shares[:, [one]] * self._shares[:, [other]]).astype(np.float32)
            of_pair = np.zeros((n_coefficients, n_coefficients))
            for start in range(0, n_rows, _ROWS_SQUARED):
                block = slice(start, start + _ROWS_SQUARED)
                rows = np.concatenate([roots[block] * self._rows[block], roots[block]], axis=1)
                of_pair += rows.T @ rows
            apart = self._contrasts[one] - self._contrasts[other]
            for row, column in np.ndindex(n_contrasts, n_contrasts):
                sums[:, row, :, column] += apart[row] * apart[column] / n_rows * of_pair
        return sums


def _add(sums: np.ndarray, rows: np.ndarray, by_contrasts: np.ndarray) -> None:
    """Add derivatives by the coefficients (feature or intercept, contrast) from those of each row (row, contrast)."""
    sums[:-1] += rows.T @ by_contrasts
    sums[-1] += by_contrasts.sum(axis=0)
