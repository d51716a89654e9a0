"""The baseline `deep_sets`: all weights of a network as one set of numbers, whatever the architecture.

Each number is mapped by itself, the mean over the network is mapped again (Zaheer et al., NeurIPS 2017). Sizes are our
own: SNE's paper gives none in print.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from zoo_bench.encoders.supervised import DEFAULT_PROBLEM, Facts, Networks, Plans, Problem, SupervisedEncoder
from zoo_bench.encoders.training import TrainingSettings
from zoo_gen.layout import ParameterLayout

WIDTH, HEAD_WIDTH = 128, 256
TRAINING = TrainingSettings(
    epochs=100,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=1e-4,
    schedule="cosine",
    warm_up_steps=1000,
    clip=10.0,
    graph=True,
)


class DeepSetsNetwork(nn.Module):
    """Sets of numbers to embeddings and a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.means = nn.Sequential(nn.Linear(WIDTH, HEAD_WIDTH), nn.ReLU(), nn.Linear(HEAD_WIDTH, WIDTH), nn.ReLU())
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, plan: tuple[Tensor, int], numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map networks to embeddings (network, width) and logits (network,).

        Args:
            plan: the length of each network, int64 (network,), and the longest.
            numbers: of many networks (number,).
            offsets: where each network begins (network,).
        """
        lengths, longest = plan
        places = torch.arange(longest, device=offsets.device)
        mask = places < lengths[:, None]
        index = offsets[:, None] + torch.where(mask, places, 0)
        values = numbers.index_select(0, index.view(-1)).view(index.shape)
        mapped = self.numbers(values.unsqueeze(2)) * mask.unsqueeze(2)
        embeddings = self.means(mapped.sum(dim=1) / lengths[:, None])
        return embeddings, self.last(embeddings).squeeze(1).float()


def deep_sets(*, problem: Problem = DEFAULT_PROBLEM, training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder; its embedding is the mapped mean."""
    return SupervisedEncoder(
        "deep_sets",
        problem=problem,
        training=training,
        settings={"width": WIDTH, "head_width": HEAD_WIDTH},
        facts=_no_facts,
        build=_build,
        plans=_plans,
    )


def _no_facts(networks: Networks) -> Facts:
    return {}


def _build(facts: Facts) -> nn.Module:
    return DeepSetsNetwork()


def _plans(facts: Facts, layouts: Sequence[ParameterLayout], device: torch.device) -> Plans:
    lengths = np.array([layout.size for layout in layouts])
    kept: dict[bytes, tuple[Tensor, int]] = {}

    def plan(layout_of: np.ndarray) -> tuple[Tensor, int]:
        key = layout_of.tobytes()
        if key not in kept:
            kept.clear()  # training on one layout asks for one plan only, which a captured step then goes on reading
            its = lengths[layout_of]
            kept[key] = torch.from_numpy(its).to(device), int(its.max())
        return kept[key]

    return plan
