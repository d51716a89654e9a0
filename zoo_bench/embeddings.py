"""Embeddings of a whole zoo, as `zoo-bench encode` makes, writes and draws them.

The file is a .npz: plain arrays of one length, exactly as they were computed, which numpy alone reads. The embedding
stays one matrix, which the columns of a table would take apart.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from zoo_bench.encoders import Encoder, learned_problems
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidate import AnyEncoder, Candidate
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.generators import check_seed, restored_global_generators, seed_global_generators
from zoo_bench.evaluation.rows import InThisProcess, encode_views, predict_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.targets import target_named
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.files.location import on_disk
from zoo_gen.zoo import AnyZoo, ZooView, open_any


@dataclass(frozen=True)
class Embeddings:
    """One row a checkpoint, models outermost."""

    model: np.ndarray  # int64 (row,) model_id
    checkpoint: np.ndarray  # int64 (row,) position among the zoo's checkpoints
    epoch: np.ndarray  # int32 (row,)
    split: np.ndarray  # str (row,)
    embedding: np.ndarray  # float (row, dimension)
    prediction: np.ndarray | None  # float64 or str (row,), of a supervised encoder

    def save(self, path: str | Path) -> None:
        """Write a .npz with the arrays model, checkpoint, epoch, split, embedding and, if there is one, prediction.

        Raises:
            ZooError: the name does not end in .npz.
        """
        if Path(path).suffix != ".npz":
            raise ZooError(f"{path}: expected a name that ends in .npz")
        content = BytesIO()
        np.savez(content, **{name: array for name, array in vars(self).items() if array is not None})
        atomic.replace(on_disk(path), content.getvalue())


@restored_global_generators()
def fit(
    encoder: AnyEncoder,
    zoo: str | Path | AnyZoo,
    *,
    target: str = "test_accuracy",
    seed: int = 0,
    device: str | Runtime = "auto",
) -> Encoder:
    """Return an encoder fitted to the training models of a zoo, selecting on its validation models.

    Args:
        encoder: a name, `package.module:Class`, a class, or an object, of which a deep copy is fitted.
        zoo: an opened zoo, its folder or its URL.
        target: what a supervised encoder learns, at all checkpoints: a target that benchmarks can name.
        seed: of all that is random in fitting, from 0 to 2**32 - 1. The global generators of Python, numpy and torch
            are seeded too, and given back as they were.
        device: where networks train: auto, cpu, cuda; or a `Runtime`.

    Raises:
        ZooError: the zoo is not complete, a part of its split is empty, it has no such target, or the encoder cannot
            read it.

    >>> import zoo_bench
    >>> encoder = zoo_bench.fit("pca", "zoos/tiny")
    >>> encoder.config
    {'dimension': 50}
    """
    check_seed(seed)
    seed = int(seed)  # which numpy's whole numbers are not
    checked = candidate(encoder)
    runtime = device if isinstance(device, Runtime) else Runtime(device=device)
    fresh = checked.fresh(runtime)
    cell = protocols.standard_cell(open_any(zoo))
    with named(checked.name, "fit", encoder=fresh):
        (problem,) = learned_problems(checked.name, fresh, [_problem(target, cell.zoo, fresh)])
    try:
        return _fitted(checked.name, fresh, FitInput.of(cell, problem, seed=seed))
    except EncoderError as error:
        if not error.asked_for_labels:
            raise
        return _fitted(checked.name, checked.fresh(runtime), FitInput.of_training_models(cell, problem, seed=seed))


def _fitted(name: str, encoder: Encoder, given: FitInput) -> Encoder:
    """Fit an encoder with the global generators seeded, as in the process of an evaluation."""
    seed_global_generators(given.seed)
    with named(name, "fit", encoder=encoder):
        given.fit(encoder)
    return encoder


@restored_global_generators()
def encode(encoder: Encoder, zoo: str | Path | AnyZoo) -> Embeddings:
    """Encode every checkpoint of every model of a zoo that did not diverge.

    Args:
        encoder: a fitted encoder, as `fit` returns it.
        zoo: an opened zoo, its folder or its URL.

    Raises:
        ZooError: it is a name or class and no fitted encoder, it cannot read the zoo, or returns what cannot be used.

    >>> import zoo_bench
    >>> embeddings = zoo_bench.encode(zoo_bench.fit("weight_statistics", "zoos/tiny"), "zoos/tiny")
    >>> embeddings.embedding.shape  # 40 models x 5 checkpoints, 7 statistics of each of 2 tensors
    (200, 14)
    >>> embeddings.save("embeddings.npz")
    """
    if isinstance(encoder, str | type):
        raise ZooError(f"encoder {encoder!r} is not fitted; expected what zoo_bench.fit or load_encoder returned")
    fitted = InThisProcess(Candidate.of(encoder).name, encoder)
    view = converged(open_any(zoo))
    shape = (len(view.models), len(view.checkpoints))
    return Embeddings(
        model=np.repeat(view.models, shape[1]),
        checkpoint=np.tile(view.checkpoints, shape[0]),
        epoch=np.tile(view.epochs, shape[0]),
        split=np.repeat(view.hyperparameter("split").astype(str), shape[1]),
        embedding=encode_views(fitted, [view]),
        prediction=predict_views(fitted, [view]) if hasattr(encoder, "predict") else None,
    )


def converged(zoo: AnyZoo) -> ZooView:
    """Return the models that did not diverge, with all their checkpoints.

    Raises:
        ZooError: there is none.
    """
    complete = zoo.models["status"].to_numpy(zero_copy_only=False) == "complete"
    if not complete.any():
        raise ZooError(f"{zoo.path}: holds no model that is complete; finish it with zoo-gen run")
    return zoo.view(zoo.models["model_id"].to_numpy()[complete])


def colours(zoo: AnyZoo, embeddings: Embeddings) -> dict[str, np.ndarray]:
    """Return what colours the rows: test accuracy, epoch where it varies, and each hyper-parameter that varies."""
    view = converged(zoo)
    columns: dict[str, np.ndarray] = {"test_accuracy": view.metric("test_accuracy").reshape(-1)}
    if len(view.checkpoints) > 1:
        columns["epoch"] = embeddings.epoch
    for name in zoo.varying:
        values = view.hyperparameter(name)
        if name != "seed" and len(np.unique(values)) > 1:
            columns[name] = np.repeat(values, len(view.checkpoints))
    return columns


def _problem(target: str, zoo: AnyZoo, encoder: Encoder) -> Problem:
    """Return the problem of one target on a zoo; an encoder that predicts nothing needs none that the zoo has."""
    if not hasattr(encoder, "predict"):
        return Problem(target=None, checkpoints="all", targets=())
    chosen = target_named(zoo, target)
    return Problem(target=target, is_number=chosen.is_number, checkpoints="all", metric="r2", targets=(target,))
