"""The settings of SANE, and how its two registered sizes are trained."""

from dataclasses import dataclass, replace
from typing import Any

from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_gen.errors import ZooError


@dataclass(frozen=True)
class Settings:
    """One sequence autoencoder.

    Attributes:
        token: numbers a token.
        window: tokens that are read together at most.
        blocks: transformer blocks in the encoder, and as many in the decoder.
        width: of a token inside the blocks.
        heads: of the attention.
        feedforward: width inside a block.
        latent: of a token's code, and so of the embedding.
        dropout: in the blocks.
        head_layers: hidden layers of the projection head.
        head_width: their width.
        head_output: the dimension in which views are contrasted.
        gamma: the share of the contrast in the loss, the rest is reconstruction.
        temperature: of the contrast.
        noise: each number read is multiplied by 1 + noise times a standard normal draw.
        permute: whether hidden units of the views are put in a random order.

    Raises:
        ZooError: a size is below 1, or heads do not divide the width.
    """

    token: int = 64
    window: int = 64
    blocks: int = 4
    width: int = 256
    heads: int = 4
    feedforward: int = 512
    latent: int = 256
    dropout: float = 0.0
    head_layers: int = 2
    head_width: int = 128
    head_output: int = 50
    gamma: float = 0.3
    temperature: float = 0.1
    noise: float = 0.1
    permute: bool = True

    def __post_init__(self) -> None:
        sizes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("token", "window", "blocks", "width", "heads", "feedforward", "latent", "head_width")
        }
        for name, size in sizes.items():
            if size < 1:
                raise ZooError(f"sane: {name} is {size}; expected 1 or more")
        if self.width % self.heads:
            raise ZooError(f"sane: width {self.width} with heads {self.heads}; expected a width that heads divide")
        if not 0 <= self.gamma <= 1:
            raise ZooError(f"sane: gamma is {self.gamma}; expected a share from 0 to 1")


TRAINING = TrainingSettings(
    epochs=60,
    steps=6000,
    batch_size=256,
    learning_rate=5e-4,
    optimizer="adamw",
    weight_decay=1e-4,
    schedule="cosine",
    warm_up_steps=300,
    clip=10.0,
    evaluate_every=5,
    graph=True,
)
SMALL = Settings(window=32, blocks=2, width=64, heads=2, feedforward=128, latent=128, head_width=64, head_output=32)
# About a minute on two cores, whatever the zoo: a step reads 32 windows of 32 tokens, twice.
SMALL_TRAINING = replace(
    TRAINING, epochs=10, steps=1000, batch_size=32, learning_rate=2e-3, warm_up_steps=50, evaluate_every=2, threads=1
)
