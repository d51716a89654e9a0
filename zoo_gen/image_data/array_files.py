"""Arrays: images or rows of numbers of one's own, in a .npz file or in .npy files of a folder, or given in Python.

Arrays that are given in Python are kept as a .npz file below the data root, named by their digest, so that workers and
later runs find them.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pydantic
from pydantic import Field, Strict, model_validator

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import atomic
from zoo_gen.files.schema import Count
from zoo_gen.image_data import examples
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.examples import Examples, TaskName
from zoo_gen.image_data.own_files import Choice, completed
from zoo_gen.image_data.places import own_path
from zoo_gen.image_data.steps import Normalization, affine, check_normalize

_DIVIDED = ("x_train", "y_train", "x_test", "y_test")
_TOGETHER = ("x", "y")
_NAMES = f"{', '.join(_DIVIDED)}, or x and y with test_share = 0.2 or another share in [data]"
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zlib.error, zipfile.BadZipFile)


class Arrays(Examples):
    """The arrays x_train, y_train, x_test and y_test, or x and y with a `test_share`.

    Inputs of bytes are images: (example, height, width), or (example, channel, height, width). Numbers of any other
    kind are read as they are, in float32, whatever their shape. Whole numbers and text to predict are labels, fractions
    are numbers.

    Args:
        path: of a .npz file, or of a folder of .npy files with those names: absolute, in the working folder, or below
            the data root.
        channels_last: whether images are (example, height, width, channel).
        input_shape: of what a network reads; looked up.
        normalize: of bytes: "unit" for inputs in [0, 1] (if not given), "symmetric" for [-1, 1], or mean and deviation
            on [0, 1].
    """

    source: Literal["arrays"]
    path: str = Field(min_length=1)
    channels_last: Annotated[bool, Strict()] | None = None
    kind: Literal["bytes", "numbers"]
    input_shape: tuple[Count, ...] = Field(min_length=1)
    normalize: Normalization | None = None

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, document: Any, info: pydantic.ValidationInfo) -> Any:
        return completed(
            document, info, _Choice, _look_up, facts={"task", "kind", "input_shape", "train_size", "test_size"}
        )

    @model_validator(mode="after")
    def _normalizes_bytes(self) -> Self:
        if self.kind == "bytes":
            check_normalize(self.normalize or "unit", self.input_shape[0])
        elif self.normalize is not None:
            raise ValueError("normalize: is for images of bytes; expected it to be left out, as these are numbers")
        return self

    @property
    def read_by_kernels(self) -> bool:
        """Whether our kernels for GPUs read such data."""
        return self.kind == "bytes" and self.classes is not None

    def stand_in(self, *, n_images: int) -> ImageData:
        """Return random examples of the right shape, made without the data."""
        random, shape = np.random.RandomState(0), (n_images, *self.input_shape)
        if self.kind == "bytes":
            return examples.stand_in(self, random.randint(0, 256, shape).astype(np.uint8))
        return examples.stand_in(self, random.standard_normal(shape).astype(np.float32))


class _Choice(Choice):
    """What decides which arrays are read, and as what."""

    channels_last: bool | None = None
    task: TaskName | None = None


def _look_up(choice: _Choice, root: Path) -> dict[str, Any]:
    """Return what the arrays say and the manifest does not."""
    path = own_path(choice.path, root)
    inputs, labels = _divided(path, choice.test_share, choice.seed)
    shaped = _inputs(inputs[0], path, channels_last=choice.channels_last)
    facts: dict[str, Any] = choice.sizes(len(labels[0]), len(labels[1]))
    where = f"{path}: y_train"
    task = examples.task_of(labels[0], choice.task, whole_is="classification", where=where)
    if task == "classification":
        facts["classes"] = examples.classes_of(labels[0], where=where)
    kind = "bytes" if shaped.dtype == np.uint8 else "numbers"
    return facts | {"task": task, "kind": kind, "input_shape": shaped.shape[1:]}


def load(source: Arrays, root: Path) -> ImageData:
    """Return the examples.

    Raises:
        ZooError: the arrays are not there, cannot be read, do not fit together or hold a number that is not finite.
    """
    path = own_path(source.path, root)
    pairs, labels = _divided(path, source.test_share, source.seed)
    inputs = [_inputs(each, path, channels_last=source.channels_last) for each in pairs]
    for name, each in zip(("x_train", "x_test"), inputs, strict=True):
        if each.shape[1:] != source.input_shape or (each.dtype == np.uint8) != (source.kind == "bytes"):
            description = f"{'bytes' if each.dtype == np.uint8 else 'numbers'} of {list(each.shape[1:])}"
            raise ZooError(f"{path}: {name} holds {description}; expected {source.kind} of {list(source.input_shape)}")
    names = ("y_train", "y_test")
    numbers = [
        examples.targets(each, source.classes, place=lambda row, name=name: f"{path}: {name}[{row}]")  # type: ignore[misc]
        for name, each in zip(names, labels, strict=True)
    ]
    channels = source.input_shape[0]
    scale, offset = (
        affine(source.normalize or "unit", channels)
        if source.kind == "bytes"
        else (np.ones(channels), np.zeros(channels))
    )
    return examples.assemble(
        source, (inputs[0], inputs[1]), (numbers[0], numbers[1]), scale=scale, offset=offset, where=str(path)
    )


def keep(data: Sequence[Any] | Mapping[str, Any], root: Path) -> str:
    """Keep arrays that are given in Python below the data root, unless they are there, and return their path there.

    Args:
        data: (x_train, y_train, x_test, y_test) or (x, y), or a mapping of these names; numpy arrays, torch tensors or
            what numpy makes arrays of.
        root: the data root.

    Raises:
        ZooError: they are too many or too few, or one is no array of numbers or text.
    """
    if not isinstance(data, Mapping):
        names = {2: _TOGETHER, 4: _DIVIDED}.get(len(data), ())
        if not names:
            raise ZooError(f"data: has {len(data)} arrays; expected x_train, y_train, x_test, y_test, or x and y")
        data = dict(zip(names, data, strict=True))
    arrays = {name: _array(name, values) for name, values in data.items()}
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    path = Path("arrays") / f"{digest.hexdigest()[:32]}.npz"
    if not (root / path).exists():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        atomic.replace(root / path, content.getvalue())
    return str(path)


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
        if array.dtype == object and all(isinstance(value, str) for value in array.flat):
            array = array.astype(str)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZooError(f"data: {name} is no array ({one_line(error)}); expected numpy arrays or tensors") from None
    if array.dtype.kind not in "biufUS":
        raise ZooError(f"data: {name} holds {array.dtype}; expected numbers or text")
    return array


def _divided(path: Path, share: float | None, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return inputs and labels, each for training (shuffled) and for tests."""
    arrays = _read(path)
    if set(_DIVIDED) <= set(arrays) and share is None:
        x_train, y_train, x_test, y_test = (arrays[name] for name in _DIVIDED)
        _check_pair(path, "x_train", x_train, y_train)
        _check_pair(path, "x_test", x_test, y_test)
        order = examples.shuffled(len(x_train), seed)
        return [x_train[order], x_test], [y_train[order], y_test]
    if set(_TOGETHER) <= set(arrays) and share is not None:
        x, y = (arrays[name] for name in _TOGETHER)
        _check_pair(path, "x", x, y)
        train, test = examples.split_off(len(x), share, seed)
        return [x[train], x[test]], [y[train], y[test]]
    if set(_DIVIDED) <= set(arrays):
        raise ZooError(f"{path}: holds {', '.join(_DIVIDED)}; expected no test_share in [data], which is for x and y")
    raise ZooError(f"{path}: holds {', '.join(sorted(arrays))}; expected {_NAMES}")


