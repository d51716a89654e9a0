"""Networks in the open grammar, each with the same written by hand in torch.nn: the independent reference of layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests import transformer_networks


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
    # What is normalised has no bias: it would change nothing but the last digits that Adam makes steps of.
    "batch norm of images": (
        [
            *(conv(5, 3, padding="same", bias=False), norm("batch"), ACT, DROP, {"type": "max_pooling", "size": 2}),
            *(conv(4, 2, bias=False), norm("batch", momentum=0.3, epsilon=1e-3, affine=False), ACT, FLATTEN),
            *(norm("batch"), linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 5, 3, padding="same", bias=False), nn.BatchNorm2d(5), act(), drop(), nn.MaxPool2d(2)),
            *(nn.Conv2d(5, 4, 2, bias=False), nn.BatchNorm2d(4, momentum=0.3, eps=1e-3, affine=False), act()),
            *(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 10)),
        ),
        (1, 8, 8),
    ),
    "batch norm of one channel": (
        [conv(1, 3, bias=False), norm("batch"), ACT, conv(3, 3), ACT, {"type": "global_average_pooling"}, linear(10)],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 1, 3, bias=False), nn.BatchNorm2d(1), act(), nn.Conv2d(1, 3, 3), act(), Mean()),
            nn.Linear(3, 10),
        ),
        (1, 8, 8),
    ),
    "batch norm of vectors": (
        [
            *(norm("batch"), linear(9, bias=False), norm("batch"), ACT, DROP),
            *(residual(linear(9, bias=False), norm("batch"), ACT), linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.BatchNorm1d(6), nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9), act(), drop()),
            *(Plus(nn.Linear(9, 9, bias=False), nn.BatchNorm1d(9), act()), nn.Linear(9, 10)),
        ),
        (6,),
    ),
    "residual images with batch norm": (
        [
            *(conv(4, 3, padding=1, bias=False), norm("batch"), ACT),
            residual(
                *(conv(6, 3, stride=2, padding=1, bias=False), norm("batch"), ACT),
                *(conv(6, 3, padding=1, bias=False), norm("batch")),
                shortcut=[conv(6, 1, stride=2, bias=False), norm("batch")],
            ),
            *(ACT, {"type": "global_average_pooling"}, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), act()),
            Plus(
                *(nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), act()),
                *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)),
                shortcut=nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6)),
            ),
            *(act(), Mean(), nn.Linear(6, 10)),
        ),
        (3, 8, 8),
    ),
    "group norm": (
        [
            *(conv(6, 3), norm("group", groups=2), ACT, FLATTEN, norm("group", groups=3), linear(8)),
            *(norm("group", groups=4, epsilon=1e-3, affine=False), ACT, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), act(), nn.Flatten(), nn.GroupNorm(3, 6 * 16)),
            *(nn.Linear(6 * 16, 8), nn.GroupNorm(4, 8, eps=1e-3, affine=False), act(), nn.Linear(8, 10)),
        ),
        (2, 6, 6),
    ),
    "instance norm": (
        [
            *(conv(4, 3, bias=False), norm("instance"), ACT, conv(5, 1, bias=False)),
            *(norm("instance", affine=True), ACT, FLATTEN, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, bias=False), nn.InstanceNorm2d(4), act(), nn.Conv2d(4, 5, 1, bias=False)),
            *(nn.InstanceNorm2d(5, affine=True), act(), nn.Flatten(), nn.Linear(80, 10)),
        ),
        (2, 6, 6),
    ),
    "windows that are not square": (
        [
            *(conv(4, [3, 5], padding="same"), ACT, {"type": "average_pooling", "size": [3, 2], "padding": [1, 0]}),
            *(conv(3, [2, 1], stride=[1, 2], padding=[0, 1]), ACT),
            *({"type": "max_pooling", "size": 3, "stride": [1, 2], "padding": 1}, DROP, conv(3, 1), ACT),
            *({"type": "max_pooling", "size": [2, 1]}, conv(5, 1), {"type": "global_max_pooling"}, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 4, (3, 5), padding="same"), act(), nn.AvgPool2d((3, 2), padding=(1, 0))),
            *(
                nn.Conv2d(4, 3, (2, 1), stride=(1, 2), padding=(0, 1)),
                act(),
                nn.MaxPool2d(3, (1, 2), padding=1),
                drop(),
            ),
            *(nn.Conv2d(3, 3, 1), act(), nn.MaxPool2d((2, 1)), nn.Conv2d(3, 5, 1), Highest(), nn.Linear(5, 10)),
        ),
        (1, 9, 10),
    ),
    "depthwise": (
        [
            *(
                conv(4, 3),
                ACT,
                conv(4, 3, groups=4, padding=1, bias=False),
                norm("batch"),
                ACT,
                conv(6, 1, bias=False),
                ACT,
                DROP,
            ),
            *(conv(12, 3, groups=6), ACT, conv(12, 1, groups=12), norm("group", groups=3), FLATTEN, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 4, 3), act(), nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False), nn.BatchNorm2d(4), act()),
            *(nn.Conv2d(4, 6, 1, bias=False), act(), drop(), nn.Conv2d(6, 12, 3, groups=6), act()),
            *(nn.Conv2d(12, 12, 1, groups=12), nn.GroupNorm(3, 12), nn.Flatten(), nn.Linear(12 * 16, 10)),
        ),
        (1, 8, 8),
    ),
    "groups": (
        [
            *(conv(6, 3), ACT, conv(4, 3, groups=2, bias=False), norm("batch"), ACT, conv(8, 1, groups=4), ACT),
            *(residual(conv(8, 3, padding=1, groups=2), ACT), FLATTEN, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(2, 6, 3), act(), nn.Conv2d(6, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4), act()),
            *(nn.Conv2d(4, 8, 1, groups=4), act(), Plus(nn.Conv2d(8, 8, 3, padding=1, groups=2), act())),
            *(nn.Flatten(), nn.Linear(8 * 9, 10)),
        ),
        (2, 7, 7),
    ),
    "rnn over rows": (
        [
            *(conv(3, 3), ACT, {"type": "rows"}, {"type": "rnn", "units": 6, "sequence": True}),
            *({"type": "rnn", "units": 5, "function": "relu", "bias": False}, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Conv2d(1, 3, 3), act(), RowsOf(), Last(nn.RNN(12, 6, batch_first=True), every=True)),
            *(Last(nn.RNN(6, 5, nonlinearity="relu", bias=False, batch_first=True)), nn.Linear(5, 10)),
        ),
        (1, 6, 6),
    ),
    "gru over a sequence": (
        [
            *(linear(4), ACT, DROP, {"type": "gru", "units": 5, "sequence": True}, norm("layer")),
            *(residual({"type": "gru", "units": 5, "bias": False, "sequence": True}), FLATTEN, linear(8)),
            *(ACT, linear(10)),
        ],
        lambda act, drop: nn.Sequential(
            *(nn.Linear(3, 4), act(), drop(), Last(nn.GRU(4, 5, batch_first=True), every=True), nn.LayerNorm(5)),
            *(Plus(Last(nn.GRU(5, 5, bias=False, batch_first=True), every=True)), nn.Flatten(), nn.Linear(35, 8)),
            *(act(), nn.Linear(8, 10)),
        ),
        (7, 3),
    ),
    "gru and means": (
        [
            {"type": "rows"},
            {"type": "gru", "units": 5, "sequence": True},
            {"type": "global_average_pooling"},
            linear(10),
        ],
        lambda act, drop: nn.Sequential(
            RowsOf(), Last(nn.GRU(10, 5, batch_first=True), every=True), Mean(), nn.Linear(5, 10)
        ),
        (2, 4, 5),
    ),
    **transformer_networks.NETWORKS,
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
