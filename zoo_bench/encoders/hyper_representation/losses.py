"""The losses of hyper-representations: contrast between views, and reconstruction.

The positive-only contrast of the public code pushes views apart (it takes cosines to 0); the one here pulls them
together. All are computed in float32, whatever the networks compute in.
"""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy of two views (row, dimension) of the same rows.

    Each of the 2 x rows views is to be found among the others by its cosine with the other view of its row (Chen et
    al., ICML 2020, equation 1; the contrast L_C of Schürholt et al., NeurIPS 2021).
    """
    with torch.autocast(first.device.type, enabled=False):
        views = functional.normalize(torch.cat([first, second]).float(), dim=1)
        similarities = views @ views.T / temperature
        count = len(views)
        itself = torch.eye(count, dtype=torch.bool, device=views.device)
        position = torch.arange(count, device=views.device)
        return functional.cross_entropy(similarities.masked_fill(itself, -torch.inf), position.roll(count // 2))


def positive_contrast(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of 1 - cosine of the two views of a row: 0 where they point the same way (E_c+D)."""
    return (1.0 - functional.cosine_similarity(first.float(), second.float(), dim=1)).mean()


def reconstruction(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error over all weights of all views (row, parameter)."""
    return functional.mse_loss(outputs.float(), target)
