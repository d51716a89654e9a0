"""What newcomers give in place of a path, a name, a list or a number is one line, and paths serve as zoos."""

import numpy as np
import pandas as pd
import pytest

import zoo_gen
from zoo_gen import ZooError
from zoo_gen.engine.api import plan, run

ANYTHING = [3, None, np.int64(2), b"zoos/tiny", {"a": 1}, True, 1.5, "nope", "\0", ["nope"], pd.Series(["a", "b"])]
CALLS = {
    "open_zoo": zoo_gen.open_zoo,
    "open_zoos": zoo_gen.open_zoos,
    "open_zoos of one": lambda given: zoo_gen.open_zoos([given]),
    "verify": zoo_gen.verify,
    "export": lambda given: zoo_gen.export(given, "out"),
    "write_plots": lambda given: zoo_gen.write_plots(given, "out"),
    "split": lambda given: zoo_gen.split(given, "out", share=0.5),
    "merge": lambda given: zoo_gen.merge(given, "out"),
    "diff": lambda given: zoo_gen.diff(given, "tetris_seed"),
    "plan": plan,
    "run": run,
    "read_manifest": zoo_gen.read_manifest,
    "load_image_data": zoo_gen.load_image_data,
    "pull": zoo_gen.pull,
    "download": zoo_gen.download,
    "plan_pull": zoo_gen.plan_pull,
    "plan_push": lambda given: zoo_gen.plan_push("nowhere", given),
    "convert": lambda given: zoo_gen.convert(given, "out", format="folder"),
    "device": lambda given: plan("tetris_seed", device=given),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("given", ANYTHING, ids=lambda given: type(given).__name__)
def test_what_is_no_zoo_no_name_and_no_list_is_one_line(tmp_path, monkeypatch, call, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError) as error:
        CALLS[call](given)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["out", 3, None, (1,), (1, 2, 3), ("1", "2"), (2, 1), {"a": 1}, (1.0, 2.0)])
def test_a_part_that_is_no_pair_is_one_line(tiny_manifest, tmp_path, given):
    with pytest.raises(ZooError, match=r"part is .*; expected \(i, n\)"):
        run(tiny_manifest, tmp_path / "zoo", part=given, progress=False)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("given", ["zoos/tiny", 3, {"a": 1}, None])
def test_zoos_to_reuse_that_are_no_list_are_one_line(tiny_manifest, tmp_path, given):
    for call in (lambda: run(tiny_manifest, tmp_path / "zoo", reuse=given), lambda: plan(tiny_manifest, reuse=given)):
        with pytest.raises(ZooError, match=r"reuse: got .*; expected a list of zoos"):
            call()


def test_numbers_of_numpy_are_numbers_and_others_one_line(tiny_zoo):
    assert zoo_gen.verify(tiny_zoo, sample=np.int64(1), seed=np.int64(2)).sound
    for options in ({"seed": "a"}, {"sample": "a"}, {"seed": None}, {"data_root": 3}, {"data_root": ["a"]}):
        with pytest.raises(ZooError):
            zoo_gen.verify(tiny_zoo, **options)


def test_zoos_are_exported_drawn_and_split_by_themselves_and_by_their_paths(tiny_zoo, tmp_path):
    zoo = zoo_gen.open_zoo(tiny_zoo)
    for number, given in enumerate((zoo, tiny_zoo, str(tiny_zoo))):
        assert len(zoo_gen.export(given, tmp_path / f"exported-{number}", models=[0])) == 1
        assert zoo_gen.write_plots(given, tmp_path / f"drawn-{number}")
        half, rest = tmp_path / f"half-{number}", tmp_path / f"rest-{number}"
        zoo_gen.split(given, half, share=0.5, rest=rest)
        assert zoo_gen.merge([zoo_gen.open_zoo(half), rest], tmp_path / f"merged-{number}").extent.n_models == 40


