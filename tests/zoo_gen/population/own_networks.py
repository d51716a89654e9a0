"""Modules as a user writes them: some that can be stacked, and some that cannot."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """Batch norm, a residual connection, dropout, a constant buffer."""

    def __init__(self, channels: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("centre", torch.full((1, 1, 1), 0.5))
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.block = nn.Conv2d(channels, channels, (1, 3), padding="same", groups=2)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(channels, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.stem(images - self.centre)))
        hidden = self.drop(hidden + functional.silu(self.block(hidden)))
        return self.head(hidden.mean((2, 3)))


class Attention(nn.Module):
    """Rows of an image that attend to each other; a parameter with no layer of its own, one tensor in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(8, 8) * 0.1)
        self.query = nn.Linear(8, 8)
        self.key = self.query
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.norm(images.squeeze(1) + self.position)
        shares = torch.softmax(self.query(rows) @ self.key(rows).transpose(1, 2), dim=2)
        return self.head((shares @ rows).mean(1))


class Scaled(nn.Module):
    """A parameter that is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.tensor(0.3)), nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.scale * images.flatten(1))


def perceptron(width: int = 6, outputs: int = 10, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        nn.GroupNorm(2, width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(width, outputs),
    )


class OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, rows: Tensor) -> Tensor:
        return self.net(rows).squeeze(1)


class RandomInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1) + torch.randn(64))


class DecidesByValue(RandomInForward):
    def forward(self, images: Tensor) -> Tensor:
        outputs = self.head(images.flatten(1))
        return outputs if outputs.sum() > 0 else -outputs


class Counts(RandomInForward):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.head(images.flatten(1))
        self.seen += outputs.detach().mean(0)
        return outputs


class CountsSteps(RandomInForward):
    """Has a buffer that every step changes by the same number for all models."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.steps += 1
        return self.head(images.flatten(1)) / self.steps.clamp(min=10)


class Unused(RandomInForward):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


class Frozen(Unused):
    def __init__(self) -> None:
        super().__init__()
        self.spare.requires_grad_(False)


class RandomBuffer(RandomInForward):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("features", torch.randn(64, 64))


class Unrepeatable(RandomInForward):
    def __init__(self) -> None:
        super().__init__()
        self.head.weight.data += random.SystemRandom().random()


class Pair(RandomInForward):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)), 0


def spatial_dropout() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(72, 10))


def cumulative() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10, momentum=None))


def double() -> nn.Module:
    return perceptron().double()


def no_parameters() -> nn.Module:
    return nn.Flatten()


def no_module() -> int:
    return 3
