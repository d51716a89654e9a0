"""Embeddings of a whole zoo, as `zoo-bench encode` makes, writes and draws them.

The file is a .npz: plain arrays of one length, which numpy alone reads, exactly as they were computed; the embedding
stays one matrix, which a table's columns would tear apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_bench.encoders import Encoder
from zoo_bench.evaluation.cell import encode_view, predict_view
from zoo_bench.protocol import protocols
from zoo_bench.protocol.views import HiddenRows, TrainingView
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView


@dataclass(frozen=True)
class Embeddings:
    """One row a checkpoint, models outermost."""

    model: np.ndarray  # int64 (row,) model_id
    checkpoint: np.ndarray  # int64 (row,) position among the zoo's checkpoints
    epoch: np.ndarray  # int32 (row,)
    split: np.ndarray  # str (row,)
    embedding: np.ndarray  # float (row, dimension)
    prediction: np.ndarray | None  # float64 (row,), of a supervised encoder


def fit_on_zoo(encoder: Encoder, zoo: Zoo, *, seed: int) -> None:
    """Fit an encoder to the training models of a zoo, selecting on its validation models.

    Raises:
        ZooError: the zoo is not complete, a part of its split is empty, or the encoder cannot read it.
    """
    cell = protocols.standard_cell(zoo)
    encoder.fit([TrainingView.of(cell.train)], [TrainingView.of(cell.validation)], seed=seed)


def embed_zoo(name: str, encoder: Encoder, zoo: Zoo) -> Embeddings:
    """Encode every checkpoint of every model that did not diverge, with a fitted encoder, called `name` in errors.

    Raises:
        ZooError: the encoder cannot read the zoo.
    """
    view = converged(zoo)
    shape = (len(view.models), len(view.checkpoints))
    return Embeddings(
        model=np.repeat(view.models, shape[1]),
        checkpoint=np.tile(view.checkpoints, shape[0]),
        epoch=np.tile(view.epochs, shape[0]),
        split=np.repeat(view.hyperparameter("split").astype(str), shape[1]),
        embedding=encode_view(name, encoder, HiddenRows.of(view)),
        prediction=predict_view(name, encoder, view) if hasattr(encoder, "predict") else None,
    )


def converged(zoo: Zoo) -> ZooView:
    """Return the models that did not diverge, with all their checkpoints.

    Raises:
        ZooError: there is none.
    """
    complete = zoo.models["status"].to_numpy(zero_copy_only=False) == "complete"
    if not complete.any():
        raise ZooError(f"{zoo.path}: holds no model that is complete; finish it with zoo-gen run")
    return zoo.view(zoo.models["model_id"].to_numpy()[complete])


def write_embeddings(found: Embeddings, path: Path) -> None:
    """Write embeddings as arrays model, checkpoint, epoch, split, embedding and, if there is one, prediction.

    Raises:
        ZooError: the name does not end in .npz.
    """
    if path.suffix != ".npz":
        raise ZooError(f"{path}: expected a name that ends in .npz")
    arrays = {name: array for name, array in vars(found).items() if array is not None}
    temporary = path.with_name(f".{path.stem}.tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def colours(zoo: Zoo, found: Embeddings) -> dict[str, np.ndarray]:
    """Return what colours the rows: test accuracy, epoch where it varies, and each hyper-parameter that varies."""
    view = converged(zoo)
    columns: dict[str, np.ndarray] = {"test_accuracy": view.metric("test_accuracy").reshape(-1)}
    if len(view.checkpoints) > 1:
        columns["epoch"] = found.epoch
    for name in zoo.varying:
        values = view.hyperparameter(name)
        if name != "seed" and len(np.unique(values)) > 1:
            columns[name] = np.repeat(values, len(view.checkpoints))
    return columns
