"""The dry run for the author of an encoder: does it keep to the protocol? Answered on tiny zoos within seconds.

Scores mean nothing there. What is checked is what a benchmark relies on: that an encoder is a function of one
network's weights, of its settings and of the seed, and that what it returns can be scored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zoo_bench.encoders import Encoder, make_encoder
from zoo_bench.evaluation.cell import checked_digest, encode_view, evaluate_cell, named, predict_view
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, open_zoo

State = Literal["ok", "FAILED", "note"]
TOLERANCE = 1e-3  # of the spread of an embedding: batches of other sizes add in another order
_BENCHMARK = BenchmarkManifest(
    name="mock",
    protocol="standard",
    zoos=("mock",),
    targets=("epoch", "test_accuracy", "generalization_gap", "hyperparameters"),
)
_ZOO = """
name = "{name}"
description = "A tiny zoo that shows whether an encoder conforms."

[data]
source = "tetris"
noise = {noise}
train_size = 64
test_size = 64

[architecture]
name = "mlp"
widths = {widths}

[training]
epochs = 3
batch_size = 32
optimizer = "adam"
initialization = "kaiming_uniform"

[axes.product]
activation = ["relu", "tanh"]
learning_rate = [1e-2, 1e-3]
seed = {{ range = [1, 9] }}

[split]
train = 0.5
validation = 0.25
test = 0.25
"""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    what: str
    state: State
    detail: str = ""


_ZOOS = (
    ("mock", "[16, 5, 4]", 0.1),
    ("mock_other_data", "[16, 5, 4]", 0.3),
    ("mock_other_architecture", "[16, 7, 6, 4]", 0.1),
)


def make_zoos(folder: Path) -> dict[str, Zoo]:
    """Train the tiny zoos below a folder, in about a second."""
    return {name: _make(folder, name, widths, noise) for name, widths, noise in _ZOOS}


def check(name: str, zoos: Mapping[str, Zoo]) -> Iterator[Finding]:
    """Yield what an encoder keeps to and what not, one check after another; it ends where no more can be checked.

    Args:
        name: of the encoder, as `make_encoder` takes it.
        zoos: what `make_zoos` returned.

    Raises:
        ZooError: there is no such encoder.
    """
    make_encoder(name)  # whose absence is no finding
    try:
        yield from _findings(name, zoos)
    except ZooError as error:
        yield Finding("the checks after this one", "FAILED", str(error))


def _make(folder: Path, name: str, widths: str, noise: float) -> Zoo:
    """Train a tiny zoo below a folder."""
    from zoo_gen import engine

    path = folder / f"{name}.toml"
    path.write_text(_ZOO.format(name=name, widths=widths, noise=noise), encoding="utf-8")
    engine.run(path, folder / name, workers=1)
    return open_zoo(folder / name)


def _findings(name: str, zoos: Mapping[str, Zoo]) -> Iterator[Finding]:
    cell = protocols.standard_cell(zoos["mock"])
    digest = checked_digest(name)
    yield _finding("config is plain data", "")
    yield _finding(
        "two encoders of that name are one", "" if checked_digest(name) == digest else "config differs each time"
    )
    encoder = _fitted(name, cell)
    rows = HiddenRows.of(cell.tests[0].view)
    embeddings = encode_view(name, encoder, rows)
    yield _finding("fits, and encodes to a finite matrix", "", f"{embeddings.shape[1]} dimensions")
    yield _finding("encoding again gives the same", _difference(embeddings, encode_view(name, encoder, rows)))
    yield _finding("fitting again with the seed gives the same", _again(name, cell, rows, embeddings))
    yield _finding("a row depends on its own weights alone", _alone(name, encoder, rows, embeddings))
    found = evaluate_cell(name, make_encoder(name), _BENCHMARK, cell, seed=0)
    yield _finding("standard protocol", "", f"{len(found.results[0].scores)} scores")
    yield from _prediction(name, encoder, cell)
    yield _elsewhere(name, encoder, zoos["mock_other_data"], embeddings)
    yield _elsewhere(name, encoder, zoos["mock_other_architecture"], embeddings)


def _finding(what: str, wrong: str, detail: str = "") -> Finding:
    return Finding(what, "FAILED" if wrong else "ok", wrong or detail)


def _fitted(name: str, cell: Cell) -> Encoder:
    encoder = make_encoder(name)
    with named(name, "fit"):
        encoder.fit([TrainingView.of(cell.train)], [TrainingView.of(cell.validation)], seed=0)
    return encoder


def _again(name: str, cell: Cell, rows: HiddenRows, embeddings: np.ndarray) -> str:
    """Say how a second fit with one seed differs."""
    return _difference(embeddings, encode_view(name, _fitted(name, cell), rows))


def _alone(name: str, encoder: Encoder, rows: HiddenRows, embeddings: np.ndarray) -> str:
    """Say how the embeddings of some rows differ when the other rows are not there."""
    few = rows.view.weights[: len(rows.order) // 3]
    with named(name, "encode"):
        alone = np.asarray(encoder.encode(WeightsView(few, rows.view.layout)))
    wrong = _difference(embeddings[rows.order[: len(few)]], alone)
    return f"without other rows beside it, {wrong}" if wrong else ""


def _prediction(name: str, encoder: Encoder, cell: Cell) -> Iterator[Finding]:
    """Check what a supervised encoder predicts."""
    if not hasattr(encoder, "predict"):
        yield Finding("predict", "note", "has none, so probes alone are scored")
        return
    target = encoder.config.get("target")
    known = [its.name for its in protocols.targets(_BENCHMARK, cell.zoo)]
    predict_view(name, encoder, cell.tests[0].view)
    wrong = "" if target in known else f"config['target'] is {target!r}; expected one of {', '.join(known)}"
    yield _finding("predict", wrong, f"predicts {target}")


def _elsewhere(name: str, encoder: Encoder, zoo: Zoo, embeddings: np.ndarray) -> Finding:
    """Check models of another zoo: of other data it must do, of another architecture it may."""
    cell = protocols.standard_cell(zoo)
    try:
        with named(name, "encode"):
            found = encode_view(name, encoder, HiddenRows.of(cell.tests[0].view))
        wrong = "" if found.shape[1] == embeddings.shape[1] else f"{found.shape[1]} dimensions"
    except ZooError as error:
        wrong = str(error)
    if zoo.name == "mock_other_data":
        return _finding("cross-dataset protocol", wrong)
    if wrong:
        return Finding("cross-architecture protocol", "note", f"reads one architecture, so it is left out ({wrong})")
    return _finding("cross-architecture protocol", "")


def _difference(one: np.ndarray, other: np.ndarray) -> str:
    """Say how two embeddings of the same rows differ; nothing if rounding explains it."""
    if one.shape != other.shape:
        return f"shapes {one.shape} and {other.shape}"
    spread = float(np.std(one)) or 1.0
    largest = float(np.abs(one.astype(float) - other.astype(float)).max()) / spread
    return f"differs by {largest:.2g} of its spread" if largest > TOLERANCE else ""
