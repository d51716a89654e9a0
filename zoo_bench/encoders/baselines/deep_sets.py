"""The baseline `deep_sets`: all weights of a network as one set of numbers, whatever the architecture.

Each number is mapped by itself, the mean over the network is mapped again (Zaheer et al., NeurIPS 2017). Numbers are
divided by their root mean square in training networks: of numbers near 0 the means hardly differ, and nothing is
learned. Sizes are our own: SNE's paper gives none in print. `deep_sets_small` is a quarter as wide, for CPUs.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import Networks, dense, last_layer
from zoo_bench.encoders.training.supervised import Facts, Plans, SupervisedEncoder
from zoo_gen.architecture.layout import ParameterLayout

WIDTHS = {"large": (128, 256), "small": (32, 64)}  # of what numbers are mapped to, and of what their means are
TRAINING = TrainingSettings(
    epochs=100,
    steps=6000,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=1e-4,
    schedule="cosine",
    warm_up_steps=1000,
    clip=10.0,
    graph=True,
)
# About a minute on two cores, whatever the zoo.
SMALL_TRAINING = replace(TRAINING, epochs=20, steps=1000, most_numbers=60_000_000, learning_rate=1e-2, threads=1)

_LEAST_SIZE = 1e-6  # of networks whose numbers are all 0


class DeepSetsNetwork(nn.Module):
    """Sets of numbers to embeddings and a logit."""

    def __init__(self, width: int, head_width: int, *, size: float, outputs: int = 1) -> None:
        super().__init__()
        self.size = size
        self.numbers = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.means = nn.Sequential(nn.Linear(width, head_width), nn.ReLU(), nn.Linear(head_width, width), nn.ReLU())
        self.last = last_layer(width, outputs)

    def forward(self, plan: tuple[Tensor, int], numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map networks to embeddings (network, width) and logits (network,).

        Args:
            plan: the length of each network, int64 (network,), and the longest.
            numbers: of many networks (number,).
            offsets: where each network begins (network,).
        """
        lengths, longest = plan
        positions = torch.arange(longest, device=offsets.device)
        mask = positions < lengths[:, None]
        index = offsets[:, None] + torch.where(mask, positions, 0)
        values = numbers.index_select(0, index.view(-1)).view(index.shape) / self.size
        mapped = self.numbers(values.unsqueeze(2)) * mask.unsqueeze(2)
        embeddings = self.means(mapped.sum(dim=1) / lengths[:, None])
        return embeddings, self.last(embeddings).squeeze(1).float()


def deep_sets(
    *,
    widths: tuple[int, int] = WIDTHS["large"],
    training: TrainingSettings = TRAINING,
) -> SupervisedEncoder:
    """Return the encoder; its embedding is the mapped mean."""
    return SupervisedEncoder(
        "deep_sets",
        source=deep_sets,
        training=training,
        settings={"width": widths[0], "head_width": widths[1]},
        facts=_facts,
        build=lambda facts: DeepSetsNetwork(*widths, size=facts["size"], outputs=facts.get("outputs", 1)),
        plans=_plans,
    )


small = partial(deep_sets, widths=WIDTHS["small"], training=SMALL_TRAINING)  # the encoder in its small size


def _facts(networks: Networks) -> Facts:
    """Return the median over networks of the root mean square of their numbers."""
    sizes: list[Tensor] = []
    for place, layout in enumerate(networks.layouts):
        for some in networks.part(np.flatnonzero(networks.layout_of == place)).offsets.split(256):
            sizes.append(dense(networks.numbers, some, layout.size).square().mean(dim=1).sqrt())
    return {"size": max(float(torch.cat(sizes).median()), _LEAST_SIZE)}


def _plans(facts: Facts, layouts: Sequence[ParameterLayout], device: torch.device) -> Plans:
    lengths = np.array([layout.size for layout in layouts])
    last: dict[bytes, tuple[Tensor, int]] = {}  # the plan of the last batch

    def plan(layout_of: np.ndarray) -> tuple[Tensor, int]:
        key = layout_of.tobytes()
        if key not in last:
            last.clear()  # training on one layout asks for one plan only, which a captured step then keeps reading
            batch = lengths[layout_of]
            last[key] = torch.from_numpy(batch).to(device), int(batch.max())
        return last[key]

    return plan
