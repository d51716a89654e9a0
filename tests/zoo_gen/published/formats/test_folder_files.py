"""Which files of a folder are read: the table and what it names, never a stale copy or the file of another run."""

import unicodedata

import numpy as np
import pytest
import torch

from tests.zoo_gen.published import own, ray
from zoo_gen import ZooError

TABLE = "file,run,test_accuracy\nc0.pt,a,0.25\nc1.pt,b,0.5\nc2.pt,c,0.75\n"
STALE = "file,run,test_accuracy\nc0.pt,a,0.125\n"


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/models-checkpoint.csv",
        ".git/models.csv",
        ".sync/archive/models.csv",
        ".~lock.models.csv",
        ".models.csv.swp",
        "._models.csv",
        "__MACOSX/._models.csv",
        "__MACOSX/models.csv",
        "~$models.csv",
        "models.csv~",
        "models.csv.bak",
        "#models.csv#",
        "@eaDir/models.csv",
        "$RECYCLE.BIN/models.csv",
        "__pycache__/a.csv",
    ],
)
def test_what_other_programs_leave_is_not_read(tmp_path, name):
    path = own.folder(tmp_path / "mine", TABLE, files={name: STALE.encode()})
    zoo = own.zoo_of(path)
    assert zoo.models["run"].to_pylist() == ["a", "b", "c"]
    assert zoo.models["test_accuracy"].to_pylist() == [0.25, 0.5, 0.75]
    assert name in zoo.conversion.ignored
    assert zoo.conversion.read == ("c0.pt", "c1.pt", "c2.pt", "models.csv")


@pytest.mark.parametrize(
    "name",
    [
        "old.csv",
        "a/models.csv",
        "models (1).csv",
        "models - Copy.csv",
        "models (Ada's conflicted copy 2026-01-02).csv",
        "models.sync-conflict-20260102-120000-ABCDEFG.csv",
        "models.tsv",
    ],
)
def test_two_tables_of_the_files_are_not_chosen_between(tmp_path, name):
    stale = STALE.replace(",", "\t") if name.endswith("tsv") else STALE
    path = own.folder(tmp_path / "mine", TABLE, files={name: stale.encode()})
    with pytest.raises(ZooError, match=r"both name files of weights; expected one, or table="):
        own.zoo_of(path)
    zoo = own.zoo_of(path, table="models.csv") if "/" not in name else None
    assert zoo is None or zoo.models["test_accuracy"].to_pylist() == [0.25, 0.5, 0.75]


def test_a_table_with_the_same_bytes_and_tables_of_something_else_do_no_harm(tmp_path):
    files = {"models (1).csv": TABLE.encode(), "log.csv": b"epoch,loss\n1,2\n", "broken.csv": b"a,b\n1\n2,3\n"}
    zoo = own.zoo_of(own.folder(tmp_path / "mine", TABLE, files=files | {"old/c9.pt": b"not read"}))
    ignored = zoo.conversion.ignored
    assert ignored["models (1).csv"] == "a copy of models.csv"
    assert ignored["log.csv"] == "a table that names no file of weights"
    assert "line 2 has 1 columns" in ignored["broken.csv"]
    assert ignored["old/c9.pt"] == "not named in models.csv"


@pytest.mark.parametrize(
    ("cells", "files"),
    [
        ("/scratch/ada/exp/{}", "{}"),
        ("exp/{}", "{}"),
        ("/scratch/ada/exp/weights/{}", "weights/{}"),
        ("C:\\Users\\Ada\\weights\\{}", "weights/{}"),
        ("\\\\server\\share\\weights\\{}", "weights/{}"),
        ("weights\\{}", "weights/{}"),
        (".\\weights\\{}", "weights/{}"),
        ("./weights//{}", "weights/{}"),
        ("~/weights/{}", "weights/{}"),
        ("file:///home/ada/weights/{}", "weights/{}"),
        ("{}", "weights/{}"),
        ("WEIGHTS/{}", "weights/{}"),
        (unicodedata.normalize("NFC", "größe/{}"), unicodedata.normalize("NFD", "größe/{}")),
        (unicodedata.normalize("NFD", "größe/{}"), unicodedata.normalize("NFC", "größe/{}")),
    ],
)
@pytest.mark.parametrize("ending", [".pt", ""])
def test_cells_may_have_paths_of_the_machine_that_trained(tmp_path, cells, files, ending):
    rows = "".join(f"{cells.format(f'n{i}{ending}')},r{i}\n" for i in range(3))
    states = {files.format(f"n{i}.pt"): own.state(i) for i in range(3)}
    zoo = own.zoo_of(own.folder(tmp_path / "mine", f"file,run\n{rows}", n_files=0, states=states))
    for model in range(3):
        assert torch.equal(zoo.state_dict(model)["fc.weight"], own.state(model)["fc.weight"])


@pytest.mark.parametrize(
    ("cells", "files"),
    [
        (["run1/m.pt", "run3/m.pt"], ["run1/m.pt", "m.pt"]),  # another run's file does not stand in
        (["/x/run1/m.pt", "/x/run3/m.pt"], ["run1/m.pt", "m.pt"]),
        (["/x/run1/m.pt", "/x/run3/m.pt"], ["run1/m.pt", "run2/m.pt"]),
        (["m0.pt", "m1.pt"], ["new/m0.pt", "old/m1.pt"]),
        (["m0.pt", "m1.pt"], ["m0.pt"]),
        (["m0", "m1"], ["m0.pt", "m0.safetensors", "m1.pt"]),
        (["m0.pt", "m1.pt"], ["a/m0.pt", "b/m0.pt", "a/m1.pt"]),
        (["m0.pt", ""], ["m0.pt"]),
        (["/x/old/m0.pt", "/x/old/m1.pt"], ["new/m0.pt", "new/m1.pt"]),
    ],
)
def test_a_file_that_is_not_certain_is_refused_by_its_line(tmp_path, cells, files):
    rows = "".join(f"{cell},{number}\n" for number, cell in enumerate(cells))
    states = {name: own.state(0) for name in files}
    path = own.folder(tmp_path / "mine", f"file,rank\n{rows}", n_files=0, states=states)
    with pytest.raises(ZooError, match=r"models\.csv: line [23] names |holds no CSV with a column that names"):
        own.zoo_of(path)
    assert not (tmp_path / "mine_zoo").exists()


