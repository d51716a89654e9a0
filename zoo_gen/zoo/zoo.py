"""Zoo: the read side. The table of models, weights and metrics read lazily, and any model as a torch module.

Reading needs numpy, zarr and pyarrow; torch is imported only where a tensor or a module is asked for.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import BUFFERS
from zoo_gen.errors import ZooError, needing, unknown_name
from zoo_gen.files.location import Folder, locate, pinned
from zoo_gen.image_data import DataSource
from zoo_gen.manifest import Split, StoredSplit
from zoo_gen.manifest.split import PARTS, split_sha256
from zoo_gen.store import Store, side_files
from zoo_gen.store.conversion import Conversion, read_conversion
from zoo_gen.store.side_files import Architecture
from zoo_gen.zoo import dataset, module, summary
from zoo_gen.zoo.arrays import Arrays
from zoo_gen.zoo.frame import data_frame, long_table
from zoo_gen.zoo.table import ModelTable, model_number, model_numbers
from zoo_gen.zoo.view import ZooView, checkpoint, checkpoints

if TYPE_CHECKING:
    import pandas
    import torch


def open_zoo(path: str | Folder) -> "Zoo":
    """Open a zoo for reading, in a folder or at a URL; only its attributes are read yet.

    URLs are s3://bucket/zoo and others that fsspec knows, and hf://org/zoo@revision, a data set of the Hub. A zoo that
    is still being made can be opened too: its table holds the models of the complete shards.

    Raises:
        ZooError: the folder holds no zoo that this version reads, or the URL cannot be reached.

    >>> from zoo_gen import open_zoo
    >>> zoo = open_zoo("zoos/tiny")
    >>> zoo.weights.shape  # model, checkpoint, parameter
    (40, 5, 100)
    >>> zoo.view(zoo.split("test"), epochs=[0, 4]).metric("test_accuracy").shape
    (8, 2)
    """
    return Zoo(Store.open(pinned(locate(path))))


def opened(zoo: "Zoo | str | Folder") -> "Zoo":
    """Return a zoo that is given as itself, or as its folder or URL.

    Raises:
        ZooError: it is neither, or there is no zoo.
    """
    return zoo if isinstance(zoo, Zoo) else open_zoo(zoo)


class Zoo:
    """A zoo on disk, or at a URL.

    Attributes:
        store: what it is read from.
        attributes: what its store says of itself (schema, layout, versions, ...).
        manifest: the manifest that made it; a ConvertedManifest if it was converted from a published archive.
        name: the manifest's name.
        digest: the manifest's digest.
        extent: how large it is, and how it is cut into shards.
        epochs: int32 (checkpoint,), the epoch of each checkpoint; 0 is before training.
    """

    def __init__(self, store: Store, table: ModelTable | None = None) -> None:
        self.store = store
        self.attributes = store.attributes
        self.manifest = store.manifest
        self.name = self.manifest.name
        self.digest = self.manifest.digest
        self.extent = store.extent
        self.epochs = np.array(self.attributes["checkpoint_epochs"], dtype=np.int32)
        self._table = table or ModelTable(store)
        self.arrays = Arrays(store, self._table)

    @property
    def path(self) -> Folder:
        """Its folder, as it was given; absolute once the current folder is another."""
        return self.store.folder

    def _repr_html_(self) -> str:
        return summary.html(self.store, self._table)

    def facts(self) -> dict[str, str]:
        """Return what to know of the zoo first, title -> text: sizes, data, digests, splits, what varies."""
        return summary.facts(self.store, self._table)

    def described(self) -> dict[str, Any]:
        """Return what `facts` says as plain data, for other programs: `zoo-gen info --json`."""
        return summary.described(self.store, self._table)

    def varying_values(self) -> dict[str, str]:
        """Return the hyper-parameters that vary, name -> their values in short."""
        return summary.varying_values(self.store, self._table)

    def outcome(self) -> summary.Outcome:
        """Return what the models that did not diverge reached after the last epoch."""
        return summary.outcome(self.store, self._table)

    def __repr__(self) -> str:
        extent = self.extent
        shape = f"{extent.n_models} x {extent.n_checkpoints} x {'up to ' * self.manifest.ragged}{extent.n_parameters}"
        return f"<Zoo {self.name} at {self.path}: {shape} (model, checkpoint, parameter)>"

    @property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights.

        Raises:
            ZooError: the models differ in architecture.
        """
        if self.arrays.layout is None:
            raise ZooError(
                f"{self.path}: its models have {len(self.architectures)} architectures; expected "
                "zoo.layout_of(model), or a view of models of one architecture"
            )
        return self.arrays.layout

    @property
    def architectures(self) -> dict[str, Architecture]:
        """The architectures of a converted zoo by their id, which the column `architecture` names; else none.

        Raises:
            ZooError: their file is damaged.
        """
        return self.arrays.architectures

    def layout_of(self, model: int) -> ParameterLayout:
        """Return where each parameter of a model lies in its weights."""
        return self.arrays.layout_of(self._row(model))

    @property
    def varying(self) -> tuple[str, ...]:
        """The hyper-parameters that vary."""
        return self.manifest.varying

    @property
    def ragged(self) -> bool:
        """Whether models differ in architecture; the column `architecture` then names that of each."""
        return self.manifest.ragged

    @property
    def layouts(self) -> tuple[ParameterLayout, ...]:
        """The layouts of its architectures."""
        return tuple(each.layout for each in self.architectures.values()) if self.ragged else (self.layout,)

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """What its models were trained on, as far as it is known."""
        return () if self.manifest.data is None else (self.manifest.data,)

    @property
    def n_classes(self) -> int:
        """The number of classes.

        Raises:
            ZooError: there are none, or the archive did not say.
        """
        if self.manifest.n_classes is None:
            raise ZooError(f"{self.path}: its number of classes is not known")
        return self.manifest.n_classes

    @property
    def models(self) -> pa.Table:
        """The table of models: model_id, split, hyper-parameters, status, final metrics and sha256.

        Raises:
            ZooError: a Parquet part cannot be read.
        """
        return self._table.whole

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of the table of models.

        On disk no other is read, unless the table was: of a large zoo it is most of what a reader holds.

        Raises:
            ZooError: there is no such column, or a Parquet part cannot be read.
        """
        return self._table.column(name)

    def load(self, names: list[str]) -> None:
        """Read some columns of the table of models in one pass and keep them for `column`.

        Raises:
            ZooError: a Parquet part cannot be read.
        """
        self._table.load(names)

    @property
    def complete_shards(self) -> list[int]:
        """The numbers of the shards that are complete."""
        return self.store.complete_shards()

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return set(range(self.extent.n_shards)) <= set(self.complete_shards)

    @property
    def weights(self) -> zarr.Array:
        """The weights, lazily: float32 (model, checkpoint, parameter); NaN where a model diverged or is not made yet.

        Reading models whose file of weights is lost raises a ZooError, unless a pipeline other than zarr's own reads.

        Raises:
            ZooError: the models differ in architecture.
        """
        _ = self.layout  # of models of one architecture
        return self.store.array("weights")

    @property
    def train_loss(self) -> zarr.Array:
        """Mean loss on the training images in evaluation mode, lazily: float32 (model, checkpoint)."""
        return self.metric("train_loss")

    @property
    def train_accuracy(self) -> zarr.Array:
        """Accuracy on the training images in evaluation mode, lazily: float32 (model, checkpoint)."""
        return self.metric("train_accuracy")

    @property
    def test_loss(self) -> zarr.Array:
        """Mean loss on the test images, lazily: float32 (model, checkpoint)."""
        return self.metric("test_loss")

    @property
    def test_accuracy(self) -> zarr.Array:
        """Accuracy on the test images, lazily: float32 (model, checkpoint)."""
        return self.metric("test_accuracy")

    @property
    def test_class_f1(self) -> zarr.Array:
        """F1 score of each class on the test images, lazily: float32 (model, checkpoint, class)."""
        return self.metric("test_class_f1")

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The names of what was measured at every checkpoint.

        The running ones are means over the epoch before a checkpoint as it was trained; the loss is cross-entropy, or
        the squared error where waves are fitted; zoos of waves have no accuracies.
        """
        return tuple(name for name, _ in self.extent.metrics if name != BUFFERS)

    def metric(self, name: str) -> zarr.Array:
        """Return a metric, lazily: float32 (model, checkpoint), or (model, checkpoint, class) for test_class_f1.

        Raises:
            ZooError: this zoo has no metric of that name.
        """
        if name not in self.metrics:
            raise ZooError(f"{self.name}: {unknown_name('metric', name, self.metrics)}")
        return self.store.array(name)

    def array(self, name: str) -> zarr.Array:
        """Return an array of the store, lazily.

        Raises:
            ZooError: it is not there, is damaged, or is not an array.
        """
        return self.store.array(name)

    @property
    def revision(self) -> str:
        """SHA-256 of all that the models' own digests cover: it changes when any weight or metric does."""
        return self._table.revision

    @cached_property
    def split_sha256(self) -> str:
        """SHA-256 of which model is in which part."""
        return split_sha256(self.models)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the split tables that a converted zoo has besides the column `split`."""
        return tuple(self.manifest.splits)

    @cached_property
    def states(self) -> pa.Table:
        """The checkpoints of a converted zoo, a row each in the order of the source: model_id, epoch, as published.

        Raises:
            ZooError: the zoo was not converted, or its publication has no such table.
        """
        return side_files.read_states(self.path)

    @cached_property
    def conversion(self) -> Conversion | None:
        """The report of the conversion that made the zoo: files, columns and notes; None of a zoo that has none.

        Raises:
            ZooError: its file is damaged.
        """
        return read_conversion(self.path)

    def split(self, name: str, *, table: str | None = None) -> np.ndarray:
        """Return the model_ids of one part of the split: "train", "validation" or "test".

        Args:
            name: the part.
            table: a named split table, one of `splits`, whose order is the published one; else the column `split`.

        Raises:
            ZooError: there is no part or no table of that name.
        """
        if name not in PARTS:
            raise ZooError(unknown_name("part of the split", name, PARTS))
        if table is not None:
            rows = side_files.read_split(self.path, self.manifest.splits, table)
            return rows["model_id"].filter(pc.equal(rows["part"], name)).to_numpy()
        return self.column("model_id").filter(pc.equal(self.column("split"), name)).to_numpy()

    def with_split(self, split: Split | StoredSplit) -> "Zoo":
        """Return this zoo under another split by model: one of its split tables, or one drawn as a manifest's is.

        Nothing on disk changes.

        Raises:
            ZooError: seeds are to stay together, and the zoo's table has none; or it has no split table of that name.
        """
        return Zoo(self.store, self._table.with_split(split))

    def checkpoint(self, epoch: int) -> int:
        """Return the position of an epoch among the checkpoints.

        Raises:
            ZooError: that epoch was not kept.
        """
        return checkpoint(self, epoch)

    def state_dict(self, model: int, epoch: int | None = None) -> "dict[str, torch.Tensor]":
        """Return the parameters of a model after an epoch (the last one kept, if none is given), name -> tensor.

        Of a module with batch normalisation, the running statistics too.

        Raises:
            ZooError: there is no such model or checkpoint, or it diverged.
        """
        checkpoint = None if epoch is None else self.checkpoint(epoch)
        with needing("tensors", extra="generate"):
            return module.state_dict(self.store, self.arrays, self._row(model), checkpoint=checkpoint)

    def module(self, model: int, epoch: int | None = None) -> "torch.nn.Module":
        """Return a model after an epoch (the last one kept, if none is given) as a torch module in evaluation mode.

        It maps images (image, channel, height, width), as `ImageData.tensors` gives them, to logits (image, class).

        Raises:
            ZooError: there is no such model or checkpoint, or it diverged.
        """
        checkpoint = None if epoch is None else self.checkpoint(epoch)
        with needing("modules", extra="generate"):
            return module.module(self.store, self.arrays, self._row(model), checkpoint=checkpoint)

    def _row(self, model: int) -> pa.Table:
        number = model_number(model, where=self.manifest.name)
        return self._table.rows(slice(number, number + 1))

    def view(self, models: np.ndarray | Sequence[int], epochs: Sequence[int] | None = None) -> ZooView:
        """Return some models (all their checkpoints, or those of the given epochs) as one object with arrays.

        Raises:
            ZooError: a model or an epoch is not there, or the models are no list of numbers.
        """
        ids = model_numbers(models, where=self.manifest.name)
        rows = np.array([self._table.row(model) for model in ids.tolist()], dtype=np.int64)
        return ZooView(self, ids, rows, checkpoints(self, epochs), self.arrays)

    def torch_dataset(
        self,
        split: str = "train",
        *,
        target: str | None = None,
        epochs: Sequence[int] | None = None,
        tensors: bool = False,
        graphs: bool = False,
        table: str | None = None,
        memory: int = dataset.MEMORY,
    ) -> dataset.WeightDataset:
        """Return the checkpoints of one part of the split as a dataset for torch's DataLoader, read lazily.

        A sample is (weights, target), or weights alone without a target: weights are a float32 tensor (parameter,) in
        torch's order, a target a number, or a position among `classes` of the dataset where it is text. Its `models`
        and `epochs` say what each sample is. Models that diverged are left out.

        Args:
            split: "train", "validation" or "test".
            target: a metric, "generalization_gap", "epoch" or a column of the table of models.
            epochs: which checkpoints of each model; all, if none are given.
            tensors: whether weights are a tensor a parameter, name -> tensor.
            graphs: whether weights are a graph: "nodes" and "edges" with their features, and "edge_index".
            table: a named split table, as for `split`.
            memory: bytes of weights that may be read at once and stay; of more, each batch reads what it needs.

        Raises:
            ZooError: there is no such part, epoch or target.

        >>> from zoo_gen import open_zoo
        >>> samples = open_zoo("zoos/tiny").torch_dataset("train", target="test_accuracy", epochs=[4])
        >>> weights, accuracy = samples[0]
        >>> len(samples), weights.shape, accuracy.dtype
        (24, torch.Size([100]), torch.float32)
        """
        view = self.view(self.split(split, table=table), epochs)
        return dataset.WeightDataset(view, target=target, tensors=tensors, graphs=graphs, memory=memory)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the long form: a row a model and checkpoint, with hyper-parameters and the metrics of that epoch.

        Raises:
            ZooError: pandas is not installed.

        >>> from zoo_gen import open_zoo
        >>> frame = open_zoo("zoos/tiny").to_pandas()
        >>> len(frame), {"learning_rate", "epoch", "test_accuracy"} <= set(frame)
        (200, True)
        """
        return data_frame(long_table(self.view(self.models["model_id"].to_numpy())))
