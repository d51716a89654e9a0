"""Logistic regression at falling penalties, on a CPU or a GPU.

It minimises what scikit-learn's LogisticRegression does, by Newton steps within a trust region (scipy). The products
are torch's, in float64: on thousands of correlated features L-BFGS still wanders where these have converged, and a GPU
takes seconds for what holds cores for minutes.
"""

import numpy as np
import torch
from torch.nn.functional import one_hot

_TOLERANCE = 1e-5  # of the norm of the gradient of the mean loss
_STEPS = 200


class Logistic:
    """A logistic regression of names, with an L2 penalty on all but the intercepts.

    Attributes:
        classes: the names, sorted (class,).
    """

    def __init__(self, rows: np.ndarray, names: np.ndarray, *, device: str) -> None:
        """Take training rows (row, feature) and their names (row,), of which at least two differ."""
        self.classes, codes = np.unique(names, return_inverse=True)
        self._device = device
        self._rows = self._moved(rows)
        self._truth = one_hot(torch.from_numpy(codes)).to(device, torch.float64)
        # Of two names one column of coefficients tells both, and bears the penalty once.
        columns = len(self.classes) if len(self.classes) > 2 else 1
        self._coefficients = np.zeros((rows.shape[1] + 1, columns))  # the last row holds the intercepts

    def fit(self, penalty: float) -> None:
        """Find the coefficients at a penalty, added to the squares' half sum, from those of the last penalty on."""
        from scipy.optimize import minimize

        strength = penalty / len(self._rows)
        shares = self._truth

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal shares
            coefficients = self._tensor(flat)
            logarithms = self._logits(self._rows, coefficients).log_softmax(dim=1)
            shares = logarithms.exp()
            penalised = coefficients[:-1]
            value = -(logarithms * self._truth).sum() / len(self._rows) + strength / 2 * (penalised**2).sum()
            return value.item(), self._gradient(shares - self._truth, penalised * strength)

        def curvature(_: np.ndarray, direction: np.ndarray) -> np.ndarray:  # at the coefficients that loss saw last
            along = self._tensor(direction)
            change = self._logits(self._rows, along)
            change = shares * (change - (shares * change).sum(dim=1, keepdim=True))
            return self._gradient(change, along[:-1] * strength)

        options = {"gtol": _TOLERANCE, "maxiter": _STEPS}
        start = self._coefficients.ravel()
        found = minimize(loss, start, jac=True, hessp=curvature, method="trust-ncg", options=options)
        self._coefficients = found.x.reshape(self._coefficients.shape)

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability of each name, of rows (row, feature): float64 (row, class)."""
        logits = self._logits(self._moved(rows), self._tensor(self._coefficients))
        return logits.softmax(dim=1).cpu().numpy()

    def _logits(self, rows: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the logit of each name (row, class); of two names the first has 0."""
        logits = torch.addmm(coefficients[-1], rows, coefficients[:-1])
        return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)

    def _gradient(self, of_logits: torch.Tensor, of_penalty: torch.Tensor) -> np.ndarray:
        """Return derivatives by the coefficients (coefficient,) from those by the logits, times rows (row, class)."""
        of_logits = of_logits[:, -of_penalty.shape[1] :] / len(self._rows)
        gradient = torch.cat([torch.addmm(of_penalty, self._rows.T, of_logits), of_logits.sum(dim=0, keepdim=True)])
        return gradient.cpu().numpy().ravel()

    def _tensor(self, coefficients: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(coefficients.reshape(self._coefficients.shape)).to(self._device)

    def _moved(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows).to(self._device).to(torch.float64)
