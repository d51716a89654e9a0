"""What the columns of a folder's table become: metrics, hyper-parameters, or a line that says what became of them."""

import math

import numpy as np
import pytest

from tests.zoo_gen.published import own
from zoo_gen import ZooError
from zoo_gen.zoo.verify import verify


def column_of(tmp_path, name, cells, **options):
    """Convert models with one column of these cells; return the zoo."""
    rows = "".join(f'c{number}.pt,r{number},"{cell}"\n' for number, cell in enumerate(cells))
    path = own.folder(tmp_path / "mine", f'file,run,"{name}"\n{rows}', n_files=len(cells))
    return own.zoo_of(path, **options)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("test_accuracy", "test_accuracy"),
        ("Test Acc", "test_accuracy"),
        ("testAcc", "test_accuracy"),
        ("acc/test", "test_accuracy"),
        ("accuracy", "test_accuracy"),
        ("top1_accuracy", "test_accuracy"),
        ("val_acc", "validation_accuracy"),
        ("valid-loss", "validation_loss"),
        ("loss", "loss"),  # of which images, it does not say
        ("eval_loss", "eval_loss"),
        ("test/f1", "test_f1"),
        ("generalization_gap", "published_gap"),
    ],
)
def test_metrics_are_known_by_their_names(tmp_path, name, stored):
    zoo = column_of(tmp_path, name, ["0.25", "", "0.5"])
    assert zoo.metrics == (stored, "max_abs")
    assert np.asarray(zoo.metric(stored)[:, 0]).tolist() == pytest.approx([0.25, math.nan, 0.5], nan_ok=True)
    assert own.kinds(zoo)[name] == ("metric", stored)


@pytest.mark.parametrize(
    ("name", "cells"),
    [("loss", ["mse", "nll"]), ("precision", ["16", "32"]), ("loss_weight", ["1", "2"]), ("top_k", ["1", "5"])],
)
def test_names_that_only_look_like_metrics_are_hyper_parameters(tmp_path, name, cells):
    assert column_of(tmp_path, name, cells).varying == (name,)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["0.5", "failed"], r"models\.csv: line 3 has test_accuracy 'failed'; expected a number"),
        (["0.5", "True"], "line 3 has test_accuracy 'True'"),
        (["True", "False"], "line 2 has test_accuracy 'True'"),
        (["0.5", "2024-01-01"], "line 3 has test_accuracy '2024-01-01'"),
        (["1,234", "2,345"], "line 2 has test_accuracy '1,234'"),
        (["91%", "0.92"], "column test_accuracy cannot be read as numbers .*per cent"),
        (["0.5", "inf"], "line 3: test_accuracy is inf; expected an accuracy"),
        (["0.5", "-1"], "line 3: test_accuracy is -1; expected an accuracy"),
        (["0.5", "101"], "line 3: test_accuracy is 101; expected an accuracy"),
        (["0.5", "92"], "line 3: test_accuracy is 92; expected fractions up to 1, or accuracies='percent'"),
    ],
)
def test_a_metric_is_numbers_or_is_refused_by_its_line(tmp_path, cells, message):
    with pytest.raises(ZooError, match=message):
        column_of(tmp_path, "test_accuracy", cells)
    assert not (tmp_path / "mine_zoo").exists()


def test_a_loss_beyond_float32_is_refused(tmp_path):
    with pytest.raises(ZooError, match=r"line 3 has test_loss 1e\+39, beyond float32's range"):
        column_of(tmp_path, "test_loss", ["0.5", "1e39"])


@pytest.mark.parametrize(
    ("name", "cells", "options", "values"),
    [
        ("test_accuracy", ["50", "0.5"], {"accuracies": "percent"}, [0.5, 0.005]),
        ("test_accuracy", ["50", "0.5"], {"accuracies": "fraction"}, [50, 0.5]),
        ("test_accuracy", ["50%", "0.5%"], {}, [0.5, 0.005]),
        ("test_accuracy", ["50%", "0.5%"], {"accuracies": "percent"}, [0.5, 0.005]),
        ("test_accuracy (%)", ["50", "0.5"], {}, [0.5, 0.005]),
        ("test_accuracy_pct", ["50", "0.5"], {}, [0.5, 0.005]),
        ("test_accuracy", ["1", "0"], {}, [1, 0]),
    ],
)
def test_per_cent_are_divided_where_that_is_certain(tmp_path, name, cells, options, values):
    zoo = column_of(tmp_path, name, cells, **options)
    assert zoo.test_accuracy[:, 0].tolist() == np.float32(values).tolist()


def test_a_name_of_per_cent_over_fractions_is_asked_about(tmp_path):
    with pytest.raises(ZooError, match="says per cent and holds nothing above 1; expected accuracies='percent' or"):
        column_of(tmp_path, "test_accuracy (%)", ["0.5", "0.75"])


def test_a_reading_of_another_unit_is_another_zoo(tmp_path):
    column_of(tmp_path, "test_accuracy", ["50", "0.5"], accuracies="percent")
    with pytest.raises(ZooError, match="holds the zoo 'mine' of another archive, selection or version"):
        own.zoo_of(tmp_path / "mine", accuracies="fraction")


