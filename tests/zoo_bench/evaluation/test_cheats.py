"""What cheats gain, which is nothing, and that honest encoders like them are not refused."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.zoo_bench.evaluation import cheats
from zoo_bench.cli import main
from zoo_bench.evaluation import run as engine
from zoo_bench.evaluation.again import changed, without_rounding
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_gen.errors import ZooError


def benchmark_of(*targets, protocol="standard", **options):
    return BenchmarkManifest(name="its", protocol=protocol, zoos=("tiny",), targets=targets, **options)


def evaluated(encoder, benchmark, zoo, folder, **options):
    name = f"{encoder.__module__}:{encoder.__qualname__}"
    ((result, _),) = engine.run(benchmark, [name], zoos=zoo.parent, results=folder, seeds=[0], **options)
    return result


@pytest.mark.parametrize("encoder", cheats.CHEATS)
def test_who_takes_from_the_rows_beside_one_is_refused(tmp_path, tiny_zoo, encoder):
    with pytest.raises(ZooError, match=r"row \d+ \(model \d+, epoch \d\) changed .* when other rows stood beside it"):
        evaluated(encoder, benchmark_of("epoch", "test_accuracy"), tiny_zoo, tmp_path)


@pytest.mark.parametrize("encoder", cheats.HONEST)
def test_rounding_is_no_cheat(tmp_path, tiny_zoo, encoder):
    result = evaluated(encoder, benchmark_of("epoch", "test_accuracy"), tiny_zoo, tmp_path)
    assert not result.failures
    assert len(result.cells) == 1


def test_nothing_of_one_fit_is_there_in_the_next(tmp_path, tiny_zoo):
    benchmark = benchmark_of("test_accuracy", protocol="data_efficiency", shares=(1.0, 0.5))
    result = evaluated(cheats.Remembers, benchmark, tiny_zoo, tmp_path)
    assert not result.failures
    assert len(result.cells) == 2
    assert result.encoder_config["found"] == list(range(10))  # after a fit all places tell of it
    assert "KEPT" not in os.environ


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_threads_that_wait_sleep(tmp_path, tiny_zoo):
    result = evaluated(cheats.ReadsItsSurroundings, benchmark_of("test_accuracy"), tiny_zoo, tmp_path)
    assert result.encoder_config["waiting"] == [f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'PASSIVE')}"]


@pytest.mark.parametrize("encoder", [cheats.LeavesADaemon, cheats.LeavesAChild])
def test_no_process_outlives_a_fit(tmp_path, tiny_zoo, encoder, monkeypatch):
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setenv(cheats.SECRET, str(left))
    benchmark = benchmark_of("test_accuracy", protocol="data_efficiency", shares=(1.0, 0.5))
    assert len(evaluated(encoder, benchmark, tiny_zoo, tmp_path / "results").cells) == 2
    pids = [int(path.name.partition("-")[2]) for path in left.iterdir()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (cheats.EndsItself, "fit: ended its process with exit code 3"),
        (cheats.IsKilled, "encode: its process was ended by SIGKILL, as happens without enough memory"),
        (cheats.Exits, r"fit: SystemExit \(cheats\.py, line \d+\)"),
    ],
)
def test_who_ends_its_process_is_named_and_stops_no_other(tmp_path, tiny_zoo, encoder, message):
    names = [f"{each.__module__}:{each.__qualname__}" for each in (encoder, cheats.Honest)]
    results = engine.run(benchmark_of("epoch"), names, zoos=tiny_zoo.parent, results=tmp_path, seeds=[0])
    assert next(results)[0].encoder == names[1]
    with pytest.raises(ZooError, match=f"encoder '{names[0]}': {message}"):
        next(results)


def test_each_encoder_that_fails_has_a_line_of_its_own(tmp_path, tiny_zoo, caplog):
    bad = (cheats.ReturnsObjects, cheats.ReturnsAConstant, cheats.Mutates, cheats.Exits)
    names = [f"{each.__module__}:{each.__qualname__}" for each in (*bad, cheats.Honest)]
    results = engine.run(benchmark_of("epoch"), names, zoos=tiny_zoo.parent, results=tmp_path, seeds=[0, 1])
    assert [next(results)[0].encoder for _ in (0, 1)] == [names[-1]] * 2
    with pytest.raises(ZooError) as raised:
        next(results)
    lines = [str(raised.value), *(record.getMessage() for record in caplog.records)]
    assert all(line.startswith(f"encoder '{name}': ") for line, name in zip(lines, names[:-1], strict=True))
    assert "encode returned values of type object; expected numbers" in lines[0]
    assert "encode returned one embedding for all" in lines[1]
    assert re.search(r"encode: ValueError: assignment destination is read-only \(cheats\.py, line \d+\)", lines[2])
    assert "fit: SystemExit" in lines[3]


def test_a_supervised_encoder_is_fitted_once_a_target(tmp_path, tiny_zoo):
    result = evaluated(cheats.Learns, benchmark_of("epoch", "test_accuracy", "hyperparameters"), tiny_zoo, tmp_path)
    (cell,) = result.cells
    targets = {"epoch", "test_accuracy", "optimizer", "activation", "learning_rate"}
    assert {score.target for score in cell.scores if score.by == "encoder"} == targets
    assert {score.target for score in cell.scores if score.by == "probe"} == targets
    assert not result.failures


def test_other_targets_are_probed(tmp_path, tiny_zoo):
    result = evaluated(cheats.LearnsAccuracy, benchmark_of("epoch", "test_accuracy"), tiny_zoo, tmp_path)
    scored = {(score.target, score.by) for score in result.cells[0].scores if score.by in ("probe", "encoder")}
    assert scored == {("epoch", "probe"), ("test_accuracy", "probe"), ("test_accuracy", "encoder")}


def test_one_target_that_fails_leaves_the_others(tmp_path, tiny_zoo):
    result = evaluated(cheats.FailsOnEpochs, benchmark_of("epoch", "test_accuracy"), tiny_zoo, tmp_path)
    (failure,) = result.failures
    assert failure.target == "epoch"
    assert "fit: ValueError: no epochs, please (cheats.py, line " in failure.message
    assert {score.target for score in result.cells[0].scores} == {"test_accuracy"}


def test_an_encoder_that_can_learn_no_target_says_so(tmp_path, tiny_zoo):
    with pytest.raises(ZooError, match="LearnsNothing': can learn none of the targets epoch"):
        evaluated(cheats.LearnsNothing, benchmark_of("epoch"), tiny_zoo, tmp_path)


def test_rounding_is_judged_by_the_spread_of_each_dimension():
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 3)) * [1, 1e-3, 1e3]
    assert changed(rows, rows * (1 + 1e-6), among=rows) is None
    for dimension in range(3):
        others = rows.copy()
        others[7, dimension] += 0.01 * rows[:, dimension].std()
        assert changed(rows, others, among=rows)[0] == 7
        assert changed(rows, others, among=rows, gpu=True) is None
    rows[0] = 1e12  # one huge value is no licence for the others
    others = rows.copy()
    others[7, 0] += 0.1
    assert changed(rows, others, among=rows)[0] == 7


def test_what_varies_by_less_than_rounding_is_constant():
    train = np.ones((100, 3), np.float32)
    train[:, 1] += np.linspace(0, 5e-6, 100, dtype=np.float32)
    train[:, 2] += np.linspace(0, 1e-3, 100, dtype=np.float32)
    rounded, test = without_rounding(train, [train[:5]])
    assert np.ptp(rounded, axis=0).tolist() == pytest.approx([0, 0, 1e-3], rel=1e-3)
    assert np.ptp(test[:, :2]) == 0


SCRIPT = """
import zoo_bench

