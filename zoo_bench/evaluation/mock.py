"""A dry run on tiny zoos, within seconds: does an encoder keep to the protocol?

The scores mean nothing. Checked is what a benchmark relies on: that an encoder is a function of one network's weights,
of its settings and of the seed, and that its output can be scored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from zoo_bench.encoders import Encoder, fit_encoder, learned_problems, make_encoder
from zoo_bench.evaluation.candidates import AnyEncoder, Candidate, candidate
from zoo_bench.evaluation.cell import evaluate_cell
from zoo_bench.evaluation.failing import named
from zoo_bench.evaluation.rows import InThisProcess, encode_views, predict_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.targets import problems, targets
from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView, open_zoo

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
    """The outcome of one check; `str` gives the line that the command prints."""

    what: str
    state: State
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.state:7} {self.what}{': ' if self.detail else ''}{self.detail}"


_ZOOS = (
    ("mock", "[16, 5, 4]", 0.1),
    ("mock_other_data", "[16, 5, 4]", 0.3),
    ("mock_other_architecture", "[16, 7, 6, 4]", 0.1),
)


def mock(encoder: AnyEncoder) -> list[Finding]:
    """Check on tiny zoos, within seconds, whether an encoder keeps to the protocol.

    An encoder that fails is a finding whose `state` is "FAILED". The checks end where no more can be checked.

    Args:
        encoder: a name, `package.module:Class`, a class, or an object, which is not fitted itself.

    Raises:
        ZooError: there is no encoder of that name.

    >>> import zoo_bench
    >>> class NeverFits:
    ...     config = {}
    ...     def fit(self, train, validation, *, seed):
    ...         raise ValueError("no convergence")
    ...     def encode(self, view):
    ...         return view.weights[:, 0]
    >>> [finding.state for finding in zoo_bench.mock(NeverFits())]
    ['ok', 'ok', 'FAILED']
    >>> print(zoo_bench.mock("pca")[2])
    ok      fits, and encodes to a finite matrix: 50 dimensions
    """
    with TemporaryDirectory(prefix="zoo-bench-mock-") as folder:
        return list(check(encoder, make_zoos(Path(folder))))


def make_zoos(folder: Path) -> dict[str, Zoo]:
    """Train the tiny zoos below a folder, in about a second."""
    return {name: _make(folder, name, widths, noise) for name, widths, noise in _ZOOS}


def check(encoder: AnyEncoder, zoos: Mapping[str, Zoo]) -> Iterator[Finding]:
    """Yield the finding of each check; they end where no more can be checked.

    Args:
        encoder: a name, a class or an object.
        zoos: what `make_zoos` returned.

    Raises:
        ZooError: there is no encoder of that name.
    """
    if isinstance(encoder, str):
        make_encoder(encoder)  # an unknown name is an error and no finding
    try:
        yield from _findings(encoder, zoos)
    except ZooError as error:
        yield Finding("the checks after this one", "FAILED", str(error))


def _make(folder: Path, name: str, widths: str, noise: float) -> Zoo:
    """Train a tiny zoo below a folder."""
    from zoo_gen import engine

    path = folder / f"{name}.toml"
    path.write_text(_ZOO.format(name=name, widths=widths, noise=noise), encoding="utf-8")
    engine.run(path, folder / name, workers=1)
    return open_zoo(folder / name)


def _findings(given: AnyEncoder, zoos: Mapping[str, Zoo]) -> Iterator[Finding]:
    cell = protocols.standard_cell(zoos["mock"])
    checked = candidate(given)
    name = checked.name
    yield _finding("config is plain data", "")
    alike = checked.fresh().config == checked.fresh().config
    yield _finding("two encoders of that name are one", "" if alike else "config differs each time")
    encoder = _fitted(checked, cell)
    fitted = InThisProcess(name, encoder)
    views = cell.tests[0].views
    embeddings, again = (encode_views(fitted, views) for _ in range(2))
    yield _finding("fits, and encodes to a finite matrix", "", f"{embeddings.shape[1]} dimensions")
    yield _finding("encoding again gives the same", _difference(embeddings, again))
    yield _finding("fitting again with the seed gives the same", _again(checked, cell, embeddings))
    yield _finding("a row depends on its own weights alone", _alone(fitted, views[0], embeddings))
    evaluated = evaluate_cell(checked, _BENCHMARK, cell, seed=0)
    yield _finding("standard protocol", "", f"{len(evaluated.results[0].scores)} scores")
    yield from _prediction(fitted, cell)
    yield _elsewhere(fitted, zoos["mock_other_data"], embeddings)
    yield _elsewhere(fitted, zoos["mock_other_architecture"], embeddings)


def _finding(what: str, wrong: str, detail: str = "") -> Finding:
    return Finding(what, "FAILED" if wrong else "ok", wrong or detail)


def _fitted(checked: Candidate, cell: Cell) -> Encoder:
    encoder = checked.fresh()
    with named(checked.name, "fit", encoder=encoder):
        problem = learned_problems(checked.name, encoder, problems(_BENCHMARK, cell.zoo))[0]
        train, validation = ([TrainingView.of(view) for view in views] for views in (cell.train, cell.validation))
        fit_encoder(encoder, train, validation, problem=problem, seed=0)
    return encoder


def _again(checked: Candidate, cell: Cell, embeddings: np.ndarray) -> str:
    """Say how a second fit with one seed differs."""
    again = InThisProcess(checked.name, _fitted(checked, cell))
    return _difference(embeddings, encode_views(again, cell.tests[0].views))


def _alone(fitted: InThisProcess, view: ZooView, embeddings: np.ndarray) -> str:
    """Say how the embeddings of some rows differ when the other rows are not there."""
    rows = HiddenRows.of(view)
    few = rows.view.weights[: len(rows.order) // 3]
    alone = fitted.encode(WeightsView(few, rows.view.layout))
    wrong = _difference(embeddings[rows.order[: len(few)]], alone)
    return f"without other rows beside it, {wrong}" if wrong else ""


def _prediction(fitted: InThisProcess, cell: Cell) -> Iterator[Finding]:
    """Check what a supervised encoder predicts."""
    if not hasattr(fitted.encoder, "predict"):
        yield Finding("predict", "note", "has none, so probes alone are scored")
        return
    learned = learned_problems(fitted.name, fitted.encoder, problems(_BENCHMARK, cell.zoo))
    predict_views(fitted, cell.tests[0].views)
    known = ", ".join(target.name for target in targets(_BENCHMARK, cell.zoo))
    target = fitted.encoder.config.get("target")
    wrong = f"config['target'] is {target!r}; expected one of {known}" if learned[0].target is None else ""
    yield _finding("predict", wrong, f"predicts {', '.join(str(problem.target) for problem in learned)}")


def _elsewhere(fitted: InThisProcess, zoo: Zoo, embeddings: np.ndarray) -> Finding:
    """Check models of another zoo: of other data it must do, of another architecture it may."""
    cell = protocols.standard_cell(zoo)
    try:
        dimension = encode_views(fitted, cell.tests[0].views).shape[1]
        wrong = "" if dimension == embeddings.shape[1] else f"{dimension} dimensions"
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
