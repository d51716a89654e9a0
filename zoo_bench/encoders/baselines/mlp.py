"""The baseline `mlp`: fully connected layers on the flat weights, trained on a target.

Widths and training are those of the networks on raw weights that Unterthiner et al. (2020) settled on: three to six
hidden layers of 380 to 486 units.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import Networks, dense, last_layer
from zoo_bench.encoders.training.supervised import Facts, Rows, SupervisedEncoder

WIDTHS = (400, 400, 400, 400)
TRAINING = TrainingSettings(
    epochs=60,
    steps=3000,
    most_numbers=640_000_000,
    batch_size=64,
    learning_rate=1e-3,
    optimizer="adam",
    patience=15,
    bfloat16=False,
    graph=True,
    threads=1,
)


class MLPNetwork(nn.Module):
    """Rows of numbers of one length to the last hidden layer and a logit."""

    def __init__(self, numbers: int, widths: Sequence[int], *, outputs: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = numbers
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.numbers = numbers
        self.hidden = nn.Sequential(*layers)
        self.last = last_layer(inputs, outputs)

    def forward(self, plan: None, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (number,) and offsets (network,) to embeddings (network, width) and logits (network,)."""
        embeddings = self.hidden(dense(numbers, offsets, self.numbers))
        return embeddings, self.last(embeddings).squeeze(1).float()


def mlp(
    *,
    widths: Sequence[int] = WIDTHS,
    training: TrainingSettings = TRAINING,
) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer."""
    return fully_connected("mlp", source=mlp, widths=widths, training=training)


def fully_connected(
    name: str,
    *,
    source: Callable[..., SupervisedEncoder],
    widths: Sequence[int],
    training: TrainingSettings,
    rows: Rows | None = None,
) -> SupervisedEncoder:
    """Return an encoder of networks of one length: fully connected layers on their weights, or on `rows` of a view.

    Args:
        name: of the encoder.
        source: the function that makes this encoder; its module determines the encoder's digest.
        widths: of the hidden layers; the last is the embedding.
        training: how.
        rows: of a view, what is read of it, float32 (model, checkpoint, number).
    """
    return SupervisedEncoder(
        name,
        source=source,
        training=training,
        settings={"widths": list(widths)},
        facts=_count_numbers,
        build=lambda facts: MLPNetwork(facts["numbers"], widths, outputs=facts.get("outputs", 1)),
        rows=rows,
        fixed_length=True,
    )


def _count_numbers(networks: Networks) -> Facts:
    """Return how many numbers are read of each network; all have as many."""
    return {"numbers": len(networks.numbers) // len(networks.offsets)}
