"""state_dicts as vectors: which tensors there are, in which order, and where each lies in our layout.

Keys are never trusted to be the same in two files of a zoo: a dropout layer more moves them. Tensors are matched by
their order and shape, and every file is checked against the first one of its run.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zoo_gen.architecture.layers import Layer
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.pickles import Reader, StandIn, array_of, is_tensor
from zoo_gen.published.formats import wrappers
from zoo_gen.published.formats.wrappers import Remark
from zoo_gen.published.reading import Request, Source, Wiring, layout_of

Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each tensor, in order

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
    """

    def __init__(self, archive: Archive, request: Request, read: Callable[[str], dict[str, np.ndarray]]) -> None:
        self._archive, self._read = archive, read
        self._file = request.enter(tempfile.TemporaryFile(dir=request.scratch, buffering=0))  # noqa: SIM115
        self._room = shutil.disk_usage(request.scratch).free // 4
        self._end = 0
        self._stored: dict[str, tuple[Shapes, np.dtype, int, int]] = {}  # member -> shapes, dtype, start, bytes
        self._shapes: dict[Shapes, Shapes] = {}  # one copy of each

    def shapes(self, member: str, tensors: dict[str, np.ndarray] | None = None) -> Shapes:
        """Return names and shapes of a state's tensors, which are read from the archive if not given."""
        tensors = self._read(member) if tensors is None else tensors
        shapes = shapes_of(tensors)
        shapes = self._shapes.setdefault(shapes, shapes)
        size = sum(array.nbytes for array in tensors.values())
        if size <= min(_SMALL, self._room - self._end):
            vector = np.concatenate([array.reshape(-1) for array in tensors.values()])
            if os.pwrite(self._file.fileno(), vector.data, self._end) == vector.nbytes:  # fewer if the disk is full
                self._stored[member] = shapes, vector.dtype, self._end, vector.nbytes
                self._end += vector.nbytes
        return shapes

    def vectors(self, members: Sequence[str], wiring: Wiring) -> np.ndarray:
        """Return the numbers of states of one architecture, in the order of their tensors (state, parameter), float32.

        Raises:
            ZooError: a state has other tensors than its architecture.
        """
        vectors = np.empty((len(members), wiring.layout.size), dtype=np.float32)
        for row, member in enumerate(members):
            if member in self._stored:
                shapes, dtype, start, size = self._stored[member]
                _check_shapes(shapes, wiring, where=self._archive.where(member))
                vectors[row] = np.frombuffer(os.pread(self._file.fileno(), size, start), dtype)
            else:
                vectors[row] = vector_of(self._read(member), wiring, where=self._archive.where(member))
        return vectors


def tensors_of(
    tree: Any, *, where: str, without: Sequence[str] = (), remark: Remark = lambda text: None
) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict by their key, in order; wrappers and the prefixes of wrappers are taken off.

    Args:
        tree: what was read.
        where: how messages name it.
        without: keys to leave out, such as labels that were put beside the weights.
        remark: is told what else is left out: counters, and plain values beside the tensors.

    Raises:
        ZooError: it is no state_dict.
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
            tensors[name] = array_of(value, where=f"{where}: {name}")
    if not tensors:
        raise ZooError(f"{where}: holds no tensor")
    names, prefix = wrappers.without_prefixes(list(tensors))
    if prefix:
        remark(f"the prefix {prefix} of its keys is taken off")
    return dict(zip(names, tensors.values(), strict=True))


def _is_plain(value: Any) -> bool:
    """Return whether a value beside the tensors can hold no weights: a number, a text, an object of another class."""
    if isinstance(value, StandIn):
        return not value.pickled_name.endswith(("._reconstruct", ".ndarray"))  # numpy's own arrays
    return value is None or isinstance(value, bool | int | float | str)


def read_state(archive: Archive, reader: Reader, member: str, *, without: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the tensors of a member of an archive; errors as `tensors_of`."""
    tree = reader.member(archive, member)
    remark = partial(archive.remark, name=member)
    return tensors_of(tree, where=archive.where(member), without=without, remark=remark)


def shapes_of(tensors: Mapping[str, np.ndarray]) -> Shapes:
    """Return names and shapes in order."""
    return tuple((name, tuple(array.shape)) for name, array in tensors.items())


def vector_of(tensors: Mapping[str, np.ndarray], wiring: Wiring, *, where: str) -> np.ndarray:
    """Return all numbers of a state in the order of its tensors (parameter,).

    Raises:
        ZooError: it has other tensors than its architecture.
    """
    _check_shapes(shapes_of(tensors), wiring, where=where)
    return np.concatenate([array.reshape(-1) for array in tensors.values()])


def _check_shapes(shapes: Shapes, wiring: Wiring, *, where: str) -> None:
    actual, expected = [shape for _, shape in shapes], [source.shape for source in wiring.sources]
    if actual != expected:
        raise ZooError(f"{where}: has tensors of shapes {actual}; expected those of its first state, {expected}")


def wiring_of(shapes: Shapes, layers: Sequence[Layer] | None, input_shape: tuple[int, ...] | None) -> Wiring:
    """Return how a state in torch order becomes ours: by known layers if the shapes are theirs, else as it is."""
    if layers is not None and input_shape is not None:
        network = Network(tuple(layers), input_shape)
        parameters = network.layout.parameters
        if [parameter.shape for parameter in parameters] == [shape for _, shape in shapes]:
            return Wiring.of(network, _sources(shapes, [parameter.name for parameter in parameters]))
    sources = _sources(shapes, [name for name, _ in shapes])
    return Wiring(layout_of(sources), sources)


def _sources(shapes: Shapes, names: Sequence[str]) -> tuple[Source, ...]:
    sources, start = [], 0
    for (name, shape), ours in zip(shapes, names, strict=True):
        sources.append(Source(name, start, shape, tuple(range(len(shape))), ours))
        start += int(np.prod(shape, dtype=np.int64))
    return tuple(sources)
