"""The independent reference: one model trained by torch.nn and torch.optim alone, one step after another."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from zoo_gen.image_data import ImageData

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Masked(nn.Module):
    """Dropout whose masks are given: hidden values survive where `next_mask(count)` says so."""

    def __init__(self, rate: float, next_mask: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.rate, self.next_mask = rate, next_mask

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return hidden
        mask = self.next_mask(hidden.numel())
        if hidden.dim() == 4:  # values are numbered channel by channel of a pixel
            image, channel, height, width = hidden.shape
            mask = mask.view(image, height, width, channel).permute(0, 3, 1, 2)
        return hidden * mask.reshape(hidden.shape) / (1 - self.rate)


class Sine(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return torch.sin(30 * hidden)


class PlusHalf(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + 0.5


def mlp(*widths: int, bias: bool) -> Callable[..., nn.Sequential]:
    def build(act, drop) -> nn.Sequential:
        modules: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            modules += [nn.Linear(inputs, outputs, bias=bias), act(), drop()]
        return nn.Sequential(*modules[:-2])

    return build


def cnn_small(channels: int) -> Callable[..., nn.Sequential]:
    def build(act, drop) -> nn.Sequential:
        return nn.Sequential(
            *(nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), drop()),
            *(nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), drop()),
            *(nn.Conv2d(6, 4, 2), act(), nn.Flatten()),
            *(nn.Linear(36, 20), act(), drop(), nn.Linear(20, 10)),
        )

    return build


def cnn_large(act, drop) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), act(), drop()),
        *(nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), act(), drop()),
        *(nn.Conv2d(32, 15, 3), nn.MaxPool2d(2), act(), drop()),
        *(nn.Flatten(), nn.Linear(60, 20), act(), drop(), nn.Linear(20, 10)),
    )


def small_cnn_gap(act, drop) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2), act(), drop()),
        *(nn.Conv2d(16, 16, 3, stride=2), act(), drop()),
        *(nn.Conv2d(16, 16, 3, stride=2), act(), drop()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def cnn3_fc2(channels: int, units: int) -> Callable[..., nn.Sequential]:
    def build(act, drop) -> nn.Sequential:
        return nn.Sequential(
            *(nn.Conv2d(channels, 16, 5, padding=2), act(), nn.MaxPool2d(2), drop()),
            *(nn.Conv2d(16, 16, 5, padding=2), act(), nn.MaxPool2d(2), drop()),
            *(nn.Conv2d(16, 32, 5, padding=2), act(), nn.MaxPool2d(2), drop()),
            *(nn.Flatten(), nn.Linear(units, 32), act(), nn.Linear(32, 10)),
        )

    return build


def siren(act, drop) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(1, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1), PlusHalf(), nn.Flatten(0)
    )


def own_network(act, drop) -> nn.Sequential:
    """A network of one's own, to compare with the open grammar: every kind of layer, one activation fixed."""
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.AvgPool2d(3, 2), nn.Tanh(), drop()),
        *(nn.Conv2d(3, 5, 2, stride=2), act(), nn.Flatten(), drop()),
        *(nn.Linear(5 * 6 * 6, 7, bias=False), act(), nn.Linear(7, 10)),
    )


def make_optimizer(model: nn.Module, settings: dict) -> torch.optim.Optimizer:
    """Return torch's optimiser for a row of the table of models."""
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    match settings["optimizer"]:
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(model.parameters(), lr=rate, weight_decay=decay)
    nesterov = settings["optimizer"] == "nesterov"
    momentum = settings["momentum"]
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=decay, nesterov=nesterov)


def make_schedule(update: torch.optim.Optimizer, settings: dict, *, steps_per_epoch: int, n_steps: int):
    """Return torch's schedule for a row of the table of models, which is told of every step."""
    schedulers, rate = torch.optim.lr_scheduler, settings["learning_rate"]
    warm_up = round(settings.get("warm_up_epochs", 0) * steps_per_epoch)
    name, gamma = settings.get("schedule", "constant"), settings.get("decay_factor", 0.1)

    def rise():
        return schedulers.LinearLR(update, start_factor=1 / warm_up, total_iters=warm_up - 1)

    def decay():
        if name == "step":
            return schedulers.StepLR(update, settings["decay_every"] * steps_per_epoch, gamma=gamma)
        milestones = map(int, settings["milestones"].split(", ")) if name == "milestones" else []
        return schedulers.MultiStepLR(update, [epoch * steps_per_epoch for epoch in milestones], gamma=gamma)

    if name == "one_cycle":
        assert not warm_up
        return schedulers.OneCycleLR(update, rate, total_steps=n_steps, cycle_momentum=False)
    if name == "cosine":
        if not warm_up:
            return schedulers.CosineAnnealingLR(update, n_steps)
        return schedulers.SequentialLR(
            update, [rise(), schedulers.CosineAnnealingLR(update, n_steps - warm_up)], milestones=[warm_up]
        )
    return schedulers.ChainedScheduler([rise(), decay()] if warm_up else [decay()])


def train_alone(
    build: Callable[..., nn.Sequential],
    inputs: Tensor,  # (image, ...)
    targets: Tensor,  # (image,), labels or heights
    settings: dict,  # a row of the table of models
    *,
    initial: np.ndarray,  # (parameter,)
    batches: list[np.ndarray],  # the numbers of the images of each step
    next_mask: Callable[[int], Tensor] | None = None,  # of the next dropout layer of the step
    n_steps: int | None = None,  # of the schedule
    steps_per_epoch: int = 1,  # of the schedule
    changed: Callable[[Tensor, int, np.ndarray], Tensor] = lambda inputs, *_: inputs,  # (inputs, step, batch): crops
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Return the model after the steps, in evaluation mode."""

    def drop() -> nn.Module:
        return Masked(settings.get("dropout", 0.0), next_mask) if next_mask else nn.Identity()

    model = build(ACTIVATIONS.get(settings.get("activation")), drop).to(dtype)
    nn.utils.vector_to_parameters(torch.tensor(initial, dtype=dtype), model.parameters())
    update = make_optimizer(model, settings)
    schedule = make_schedule(update, settings, steps_per_epoch=steps_per_epoch, n_steps=n_steps or len(batches))
    smoothing = settings.get("label_smoothing", 0.0)
    loss_of = nn.CrossEntropyLoss(label_smoothing=smoothing) if targets.dtype == torch.int64 else nn.MSELoss()
    for step, batch in enumerate(batches):
        update.zero_grad()
        loss = loss_of(model(changed(inputs[batch], step, batch)), targets[batch])
        kernels = [values for name, values in model.named_parameters() if "weight" in name.rpartition(".")[2]]
        loss = loss + settings.get("l2", 0.0) * sum(kernel.square().sum() for kernel in kernels)
        loss.backward()
        if settings.get("clip_norm"):
            nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        update.step()
        schedule.step()
    return model.eval()


def vector(model: nn.Module) -> np.ndarray:
    """Return all parameters of a model in their order (parameter,)."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


def inputs_of(data: ImageData, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the training images as a model reads them (image, channel, height, width)."""
    scale, offset = (torch.tensor(values, dtype=dtype).view(-1, 1, 1) for values in (data.scale, data.offset))
    return torch.from_numpy(data.train_images).to(dtype) * scale + offset


def batches_of(orders: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut the orders of epochs (epoch, image) into steps."""
    for order in orders:
        yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))
