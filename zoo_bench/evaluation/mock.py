"""A dry run on tiny zoos, within seconds: does an encoder keep to the protocol?

The scores mean nothing. Checked is what a benchmark relies on: that an encoder is a function of one network's weights,
of its settings and of the seed, and that its output can be scored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from zoo_bench.encoders import make_encoder
from zoo_bench.evaluation.again import changed
from zoo_bench.evaluation.candidate import AnyEncoder
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.cell import evaluate_cell
from zoo_bench.evaluation.fitting import ASKED_FOR_LABELS, fitted_process
from zoo_bench.evaluation.processes.client import EncoderProcess
from zoo_bench.evaluation.rows import encode_views, predict_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.targets import problems
from zoo_bench.protocol.views import HiddenRows
from zoo_gen.errors import ZooError
from zoo_gen.manifest import ZooManifest
from zoo_gen.zoo import Zoo, ZooView, open_zoo

State = Literal["ok", "FAILED", "note"]
_BENCHMARK = BenchmarkManifest(
    name="mock",
    protocol="standard",
    zoos=("mock",),
    # Not the activation function, so that encoders that run networks are checked too.
    targets=("epoch", "test_accuracy", "generalization_gap", "log10_learning_rate", "optimizer"),
)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `str` gives the line that the command prints."""

    what: str
    state: State
    detail: str = ""
    traceback: str = field(default="", repr=False)  # of the encoder's own code, where it raised an error

    def __str__(self) -> str:
        return f"{self.state:7} {self.what}{': ' if self.detail else ''}{self.detail}"


# Name, widths of the networks, and the noise of the images.
_ZOOS = (
    ("mock", [16, 5, 4], 0.1),
    ("mock_other_data", [16, 5, 4], 0.3),
    ("mock_other_architecture", [16, 7, 6, 4], 0.1),
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
    if isinstance(encoder, str) and ":" not in encoder:
        make_encoder(encoder)  # an unknown name is an error and no finding
    try:
        yield from _findings(encoder, zoos)
    except ZooError as error:
        yield Finding("the checks after this one", "FAILED", str(error), traceback=getattr(error, "traceback", ""))


def _make(folder: Path, name: str, widths: list[int], noise: float) -> Zoo:
    """Train a tiny zoo below a folder."""
    from zoo_gen import engine

    product = {"activation": ["relu", "tanh"], "optimizer": ["adam", "momentum"], "learning_rate": [1e-2, 1e-3]}
    document = {
        "name": name,
        "description": "A tiny zoo that shows whether an encoder conforms.",
        "data": {"source": "tetris", "noise": noise, "train_size": 64, "test_size": 64},
        "architecture": {"name": "mlp", "widths": widths},
        "training": {"epochs": 3, "batch_size": 32, "initialization": "kaiming_uniform"},
        "axes": {"product": {**product, "seed": {"range": [1, 5]}}},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
    }
    engine.run(ZooManifest.model_validate(document), folder / name, workers=1)
    return open_zoo(folder / name)


def _findings(encoder: AnyEncoder, zoos: Mapping[str, Zoo]) -> Iterator[Finding]:
    cell = protocols.standard_cell(zoos["mock"])
    views = cell.tests[0].views
    checked = candidate(encoder)
    asked = problems(_BENCHMARK, cell.zoo)
    yield _finding("config is plain data", None)
    with EncoderProcess(checked, torch=checked.torch) as process:
        alike = process.make(None) == (config := process.make(None))
        yield Finding("two encoders of that name are one", *(("ok",) if alike else ("FAILED", "config differs")))
        learned, _ = process.ask("learned", asked)
    problem = next((each for each in asked if each.target == learned["targets"][0]), replace(asked[0], target=None))
    with fitted_process(checked, cell, problem, seed=0, runtime=None) as (fitted, facts, _):
        embeddings, again = (encode_views(fitted, views) for _ in range(2))
        yield _finding("fits, and encodes to a finite matrix", None, f"{embeddings.shape[1]} dimensions")
        if facts["config"].items() >= ASKED_FOR_LABELS.items():
            note = "asks for labels of validation models and gets training models for them; problem.validation_score"
            yield Finding("selection", "note", f"{note} scores predictions of validation models")
        yield _finding("encoding again gives the same", changed(embeddings, again, among=embeddings))
        yield _finding("a row depends on its own weights alone", _alone(fitted, views[0], embeddings))
        if problem.target is not None:
            predict_views(fitted, views, is_number=problem.is_number)
            yield Finding("predict", "ok", f"predicts {', '.join(learned['targets'])}")
        elif learned["predicts"]:
            known = ", ".join(str(each.target) for each in asked)
            wrong = f"config['target'] is {config.get('target')!r}; expected one of {known}, or a fit with `problem`"
            yield Finding("predict", "FAILED", wrong)
        else:
            yield Finding("predict", "note", "has none, so probes alone are scored")
        yield _elsewhere(fitted, zoos["mock_other_data"], embeddings)
        yield _elsewhere(fitted, zoos["mock_other_architecture"], embeddings)
    with fitted_process(checked, cell, problem, seed=0, runtime=None) as (other, _, _):
        again = encode_views(other, views)
        yield _finding("fitting again with the seed gives the same", changed(embeddings, again, among=embeddings))
    evaluated = evaluate_cell(checked, _BENCHMARK, cell, seed=0).record
    for failure in evaluated.failures:
        yield Finding("standard protocol", "FAILED", f"{failure.target}: {failure.message}".removeprefix(": "))
    if not evaluated.failures:
        targets = sorted({score.target for score in evaluated.results[0].scores if score.by == "encoder"})
        and_targets = f", predictions of {', '.join(targets)}" if targets else ""
        yield _finding("standard protocol", None, f"{len(evaluated.results[0].scores)} scores{and_targets}")


def _finding(what: str, change: tuple[int, str] | None, detail: str = "") -> Finding:
    return Finding(what, "ok", detail) if change is None else Finding(what, "FAILED", f"it changed {change[1]}")


def _alone(fitted: EncoderProcess, view: ZooView, embeddings: np.ndarray) -> tuple[int, str] | None:
    """Say how the embeddings of some rows change when the other rows are not there."""
    rows = HiddenRows.of(view)
    few = rows.view.part(slice(len(rows.order) // 3))
    alone = fitted.encode(few)
    change = changed(embeddings[rows.order[: len(few.weights)]], alone, among=embeddings)
    return change and (change[0], f"without other rows beside it, {change[1]}")


def _elsewhere(fitted: EncoderProcess, zoo: Zoo, embeddings: np.ndarray) -> Finding:
    """Check models of another zoo: of other data it must do, of another architecture it may."""
    cell = protocols.standard_cell(zoo)
    try:
        dimension = encode_views(fitted, cell.tests[0].views).shape[1]
        wrong = "" if dimension == embeddings.shape[1] else f"{dimension} dimensions"
    except ZooError as error:
        wrong = str(error)
    if zoo.name == "mock_other_data":
        return Finding("cross-dataset protocol", "FAILED" if wrong else "ok", wrong)
    if wrong:
        return Finding("cross-architecture protocol", "note", f"reads one architecture, so it is left out ({wrong})")
    return Finding("cross-architecture protocol", "ok")
