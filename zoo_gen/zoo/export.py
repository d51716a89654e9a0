"""Export: models of a zoo as files that other tools read, one a checkpoint, beside a table that says what each is.

The table, models.csv, has a row a file, so that a folder of state_dicts is read back by `convert --format folder`.
"""

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.csv

from zoo_gen.errors import ZooError, argument, unknown_name
from zoo_gen.files import atomic
from zoo_gen.files.location import Folder, on_disk
from zoo_gen.zoo.frame import long_table
from zoo_gen.zoo.joint import JointZoo, open_any
from zoo_gen.zoo.zoo import Zoo

if TYPE_CHECKING:
    import torch

TABLE = "models.csv"
_EXTENSIONS = {"pt": "pt", "safetensors": "safetensors", "onnx": "onnx"}


def export(
    zoo: Zoo | JointZoo | str | Folder,
    folder: str | Path,
    *,
    format: str = "safetensors",
    models: Sequence[int] | None = None,
    epochs: Sequence[int] | None = None,
) -> list[Path]:
    """Write models as files, and models.csv with hyper-parameters and metrics of each file.

    Args:
        zoo: whose models, or its folder or URL.
        folder: that does not exist yet.
        format: "pt" and "safetensors" hold the state_dict; "onnx" the whole network, from images
            (image, channel, height, width), any number at once, to logits (image, class).
        models: model_ids; all that did not diverge, if none are given.
        epochs: of the checkpoints; the last one kept, if none are given.

    Returns:
        The paths of the files of models.

    Raises:
        ZooError: the folder is there already, a model or an epoch is not, a model has no weights at that epoch, a
            package is missing, or ONNX is asked for of models whose forward pass is not known.

    >>> import zoo_gen
    >>> paths = zoo_gen.export(zoo_gen.open_zoo("zoos/tiny"), "exported", format="pt", models=[0, 1])
    >>> [path.name for path in paths]
    ['model-00000-epoch-0004.pt', 'model-00001-epoch-0004.pt']
    """
    if not isinstance(format, str) or format not in _EXTENSIONS:
        raise ZooError(unknown_name("format", format, _EXTENSIONS))
    zoo = open_any(zoo)
    write = _writer(zoo, format)
    chosen = zoo.models["model_id"].to_numpy() if models is None else models
    table = long_table(zoo.view(chosen, zoo.epochs[-1:].tolist() if epochs is None else epochs))
    if models is None:
        table = table.filter(np.array([status != "diverged" for status in table["status"].to_pylist()], dtype=bool))
    pairs = list(zip(table["model_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))
    names = [f"model-{model:05d}-epoch-{epoch:04d}.{_EXTENSIONS[format]}" for model, epoch in pairs]
    with _new_folder(on_disk(folder)) as unfinished:
        for name, (model, epoch) in zip(names, pairs, strict=True):
            write(unfinished / name, model, epoch)
        pyarrow.csv.write_csv(table.add_column(0, "file", [names]), unfinished / TABLE)
    return [Path(folder) / name for name in names]


def _writer(zoo: Zoo | JointZoo, format_: str) -> Callable[[Path, int, int], object]:
    """Return the function that writes a model after an epoch to a path."""
    extra = {"pt": "generate", "safetensors": "convert", "onnx": "onnx"}[format_]
    try:
        import torch

        if format_ == "safetensors":
            from safetensors.torch import save

            # Written by Python, for which a full disk is an OSError; torch and safetensors have errors of their own.
            return lambda path, model, epoch: path.write_bytes(save(zoo.state_dict(model, epoch)))
        if format_ == "onnx":
            import onnxscript  # noqa: F401 torch writes ONNX with it
    except ImportError as error:
        raise ZooError(
            f"{argument('format', format_)} needs {error.name}; expected: pip install 'zoo-gen[{extra}]'"
        ) from None
    if format_ == "pt":

        def write_pt(path: Path, model: int, epoch: int) -> None:
            content = io.BytesIO()
            torch.save(zoo.state_dict(model, epoch), content)
            path.write_bytes(content.getvalue())

        return write_pt
    return lambda path, model, epoch: _write_onnx(zoo.module(model, epoch), _images(zoo, model), path)


def _write_onnx(module: "torch.nn.Module", images: "torch.Tensor", path: Path) -> None:
    import torch

    shapes: Any = ({0: torch.export.Dim("image")},)
    program = torch.onnx.export(module, (images,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None  # it is where dynamo is asked for
    program.save(path)


def _images(zoo: Zoo | JointZoo, model: int) -> "torch.Tensor":
    """Return two empty images of the shape that a model reads."""
    import torch

    view = zoo.view([model])
    row = zoo.models.slice(int(view.rows[0]), 1).to_pylist()[0]
    return torch.zeros(2, *view.arrays.network_of(row).input_shape)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name when all is in it and vanishes if anything fails."""
    if folder.exists():
        raise ZooError(f"{folder}: is there already; expected a folder that does not exist yet")
    unfinished = folder.with_name(f".{folder.name}.exporting")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # what a killed export left
        unfinished.mkdir(parents=True)
        yield unfinished
        atomic.flush_below(unfinished)
        unfinished.rename(folder)
    except OSError as error:
        raise ZooError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
