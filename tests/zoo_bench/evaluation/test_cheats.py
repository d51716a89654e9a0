"""What cheats gain, which is nothing, and that honest encoders like them are not refused."""

import os
import signal

import pytest

from tests.zoo_bench.evaluation import cheats
from zoo_bench.evaluation import run as engine
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


def test_a_supervised_encoder_is_fitted_once_a_target(tmp_path, tiny_zoo):
    result = evaluated(cheats.Learns, benchmark_of("epoch", "test_accuracy", "hyperparameters"), tiny_zoo, tmp_path)
    (cell,) = result.cells
    targets = {"epoch", "test_accuracy", "optimizer", "activation", "learning_rate"}
    assert {score.target for score in cell.scores if score.by == "encoder"} == targets
    assert {score.target for score in cell.scores if score.by == "probe"} == targets
    assert not result.failures


def test_other_targets_are_probed(tmp_path, tiny_zoo):
    result = evaluated(cheats.LearnsAccuracy, benchmark_of("epoch", "test_accuracy"), tiny_zoo, tmp_path)
    scored = {(score.target, score.by) for score in result.cells[0].scores}
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
