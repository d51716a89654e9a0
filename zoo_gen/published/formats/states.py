"""state_dicts as vectors: which tensors there are, in which order, and which place each has in our layout.

Keys are never trusted to be the same in two files of a zoo: a dropout layer more moves them. Tensors are matched by
their order and shape, and every file is checked against the first one of its run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo_gen.architecture.layers import Layer, parameter_layout
from zoo_gen.errors import ZooError
from zoo_gen.published.archives.pickles import array_of, is_tensor
from zoo_gen.published.reading import Source, Wiring, layout_of

Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each tensor, in order

_WRAPPERS = ("model_state_dict", "model_state", "state_dict", "model")
_NO_PARAMETER = ("num_batches_tracked",)  # a counter


def tensors_of(
    tree: Any, *, where: str, without: Sequence[str] = (), wrappers: Sequence[str] = _WRAPPERS
) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict by their key, in order; wrappers and a prefix `module.` are taken off.

    Args:
        tree: what was read.
        where: how messages name it.
        without: keys to leave out, such as labels that were put beside the weights.
        wrappers: keys that may hold the state_dict.

    Raises:
        ZooError: it is no state_dict.
    """
    for key in wrappers:
        if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping):
            tree = tree[key]
            break
    if not isinstance(tree, Mapping):
        raise ZooError(f"{where}: holds {type(tree).__name__}; expected a state_dict")
    found = {}
    for key, value in tree.items():
        name = str(key).removeprefix("module.")
        if name in without or name.rpartition(".")[2] in _NO_PARAMETER:
            continue
        if not is_tensor(value):
            raise ZooError(f"{where}: {name} is {type(value).__name__}; expected a tensor")
        found[name] = array_of(value, where=f"{where}: {name}")
    if not found:
        raise ZooError(f"{where}: holds no tensor")
    return found


def shapes_of(tensors: Mapping[str, np.ndarray]) -> Shapes:
    """Return names and shapes in order."""
    return tuple((name, tuple(array.shape)) for name, array in tensors.items())


def vector_of(tensors: Mapping[str, np.ndarray], wiring: Wiring, *, where: str) -> np.ndarray:
    """Return all numbers of a state in the order of its tensors (parameter,).

    Raises:
        ZooError: it has other tensors than its architecture.
    """
    found = [tuple(array.shape) for array in tensors.values()]
    expected = [source.shape for source in wiring.sources]
    if found != expected:
        raise ZooError(f"{where}: has tensors of shapes {found}; expected those of its first state, {expected}")
    return np.concatenate([array.reshape(-1) for array in tensors.values()])


def wiring_of(shapes: Shapes, layers: Sequence[Layer] | None, input_shape: tuple[int, ...] | None) -> Wiring:
    """Return how a state in torch order becomes ours: by known layers if the shapes are theirs, else as it is."""
    if layers is not None and input_shape is not None:
        layout = parameter_layout(layers, input_shape)
        ours = [parameter.shape for parameter in layout.parameters]
        if ours == [shape for _, shape in shapes]:
            names = [parameter.name for parameter in layout.parameters]
            return Wiring(layout, _sources(shapes, names), tuple(layers), input_shape)
    sources = _sources(shapes, [name for name, _ in shapes])
    return Wiring(layout_of(sources), sources)


def _sources(shapes: Shapes, names: Sequence[str]) -> tuple[Source, ...]:
    found, start = [], 0
    for (name, shape), ours in zip(shapes, names, strict=True):
        found.append(Source(name, start, shape, tuple(range(len(shape))), ours))
        start += int(np.prod(shape, dtype=np.int64))
    return tuple(found)
