"""Training of models of one or several architectures: a population has one, and each gives what it gives alone.

A mixed zoo is trained as the ordinary zoos of its architectures would be, one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.network import BUFFERS
from zoo_gen.engine.settings import training_settings
from zoo_gen.image_data import Data
from zoo_gen.manifest import ZooManifest
from zoo_gen.manifest.architectures import AXIS
from zoo_gen.store.shards import Arrays

if TYPE_CHECKING:
    from zoo_gen.population.population import TrainingSettings
    from zoo_gen.population.reached import Saves

_COMPLETE, _NUMBER = "complete/", "architecture"  # in what is written: arrays of architectures, the one at work


def settings_of(manifest: ZooManifest, *, device: str, forms: Mapping[str, str]) -> "dict[str, TrainingSettings]":
    """Return how the models of each architecture of a zoo are trained, by the name of the architecture.

    Raises:
        ZooError: as `training_settings`.
    """
    names = list(manifest.networks)
    return {name: training_settings(manifest.of_architecture(name), device=device, forms=forms) for name in names}


def train_models(
    manifest: ZooManifest,
    data: Data,
    rows: pa.Table,
    settings: "Mapping[str, TrainingSettings]",
    *,
    report: Callable[[float], None] | None = None,
    saves: "Saves | None" = None,
) -> Arrays:
    """Train the models of a table, and return their arrays in its order, for every array of `Extent.arrays`.

    Args:
        manifest: of their zoo.
        data: what they learn.
        rows: of the models.
        settings: of each architecture.
        report: is told after every epoch how many models' worth of the work is done.
        saves: of this training: it resumes from what was written last, to the same bits.
    """
    from zoo_gen.population.train import train

    parts: list[tuple[np.ndarray, Arrays]] = []
    trained = 0
    progress = None if saves is None else _Progress(saves)
    for number, (name, positions) in enumerate(by_architecture(manifest, rows)):
        ordinary, before = manifest.of_architecture(name), trained

        def report_all(done: float, before: int = before) -> None:
            if report is not None:
                report(before + done)

        arrays = progress.begin(number) if progress else {}
        if not arrays:
            arrays = train(
                manifest.architectures[name],
                data,
                _as_ordinary(rows.take(positions), ordinary) if manifest.ragged else rows,
                settings[name],
                checkpoint_epochs=manifest.checkpoint_epochs,
                report=report_all,
                saves=progress,
            ).arrays
        if progress:
            progress.complete(arrays)
        parts.append((positions, with_buffers(arrays, manifest)))
        trained += len(positions)
    return gathered(parts)


class _Progress:
    """What is written of one architecture after the other: its training's state, and the arrays of those before it."""

    def __init__(self, saves: "Saves") -> None:
        self._saves, self._written = saves, saves.read()
        self._complete: dict[str, np.ndarray] = {}
        self._number = 0

    def begin(self, number: int) -> dict[str, np.ndarray]:
        """Let the architecture of a number begin; return its arrays, if they were complete before an interruption."""
        self._number = number
        prefix = _complete(number)
        return {name.removeprefix(prefix): each for name, each in self._written.items() if name.startswith(prefix)}

    def complete(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays of the architecture that began last."""
        self._complete |= {f"{_complete(self._number)}{name}": array for name, array in arrays.items()}

    def read(self) -> dict[str, np.ndarray]:
        """Return what was written last of the training of this architecture."""
        if not self._written or int(self._written[_NUMBER]) != self._number:
            return {}
        return {name: each for name, each in self._written.items() if not name.startswith(_COMPLETE)}

    def is_due(self) -> bool:
        """Return whether it is time to write again."""
        return self._saves.is_due()

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Write arrays in place of the last ones."""
        self._saves.write({**self._complete, _NUMBER: np.array(self._number), **values})


def _complete(number: int) -> str:
    return f"{_COMPLETE}{number}/"


def by_architecture(manifest: ZooManifest, rows: pa.Table) -> list[tuple[str, np.ndarray]]:
    """Return the architectures of some models, each with the positions of its models among the rows."""
    if not manifest.ragged:
        return [(name, np.arange(len(rows))) for name in manifest.networks]
    names = rows[AXIS].to_numpy(zero_copy_only=False)
    present = ((name, np.flatnonzero(names == name)) for name in manifest.networks)
    return [(name, positions) for name, positions in present if len(positions)]


def gathered(parts: Sequence[tuple[np.ndarray, Arrays]]) -> Arrays:
    """Return the arrays of models that were made in parts.

    Args:
        parts: the positions (model,) of some models among all, and their arrays, name -> (model, checkpoint, ...).

    Returns:
        Name -> (model, checkpoint, ...); of weights of several lengths a list of (checkpoint, parameter).
    """
    if len(parts) == 1:
        return parts[0][1]
    count = sum(len(positions) for positions, _ in parts)
    arrays: dict[str, np.ndarray | list[np.ndarray]] = {}
    for name in parts[0][1]:
        blocks: list[np.ndarray] = [np.empty(0)] * count
        for positions, of_part in parts:
            for position, block in zip(positions.tolist(), of_part[name], strict=True):
                blocks[position] = block
        arrays[name] = np.stack(blocks) if len({block.shape for block in blocks}) == 1 else blocks
    return arrays


def _as_ordinary(rows: pa.Table, ordinary: ZooManifest) -> pa.Table:
    """Return rows with the columns that the zoo of their architecture alone has."""
    return rows.select(["model_id", *ordinary.hyperparameters])


def with_buffers(arrays: Arrays, manifest: ZooManifest) -> Arrays:
    """Return the arrays of models with as many running statistics as their zoo has room for, NaN after their own."""
    width = dict(manifest.metric_widths).get(BUFFERS, 0)
    statistics = arrays.get(BUFFERS)
    if (0 if statistics is None else statistics.shape[-1]) == width:
        return arrays
    others = {name: values for name, values in arrays.items() if name != BUFFERS}
    if width == 0:
        return others
    buffers = np.full((*next(iter(others.values())).shape[:2], width), np.nan, dtype=np.float32)
    if statistics is not None:
        shared = min(width, statistics.shape[-1])
        buffers[..., :shared] = statistics[..., :shared]
    return {**others, BUFFERS: buffers}
