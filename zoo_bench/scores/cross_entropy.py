"""Cross-entropy of names whose logits are linear in the features: its value, gradient and curvature.

To read a matrix of many rows from memory takes longer than to multiply with it by a few columns. So rows lie in float32
and go through in blocks that a core's cache holds, each for the logits and for the gradient at once. Loss and gradient
are computed in float64, and in float32 the curvatures, which only guide the steps. On a GPU all is float64.
"""

import logging
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zoo_gen.errors import one_line
from zoo_gen.machine.warning import warn_once

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BLOCK = 2**17  # numbers of a block: in float64 it fills half of a core's cache
_ROWS_SQUARED = 2048  # at once, on a GPU

_logger = logging.getLogger(__name__)


class CrossEntropy(Protocol):
    """The mean cross-entropy of rows as a function of coefficients (feature or intercept, column)."""

    def loss(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and the gradient, float64 (feature or intercept, column)."""

    def curved(self, direction: np.ndarray) -> np.ndarray:
        """Return the product with the second derivative where `loss` was asked last, (feature or intercept, column)."""

    def curvatures(self) -> np.ndarray:
        """Return its diagonal there, before that at 0, and of all columns the mean: (feature or intercept,)."""


def cross_entropy(rows: np.ndarray, truth: np.ndarray, *, device: str | None = None) -> CrossEntropy:
    """Return the cross-entropy of rows.

    Args:
        rows: float32 (row, feature).
        truth: one-hot, float64 (row, class).
        device: as torch names it, where it is computed; by numpy without one, or where its memory is full.
    """
    if device is not None:
        import torch

        try:
            return _ByTorch(rows, truth, torch.device(device))
        except RuntimeError as error:  # trainings of other cells may hold all of its memory
            warn_once(_logger, f"probes: {device} cannot be used ({one_line(error)}); the CPU is used, which is slower")
    return _ByNumpy(rows, truth)


def release_gpu_memory() -> None:
    """Return the memory of GPUs that torch keeps for later, so that trainings in other processes have it."""
    import torch

    torch.cuda.empty_cache()


class _ByNumpy:
    def __init__(self, rows: np.ndarray, truth: np.ndarray) -> None:
        self._rows, self._truth = rows, truth
        self._shares = np.full_like(truth, 1 / truth.shape[1])
        size = max(1, _BLOCK // rows.shape[1])
        self._blocks = [slice(start, start + size) for start in range(0, len(rows), size)]
        self._wide = np.empty((size, rows.shape[1]))

    def loss(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
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
            _add(gradient, rows, shares - truth)
        return value / len(self._rows), gradient / len(self._rows)

    def curved(self, direction: np.ndarray) -> np.ndarray:
        direction = direction.astype(np.float32)
        product = np.zeros(direction.shape)
        for block in self._blocks:
            rows, shares = self._rows[block], self._shares[block]
            change = logits(rows, direction)
            change = shares * (change - (shares * change).sum(axis=1, keepdims=True))
            _add(product, rows, change.astype(np.float32))
        return product / len(self._rows)

    def curvatures(self) -> np.ndarray:
        weights = (self._shares * (1 - self._shares)).mean(axis=1)
        sums = np.zeros(self._rows.shape[1])
        for block in self._blocks:
            sums += weights[block].astype(np.float32) @ self._rows[block] ** 2
        return np.append(sums, weights.sum()) / len(self._rows)


class _ByTorch:
    def __init__(self, rows: np.ndarray, truth: np.ndarray, device: "torch.device") -> None:
        import torch

        with_ones = torch.ones((len(rows), rows.shape[1] + 1), dtype=torch.float64, device=device)
        with_ones[:, :-1] = torch.from_numpy(rows).to(device)
        self._rows, self._truth = with_ones, torch.from_numpy(truth).to(device)
        self._shares = torch.full_like(self._truth, 1 / truth.shape[1])

    def loss(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logarithms = self._logits(coefficients).log_softmax(dim=1)
        self._shares = logarithms.exp()
        value = -(logarithms * self._truth).sum() / len(self._rows)
        return value.item(), self._sums(self._shares - self._truth, coefficients.shape[1])

    def curved(self, direction: np.ndarray) -> np.ndarray:
        change = self._logits(direction)
        change = self._shares * (change - (self._shares * change).sum(dim=1, keepdim=True))
        return self._sums(change, direction.shape[1])

    def curvatures(self) -> np.ndarray:
        weights = (self._shares * (1 - self._shares)).mean(dim=1)
        parts = zip(self._rows.split(_ROWS_SQUARED), weights.split(_ROWS_SQUARED), strict=True)
        sums = sum(of_part @ rows**2 for rows, of_part in parts)
        return np.asarray(sums.cpu()) / len(self._rows)

    def _logits(self, coefficients: np.ndarray) -> "Tensor":
        import torch

        columns = self._rows @ torch.from_numpy(coefficients).to(self._rows.device)
        return columns if columns.shape[1] > 1 else torch.cat([torch.zeros_like(columns), columns], dim=1)

    def _sums(self, of_logits: "Tensor", n_columns: int) -> np.ndarray:
        sums = self._rows.T @ of_logits[:, -n_columns:] / len(self._rows)
        return sums.cpu().numpy()


def logits(rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return the logit of each name (row, class); of two names the first has 0.

    Args:
        rows: (row, feature).
        coefficients: (feature or intercept, column), the intercepts last; of two names there is one column.
    """
    columns = rows @ coefficients[:-1] + coefficients[-1]
    return columns if columns.shape[1] > 1 else np.concatenate([np.zeros_like(columns), columns], axis=1)


def _add(sums: np.ndarray, rows: np.ndarray, of_logits: np.ndarray) -> None:
    """Add derivatives by the coefficients (feature or intercept, column) from those by each logit (row, class)."""
    of_logits = of_logits[:, -sums.shape[1] :]
    sums[:-1] += rows.T @ of_logits
    sums[-1] += of_logits.sum(axis=0)