def test_numbers_that_were_changed_make_another_zoo(tmp_path):
    """Their file keeps its name and its size, which is all that a listing says."""
    zoo = column_of(tmp_path, "test_accuracy", ["0.50", "0.25"])
    path = tmp_path / "mine" / "models.csv"
    path.write_text(path.read_text().replace("0.50", "0.75"))
    with pytest.raises(ZooError, match="of another archive"):
        own.zoo_of(tmp_path / "mine")
    assert zoo.test_accuracy[:, 0].tolist() == [0.5, 0.25]


OWN = ["model_id", "source_model", "split_", "checkpoints", "architecture", "n_parameters", "weights_start", "status"]
OWN += ["sha256", "max_abs", "weights", "permutation"]


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_a_column_with_a_name_of_the_zoos_own_gets_another(tmp_path, name, varies):
    runs = ["a", "a", "b"] if varies else ["a", "b", "c"]
    rows = "".join(f"c{i}.pt,{run},{i},{i + 7}\n" for i, run in enumerate(runs))
    zoo = own.zoo_of(own.folder(tmp_path / "mine", f"file,run,epoch,{name}\n{rows}"))
    assert verify(zoo.path, sample=0).findings == ()
    assert len(set(zoo.models.column_names)) == len(zoo.models.column_names)
    assert zoo.models["model_id"].to_pylist() == list(range(len(set(runs))))
    assert zoo.models["max_abs"].to_pylist() == [
        max(float(tensor.abs().max()) for tensor in own.state(last).values())
        for last in (max(i for i in range(3) if runs[i] == run) for run in sorted(set(runs)))
    ]
    kind, stored = own.kinds(zoo)[name]
    expected = name if name == "split_" else f"source.{name}"
    assert (kind, stored) == ("metric" if varies else "hyper-parameter", expected)
    assert zoo.models[expected].to_pylist() == ([8, 9] if varies else [7, 8, 9])
    assert zoo.states[f"source.{name}"].to_pylist() == [7, 8, 9]


def test_columns_that_collide_after_renaming_are_all_kept(tmp_path):
    names = ["lr", "learning_rate", "LR", "test_acc", "test_accuracy", "accuracy", "Test-Acc", "Test_Accuracy"]
    values = [[0.1 + 0.01 * column + 0.001 * row for column in range(len(names))] for row in range(2)]
    rows = "".join(f"c{i}.pt,r{i},{','.join(map(str, row))}\n" for i, row in enumerate(values))
    zoo = own.zoo_of(own.folder(tmp_path / "mine", f"file,run,{','.join(names)}\n{rows}", n_files=2))
    kinds = own.kinds(zoo)
    assert kinds["learning_rate"][1] == "learning_rate"
    assert kinds["test_accuracy"][1] == "test_accuracy"
    stored = [kinds[name][1] for name in names]
    assert len({name.casefold() for name in stored}) == len(names)
    for column, name in enumerate(stored):
        assert zoo.models[name].to_pylist() == pytest.approx([row[column] for row in values], rel=1e-6)
    assert verify(zoo.path, sample=0).findings == ()


def test_what_varies_within_a_run_is_no_hyper_parameter(tmp_path):
    table = "file,run,epoch,beta,tokens,note,rate\nc0.pt,a,0,0.1,16777216,x,3\nc1.pt,a,1,0.2,16777217,y,\n"
    zoo = own.zoo_of(own.folder(tmp_path / "mine", table + "c2.pt,b,0,0.3,1,z,4\n"))
    assert zoo.varying == ("rate",)
    assert zoo.models["rate"].to_pylist() == [3, 4]  # which one row of a run need not repeat
    expected = np.array([[0.1, 0.2], [0.3, math.nan]], dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(zoo.metric("beta")[:]), expected)
    kinds = own.kinds(zoo)
    assert kinds["tokens"][0] == kinds["note"][0] == "state"
    assert zoo.states["source.tokens"].to_pylist() == [16777216, 16777217, 1]
    assert zoo.states["source.note"].to_pylist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("name", "cells", "values"),
    [
        ("seed", ["18446744073709551615", "1"], [2**64 - 1, 1]),
        ("seed", ["9007199254740993", "1"], [2**53 + 1, 1]),
        ("started", ["2024-01-02", "2024-01-03"], ["2024-01-02", "2024-01-03"]),
        ("started", ["2024-01-02 03:04:05.123456789", "x"], ["2024-01-02 03:04:05.123456789", "x"]),
        ("code", ["007", "010"], ["007", "010"]),
        ("augment", ["True", "False"], [True, False]),
        ("augment", ["yes", "no"], ["yes", "no"]),
        ("lr", ["0.1", "auto"], ["0.1", "auto"]),
        ("lr", ["1e-3", "None"], [1e-3, None]),
        ("activation", ["ReLU", "LeakyReLU"], ["relu", "leaky_relu"]),
    ],
)
def test_hyper_parameters_are_kept_exactly(tmp_path, name, cells, values):
    zoo = column_of(tmp_path, name, cells)
    stored = own.kinds(zoo)[name][1]
    assert zoo.models[stored].to_pylist() == values


def test_a_column_model_that_names_an_architecture_does_not_name_runs(tmp_path):
    zoo = own.zoo_of(own.folder(tmp_path / "mine", "file,model\nc0.pt,mlp\nc1.pt,mlp\nc2.pt,mlp\n"))
    assert zoo.models["run"].to_pylist() == ["c0.pt", "c1.pt", "c2.pt"]
    assert own.kinds(zoo)["model"] == ("hyper-parameter", "model")
