"""state_dicts as vectors: which tensors there are, and where each lies in our layout.

Tensors are matched by name, never by their order in the file. Where a publication numbers its layers, names of two runs
may differ in these numbers alone, as a dropout layer more moves them: then the layers are matched by their numbers.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zoo_gen.architecture.layers import Layer
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.published.account import Account
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.archives.pickles import Reader, StandIn, is_tensor
from zoo_gen.published.formats import wrappers
from zoo_gen.published.formats.dtypes import numbers_of
from zoo_gen.published.formats.wrappers import Remark
from zoo_gen.published.reading import Request, Wiring, in_order, layout_of
from zoo_gen.published.rounding import as_float32

Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each tensor, in order

_NUMBER = re.compile(r"\d+")
_SMALL = 2**20  # bytes of a state up to which opening its file takes longer than reading it


class Architectures:
    """The distinct architectures of a zoo, numbered as they first appear."""

    def __init__(self) -> None:
        self.wirings: list[Wiring] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, build: Callable[[], Wiring]) -> int:
        """Return the number of the architecture that a key stands for, built when the key is first seen."""
        if key not in self._numbers:
            self.wirings.append(build())
            self._numbers[key] = len(self.wirings) - 1
        return self._numbers[key]


class States:
    """The states of an archive, a file each, opened once although shapes are needed long before weights.

    Small states wait in a scratch file, as long as that leaves most of the disk free; the others are read again.

    Args:
        archive: what holds them.
        request: the caller's wishes.
        read: returns the tensors of a member, float32.
        renumbered: whether layers of two states may have other numbers; see `Wiring` and the module's docstring.
    """

    def __init__(
        self,
        archive: Archive,
        request: Request,
        read: Callable[[str], dict[str, np.ndarray]],
        *,
        renumbered: bool = True,
    ) -> None:
        self._archive, self._read, self._renumbered = archive, read, renumbered
        self._file = request.enter(tempfile.TemporaryFile(dir=request.scratch, buffering=0))  # noqa: SIM115
        self._room = shutil.disk_usage(request.scratch).free // 4
        self._end = 0
        self._stored: dict[str, tuple[Shapes, int, int]] = {}  # member -> shapes, start, bytes
        self._shapes: dict[Shapes, Shapes] = {}  # one copy of each

    def shapes(self, member: str, tensors: dict[str, np.ndarray] | None = None) -> Shapes:
        """Return names and shapes of a state's tensors, which are read from the archive if not given."""
        tensors = self._read(member) if tensors is None else tensors
        shapes = shapes_of(tensors)
        shapes = self._shapes.setdefault(shapes, shapes)
        size = sum(array.nbytes for array in tensors.values())
        if size <= min(_SMALL, self._room - self._end):
            vector = np.concatenate([tensors[name].reshape(-1) for name, _ in shapes])
            if os.pwrite(self._file.fileno(), vector.data, self._end) == vector.nbytes:  # fewer if the disk is full
                self._stored[member] = shapes, self._end, vector.nbytes
                self._end += vector.nbytes
        return shapes

    def vectors(self, members: Sequence[str], wiring: Wiring) -> np.ndarray:
        """Return the numbers of states of one architecture, in the order of its tensors (state, parameter), float32."""
        vectors = np.empty((len(members), wiring.layout.size), dtype=np.float32)
        for row, member in enumerate(members):
            where = self._archive.where(member)
            if member in self._stored:
                shapes, start, size = self._stored[member]
                vector = np.frombuffer(os.pread(self._file.fileno(), size, start), np.float32)
            else:
                tensors = self._read(member)
                shapes = shapes_of(tensors)
                vector = np.concatenate([tensors[name].reshape(-1) for name, _ in shapes])
            vectors[row] = _in_order(vector, shapes, wiring, where=where, renumbered=self._renumbered)
        return vectors


