"""WeightDataset: checkpoints of a zoo as samples for torch's DataLoader, for people who bring their own training loop.

What fits into memory is read once, a shard at a time; of a larger zoo each batch reads the chunks of its models.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from zoo_gen.architecture.graphs import GraphStructure, graph_structure
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo.view import ZooView

if TYPE_CHECKING:
    import torch

Weights = Any  # a tensor (parameter,), or a tensor of its shape a parameter, or parts of a graph, name -> tensor
MEMORY = 2**31  # bytes of weights that are read at once and stay


class WeightDataset:
    """A map-style dataset of checkpoints with their weights and a target; `Zoo.torch_dataset` makes it.

    Args:
        view: the models and checkpoints; models that diverged, and checkpoints that one does not have, are left out.
        target: a metric, "generalization_gap", "epoch" or a column of the table of models; None for weights alone.
        tensors: whether a sample's weights are a tensor a parameter, name -> tensor, and not one flat vector.
        graphs: whether they are a graph: "nodes" (node, feature), "edges" (edge, feature) and "edge_index" (2, edge);
            see `zoo_gen.architecture.graphs`.
        memory: bytes of weights that may be read at once and stay.

    Attributes:
        models: int64 (sample,), the model_id of each sample.
        epochs: int64 (sample,), the epoch of each sample.
        targets: float32 (sample,), or int64 positions among `classes` of a target of text; None without a target.
        classes: the values of a target of text, in alphabetical order; else empty.
    """

    def __init__(
        self,
        view: ZooView,
        *,
        target: str | None = None,
        tensors: bool = False,
        graphs: bool = False,
        memory: int = MEMORY,
    ) -> None:
        if tensors and graphs:
            raise ZooError("torch_dataset: got tensors and graphs; expected one of them")
        self._view, self._tensors, self._graphs, self._memory = view, tensors, graphs, memory
        self._structures: dict[str, GraphStructure] = {}  # by architecture
        table = view.zoo.models.take(view.rows)
        table = table.filter(pc.not_equal(table["status"], "diverged"))
        names = table.column_names
        present = table["checkpoints"].to_pylist() if "checkpoints" in names else [view.checkpoints] * len(table)
        positions = [np.intersect1d(view.checkpoints, one) for one in present]
        self._rows = np.repeat(np.arange(len(table)), [len(one) for one in positions])  # of the table, a sample each
        self._checkpoints = np.concatenate([np.zeros(0, np.int64), *positions])
        self._table = table
        self.models = table["model_id"].to_numpy()[self._rows]
        self.epochs = view.zoo.epochs[self._checkpoints].astype(np.int64)
        self.classes: tuple[str, ...] = ()
        self.targets = None if target is None else self._read_targets(target)

    def __len__(self) -> int:
        return len(self.models)

    def __getitem__(self, sample: int) -> "Weights | tuple[Weights, torch.Tensor]":
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> "list[Weights | tuple[Weights, torch.Tensor]]":
        """Return a batch of samples, which torch's DataLoader asks for at once."""
        import torch

        positions = np.arange(len(self))[np.asarray(samples, dtype=np.int64)]
        weights = [self._as_tensors(row, flat) for row, flat in zip(*self._read(positions), strict=True)]
        if self.targets is None:
            return weights
        targets = torch.from_numpy(self.targets[positions])
        return list(zip(weights, targets, strict=True))

    def _as_tensors(self, row: int, flat: np.ndarray) -> "Weights":
        """Return writable tensors of one sample's weights (parameter,)."""
        import torch

        if self._graphs:
            structure = self._structure_of(row)
            nodes, edges = structure.features(flat[None])
            arrays = {"nodes": nodes[0], "edges": edges[0], "edge_index": structure.edges.copy()}
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
        if not self._tensors:
            return torch.from_numpy(flat)
        layout = self._view.arrays.layout_of(self._table.slice(row, 1))
        return {name: torch.from_numpy(array) for name, array in layout.split(flat).items()}

    def _structure_of(self, row: int) -> GraphStructure:
        """Return the graph of a model's architecture."""
        table = self._table
        name = table["architecture"][row].as_py() if "architecture" in table.column_names else ""
        if name not in self._structures:
            network = self._view.arrays.architecture_of({"architecture": name} if name else {})
            if network is None:
                raise ZooError(f"{self._view.zoo.name}: graphs: its layers are not known; expected tensors=True")
            self._structures[name] = graph_structure(network)
        return self._structures[name]

    def _read(self, positions: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        """Return the row in the table of each sample, and its weights, float32 (parameter,), which nothing shares."""
        rows, checkpoints = self._rows[positions], self._checkpoints[positions]
        if self._whole is not None:
            return rows, self._whole[positions]  # an index by positions copies
        unique, order = np.unique(rows, return_inverse=True)
        span = np.unique(checkpoints)
        if self._view.arrays.layout is not None:
            block = self._view.arrays.read_chunks("weights", self._table["model_id"].to_numpy()[unique], span)
            return rows, block[order, np.searchsorted(span, checkpoints)]
        blocks = [self._view.arrays.weights(self._table.slice(int(row), 1), span)[0] for row in unique]
        return rows, [
            blocks[row][column].copy() for row, column in zip(order, np.searchsorted(span, checkpoints), strict=True)
        ]

    @cached_property
    def _whole(self) -> np.ndarray | None:
        """The weights of all samples, float32 (sample, parameter); None where they differ in length or are too many."""
        layout = self._view.arrays.layout
        if layout is None or 4 * len(self) * layout.size > self._memory:
            return None
        models, order = np.unique(self.models, return_inverse=True)
        checkpoints = np.unique(self._checkpoints)
        block = self._view.arrays.read("weights", models, checkpoints)
        return block[order, np.searchsorted(checkpoints, self._checkpoints)]

    def _read_targets(self, name: str) -> np.ndarray:
        """Return the target of each sample (sample,)."""
        zoo = self._view.zoo
        metrics = [*zoo.metrics, *["generalization_gap"] * ({"train_accuracy", "test_accuracy"} <= set(zoo.metrics))]
        if name == "epoch":
            return self.epochs.astype(np.float32)
        if name == "generalization_gap" and name in metrics:
            return self._metric("train_accuracy") - self._metric("test_accuracy")
        if name in metrics:
            return self._metric(name)
        columns = [column for column in self._table.column_names if column not in ("checkpoints", "sha256")]
        if name not in columns:
            raise ZooError(f"{zoo.name}: {unknown_name('target', name, ['epoch', *metrics, *columns])}")
        values = self._table[name].to_numpy(zero_copy_only=False)[self._rows]
        if values.dtype.kind in "biuf":
            return values.astype(np.float32)
        self.classes = tuple(sorted({str(value) for value in values}))
        return np.searchsorted(np.array(self.classes), values.astype(str))

    def _metric(self, name: str) -> np.ndarray:
        """Return a metric of each sample, float32 (sample,)."""
        models, order = np.unique(self.models, return_inverse=True)
        checkpoints = np.unique(self._checkpoints)
        values = self._view.arrays.read(name, models, checkpoints)
        if values.ndim != 2:
            raise ZooError(f"{self._view.zoo.name}: {name} is a number a class; expected a target of one number")
        return values[order, np.searchsorted(checkpoints, self._checkpoints)]
