"""The baseline `statistics_network` (StatNN): a small network on seven statistics of each tensor.

Sizes, loss and optimiser are those of NFN's code (Zhou et al., NeurIPS 2023): two hidden layers of 1,000, Adam at 1e-3,
batches of 8, and no normalisation. Theirs takes 50 epochs, ours as many steps as 1,280 networks give in them.
"""

from collections.abc import Sequence

from zoo_bench.encoders.baselines.mlp import fully_connected
from zoo_bench.encoders.baselines.tensor_statistics import view_statistics
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.supervised import SupervisedEncoder

WIDTHS = (1000, 1000)
TRAINING = TrainingSettings(
    epochs=50, steps=8000, batch_size=8, learning_rate=1e-3, optimizer="adam", bfloat16=False, graph=True, threads=1
)


def statistics_network(
    *,
    widths: Sequence[int] = WIDTHS,
    training: TrainingSettings = TRAINING,
) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer."""
    return fully_connected(
        "statistics_network",
        source=statistics_network,
        widths=widths,
        training=training,
        rows=view_statistics,
    )