def tensors_of(
    tree: Any,
    *,
    where: str,
    without: Sequence[str] = (),
    remark: Remark = lambda text: None,
    account: Account | None = None,
) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict by their key, float32; wrappers and the prefixes of wrappers are taken off.

    Args:
        tree: what was read.
        where: how messages name it.
        without: keys to leave out, such as labels that were put beside the weights.
        remark: is told what else is left out: counters, and plain values beside the tensors.
        account: where tensors of other types are noted.

    Raises:
        ZooError: it is no state_dict, or float32 cannot stand for a tensor.
    """
    tree = wrappers.unwrapped(tree, where=where, remark=remark)
    tensors: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        name = str(key)
        if name.rpartition(".")[2] in without:
            continue
        if not is_tensor(value):
            if not _is_plain(value):
                what = value.pickled_name if isinstance(value, StandIn) else type(value).__name__
                raise ZooError(f"{where}: {name} is {what}; expected a tensor")
            remark(f"its {name}, {type(value).__name__} and no tensor, is left out")
        elif not value.ndim and not value.is_floating_point() and not value.is_complex():
            remark(f"its {name.rpartition('.')[2]}, a counter, is left out")
        elif name in tensors:
            raise ZooError(f"{where}: holds two tensors {name}; expected each name once")
        else:
            tensors[name] = _float32(value, name, where=where, account=account)
    if not tensors:
        raise ZooError(f"{where}: holds no tensor")
    if not any(tensor.size for tensor in tensors.values()):
        raise ZooError(f"{where}: holds tensors without a number; expected weights")
    names, prefix = wrappers.without_prefixes(list(tensors))
    if prefix:
        remark(f"the prefix {prefix} of its keys is taken off")
    return dict(zip(names, tensors.values(), strict=True))


def _is_plain(value: Any) -> bool:
    """Return whether a value beside the tensors can hold no weights: a number, a text, an object of another class."""
    if isinstance(value, StandIn):
        return not value.pickled_name.endswith(("._reconstruct", ".ndarray"))  # numpy's own arrays
    if isinstance(value, Mapping):
        return not wrappers.holds_state(value)
    return value is None or isinstance(value, bool | int | float | str)


def _float32(value: Any, name: str, *, where: str, account: Account | None) -> np.ndarray:
    """Return a tensor as float32, and note it if it was of another type."""
    numbers, dtype = numbers_of(value, where=f"{where}: {name}")
    narrow, is_rounded = as_float32(numbers, where=f"{where}: {name}")
    if account is not None and dtype != "float32":
        account.tensor(name, dtype, rounded=is_rounded)
    return narrow


def read_state(
    archive: Archive, reader: Reader, member: str, *, account: Account, without: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return the tensors of a member of an archive, float32; errors as `tensors_of`."""
    tree = reader.member(archive, member)
    remark = partial(archive.remark, name=member)
    return tensors_of(tree, where=archive.where(member), without=without, remark=remark, account=account)


def shapes_of(tensors: Mapping[str, np.ndarray]) -> Shapes:
    """Return names and shapes, layers that differ in their numbers alone by these and the rest as in the file.

    >>> shapes_of({"net.10.bias": np.zeros(2), "head": np.zeros(1), "net.9.bias": np.zeros(3)})
    (('net.9.bias', (3,)), ('head', (1,)), ('net.10.bias', (2,)))
    """
    names = list(tensors)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(_NUMBER.sub("#", name), []).append(place)
    ordered = list(names)
    for alike in places.values():
        if len(alike) > 1:
            for place, name in zip(alike, sorted((names[p] for p in alike), key=natural_order), strict=True):
                ordered[place] = name
    return tuple((name, tuple(tensors[name].shape)) for name in ordered)


def signature(shapes: Shapes) -> Shapes:
    """Return names without their numbers, and shapes: what runs of one architecture have in common."""
    return tuple((_NUMBER.sub("#", name), shape) for name, shape in shapes)


def vector_of(tensors: Mapping[str, np.ndarray], wiring: Wiring, *, where: str) -> np.ndarray:
    """Return all numbers of a state in the order of its architecture's tensors (parameter,)."""
    shapes = shapes_of(tensors)
    vector = np.concatenate([tensors[name].reshape(-1) for name, _ in shapes])
    return _in_order(vector, shapes, wiring, where=where, renumbered=True)


def _in_order(vector: np.ndarray, shapes: Shapes, wiring: Wiring, *, where: str, renumbered: bool) -> np.ndarray:
    """Return the numbers of a state (parameter,) in the order of its architecture's tensors, matched by name."""
    expected = tuple((source.name, source.shape) for source in wiring.sources)
    if shapes == expected:
        return vector
    shape_of, expected_shape = dict(shapes), dict(expected)
    if shape_of.keys() != expected_shape.keys():
        if renumbered and signature(shapes) == signature(expected):
            return vector
        missing = [name for name in expected_shape if name not in shape_of]
        more = [name for name in shape_of if name not in expected_shape]
        lacks = f"has no tensor {', '.join(missing[:3])}" if missing else ""
        has = f"has {', '.join(more[:3])} besides" if more else ""
        raise ZooError(
            f"{where}: {' and '.join(filter(None, (lacks, has)))}; expected the {len(expected)} tensors of its first "
            "state, by name"
        )
    wrong = next((name for name, shape in shapes if shape != expected_shape[name]), None)
    if wrong is not None:
        raise ZooError(
            f"{where}: {wrong} has shape {shape_of[wrong]}; expected that of its first state, {expected_shape[wrong]}"
        )
    part_of, start = {}, 0
    for name, shape in shapes:
        stop = start + int(np.prod(shape, dtype=np.int64))
        part_of[name], start = vector[start:stop], stop
    return np.concatenate([part_of[name] for name, _ in expected])


def wiring_of(shapes: Shapes, layers: Sequence[Layer] | None, input_shape: tuple[int, ...] | None) -> Wiring:
    """Return how a state in torch order becomes ours: by known layers if the shapes are theirs, else as it is."""
    if layers is not None and input_shape is not None:
        network = Network(tuple(layers), input_shape)
        parameters = network.layout.parameters
        if [parameter.shape for parameter in parameters] == [shape for _, shape in shapes]:
            named = zip(shapes, parameters, strict=True)
            return Wiring.of(network, in_order((name, shape, ours.name) for (name, shape), ours in named))
    sources = in_order((name, shape, name) for name, shape in shapes)
    return Wiring(layout_of(sources), sources)
