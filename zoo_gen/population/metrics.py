"""Loss, accuracy and per-class F1, or MSE, MAE and R2, of every model of a population, in evaluation mode."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

IMAGES_AT_ONCE = 1024  # bounds the memory of an evaluation

# (outputs (model, output, image), targets (model or 1, image)) of some images
Outputs = Iterable[tuple[Tensor, Tensor]]
OutputsOf = Callable[[Tensor], Tensor]  # inputs (image, *shape) -> outputs (model, output, image)


def pieces(n_images: int, most: int = IMAGES_AT_ONCE) -> list[slice]:
    """Cut images into equal pieces, so that none holds a single one: its product would round differently."""
    n_pieces = -(-n_images // most)
    size = -(-n_images // n_pieces)
    return [slice(start, min(start + size, n_images)) for start in range(0, n_images, size)]


def predicted(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, the first of equals: (model, class, image) -> (model, image)."""
    # Over the last axis argmax is several times faster, the copy included.
    return logits.transpose(1, 2).contiguous().argmax(dim=2)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image: (model, class, image), (model, image) -> (model, image)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def smoothed(losses: Tensor, logits: Tensor, smoothing: Tensor) -> Tensor:
    """Return the cross-entropy (model, image) with labels that share some of their weight with all classes.

    Szegedy et al., "Rethinking the Inception architecture for computer vision" (2016), section 7, as torch computes it.

    Args:
        losses: the cross-entropy of each image (model, image).
        logits: (model, class, image).
        smoothing: the share of each model (model, 1).
    """
    uniform = -functional.log_softmax(logits, dim=1).mean(dim=1)
    return losses + smoothing * (uniform - losses)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of each point: (model, 1, point), (model, point) -> (model, point)."""
    return (outputs.squeeze(1) - targets).square()


def classification(outputs: Outputs, *, n_classes: int) -> dict[str, Tensor]:
    """Measure classifiers on images.

    Returns:
        loss: (model,) mean cross-entropy.
        accuracy: (model,) share of images whose largest logit is the label's.
        class_f1: (model, class) 2 TP / (2 TP + FP + FN), 0 where a class neither occurs nor is predicted.
    """
    loss: Tensor | float = 0.0
    confusion: Tensor | int = 0
    n_images = 0
    for logits, labels in outputs:
        n_models = len(logits)
        repeated = labels.expand(n_models, -1)
        n_images += repeated.shape[1]
        loss = loss + cross_entropy(logits, repeated).sum(dim=1)
        cells = repeated * n_classes + predicted(logits)
        cells = cells + torch.arange(n_models, device=cells.device).unsqueeze(1) * n_classes**2
        counts = torch.bincount(cells.flatten(), minlength=n_models * n_classes**2)
        confusion = confusion + counts.view(n_models, n_classes, n_classes)  # (model, label, prediction)
    assert isinstance(loss, Tensor)
    assert isinstance(confusion, Tensor)
    right = confusion.diagonal(dim1=1, dim2=2).to(loss.dtype)  # (model, class)
    labelled_or_predicted = (confusion.sum(dim=2) + confusion.sum(dim=1)).to(loss.dtype)
    return {
        "loss": loss / n_images,
        "accuracy": right.sum(dim=1) / n_images,
        "class_f1": 2 * right / labelled_or_predicted.clamp(min=1),
    }


def regression(outputs: Outputs) -> dict[str, Tensor]:
    """Return the mean squared error (model,) of models with one output, as {"loss": ...}."""
    loss: Tensor | float = 0.0
    n_points = 0
    for values, targets in outputs:
        loss = loss + squared_error(values, targets).sum(dim=1)
        n_points += values.shape[2]
    assert isinstance(loss, Tensor)
    return {"loss": loss / n_points}


def mean_squared_error(outputs: Outputs) -> Tensor:
    """Return the mean over all outputs and pixels (model,): outputs and targets are (model, output, pixel)."""
    squared: Tensor | float = 0.0
    count = 0
    for values, targets in outputs:
        squared = squared + (values - targets).square().sum(dim=(1, 2), dtype=torch.float64)
        count += values[0].numel()
    assert isinstance(squared, Tensor)
    return (squared / count).to(values.dtype)


def psnr(mse: Tensor, *, value_range: float) -> Tensor:
    """Return the peak signal-to-noise ratio in decibels, 10 log10(range^2 / mse), of errors (model,)."""
    return 10.0 * (value_range**2 / mse.double()).log10().to(mse.dtype)


def errors(outputs: Outputs, *, variance: Tensor) -> dict[str, Tensor]:
    """Measure models with one output against numbers.

    Args:
        outputs: of the models, with the numbers.
        variance: of the numbers, the mean squared distance from their mean; above 0.

    Returns:
        loss, mse: (model,) mean squared error.
        mae: (model,) mean absolute error.
        r2: (model,) 1 - mse / variance.
    """
    squared: Tensor | float = 0.0
    absolute: Tensor | float = 0.0
    n_images = 0
    for values, targets in outputs:
        differences = values.squeeze(1) - targets
        squared = squared + differences.square().sum(dim=1, dtype=torch.float64)
        absolute = absolute + differences.abs().sum(dim=1, dtype=torch.float64)
        n_images += values.shape[2]
    assert isinstance(squared, Tensor)
    assert isinstance(absolute, Tensor)
    mse = squared / n_images
    means = {"loss": mse, "mse": mse, "mae": absolute / n_images, "r2": 1 - mse / variance}
    return {name: each.to(differences.dtype) for name, each in means.items()}


def without_gradient(outputs_of: Callable[[slice], Tensor], targets: Tensor, n_images: int) -> Outputs:
    """Yield outputs and targets (model or 1, ..., image) piece by piece."""
    for images in pieces(n_images):
        with torch.no_grad():
            yield outputs_of(images), targets[..., images]
