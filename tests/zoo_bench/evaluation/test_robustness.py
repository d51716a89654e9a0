"""Networks that compute the same function, what scores lose on them, floors, and encoders that need more of a view."""

import numpy as np
import pytest

from zoo_bench.evaluation import run
from zoo_bench.evaluation.floors import floors
from zoo_bench.plots import plot_robustness
from zoo_bench.protocol import protocols
from zoo_bench.protocol.equivalents import AS_TRAINED, CHANGES, baseline
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.targets import Target
from zoo_bench.protocol.views import HiddenRows
from zoo_bench.standings.boards import boards, load
from zoo_bench.standings.robustness import drops
from zoo_bench.standings.text import text
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.zoo.arrays import Arrays
from zoo_gen.zoo.forward import ForwardPass

ROBUST = BenchmarkManifest(
    name="robust_tiny", protocol="robustness", zoos=("tiny",), targets=("test_accuracy",), checkpoints="last"
)
RUNS = """
import torch

class Runs:
    config = {}
    needs = ("forward",)

    def fit(self, train, validation, *, seed):
        self.inputs = torch.rand((5, *train[0].input_shape), generator=torch.Generator().manual_seed(0))
        return self

    def encode(self, view):
        return view.forward(self.inputs).flatten(1).numpy()

class AsksForMore(Runs):
    needs = ("gradients",)
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    (tmp_path / "runs.py").write_text(RUNS)
    monkeypatch.syspath_prepend(tmp_path)


def outputs(view, images):
    """What the models of a view compute at its only checkpoint, by their plain modules."""
    import torch

    forward: ForwardPass = view.forward_pass
    for row, place in enumerate(forward.function_of):
        module = forward.network.module(activation=forward.functions[place])
        tensors = view.layout.split(view.weights[row, 0])
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
        yield module(images).detach().numpy()


def test_tests_are_of_networks_that_compute_the_same(tiny_zoo):
    import torch

    zoo = open_zoo(tiny_zoo)
    (cell,) = protocols.cells(ROBUST, [zoo])
    tests = {test.condition: test.views for test in cell.tests}
    assert list(tests) == [
        AS_TRAINED,
        "hidden units reordered",
        baseline("rescaled by 1 to 10"),
        "rescaled by 1 to 10",
        "rescaled by 1 to 1000",
        baseline("signs flipped"),
        "signs flipped",
        "hidden units split",
    ]
    functions = dict(zip(zoo.models["model_id"].to_pylist(), zoo.models["activation"].to_pylist(), strict=True))
    images = torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    for condition in CHANGES:
        (changed,) = tests[condition]
        (plain,) = tests.get(baseline(condition), tests[AS_TRAINED])
        np.testing.assert_array_equal(changed.models, plain.models)
        if condition.startswith("rescaled"):
            assert {functions[model] for model in changed.models.tolist()} == {"relu"}
        if condition.startswith("signs"):
            assert {functions[model] for model in changed.models.tolist()} == {"tanh"}
        if changed.layout == plain.layout:
            assert (changed.weights != plain.weights).any(axis=(1, 2)).all()
        else:
            assert changed.layout.size == 200
        for one, other in zip(outputs(changed, images), outputs(plain, images), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(changed.metric("test_accuracy"), plain.metric("test_accuracy"))
        rows = HiddenRows.of(changed)
        np.testing.assert_allclose(
            rows.in_order(rows.view.forward(images).numpy()), list(outputs(plain, images)), rtol=1e-4, atol=1e-4
        )


def test_what_runs_networks_loses_nothing_and_what_reads_weights_does(tiny_zoo, tmp_path, runs):
    outcomes = run.run(ROBUST, ["runs:Runs", "weights"], zoos=tiny_zoo.parent, results=tmp_path / "r", seeds=[0])
    assert {result.encoder for result, _ in outcomes} == {"runs:Runs", "weights"}
    loaded = load(tmp_path / "r")
    lost = {(drop.encoder, drop.condition): drop for drop in drops(loaded)}
    for condition in CHANGES:
        assert abs(lost["runs:Runs", condition].drop) < 1e-3
    drop = lost["weights", "hidden units reordered"]
    cells = {cell.condition: cell for one in loaded if one.result.encoder == "weights" for cell in one.result.cells}
    scores = [
        next(score.value for score in cells[name].scores if score.ranks)
        for name in (AS_TRAINED, "hidden units reordered")
    ]
    assert (drop.before, drop.after) == tuple(scores)
    assert drop.drop == pytest.approx(scores[0] - scores[1])
    assert drop.low <= drop.drop <= drop.high
    assert ("weights", "hidden units split") not in lost  # of another architecture
    assert "robustness: what scores lose" in text(boards(loaded), loaded)
    plot_robustness(tmp_path / "r", tmp_path / "drops.png")
    assert (tmp_path / "drops.png").read_bytes().startswith(b"\x89PNG")


def test_floors_are_what_the_recipe_and_the_mean_tell(tiny_zoo, tiny_loaded):
    zoo = open_zoo(tiny_zoo)
    cell = protocols.standard_cell(zoo)
    (of_test,) = floors(cell, [Target("test_accuracy"), Target("optimizer", is_number=False)])
    predicted = {(each.target, each.by): each.predicted for each in of_test}
    train = zoo.test_accuracy[:][zoo.split("train")].astype(float)
    np.testing.assert_allclose(predicted["test_accuracy", "mean"], train.mean(), rtol=1e-6)
    recipe = predicted["test_accuracy", "recipe"].reshape(-1, 5)
    assert (recipe == recipe[:, :1]).all()  # the same at every checkpoint
    rows = zoo.models.take(zoo.view(zoo.split("test")).rows)
    alike = list(zip(*(rows[name].to_pylist() for name in ("optimizer", "activation", "learning_rate")), strict=True))
    for first, second in zip(*np.triu_indices(len(alike), 1), strict=True):
        if alike[first] == alike[second]:
            assert recipe[first, 0] == recipe[second, 0]
    assert len(np.unique(recipe)) == len(set(alike))
    # An optimizer is told by the other hyper-parameters alone.
    names = predicted["optimizer", "recipe"].reshape(-1, 5)[:, 0].tolist()
    assert len({(*others, name) for (_, *others), name in zip(alike, names, strict=True)}) == len(
        {tuple(others) for _, *others in alike}
    )
    (board,) = boards(tiny_loaded)
    row = next(row for row in board.rows if row.target == "test_accuracy" and row.ranks)
    assert [name for name, _ in row.floors] == ["recipe", "mean"]
    for cell_score, one in zip(row.cells, board.encoders, strict=True):
        best = max(value for _, value in row.floors)
        assert cell_score.value > best or not cell_score.beats_floor, one
    assert "test_accuracy without a weight: by hyper-parameters alone" in text([board], tiny_loaded)


@pytest.mark.parametrize(
    ("encoder", "targets", "message"),
    [
        ("runs:Runs", ("hyperparameters",), "forward: 'activation' is a target of this benchmark, and running"),
        ("runs:AsksForMore", ("test_accuracy",), "needs 'gradients'; expected one of forward, graphs"),
    ],
)
def test_what_a_zoo_cannot_give_is_said_in_one_line(tiny_zoo, tmp_path, runs, encoder, targets, message):
    benchmark = BenchmarkManifest(name="refused", protocol="standard", zoos=("tiny",), targets=targets)
    with pytest.raises(ZooError, match=message) as error:
        list(run.run(benchmark, [encoder], zoos=tiny_zoo.parent, results=tmp_path / "r", seeds=[0]))
    assert "\n" not in str(error.value)


def test_networks_that_nobody_knows_how_to_run_are_said_before_training(tiny_zoo, tmp_path, runs, monkeypatch):
    monkeypatch.setattr(Arrays, "architecture_of", lambda arrays, row: None)
    benchmark = BenchmarkManifest(name="unknown", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))
    with pytest.raises(ZooError, match=r"how its models compute is not known.*expected an encoder of weights") as error:
        list(run.run(benchmark, ["runs:Runs"], zoos=tiny_zoo.parent, results=tmp_path / "r", seeds=[0]))
    assert "\n" not in str(error.value)
    (test,) = protocols.cells(ROBUST, [open_zoo(tiny_zoo)])[0].tests[1:]
    assert test.condition == "hidden units reordered"  # all that can be done without layers