def _check_pair(path: Path, name: str, inputs: np.ndarray, labels: np.ndarray) -> None:
    label = name.replace("x", "y")
    if inputs.ndim < 2 or labels.ndim != 1 or len(inputs) != len(labels):
        raise ZooError(
            f"{path}: {name} has shape {list(inputs.shape)} and {label} {list(labels.shape)}; expected (example, ...) "
            "and a label or number an example"
        )
    if len(inputs) < 2:
        raise ZooError(f"{path}: {name} has {len(inputs)} examples; expected two or more")


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file, or of the .npy files of a folder, by name; nothing in them is executed."""
    names = (*_DIVIDED, *_TOGETHER)
    try:
        if path.is_dir():
            files = {file.stem: file for file in path.glob("*.npy")}
            arrays = {name: np.load(files[name], allow_pickle=False) for name in names if name in files}
            array_names = sorted(files)
        elif not zipfile.is_zipfile(path):
            raise ZooError(
                f"{path}: cannot be read as .npz or .npy files; expected a .npz file or a folder of .npy files"
            )
        else:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in names if name in archive.files}
                array_names = archive.files
    except _UNREADABLE as error:
        raise ZooError(f"{path}: cannot be read as .npz or .npy files ({one_line(error)})") from None
    if not arrays:
        raise ZooError(f"{path}: holds {', '.join(sorted(array_names)) or 'no arrays'}; expected {_NAMES}")
    columns = {name for name, array in arrays.items() if name[0] == "y" and array.shape[1:] == (1,)}
    return {name: array[:, 0] if name in columns else array for name, array in arrays.items()}


def _inputs(inputs: np.ndarray, path: Path, *, channels_last: bool | None) -> np.ndarray:
    """Return inputs as uint8 images (example, channel, height, width) or as float32 (example, ...), and check them."""
    if inputs.dtype.kind not in "biuf":
        raise ZooError(f"{path}: inputs hold {inputs.dtype}; expected numbers")
    if inputs.ndim == 4 and channels_last is None and inputs.shape[3] in (1, 3) and inputs.shape[1] not in (1, 3):
        raise ZooError(
            f"{path}: images of {list(inputs.shape[1:])} seem to have their channels last; expected channels_last = "
            "true or false in [data]"
        )
    if inputs.ndim == 4 and channels_last:
        inputs = inputs.transpose(0, 3, 1, 2)
    if inputs.dtype == np.uint8 and inputs.ndim in (3, 4):
        return np.ascontiguousarray(inputs[:, None] if inputs.ndim == 3 else inputs)
    with np.errstate(over="ignore"):
        numbers = inputs.astype(np.float32)
    for place in np.argwhere(~np.isfinite(numbers)):
        raise ZooError(
            f"{path}: inputs[{', '.join(map(str, place))}] is {inputs[tuple(place)]}; expected finite numbers that "
            "float32 can hold"
        )
    return numbers
