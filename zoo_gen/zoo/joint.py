"""JointZoo: several zoos read as one, each model in the part of the split that its own zoo gave it. Nothing is copied.

Models are numbered zoo after zoo, and the column `zoo` says which each is of. Zoos may differ in architecture and in
what they kept: then the table says of each model which it has, as that of a published zoo does.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, check_list, unknown_name
from zoo_gen.files.location import Folder, locate
from zoo_gen.image_data import DataSource
from zoo_gen.manifest import Split, StoredSplit
from zoo_gen.manifest.architectures import AXIS
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS
from zoo_gen.manifest.split import PARTS, parts, split_sha256
from zoo_gen.store.side_files import text_sha256
from zoo_gen.zoo import dataset
from zoo_gen.zoo.frame import data_frame, long_table
from zoo_gen.zoo.joint_arrays import JointArray, JointArrays
from zoo_gen.zoo.table import model_numbers
from zoo_gen.zoo.view import ZooView, checkpoint, checkpoints
from zoo_gen.zoo.zoo import Zoo, open_zoo

if TYPE_CHECKING:
    import pandas
    import torch

JOIN = "+"  # between the names or folders of zoos that are read as one
_OF_THE_FILES = ("weights_start",)


def open_zoos(zoos: Sequence[str | Folder | Zoo]) -> "JointZoo":
    """Open several zoos as one for reading: `zoo_bench` takes it wherever it takes a zoo.

    Args:
        zoos: folders, URLs or opened zoos of different names, trained here or published. They may differ in
            hyper-parameters, data, architecture and checkpoints.

    Raises:
        ZooError: there are none, two have one name or hold the same model, or a column is text in one and a number in
            another.

    >>> import zoo_gen
    >>> adam = zoo_gen.split("zoos/tiny", "zoos/adam", where={"optimizer": "adam"}, rest="zoos/sgd")
    >>> zoo = zoo_gen.open_zoos([adam, "zoos/sgd"])
    >>> zoo.name, zoo.weights.shape, zoo.models["zoo"].unique().to_pylist()
    ('adam+sgd', (40, 5, 100), ['adam', 'sgd'])
    """
    check_list("open_zoos", zoos, of="zoos")
    opened = [zoo if isinstance(zoo, Zoo) else open_zoo(zoo) for zoo in zoos]
    return JointZoo(opened)


def open_any(zoo: "str | Folder | Zoo | JointZoo") -> "Zoo | JointZoo":
    """Open a zoo, or several whose folders or URLs stand with a + between them; what is open stays as it is."""
    if isinstance(zoo, Zoo | JointZoo):
        return zoo
    if isinstance(zoo, str) and JOIN in zoo and not Path(zoo).is_dir():
        return open_zoos([locate(path) for path in zoo.split(JOIN)])
    return open_zoo(zoo)


class JointZoo:
    """Several zoos as one.

    Attributes:
        zoos: the zoos.
        name: their names with a + between them.
        epochs: int32 (checkpoint,), the epochs that any of them kept, rising.
    """

    def __init__(self, zoos: Sequence[Zoo], split: Split | None = None) -> None:
        if not zoos:
            raise ZooError("open_zoos: got no zoos; expected one or more")
        self.zoos, self._split = tuple(zoos), split
        names = [zoo.name for zoo in zoos]
        for name in names:
            if names.count(name) > 1:
                raise ZooError(f"open_zoos: two zoos are called {name!r}; expected zoos of different names")
        self.name = JOIN.join(names)
        self.epochs = np.unique(np.concatenate([zoo.epochs for zoo in zoos])).astype(np.int32)
        self._starts = np.cumsum([0, *(len(zoo.column("model_id")) for zoo in zoos)])
        self._arrays = JointArrays(self.zoos, self._starts, self.epochs)
        self._check_no_model_twice()

    def __repr__(self) -> str:
        return f"<JointZoo {self.name}: {self._starts[-1]} models, {len(self.epochs)} checkpoints>"

    def _repr_html_(self) -> str:
        return "".join(zoo._repr_html_() for zoo in self.zoos)

    def _check_no_model_twice(self) -> None:
        """Refuse zoos that hold the same model, which could train in one and test in the other."""
        seen: dict[str, tuple[str, int]] = {}
        for zoo in self.zoos:
            columns = [zoo.column(name).to_pylist() for name in ("sha256", "status", "model_id")]
            for sha256, status, model in zip(*columns, strict=True):
                if status != "diverged" and sha256 in seen:
                    other, twin = seen[sha256]
                    raise ZooError(
                        f"open_zoos: model {model} of {zoo.name} is model {twin} of {other}; expected zoos without a "
                        "common model, or zoo_gen.merge, which writes it once"
                    )
                seen[sha256] = (zoo.name, model)

    @property
    def path(self) -> str:
        """Their folders or URLs with a + between them."""
        return JOIN.join(str(zoo.path) for zoo in self.zoos)

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of their manifests."""
        return text_sha256("".join(zoo.digest for zoo in self.zoos))

    @property
    def revision(self) -> str:
        """SHA-256 of their revisions: it changes when any weight or metric does."""
        return text_sha256("".join(zoo.revision for zoo in self.zoos))

    @cached_property
    def split_sha256(self) -> str:
        """SHA-256 of which model is in which part."""
        return split_sha256(self.models)

    @property
    def complete(self) -> bool:
        """Whether every shard of all of them is there."""
        return all(zoo.complete for zoo in self.zoos)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what all of them measured."""
        return tuple(name for name in self.zoos[0].metrics if all(name in zoo.metrics for zoo in self.zoos))

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """What their models were trained on, as far as it is known."""
        return tuple(source for zoo in self.zoos for source in zoo.sources)

    @property
    def n_classes(self) -> int:
        """The number of classes.

        Raises:
            ZooError: it is not known of one of them, or not one number.
        """
        counts = {zoo.n_classes for zoo in self.zoos}
        if len(counts) > 1:
            raise ZooError(
                f"{self.name}: its zoos have {', '.join(map(str, sorted(counts)))} classes; expected one number"
            )
        return counts.pop()

    @property
    def ragged(self) -> bool:
        """Whether models differ in architecture; the column `architecture` then names that of each."""
        return self._arrays.layout is None

    @property
    def layouts(self) -> tuple[ParameterLayout, ...]:
        """The layouts of the architectures, each once."""
        return self._arrays.layouts

    @property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights.

        Raises:
            ZooError: the models differ in architecture.
        """
        if self._arrays.layout is None:
            raise ZooError(f"{self.name}: its models have {len(self.layouts)} architectures; expected a view of one")
        return self._arrays.layout

    @cached_property
    def models(self) -> pa.Table:
        """The table of models: model_id, zoo, split, the hyper-parameters of all zoos, status and final metrics.

        What a zoo does not have is null. `checkpoints`, where zoos kept others, lists the positions that a model has.
        """
        tables = [self._table(number) for number in range(len(self.zoos))]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise ZooError(f"open_zoos: {self.name}: a column is of different kinds ({error})") from None
        if self._split is None:
            return table
        names = [name for name in dict.fromkeys((*self._varying(table), "seed", "image")) if name in table.column_names]
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        drawn = parts(self._split, columns, len(table))
        return table.set_column(table.column_names.index("split"), "split", drawn)

    def _table(self, number: int) -> pa.Table:
        """Return the rows of one zoo as they stand among those of all."""
        zoo = self.zoos[number]
        table = zoo.models
        columns = {
            "model_id": pa.array(np.arange(self._starts[number], self._starts[number + 1])),
            "zoo": pa.repeat(pa.scalar(zoo.name), len(table)),
        }
        if self.ragged:
            columns["architecture"] = pa.array(self._arrays.architectures(number))
        if self._is_partial:
            places = np.searchsorted(self.epochs, zoo.epochs)
            every = [list(range(len(places)))] * len(table)
            present = table["checkpoints"].to_pylist() if "checkpoints" in table.column_names else every
            columns["checkpoints"] = pa.array([places[each].tolist() for each in present], pa.list_(pa.int64()))
        others = [name for name in table.column_names if name not in (*columns, "architecture", *_OF_THE_FILES)]
        return pa.table(columns | {name: table[name] for name in others})

    @property
    def _is_partial(self) -> bool:
        """Whether models keep different checkpoints."""
        return any(len(zoo.epochs) < len(self.epochs) or "checkpoints" in zoo.models.column_names for zoo in self.zoos)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of the table of models.

        Raises:
            ZooError: there is no such column.
        """
        if name not in self.models.column_names:
            raise ZooError(f"{self.name}: {unknown_name('column', name, self.models.column_names)}")
        return self.models[name]

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The hyper-parameters that vary, in a zoo or between zoos."""
        return self._varying(self.models)

    def _varying(self, table: pa.Table) -> tuple[str, ...]:
        """Return the hyper-parameters that vary in a zoo, or that differ between zoos."""
        inside = dict.fromkeys(name for zoo in self.zoos for name in zoo.varying)
        names = (name for name in table.column_names if name in HYPERPARAMETERS and name != AXIS)
        between = (name for name in names if len(pc.unique(table[name].drop_null())) > 1)
        return tuple(dict.fromkeys([*inside, *between]))

    def split(self, name: str) -> np.ndarray:
        """Return the model_ids of one part of the split: "train", "validation" or "test".

        Raises:
            ZooError: there is no part of that name.
        """
        if name not in PARTS:
            raise ZooError(unknown_name("part of the split", name, PARTS))
        return self.models["model_id"].filter(pc.equal(self.models["split"], name)).to_numpy()

    def with_split(self, split: Split | StoredSplit) -> "JointZoo":
        """Return these zoos under another split by model: drawn over all their models, or stored in each of them.

        Raises:
            ZooError: seeds are to stay together, and no zoo has them; or a zoo has no split table of that name.
        """
        if isinstance(split, StoredSplit):
            return JointZoo([zoo.with_split(split) for zoo in self.zoos])
        if split.by_image_part:
            raise ZooError(f"{self.name}: is of several image sets; expected another split than by_image_part")
        if split.group_by in ("seed", "image") and split.group_by not in self.models.column_names:
            raise ZooError(
                f'{self.name}: has no column {split.group_by!r}; expected group_by = "configuration" or "model"'
            )
        return JointZoo(self.zoos, split)

    @property
    def weights(self) -> JointArray:
        """The weights, lazily: float32 (model, checkpoint, parameter); NaN where a model has none.

        Raises:
            ZooError: the models differ in architecture.
        """
        return JointArray("weights", self._arrays, (self.layout.size,))

    def metric(self, name: str) -> JointArray:
        """Return a metric, lazily: float32 (model, checkpoint), or (model, checkpoint, class) for test_class_f1.

        Raises:
            ZooError: not all zoos have a metric of that name.
        """
        if name not in self.metrics:
            raise ZooError(f"{self.name}: {unknown_name('metric', name, self.metrics)}")
        return JointArray(name, self._arrays, self.zoos[0].metric(name).shape[2:])

    def checkpoint(self, epoch: int) -> int:
        """Return the position of an epoch among the checkpoints.

        Raises:
            ZooError: no zoo kept that epoch.
        """
        return checkpoint(self, epoch)

    def view(self, models: np.ndarray | Sequence[int], epochs: Sequence[int] | None = None) -> ZooView:
        """Return some models (all their checkpoints, or those of the given epochs) as one object with arrays.

        Raises:
            ZooError: a model or an epoch is not there, or the models are no list of numbers.
        """
        ids = model_numbers(models, where=self.name)
        for model in ids[(ids < 0) | (ids >= self._starts[-1])][:1].tolist():
            raise ZooError(f"{self.name}: model {model} does not exist; it has 0 to {self._starts[-1] - 1}")
        return ZooView(self, ids, ids, checkpoints(self, epochs), self._arrays)

    def state_dict(self, model: int, epoch: int | None = None) -> "dict[str, torch.Tensor]":
        """Return the parameters of a model, as `Zoo.state_dict`."""
        zoo, number = self._arrays.owner(model)
        return zoo.state_dict(number, epoch)

    def module(self, model: int, epoch: int | None = None) -> "torch.nn.Module":
        """Return a model as a torch module in evaluation mode, as `Zoo.module`."""
        zoo, number = self._arrays.owner(model)
        return zoo.module(number, epoch)

    def torch_dataset(self, split: str = "train", **options: Any) -> dataset.WeightDataset:
        """Return the checkpoints of one part of the split as a dataset, as `Zoo.torch_dataset`."""
        epochs = options.pop("epochs", None)
        return dataset.WeightDataset(self.view(self.split(split), epochs), **options)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the long form, a row a model and checkpoint, as `Zoo.to_pandas`.

        Raises:
            ZooError: pandas is not installed.
        """
        return data_frame(long_table(self.view(self.models["model_id"].to_numpy())))
