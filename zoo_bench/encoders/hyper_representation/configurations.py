"""The sizes and schedules of hyper-representations, as data: the paper's, one for each of its zoos, and a small one.

The paper's are those of the public code of Schürholt et al. (NeurIPS 2021), one script a zoo; `populations` says which
zoo gets which.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Configuration:
    """One autoencoder and its training.

    Attributes:
        name: its name.
        blocks: transformer blocks in the encoder, and as many in the decoder.
        width: of a token.
        heads: of the attention.
        feedforward: width inside a block.
        latent: dimension of the embedding.
        head_layers: hidden layers of the projection head.
        head_width: their width.
        head_output: the dimension in which views are contrasted.
        gamma: the share of the contrast in the loss, if both parts count.
        epochs: of training.
        steps: of all epochs together, whatever the zoo; an epoch is an equal part of them. Without, it is one pass.
        most_tokens: tokens that all those steps together read at most.
        parameters: of the networks that the paper used it for; 0 for any.
        batch_size: samples a step, each with two views.
        learning_rate: of Adam.
        evaluate_every: epochs between validations.
        dropout: in the blocks.
        temperature: of the contrast.
        weight_decay: of Adam.
        schedule: of the learning rate, as TrainingSettings names it.
    """

    name: str
    blocks: int
    width: int
    heads: int
    feedforward: int
    latent: int
    head_layers: int
    head_width: int
    head_output: int
    gamma: float
    epochs: int
    parameters: int = 0
    batch_size: int = 500
    learning_rate: float = 1e-4
    evaluate_every: int = 10
    dropout: float = 0.1
    temperature: float = 0.1
    weight_decay: float = 1e-9
    schedule: Literal["plateau", "cosine"] = "plateau"
    steps: int | None = None
    most_tokens: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return asdict(self)


_ROWS = (
    #                      blocks width heads feedf. latent head       gamma epochs parameters
    Configuration("tetris_seed", 2, 256, 4, 512, 50, 3, 50, 20, 0.5, 1000, 100),
    Configuration("tetris_hyp", 2, 256, 4, 900, 50, 3, 50, 20, 0.5, 1000, 100),
    Configuration("mnist_seed", 2, 800, 4, 900, 700, 4, 400, 50, 0.1, 500, 2464),
    Configuration("mnist_hyp_1_fix_seed", 4, 800, 2, 1000, 700, 4, 400, 50, 0.5, 500, 2464),
    Configuration("mnist_hyp_1_rand_seed", 4, 800, 2, 900, 700, 4, 400, 20, 0.15, 500, 2464),
    Configuration("mnist_hyp_5_fix_seed", 2, 800, 4, 900, 700, 4, 400, 20, 0.5, 500, 2464),
    Configuration("mnist_hyp_5_rand_seed", 4, 800, 2, 900, 500, 2, 400, 50, 0.5, 500, 2464),
    Configuration("fashion_seed", 2, 800, 4, 900, 700, 4, 400, 50, 0.1, 500, 2464),
    Configuration("mnist_hyp", 4, 512, 4, 1000, 1200, 4, 400, 50, 0.1, 200, 4970),
    Configuration("fashion_hyp", 4, 512, 4, 1000, 1200, 4, 400, 50, 0.85, 200, 4970),
    Configuration("svhn_hyp", 4, 512, 4, 1000, 1200, 4, 400, 50, 0.85, 250, 4970),
    Configuration("cifar10_hyp", 4, 512, 4, 1000, 1200, 4, 400, 50, 0.5, 250, 4970),
)
PAPER = {configuration.name: configuration for configuration in _ROWS}
# For zoos like none of these: up to so many parameters, the configuration of the paper's zoo of networks like that.
PAPER_BY_SIZE = ((500, "tetris_seed"), (3500, "mnist_seed"), (10**12, "mnist_hyp"))
SMALL = Configuration(
    "small",
    blocks=2,
    width=64,
    heads=2,
    feedforward=128,
    latent=50,
    head_layers=2,
    head_width=50,
    head_output=20,
    gamma=0.5,
    epochs=10,
    steps=2000,
    most_tokens=2_500_000,  # about a minute on two cores
    batch_size=128,
    learning_rate=1e-3,
    evaluate_every=2,
    dropout=0.0,
    schedule="cosine",
)
