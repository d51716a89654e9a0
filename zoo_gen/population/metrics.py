"""Loss, accuracy and per-class F1 of every model of a population, in evaluation mode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IMAGES_AT_ONCE = 1024  # bounds the memory of an evaluation


@dataclass(frozen=True)
class Metrics:
    """Metrics on one part of the images."""

    loss: Tensor  # (model,) mean cross-entropy
    accuracy: Tensor  # (model,) share of images whose largest logit is the label's
    class_f1: Tensor  # (model, class) 2 TP / (2 TP + FP + FN), 0 where a class neither occurs nor is predicted

    def reordered(self, places: Tensor) -> "Metrics":
        """Return the same metrics with the models picked by `places` (model,)."""
        return Metrics(self.loss[places], self.accuracy[places], self.class_f1[places])


@torch.no_grad()
def evaluate(logits_of: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, n_classes: int) -> Metrics:
    """Measure models whose `logits_of(images)` is (model, class, image) on images (image, channel, height, width)."""
    # Equal pieces, so that none holds a single image: its product would take another path and round differently.
    pieces = -(-len(labels) // IMAGES_AT_ONCE)
    loss: Tensor | float = 0.0
    confusion: Tensor | int = 0
    for some_images, some_labels in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        logits = logits_of(some_images)  # (model, class, image)
        n_models = len(logits)
        repeated = some_labels.expand(n_models, -1)
        loss = loss + functional.cross_entropy(logits, repeated, reduction="none").sum(dim=1)
        # Over the last axis argmax is several times faster, the copy included.
        predictions = logits.transpose(1, 2).contiguous().argmax(dim=2)  # (model, image)
        cells = repeated * n_classes + predictions
        cells = cells + torch.arange(n_models, device=cells.device).unsqueeze(1) * n_classes**2
        counts = torch.bincount(cells.flatten(), minlength=n_models * n_classes**2)
        confusion = confusion + counts.view(n_models, n_classes, n_classes)  # (model, label, prediction)
    assert isinstance(loss, Tensor)
    assert isinstance(confusion, Tensor)
    right = confusion.diagonal(dim1=1, dim2=2).to(loss.dtype)  # (model, class)
    labelled_or_predicted = (confusion.sum(dim=2) + confusion.sum(dim=1)).to(loss.dtype)
    return Metrics(
        loss=loss / len(labels),
        accuracy=right.sum(dim=1) / len(labels),
        class_f1=2 * right / labelled_or_predicted.clamp(min=1),
    )