def test_one_file_is_not_two_models(tmp_path):
    path = own.folder(tmp_path / "mine", "file,run\nc0.pt,a\n/exp/c0.pt,b\n")
    with pytest.raises(ZooError, match=r"models\.csv: lines 2 and 3 both name c0\.pt"):
        own.zoo_of(path)


@pytest.mark.parametrize("first", ["pt", "safetensors"])
def test_tensors_are_those_of_their_names_in_any_order(tmp_path, first):
    from safetensors.torch import save

    torch.manual_seed(0)
    state = {name: torch.randn(3, 3) for name in ("query.weight", "key.weight", "b.2.weight", "b.10.weight")}
    turned = dict(reversed(state.items()))
    files = {"e0.pt": ray.saved(state), "e1.pt": ray.saved(turned), "e2.safetensors": save(turned)}
    order = ["e0.pt", "e1.pt", "e2.safetensors"] if first == "pt" else ["e2.safetensors", "e1.pt", "e0.pt"]
    rows = "".join(f"{name},a,{epoch}\n" for epoch, name in enumerate(order))
    zoo = own.zoo_of(own.folder(tmp_path / "mine", f"file,run,epoch\n{rows}", n_files=0, files=files))
    for epoch in range(3):
        stored = zoo.state_dict(0, epoch)
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"fc.weight": state["fc.weight"]}, r"c1\.pt: has no tensor fc\.bias; expected the 2 tensors"),
        (lambda state: state | {"gate": torch.ones(2)}, r"c1\.pt: has gate besides"),
        (
            lambda state: {f"new_{name}": each for name, each in state.items()},
            r"has no tensor fc\.weight, fc\.bias",
        ),
        (lambda state: state | {"fc.bias": torch.ones(3)}, r"c1\.pt: fc\.bias has shape \(3,\); expected .* \(2,\)"),
    ],
)
def test_a_state_with_other_tensors_than_its_run_is_named(tmp_path, change, message):
    states = {"c1.pt": change(own.state(1))}
    path = own.folder(tmp_path / "mine", "file,run,epoch\nc0.pt,a,0\nc1.pt,a,1\n", n_files=1, states=states)
    with pytest.raises(ZooError, match=message):
        own.zoo_of(path)


def test_each_run_kept_at_a_step_of_its_own_takes_one_place_a_state(tmp_path):
    rows = "".join(f"c{i}.pt,r{i},{1000 + 37 * i},0.5\n" for i in range(30))
    zoo = own.zoo_of(own.folder(tmp_path / "mine", f"file,run,step,test_accuracy\n{rows}", n_files=30))
    assert zoo.weights.shape == (30, 1, 8)
    assert zoo.states["source.step"].to_pylist() == [1000 + 37 * i for i in range(30)]
    assert set(zoo.models["status"].to_pylist()) == {"complete"}
    for model in range(30):
        assert torch.equal(zoo.state_dict(model)["fc.bias"], own.state(model)["fc.bias"])
    assert any("30 states stand at 30 different epochs" in note for note in zoo.conversion.notes)


def test_best_and_last_of_each_run_are_its_first_and_second_state(tmp_path):
    order = np.random.RandomState(0).permutation(40)
    rows = [f"c{i}.pt,r{i // 2},{100 + i if i % 2 == 0 else 100_000},{i}\n" for i in range(40)]
    zoo = own.zoo_of(
        own.folder(tmp_path / "mine", "file,run,epoch,rank\n" + "".join(rows[i] for i in order), n_files=40)
    )
    assert zoo.epochs.tolist() == [1, 2]
    for model, run in enumerate(zoo.models["run"].to_pylist()):
        for place in (0, 1):
            number = 2 * int(run[1:]) + place
            assert torch.equal(zoo.state_dict(model, place + 1)["fc.bias"], own.state(number)["fc.bias"])


def test_few_runs_keep_their_epochs(tmp_path):
    zoo = own.zoo_of(own.folder(tmp_path / "mine", "file,run,epoch\nc0.pt,a,5\nc1.pt,b,7\nc2.pt,b,9\n"))
    assert zoo.epochs.tolist() == [5, 7, 9]
    assert torch.equal(zoo.state_dict(1, 9)["fc.bias"], own.state(2)["fc.bias"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("c0.pt,a,x\n", "line 2 has epoch 'x'; expected a number"),
        ("c0.pt,a,1.5\n", r"line 2 has epoch 1\.5; expected a whole number"),
        ("c0.pt,a,1\nc1.pt,a,\n", "line 3 has epoch None; expected a whole number"),
        ("c0.pt,a,3000000000\n", "has epoch 3000000000; expected 0 to"),
        ("c0.pt,a,-1\n", "has epoch -1; expected 0 to"),
        ("c0.pt,a,1\nc1.pt,a,1\n", "lines 2 and 3 name one state of one run twice"),
        ("c0.pt,,1\n", "line 2 has nothing in column run"),
    ],
)
def test_epochs_and_runs_that_are_none_are_refused_by_their_line(tmp_path, rows, message):
    with pytest.raises(ZooError, match=message):
        own.zoo_of(own.folder(tmp_path / "mine", f"file,run,epoch\n{rows}"))