class Doubled:
    config = {"factor": 2}

    def fit(self, train, validation, *, seed):
        self.map = lambda rows: rows * self.config["factor"]  # what the standard library's pickler cannot take
        return self

    def encode(self, view):
        return self.map(view.weights[:, 0, :10])

manifest = zoo_bench.BenchmarkManifest(name="its", protocol="standard", zoos=["tiny"], targets=["epoch"])
results = zoo_bench.evaluate(Doubled(), manifest, zoos=ZOOS, progress=False)
print(results.best, len(results.failures))
"""


@pytest.mark.thorough  # zoo_bench/test_face.py evaluates a class of __main__
def test_an_encoder_of_a_script_is_evaluated_though_nothing_guards_its_last_lines(tmp_path, tiny_zoo):
    (tmp_path / "script.py").write_text(SCRIPT.replace("ZOOS", repr(str(tiny_zoo.parent))))
    completed = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert completed.stdout == "Doubled 0\n", completed.stderr


FAILING = """
import numpy as np

class Fails:
    config = {}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return helper(view.weights)

def helper(weights):
    return np.linalg.inv(weights[0])
"""


@pytest.mark.parametrize("command", [["run", "--mock"], ["encode", "ZOO", "--out", "e.npz"]])
def test_the_line_of_the_encoders_own_code_is_named_and_the_traceback_is_there_on_demand(
    tmp_path, tiny_zoo, command, monkeypatch
):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)  # no other place names it
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = [str(tiny_zoo) if word == "ZOO" else word for word in command] + ["--encoder", "failing:Fails"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "encode: LinAlgError: Last 2 dimensions of the array must be square (failing.py, line 14)" in result.output
    assert "Traceback" not in result.output
    answer = CliRunner().invoke(main, [*arguments, "-v"])
    assert "Traceback (most recent call last)" in answer.output
    assert 'failing.py", line 11, in encode' in answer.output
    sys.modules.pop("failing", None)