@pytest.mark.parametrize("open_it", [zoo_gen.open_zoo, lambda path: zoo_gen.open_zoos([path])])
def test_models_and_epochs_that_are_no_numbers_are_one_line(tiny_zoo, open_it):
    zoo = open_it(tiny_zoo)
    for model in ("1", None, 1.0, [1], 99, -1):
        with pytest.raises(ZooError, match=r"model"):
            zoo.module(model)
        with pytest.raises(ZooError, match=r"model"):
            zoo.state_dict(model)
    for epoch in ("1", [1], np.array([1]), 99, -1):
        with pytest.raises(ZooError, match="no checkpoint of epoch"):
            zoo.module(0, epoch)
    for epochs in (1, "1", [], ["1"], [[1]], {1: 2}):
        with pytest.raises(ZooError, match="epoch"):
            zoo.view([0], epochs)
        with pytest.raises(ZooError, match="epoch"):
            zoo_gen.export(zoo, "nowhere", models=[0], epochs=epochs)
    assert zoo.view([0], np.array([0, 1])).epochs.tolist() == [0, 1]


@pytest.mark.parametrize(
    "options",
    [{"where": 3}, {"where": [("seed", 1)]}, {"share": "a"}, {"share": 0.5, "seed": "a"}, {"where": {"seed": "1"}}],
)
def test_a_choice_of_models_that_is_none_is_one_line(tiny_zoo, tmp_path, options):
    with pytest.raises(ZooError) as error:
        zoo_gen.split(tiny_zoo, tmp_path / "some", **options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seeds", [[1, 2], np.arange(1, 3), pd.Series([1, 2]), range(1, 3), {1, 2}, (np.int64(1), 2)])
def test_models_are_chosen_by_lists_of_any_kind(tiny_zoo, tmp_path, seeds):
    some = zoo_gen.split(tiny_zoo, tmp_path / "some", where={"seed": seeds})
    assert set(some.models["seed"].to_pylist()) == {1, 2}


def test_a_file_in_place_of_a_folder_is_one_line(tiny_manifest, tiny_zoo, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "in"):
        for call in (
            lambda out: zoo_gen.run(tiny_manifest, out, progress=False),
            lambda out: zoo_gen.write_plots(tiny_zoo, out),
            lambda out: zoo_gen.split(tiny_zoo, out, share=0.5),
            lambda out: zoo_gen.export(tiny_zoo, out, models=[0]),
        ):
            with pytest.raises(ZooError, match=str(tmp_path / "file")):
                call(place)


def test_a_manifest_is_made_from_arrays_of_numbers_too():
    def manifest(make, whole):
        return zoo_gen.ZooManifest(
            name="arrays",
            data={"source": "tetris"},
            architecture={"name": "mlp", "widths": make([16, 5, 4])},
            training={
                "epochs": whole(4),
                "batch_size": whole(32),
                "optimizer": "adam",
                "activation": "tanh",
                "initialization": "uniform",
            },
            checkpoints={"epochs": make([0, 2, 4])},
            axes={"product": {"seed": make([1, 2, 3]), "learning_rate": make([0.01, 0.1])}},
        )

    plain = manifest(list, int)
    assert manifest(np.array, np.int64).to_toml() == plain.to_toml()
    assert manifest(pd.Series, np.int32).digest == plain.digest


@pytest.mark.parametrize("given", [pd.DataFrame({"a": [1, 2]}), pd.Series(["a", "b"])], ids=["table", "column"])
@pytest.mark.parametrize("key", ["name", "description", "checkpoints"])
def test_a_value_of_a_manifest_that_prints_as_several_lines_is_one_line(given, key):
    plain = {"name": "a", "data": {"source": "tetris"}, "architecture": {"name": "mlp", "widths": [16, 5, 4]}}
    with pytest.raises(ZooError, match=f"^{key}: ") as error:
        zoo_gen.ZooManifest(**{**plain, key: given})
    assert "\n" not in str(error.value)
