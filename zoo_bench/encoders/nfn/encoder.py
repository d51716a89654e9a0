"""The encoders `nfn_np` and `nfn_hnp`: equivariant layers, the mean over neurons, and statistics of each tensor.

Zhou et al., Permutation Equivariant Neural Functionals (NeurIPS 2023), built from the paper. Their readout also reads
the seven statistics of each tensor, and NP's inputs and outputs carry learned positions, or they could not be told
apart. Unlike theirs, every hidden layer has as many channels for a dense tensor as for a kernel, so that a network
behind an image stays small. `nfn_np_small` and `nfn_hnp_small` take fewer steps, for CPUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo_bench.encoders.nfn.layers import EquivariantLayer, Kind, axes_of
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import Networks, dense, last_layer
from zoo_bench.encoders.training.supervised import Facts, SupervisedEncoder
from zoo_gen.architecture.layout import ParameterLayout

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
CHANNELS, WIDTH, POSITIONS = (16, 16, 5), 1000, 4
TRAINING = TrainingSettings(epochs=50, batch_size=8, learning_rate=1e-3, optimizer="adam", bfloat16=False, clip=10.0)
# About a minute on two cores.
SMALL_TRAINING = replace(TRAINING, epochs=20, steps=1500, batch_size=16, schedule="cosine", threads=1)
_LEAST_DEVIATION = 1e-6  # of a tensor that is the same in all training networks


class NFNNetwork(nn.Module):
    """Networks of one layout to embeddings and a logit."""

    mean: Tensor
    deviation: Tensor
    quantiles: Tensor

    def __init__(
        self, layout: ParameterLayout, kind: Kind, scale: tuple[Sequence[float], Sequence[float]], *, outputs: int = 1
    ) -> None:
        super().__init__()
        self.length = layout.size
        self.axes = axes_of(layout, kind)
        self.register_buffer("mean", torch.tensor(scale[0]), persistent=False)
        self.register_buffer("deviation", torch.tensor(scale[1]), persistent=False)
        self.positions = nn.ParameterDict()
        channels = [tensor_axes.channels for tensor_axes in self.axes]
        for number, tensor_axes in enumerate(self.axes):
            for side, axis in ((tensor_axes.rows, "rows"), (tensor_axes.columns, "columns")):
                if side and side[0] in ("inputs", "outputs"):
                    self.positions[f"{number}_{axis}"] = nn.Parameter(torch.randn(side[1], POSITIONS))
                    channels[number] += POSITIONS
        layers, norms = [], []
        for width in CHANNELS:
            layers.append(EquivariantLayer(self.axes, channels, width))
            norms.append(nn.ModuleList(nn.LayerNorm(width) for _ in self.axes))
            channels = [width] * len(self.axes)
        self.layers, self.norms = nn.ModuleList(layers), nn.ModuleList(norms)
        self.register_buffer("quantiles", torch.tensor(QUANTILES), persistent=False)
        pooled = sum(channels) + (2 + len(QUANTILES)) * len(self.axes)
        self.head = nn.Sequential(nn.Linear(pooled, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.last = last_layer(WIDTH, outputs)

    def forward(self, plan: None, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (number,) and offsets (network,) to embeddings (network, width) and logits (network,)."""
        weights = dense(numbers, offsets, self.length)
        tensors, statistics = [], []
        for number, tensor_axes in enumerate(self.axes):
            values = tensor_axes.read(weights)
            values = (values - self.mean[number]) / self.deviation[number]
            flat = values.flatten(1)
            statistics += [flat.mean(dim=1, keepdim=True), flat.var(dim=1, keepdim=True, correction=0)]
            statistics.append(torch.quantile(flat, self.quantiles, dim=1).T)
            for axis, place in (("rows", 1), ("columns", 2)):
                if f"{number}_{axis}" in self.positions:
                    position = self.positions[f"{number}_{axis}"].unsqueeze(2 - place)
                    shape = (*values.shape[:3], POSITIONS)
                    values = torch.cat([values, position.unsqueeze(0).expand(shape)], dim=3)
            tensors.append(values)
        for layer, norms in zip(self.layers, self.norms, strict=True):
            assert isinstance(norms, nn.ModuleList)
            tensors = [torch.relu(norm(each)) for norm, each in zip(norms, layer(tensors), strict=True)]
        pooled = torch.cat([each.mean(dim=(1, 2)) for each in tensors] + statistics, dim=1)
        embeddings = self.head(pooled)
        return embeddings, self.last(embeddings).squeeze(1).float()


def variant(name: str) -> Callable[..., SupervisedEncoder]:
    """Return what makes an encoder, by its name without `nfn_`: np, hnp, np_small or hnp_small."""
    kind: Kind = "np" if name.startswith("np") else "hnp"
    return partial(nfn, kind, training=SMALL_TRAINING if "small" in name else TRAINING)


def nfn(kind: Kind, *, training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer.

    Args:
        kind: "np" or "hnp".
        training: how.
    """
    return SupervisedEncoder(
        f"nfn_{kind}",
        source=nfn,
        training=training,
        settings={"kind": kind, "channels": list(CHANNELS), "width": WIDTH, "positions": POSITIONS},
        facts=_facts,
        build=lambda facts: _network(facts, kind),
        fixed_length=True,
    )


def _facts(networks: Networks) -> Facts:
    """Return the layout, and the mean and deviation of each of its tensors over the training networks."""
    (layout,) = networks.layouts
    rows = dense(networks.numbers, networks.offsets, layout.size)
    parts = [rows[:, parameter.start : parameter.stop] for parameter in layout.parameters]
    mean = [float(part.mean()) for part in parts]
    deviation = [max(float(part.std()), _LEAST_DEVIATION) for part in parts]
    return {"numbers": layout.size, "layout": layout.to_json(), "mean": mean, "deviation": deviation}


def _network(facts: dict[str, Any], kind: Kind) -> NFNNetwork:
    scale = facts["mean"], facts["deviation"]
    return NFNNetwork(ParameterLayout.from_json(facts["layout"]), kind, scale, outputs=facts.get("outputs", 1))
