"""Transformers in the open grammar and by hand in torch.nn: products, softmax and codes of positions written out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Attending(nn.Module):
    """Multi-head self-attention, a head at a time, by softmax."""

    def __init__(self, width: int, heads: int, units: int, *, bias: bool) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(width, heads * units, bias=bias) for _ in range(3))
        self.out = nn.Linear(heads * units, width, bias=bias)
        self.units = units

    def forward(self, tokens: Tensor) -> Tensor:
        heads = []
        parts = [layer(tokens).split(self.units, dim=2) for layer in (self.queries, self.keys, self.values)]
        every = zip(*parts, strict=True)
        for query, key, value in every:
            scores = torch.einsum("iqu,iku->iqk", query, key) / math.sqrt(self.units)
            heads.append(torch.einsum("iqk,iku->iqu", torch.softmax(scores, dim=2), value))
        return self.out(torch.cat(heads, dim=2))


def sines(steps: int, width: int) -> Tensor:
    rows = [
        [(math.sin if i % 2 == 0 else math.cos)(p / 10_000 ** ((i - i % 2) / width)) for i in range(width)]
        for p in range(steps)
    ]
    return torch.tensor(rows, dtype=torch.float64)


class Transformer(nn.Module):
    """A vision transformer; parameters are made in the order in which they are used."""

    def __init__(
        self, act, drop, *, channels: int, patch: int, steps: int, width: int, heads: int, units: int, blocks: int,
        skips: bool, affine: bool, bias: bool, learned: bool, token: bool, hidden: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Embedding(1, width) if token else None
        self.codes = nn.Embedding(steps + token, width) if learned else None
        self.sines = sines(steps + token, width)
        self.drop, self.skips = drop(), skips

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, elementwise_affine=affine)

        parts: list[nn.Module] = []
        for _ in range(blocks):
            parts.append(nn.Sequential(norm(), Attending(width, heads, units, bias=bias), drop()))
            two = nn.Linear(width, 2 * width), act(), nn.Linear(2 * width, width)
            parts.append(nn.Sequential(norm(), *two, drop()))
        self.parts, self.norm = nn.ModuleList(parts), norm()
        self.head = nn.Sequential(*((nn.Linear(width, width), act()) if hidden else ()), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).permute(0, 2, 1)
        if self.token is not None:
            tokens = torch.stack([torch.cat([self.token.weight, each]) for each in tokens])
        tokens = self.drop(tokens + (self.sines.to(tokens.dtype) if self.codes is None else self.codes.weight))
        for part in self.parts:
            tokens = part(tokens) + tokens if self.skips else part(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens.mean(dim=1) if self.token is None else tokens[:, 0])


class OfSteps(nn.Module):
    """Attention over the rows of a table, then the first row alone."""

    def __init__(self, act) -> None:
        super().__init__()
        self.attention, self.head, self.act = Attending(4, 3, 2, bias=True), nn.Linear(4, 10), act()

    def forward(self, steps: Tensor) -> Tensor:
        return self.head(self.act(self.attention(steps))[:, 0])


PLAIN = {
    "channels": 1, "patch": 4, "steps": 6, "width": 8, "heads": 2, "units": 4, "blocks": 2, "skips": False,
    "affine": False, "bias": False, "learned": False, "token": False, "hidden": True,
}  # fmt: skip
WHOLE = PLAIN | {
    "channels": 2, "patch": 3, "steps": 4, "width": 5, "heads": 2, "units": 3, "blocks": 1, "skips": True,
    "affine": True, "bias": True, "learned": True, "token": True, "hidden": False,
}  # fmt: skip


def layers(settings: dict) -> list[dict]:
    """Return a transformer in the open grammar."""
    width, act, drop = settings["width"], {"type": "activation"}, {"type": "dropout"}
    norm = {"type": "layer_norm", "affine": settings["affine"]}
    attention = {"type": "attention", "heads": settings["heads"], "units": settings["units"], "bias": settings["bias"]}
    parts = [
        [norm, attention, drop],
        [norm, {"type": "linear", "units": 2 * width}, act, {"type": "linear", "units": width}, drop],
    ]
    block = [{"type": "residual", "layers": part} for part in parts] if settings["skips"] else [*parts[0], *parts[1]]
    return [
        {"type": "patch_embedding", "size": settings["patch"], "units": width},
        *([{"type": "class_token"}] if settings["token"] else []),
        *({"type": "position_embedding", "learned": settings["learned"]}, drop),
        *(*block * settings["blocks"], norm),
        {"type": "class_token_pooling" if settings["token"] else "global_average_pooling"},
        *([{"type": "linear", "units": width}, act] if settings["hidden"] else []),
        {"type": "linear", "units": 10},
    ]


NETWORKS: dict[str, tuple[list[dict], Callable[..., nn.Module], tuple[int, ...]]] = {
    "transformer": (layers(PLAIN), lambda act, drop: Transformer(act, drop, **PLAIN), (1, 8, 12)),
    "transformer with everything": (layers(WHOLE), lambda act, drop: Transformer(act, drop, **WHOLE), (2, 6, 6)),
    "attention over steps": (
        [
            *({"type": "attention", "heads": 3, "units": 2}, {"type": "activation"}, {"type": "class_token_pooling"}),
            {"type": "linear", "units": 10},
        ],
        lambda act, drop: OfSteps(act),
        (5, 4),
    ),
}
