"""The encoder `sne`: its registered variants, the facts it reads from training networks, and its loss.

The embedding is the network encoder's output z; `predict` adds the head that was trained with it. The loss is binary
cross-entropy for shares and squared error otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.sne.batches import Planner
from zoo_bench.encoders.sne.chunks import element_count, kernel_size
from zoo_bench.encoders.sne.invariance import Permuter, has_signs, has_symmetries
from zoo_bench.encoders.sne.network import SNENetwork
from zoo_bench.encoders.sne.settings import Settings
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import Networks
from zoo_bench.encoders.training.supervised import Facts, Plans, Step, SupervisedEncoder
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError

TRAINING = TrainingSettings(
    epochs=200,
    batch_size=64,
    learning_rate=5e-4,
    weight_decay=1e-2,
    schedule="cosine",
    warm_up_steps=1000,
    clip=10.0,
    # bfloat16 keeps 8 bits, and embeddings of different networks differ in the second digit at first.
    bfloat16=False,
    graph=True,
)

# Sine networks have hidden weights of 0.01: undivided, a layer norm sees the bias beside them and little else. Rows as
# chunks make the encoding blind to the order of hidden units, so no penalty is needed; to their signs it is not.
SINE = Settings(width=64, chunk="row", pos="boundary", normalize=True, nu=0.0, signs=True)
# What the names of encoders stand for; any other settings are a call of `sne`.
VARIANTS = {
    "paper": (Settings(), TRAINING),
    "boundary": (Settings(pos="boundary", chunk="row"), TRAINING),
    "kernels": (Settings(conv_tokens="kernels", noise=0.6), TRAINING),
    # Kernels as elements, padded to the largest that any network here has; two heads, for half the attention of four.
    # Small batches, because there are few steps: about a minute of them on two cores, whatever the zoo.
    "small": (
        Settings(width=32, heads=2, head_width=64, conv_tokens="kernels", kernel=5),
        replace(TRAINING, epochs=10, steps=1000, most_numbers=4_000_000, batch_size=8, learning_rate=2e-3, threads=1),
    ),
    "sine": (SINE, replace(TRAINING, epochs=300, learning_rate=1e-3)),
    # The paper's ablation: no hierarchy of layers, no codes, and no rows; its width.
    "sine_flat": (
        replace(SINE, width=32, hierarchy=False, type_code="none", level="none", pos="none", chunk=32, signs=False),
        replace(TRAINING, learning_rate=1e-3),
    ),
}


def sne(settings: Settings | None = None, *, training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder (Andreis et al., Set-based Neural Network Encoding Without Weight Tying, NeurIPS 2024).

    >>> sne(Settings(width=32, chunk="row", pos="boundary")).config["width"]
    32
    """
    chosen = settings or Settings()
    permuters: dict[tuple[ParameterLayout, ...], Permuter] = {}

    def build(facts: Facts) -> SNENetwork:
        outputs = facts.get("outputs", 1)
        return SNENetwork(chosen, kernel=facts["kernel"], scale=facts["scale"], outputs=outputs)

    def plans(facts: Facts, layouts: Sequence[ParameterLayout], device: torch.device) -> Plans:
        return Planner(layouts, chosen, chunk=facts["chunk"], kernel=facts["kernel"], device=device).plan

    def permuter(step: Step) -> Permuter:
        layouts = step.networks.layouts
        if layouts not in permuters:
            permuters.clear()
            permuters[layouts] = Permuter(layouts, step.offsets.device)
        return permuters[layouts]

    def augment(step: Step) -> tuple[Tensor, Tensor]:
        return permuter(step).flip(step.layouts, step.networks.numbers, step.offsets, step.generator)

    def penalty(step: Step, embeddings: Tensor, logits: Tensor) -> Tensor:
        if not step.facts["nu"]:
            return logits.new_zeros(())
        numbers, offsets = permuter(step).draw(step.layouts, step.networks.numbers, step.offsets, step.generator)
        _, others = step.module(step.plan, numbers, offsets)
        return step.facts["nu"] * invariance(logits, others)

    return SupervisedEncoder(
        "sne",
        source=sne,
        training=training,
        settings=asdict(chosen),
        facts=lambda networks: _facts(chosen, networks),
        build=build,
        plans=plans,
        augment=augment if chosen.signs else None,
        penalty=penalty,
        settle=SNENetwork.settle if chosen.head_norm else None,
    )


def invariance(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean over networks of half the squared difference of their logits (SNE, appendix C).

    These are (network,), or (network, name), whose squares are summed.
    """
    return 0.5 * (logits.float() - others.float()).square().view(len(logits), -1).sum(dim=1).mean()


def _facts(settings: Settings, networks: Networks) -> Facts:
    """Settle what the settings leave to the zoo."""
    axes = {len(parameter.shape) for layout in networks.layouts for parameter in layout.parameters}
    linear = max(axes) <= 2
    chunk: int | str = settings.chunk
    if chunk == "auto":
        chunk = 32 if linear or len(networks.layouts) > 1 else 16
    nu = settings.nu
    if nu == "auto":
        nu = 1.0 if linear and has_symmetries(networks.layouts) else 0.0
    elif nu and not has_symmetries(networks.layouts):
        raise ZooError("sne: nu is set, but no hidden units of these networks can be reordered; expected nu = 0")
    if settings.signs and not has_signs(networks.layouts):
        raise ZooError(
            "sne: signs is set, but these networks have normalisation layers or no hidden units; expected signs = False"
        )
    scale = float(networks.numbers.std()) if settings.normalize else 1.0
    kernel = kernel_size(networks.layouts)
    kernel = max(kernel, settings.kernel) if kernel else 0  # who has seen no kernel reads their numbers
    counts = np.array([element_count(layout, settings, chunk=chunk, kernel=kernel) for layout in networks.layouts])
    elements = float(counts[networks.layout_of].mean())
    return {"chunk": chunk, "kernel": kernel, "nu": float(nu), "scale": scale or 1.0, "elements": elements}


def variant(name: str) -> Callable[[], SupervisedEncoder]:
    """Return what makes the encoder of one of VARIANTS."""
    settings, training = VARIANTS[name]
    return partial(sne, settings=settings, training=training)
