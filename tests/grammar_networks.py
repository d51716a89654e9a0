"""Networks in the open grammar, each with the same written by hand in torch.nn: the independent reference of layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Plus(nn.Module):
    """A block and a shortcut around it, added."""

    def __init__(self, *block: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.block, self.shortcut = nn.Sequential(*block), shortcut or nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.block(hidden) + self.shortcut(hidden)


class Last(nn.Module):
    """What a recurrent layer gives, or its last state alone."""

    def __init__(self, recurrent: nn.RNNBase, *, every: bool = False) -> None:
        super().__init__()
        self.recurrent, self.every = recurrent, every

    def forward(self, hidden: Tensor) -> Tensor:
        states, _ = self.recurrent(hidden)
        return states if self.every else states[:, -1, :]


class RowsOf(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        return images.permute(0, 2, 1, 3).reshape(count, height, channels * width)


class Mean(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mean(dim=1) if hidden.dim() == 3 else hidden.mean(dim=(2, 3))


class Highest(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.max_pool2d(hidden, hidden.shape[2:]).flatten(1)


ACT, DROP, FLATTEN = {"type": "activation"}, {"type": "dropout"}, {"type": "flatten"}


def conv(channels: int, kernel: int | list[int], **keys) -> dict:
    return {"type": "convolution", "channels": channels, "kernel": kernel, **keys}


def linear(units: int, **keys) -> dict:
    return {"type": "linear", "units": units, **keys}


def norm(kind: str, **keys) -> dict:
    return {"type": f"{kind}_norm", **keys}


def residual(*layers: dict, **keys) -> dict:
    return {"type": "residual", "layers": list(layers), **keys}


class Named(nn.Module):
    """Outputs of named layers added again later: 1 + 3 and the input + 2, by hand."""

    def __init__(self, act) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.head, self.act = nn.Linear(4 * 36, 10), act()

    def forward(self, images: Tensor) -> Tensor:
        first = self.act(self.one(images))
        hidden = self.three(self.act(self.two(first) + images)) + first
        return self.head(hidden.flatten(1))


# name -> layers, the same in plain torch, the shape of what is read
NETWORKS: dict[str, tuple[list[dict], Callable[..., nn.Module], tuple[int, ...]]] = {
    "layer norm of vectors": (
        [FLATTEN, linear(12), norm("layer"), ACT, DROP, linear(9), norm("layer", affine=False), ACT, linear(10)],
        lambda act, drop: nn.Sequential(
            *(nn.Flatten(), nn.Linear(36, 12), nn.LayerNorm(12), act(), drop()),
            *(nn.Linear(12, 9), nn.LayerNorm(9, elementwise_affine=False), act(), nn.Linear(9, 10)),
        ),
        (1, 6, 6),
    ),
    "layer norm of images": (
        [
            *(conv(4, 3), norm("layer", epsilon=1e-3), ACT, DROP, {"type": "max_pooling", "size": 2}, FLATTEN),
            *(norm("layer"), linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(2, 4, 3), nn.LayerNorm([4, 6, 6], eps=1e-3), act(), drop(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.LayerNorm(36), nn.Linear(36, 10)),
        ),
        (2, 8, 8),
    ),
    "residual vectors": (
        [linear(8), residual(norm("layer"), linear(12), ACT, linear(8)), residual(linear(8), ACT), linear(10)],
        lambda act, drop: nn.Sequential(
            *(nn.Linear(5, 8), Plus(nn.LayerNorm(8), nn.Linear(8, 12), act(), nn.Linear(12, 8))),
            *(Plus(nn.Linear(8, 8), act()), nn.Linear(8, 10)),
        ),
        (5,),
    ),
    "residual images": (
        [
            *(conv(4, 3, padding=1), ACT, residual(conv(4, 3, padding=1), ACT, DROP, conv(4, 3, padding=1)), ACT),
            residual(conv(6, 3, stride=2, padding=1), ACT, shortcut=[conv(6, 1, stride=2, bias=False)]),
            *({"type": "max_pooling", "size": 2}, residual(conv(6, 1)), {"type": "global_average_pooling"}, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 4, 3, padding=1), act()),
            *(Plus(nn.Conv2d(4, 4, 3, padding=1), act(), drop(), nn.Conv2d(4, 4, 3, padding=1)), act()),
            Plus(nn.Conv2d(4, 6, 3, stride=2, padding=1), act(), shortcut=nn.Conv2d(4, 6, 1, stride=2, bias=False)),
            *(nn.MaxPool2d(2), Plus(nn.Conv2d(6, 6, 1)), Mean(), nn.Linear(6, 10)),
        ),
        (1, 8, 8),
    ),
    "residual of named layers": (
        [
            *(conv(4, 3, padding=1), ACT, conv(2, 1), {"type": "residual", "source": "input"}, ACT, conv(4, 1)),
            *({"type": "residual", "source": "activation1"}, FLATTEN, linear(10)),
        ],
        lambda act, drop: Named(act),
        (2, 6, 6),
    ),
}


def architecture(name: str) -> dict:
    """Return a network as a manifest writes it."""
    return {"name": "layers", "layers": NETWORKS[name][0]}


def plain(name: str, activation: Callable[[], nn.Module]) -> nn.Module:
    """Return a network in plain torch, without dropout."""
    return NETWORKS[name][1](activation, nn.Identity)


def inputs_of(shape: tuple[int, ...], count: int, *, seed: int = 0) -> Tensor:
    """Return inputs (image, *shape)."""
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
