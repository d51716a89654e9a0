import json
import sys

import numpy as np
import pytest

from zoo_bench.encoders.training import runtime
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation import cell_queue
from zoo_bench.evaluation import run as engine
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import read_result, result_path
from zoo_bench.scores import probes
from zoo_bench.scores.probes import probe
from zoo_bench.standings import boards, grids, page
from zoo_bench.standings import text as leaderboard
from zoo_bench.standings.page import content
from zoo_gen.errors import ZooError
from zoo_gen.machine import device_workers

COUNTING = """
from pathlib import Path
import numpy as np

class Counting:
    config = {}

    def fit(self, train, validation, *, seed):
        log = Path(__file__).with_name("log")
        fits = log.read_text().split() if log.exists() else []
        name = train[0].zoo.name
        log.write_text(" ".join([*fits, name]))
        return self

    def encode(self, view):
        return view.weights[:, 0, :20]

class Picky(Counting):
    def fit(self, train, validation, *, seed):
        if train[0].zoo.name == "other":
            raise ValueError("cannot learn from other")
        self.name = train[0].zoo.name
        return self

class Dies(Counting):
    def fit(self, train, validation, *, seed):
        if train[0].zoo.name == "other":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return self

class OnDevice(Counting):
    runtime = None

    def fit(self, train, validation, *, seed):
        import os, time

        Path(__file__).with_name(f"fit {self.runtime.device} {os.getpid()} {train[0].zoo.name}").touch()
        while len(list(Path(__file__).parent.glob("fit *"))) < int(os.environ["BEGIN_TOGETHER"]):
            time.sleep(0.01)
        return self

class Watching(Counting):
    # Writes down all that it is given to learn from.
    def fit(self, train, validation, *, seed):
        import json

        views = lambda part: [(view.zoo.name, view.models.tolist(), view.epochs.tolist()) for view in part]
        with Path(__file__).with_name("seen").open("a") as file:
            file.write(json.dumps([views(train), views(validation)]) + chr(10))
        return self
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # where worker processes look too, those of an earlier test among them
    yield tmp_path
    sys.modules.pop("counting", None)


def benchmark(protocol, *zoos, **options):
    return BenchmarkManifest(name=protocol, protocol=protocol, zoos=zoos, targets=("epoch", "test_accuracy"), **options)


def run(benchmark, names, zoos, results, **options):
    return list(engine.run(benchmark, names, zoos=zoos, results=results, seeds=[0], **options))


def scores(result):
    return [(cell.name, score) for cell in result.cells for score in cell.scores]


def test_an_interrupted_run_computes_only_what_is_missing_and_gives_the_same(
    tmp_path, three_zoos, counting, monkeypatch
):
    chosen = benchmark("standard", "tiny", "other", "third")
    ((undisturbed, _),) = run(chosen, ["counting:Counting"], three_zoos, tmp_path / "undisturbed")
    (counting / "log").unlink()
    evaluate = cell_queue.evaluate_cell

    def interrupted(candidate, manifest, cell, **options):
        if cell.zoo.name == "third":
            raise KeyboardInterrupt
        return evaluate(candidate, manifest, cell, **options)

    monkeypatch.setattr(cell_queue, "evaluate_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(chosen, ["counting:Counting"], three_zoos, tmp_path / "results")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(counting)
    assert not list((tmp_path / "results").glob("*/*/seed-*.json"))
    ((resumed, is_new),) = run(chosen, ["counting:Counting"], three_zoos, tmp_path / "results")
    assert is_new
    assert (counting / "log").read_text().split() == ["tiny", "other", "third"]
    assert scores(resumed) == scores(undisturbed)
    assert resumed.predictions_sha256 == undisturbed.predictions_sha256
    assert not (tmp_path / "results" / ".cells").exists()


def test_a_training_is_kept_until_its_cell_is_written(tmp_path, three_zoos, monkeypatch):
    """Probes can take longer than the training that they read: who interrupts them trains nothing again."""
    manifest = benchmark("standard", "tiny")
    names = ["hyper_representation_small[steps=4]"]
    ((undisturbed, _),) = run(manifest, names, three_zoos, tmp_path / "undisturbed")
    trainings = tmp_path / "trainings"
    where = Runtime(device="cpu", checkpoints=trainings, checkpoint_seconds=0.0)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(probes, "probe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(manifest, names, three_zoos, tmp_path / "results", runtime=where)
    monkeypatch.undo()
    (checkpoint,) = trainings.glob("*/*/checkpoint.pt")
    written = checkpoint.stat().st_mtime_ns
    noticed = []
    monkeypatch.setattr(
        probes, "probe", lambda *a, **k: noticed.append(checkpoint.stat().st_mtime_ns) or probe(*a, **k)
    )
    ((resumed, _),) = run(manifest, names, three_zoos, tmp_path / "results", runtime=where)
    assert noticed[0] == written, "it was not trained again"
    assert scores(resumed) == scores(undisturbed)
    assert not list(trainings.iterdir())


@pytest.mark.slow  # tests/zoo_bench/test_face.py has the short form
def test_processes_give_the_same_as_one(tmp_path, three_zoos):
    manifest = benchmark("cross_dataset", "tiny", "other")
    ((one, _),) = run(manifest, ["pca"], three_zoos, tmp_path / "one")
    ((two, _),) = run(manifest, ["pca"], three_zoos, tmp_path / "two", workers=2)
    assert scores(one) == scores(two)
    assert [cell.name for cell in one.cells] == ["tiny", "tiny → other", "other → tiny", "other"]


def test_a_cell_is_evaluated_on_the_gpu_of_its_worker(tmp_path, three_zoos, counting, monkeypatch):
    """With workers that are this process: of three, two share a GPU where there are two."""
    standard = benchmark("standard", "tiny", "other", "third")

    def here(task, blocks, lost, *, devices):
        for block, device in zip(blocks, devices, strict=True):
            yield task(block, device=device)

    monkeypatch.setattr(runtime, "resolve", lambda name: ("cuda:0", "cuda:1"))
    monkeypatch.setattr(device_workers, "train_on_devices", here)
    monkeypatch.setenv("BEGIN_TOGETHER", "1")
    run(standard, ["counting:OnDevice"], three_zoos, tmp_path, workers=3, runtime=Runtime(device="cuda"))
    fits = [path.name.split()[1] for path in tmp_path.glob("fit *")]
    assert sorted(fits) == ["cuda:0", "cuda:0", "cuda:1"]


@pytest.mark.thorough
def test_cells_that_are_evaluated_at_the_same_time_have_a_gpu_each(tmp_path, three_zoos, counting, monkeypatch):
    """Two of three workers share a GPU where there are two; an encoder without a network asks for none."""
    monkeypatch.setenv("BEGIN_TOGETHER", "1")
    manifest = benchmark("standard", "tiny", "other", "third")
    asked = []
    monkeypatch.setattr(runtime, "resolve", lambda name: asked.append(name) or ("cuda:0", "cuda:1"))
    options = {"runtime": Runtime(device="cuda")}
    ((one, _),) = run(manifest, ["counting:OnDevice"], three_zoos, tmp_path / "one", workers=1, **options)
    assert {path.name.split()[1] for path in tmp_path.glob("fit *")} == {"cuda"}
    for path in tmp_path.glob("fit *"):
        path.unlink()
    monkeypatch.setenv("BEGIN_TOGETHER", "3")  # no cell ends before all three have begun
    ((two, _),) = run(manifest, ["counting:OnDevice"], three_zoos, tmp_path / "two", workers=3, **options)
    assert scores(one) == scores(two)
    fits = [path.name.split()[1:3] for path in tmp_path.glob("fit *")]
    assert sorted(device for device, _ in fits) == ["cuda:0", "cuda:0", "cuda:1"]
    assert len({process for _, process in fits}) == 3
    run(manifest, ["pca"], three_zoos, tmp_path / "three", workers=2, **options)
    assert asked == ["cuda"]


def test_a_failing_cell_is_reported_and_the_rest_goes_on(tmp_path, three_zoos, counting):
    manifest = benchmark("cross_dataset", "tiny", "other")
    ((result, _),) = run(manifest, ["counting:Picky"], three_zoos, tmp_path)
    assert [cell.name for cell in result.cells] == ["tiny", "tiny → other"]
    assert [failure.name for failure in result.failures] == ["other → tiny", "other"]
    assert "fit: ValueError: cannot learn from other" in result.failures[0].message
    loaded = boards.load(tmp_path)
    for text in (page.html(boards.boards(loaded), loaded), leaderboard.markdown(boards.boards(loaded), loaded)):
        assert "cannot learn from other" in text
    # It is tried again, and what went well is not.
    ((_, is_new),) = run(manifest, ["counting:Picky"], three_zoos, tmp_path)
    assert is_new


@pytest.mark.thorough  # test_cheats.py has the quick form, in this process
def test_a_cell_whose_process_is_killed_is_reported_and_the_rest_goes_on(tmp_path, three_zoos, counting):
    manifest = benchmark("standard", "tiny", "other")
    outcomes = engine.run(
        manifest, ["counting:Dies", "pca"], zoos=three_zoos, results=tmp_path / "results", seeds=[0], workers=2
    )
    dies, pca = (result for result, _ in outcomes)
    assert [cell.name for cell in dies.cells] == ["tiny"]
    (failure,) = dies.failures
    assert failure.name == "other"
    assert failure.message.startswith("encoder 'counting:Dies': fit: its process was ended by SIGKILL")
    assert [cell.name for cell in pca.cells] == ["tiny", "other"]


def test_encoders_of_one_architecture_say_so_and_the_others_go_on(tmp_path, three_zoos):
    manifest = benchmark("cross_architecture", "tiny", "third")
    outcomes = engine.run(
        manifest, ["weights", "last_layer_statistics"], zoos=three_zoos, results=tmp_path / "results", seeds=[0]
    )
    result, _ = next(outcomes)
    assert result.encoder == "last_layer_statistics"
    assert [cell.name for cell in result.cells] == ["tiny → third", "third → tiny"]
    with pytest.raises(ZooError, match=r"'weights': embeds the models of third in 140 dimensions, and .* in 100;"):
        next(outcomes)


def test_a_mean_over_fewer_cells_says_so_and_comes_last(tmp_path, three_zoos, counting):
    """An encoder that fails on some zoos has a mean of the other cells, which is no better for that."""
    run(benchmark("cross_dataset", "tiny", "other"), ["weight_statistics", "counting:Picky"], three_zoos, tmp_path)
    loaded = boards.load(tmp_path)
    table = boards.boards(loaded)
    (part,) = content.parts(table, loaded)
    for _, (whole, partly) in part.grids:
        assert (whole.encoder, whole.scored, whole.lacking) == ("weight_statistics", 4, 0)
        assert (partly.encoder, partly.scored, partly.lacking) == ("counting:Picky", 2, 2)
    assert any(partly.average > whole.average for _, (whole, partly) in part.grids)
    assert "in 2 of 4 cells" in page.html(table, loaded)
    rows = [
        line.split("|")
        for line in leaderboard.markdown(table, loaded).splitlines()
        if line.startswith("| cross_dataset |")
    ]
    assert {(row[4].strip(), row[-2].strip()) for row in rows} == {
        ("weight_statistics", "4"),
        ("counting:Picky", "2 of 4"),
    }


def test_grids_of_several_readings_say_which_is_which(tmp_path, three_zoos):
    manifest = benchmark("cross_dataset", "tiny", "other", reading="own", rank_by="kendall_tau")
    run(manifest, ["statistics_boosting"], three_zoos, tmp_path)
    labels = [(grid.by, grid.label) for grid in grids.grids(boards.boards(boards.load(tmp_path)))]
    of_accuracy = [(by, label) for by, label in labels if label.startswith("test_accuracy")]
    assert of_accuracy == [
        ("own", "test_accuracy"),
        ("probe", "test_accuracy, by probes"),
        ("encoder", "test_accuracy, by encoders"),
    ]


def test_a_probe_of_the_source_is_applied_unchanged_to_the_other_zoo(tmp_path, three_zoos):
    """One cross-dataset number by hand: fitted and chosen on the source alone, by the paper's probe."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    from zoo_bench.scores.paper_probes import RIDGE_PENALTIES
    from zoo_gen import open_zoo

    zoos = {name: open_zoo(three_zoos / name) for name in ("tiny", "other")}
    x, y = (
        {
            (name, part): values(zoo)[zoo.split(part)].astype(float)
            for name, zoo in zoos.items()
            for part in ("train", "validation", "test")
        }
        for values in (lambda zoo: zoo.weights[:], lambda zoo: zoo.test_accuracy[:])
    )
    x = {key: np.column_stack([rows.reshape(-1, 100), np.ones(rows.size // 100)]) for key, rows in x.items()}
    y = {key: rows.ravel() for key, rows in y.items()}
    train, validation = ((x["tiny", part], y["tiny", part]) for part in ("train", "validation"))
    models = [Ridge(alpha=penalty, fit_intercept=False).fit(*train) for penalty in RIDGE_PENALTIES]
    best = min(models, key=lambda model: ((model.predict(validation[0]) - validation[1]) ** 2).mean())
    expected = r2_score(y["other", "test"], best.predict(x["other", "test"]))
    ((result, _),) = run(benchmark("cross_dataset", "tiny", "other", probe="paper"), ["weights"], three_zoos, tmp_path)
    cell = next(cell for cell in result.cells if cell.name == "tiny → other")
    score = next(s for s in cell.scores if (s.target, s.metric) == ("test_accuracy", "r2"))
    assert score.value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("protocol", "zoos"), [("standard", ("tiny",)), ("cross_dataset", ("tiny", "other")), ("unseen_epochs", ("tiny",))]
)
def test_an_encoder_is_given_models_of_its_source_alone_to_learn_and_to_select(
    tmp_path, three_zoos, counting, protocol, zoos
):
    from zoo_gen import open_zoo

    run(benchmark(protocol, *zoos), ["counting:Watching"], three_zoos, tmp_path / "results")
    lines = (counting / "seen").read_text().splitlines()
    assert len(lines) == len(zoos)
    for name, line in zip(zoos, lines, strict=True):
        source = open_zoo(three_zoos / name)
        epochs_of_zoo = source.epochs.tolist()
        share = 0.5 if protocol == "unseen_epochs" else 1
        first_epochs = epochs_of_zoo[: round(share * len(epochs_of_zoo))]
        parts = json.loads(line)  # who asks for models that select gets a part of those that train
        assert [(zoo, epochs) for ((zoo, _, epochs),) in parts] == [(name, first_epochs)] * 2
        train, validation = (set(models) for ((_, models, _),) in parts)
        assert not train & validation
        assert train | validation == set(source.split("train").tolist())


def test_a_grid_has_diagonal_rest_average_and_spread(tmp_path, three_zoos):
    manifest = benchmark("cross_dataset", "tiny", "other")
    ((result, _),) = run(manifest, ["weight_statistics"], three_zoos, tmp_path)
    by_target = {grid.target: grid for grid in grids.grids(boards.boards(boards.load(tmp_path)))}
    values = {
        (cell.source.zoo, cell.test.zoo): score.value
        for cell in result.cells
        for score in cell.scores
        if (score.target, score.metric, score.by) == ("test_accuracy", "r2", "probe")
    }
    grid = by_target["test_accuracy"]
    assert (grid.sources, grid.tests) == (("tiny", "other"), ("tiny", "other"))
    assert grid.diagonal == pytest.approx((values["tiny", "tiny"] + values["other", "other"]) / 2)
    assert grid.off_diagonal == pytest.approx((values["tiny", "other"] + values["other", "tiny"]) / 2)
    assert grid.average == pytest.approx(sum(values.values()) / 4)
    mean = grid.average
    assert grid.spread == pytest.approx((sum((value - mean) ** 2 for value in values.values()) / 4) ** 0.5)


@pytest.mark.parametrize("protocol", ["unseen_epochs", "data_efficiency"])
def test_protocols_within_a_zoo_run(tmp_path, three_zoos, protocol):
    ((result, _),) = run(benchmark(protocol, "tiny"), ["weight_statistics"], three_zoos, tmp_path)
    path = result_path(tmp_path, benchmark=protocol, encoder="weight_statistics", seed=0)
    assert read_result(path) == result
    assert len({cell.name for cell in result.cells}) == {"unseen_epochs": 2, "data_efficiency": 5}[protocol]
