"""A zoo grows: what another zoo holds is copied, and the bytes are those of a zoo that was made at once."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import zoo_gen
from tests.conftest import TINY, files_of
from zoo_gen import ZooError, engine, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.engine import driver


def make(folder, text=TINY, **options):
    manifest = folder.parent / f"{folder.name}.toml"
    manifest.write_text(text)
    engine.run(manifest, folder, workers=1, progress=False, **options)
    return folder


def never(*arguments, **options):
    raise AssertionError("something was trained")


GROWN = {
    "more seeds": TINY.replace("[1, 5]", "[1, 7]"),
    "more values": TINY.replace("[1e-2, 3e-2]", "[1e-3, 1e-2, 3e-2]"),
    "fewer checkpoints": TINY + "\n[checkpoints]\nepochs = [0, 4]\n",
    "other shards": TINY.replace("models_per_shard = 12", "models_per_shard = 7"),
}
NOTHING_TO_TRAIN = {
    "another name": TINY.replace('"tiny"', '"small"'),
    "another split": TINY.replace("train = 0.6", "train = 0.4").replace("test = 0.2", "test = 0.4"),
    "fewer models": TINY.replace('["adam", "sgd"]', '["sgd"]'),
    "fewer epochs": TINY.replace("epochs = 4", "epochs = 2"),
}


@pytest.fixture(scope="module")
def more_seeds(made_once):
    """The files of the zoo with more seeds, made at once."""
    return files_of(made_once("more", lambda folder: make(folder / "at_once", GROWN["more seeds"])) / "at_once")


@pytest.mark.parametrize("change", [change for change in GROWN if change != "more seeds"])
def test_a_zoo_with_copied_models_has_the_bytes_of_one_made_at_once(tiny_zoo, tmp_path, change):
    at_once = make(tmp_path / "at_once", GROWN[change])
    grown = make(tmp_path / "grown", GROWN[change], reuse=[tiny_zoo])
    assert files_of(grown) == files_of(at_once)


@pytest.mark.parametrize("change", NOTHING_TO_TRAIN)
def test_what_changes_no_model_trains_nothing_and_has_those_bytes_too(tiny_zoo, tmp_path, monkeypatch, change):
    at_once = make(tmp_path / "at_once", NOTHING_TO_TRAIN[change])
    monkeypatch.setattr("zoo_gen.population.train.train", never)
    copied = make(tmp_path / "copied", NOTHING_TO_TRAIN[change], reuse=[tiny_zoo])
    assert open_zoo(copied).complete
    assert files_of(copied) == files_of(at_once)


def test_only_new_models_are_trained_and_the_bytes_are_those_of_a_zoo_made_at_once(
    tiny_zoo, tmp_path, more_seeds, monkeypatch
):
    from zoo_gen.population import train

    trained, original = [], train.train
    monkeypatch.setattr(train, "train", lambda *a, **k: trained.append(a[2]["seed"].to_pylist()) or original(*a, **k))
    assert files_of(make(tmp_path / "zoo", GROWN["more seeds"], reuse=[tiny_zoo])) == more_seeds
    assert {seed for seeds in trained for seed in seeds} == {6, 7}
    assert sum(map(len, trained)) == 16


def test_two_zoos_become_one(tiny_zoo, tmp_path):
    halves = [
        make(tmp_path / name, TINY.replace("[1, 5]", seeds)) for name, seeds in (("a", "[1, 3]"), ("b", "[4, 5]"))
    ]
    assert files_of(make(tmp_path / "merged", reuse=halves)) == files_of(tiny_zoo)


def test_a_zoo_grows_in_its_folder(tiny_zoo, tmp_path, more_seeds):
    folder = shutil.copytree(tiny_zoo, tmp_path / "zoo")
    make(folder, GROWN["more seeds"], grow=True)
    assert files_of(folder) == more_seeds
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    make(folder, GROWN["more seeds"], grow=True)  # again: nothing to do


def test_a_growth_that_is_killed_loses_nothing_and_resumes(tiny_zoo, tmp_path, more_seeds, monkeypatch):
    folder, text = shutil.copytree(tiny_zoo, tmp_path / "zoo"), GROWN["more seeds"]
    before = files_of(folder)
    with monkeypatch.context() as patch:
        patch.setattr(driver.Store, "create", never)
        with pytest.raises(AssertionError, match="something was trained"):
            make(folder, text, grow=True)
    assert files_of(tmp_path / ".zoo.old") == before
    make(folder, text, grow=True)
    assert files_of(folder) == more_seeds
    assert not (tmp_path / ".zoo.old").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noise = 0.1", "noise = 0.2", "data.noise: 0.1, not 0.2"),
        ("[16, 5, 4]", "[16, 6, 4]", "architecture.widths"),
        ("batch_size = 32", "batch_size = 32\ndrop_last = true", "training.drop_last: False, not True"),
    ],
)
@pytest.mark.parametrize("way", ["reuse", "grow"])
def test_what_changes_every_model_is_refused_with_the_keys(tiny_zoo, tmp_path, way, old, new, message):
    folder = tmp_path / "zoo"
    before = files_of(shutil.copytree(tiny_zoo, folder)) if way == "grow" else {}
    with pytest.raises(ZooError, match="none of its models can be copied") as raised:
        make(folder, TINY.replace(old, new), **({"grow": True} if way == "grow" else {"reuse": [tiny_zoo]}))
    assert message in str(raised.value)
    assert (files_of(folder) if folder.exists() else {}) == before


def test_a_damaged_zoo_that_is_to_grow_stays_where_it_is(tiny_zoo, tmp_path):
    folder = shutil.copytree(tiny_zoo, tmp_path / "zoo")
    (folder / "weights.zarr" / "weights" / "c" / "2" / "0" / "0").unlink()
    before = files_of(folder)
    with pytest.raises(ZooError, match=r"zoo: model 24 cannot be copied .*; repair that zoo first"):
        make(folder, GROWN["more seeds"], grow=True)
    assert files_of(folder) == before
    assert not (tmp_path / ".zoo.old").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[1, 5]", "[11, 15]", "axes.product.seed"),
        ("batch_size = 32", "batch_size = 16", "training.batch_size: 32, not 16"),
    ],
)
def test_a_zoo_is_not_replaced_by_one_that_has_none_of_its_models(tiny_zoo, tmp_path, old, new, message):
    before = files_of(shutil.copytree(tiny_zoo, tmp_path / "zoo"))
    with pytest.raises(ZooError, match="has none of its models") as raised:
        make(tmp_path / "zoo", TINY.replace(old, new), grow=True)
    assert message in str(raised.value)
    assert files_of(tmp_path / "zoo") == before
    assert not (tmp_path / ".zoo.old").exists()


def test_models_of_a_schedule_are_not_cut_short(tmp_path):
    text = TINY.replace("epochs = 4", 'epochs = 4\nschedule = "one_cycle"')
    long, short = make(tmp_path / "long", text), text.replace("epochs = 4", "epochs = 2")
    assert files_of(make(tmp_path / "reused", short, reuse=[long])) == files_of(make(tmp_path / "short", short))


def test_models_that_diverged_are_copied_too(tmp_path):
    text = TINY.replace("[1e-2, 3e-2]", "[1e-2, 1e30]")
    zoo = make(tmp_path / "zoo", text)
    assert "diverged" in open_zoo(zoo).models["status"].to_pylist()
    renamed = make(tmp_path / "renamed", text.replace('"tiny"', '"small"'), reuse=[zoo])
    np.testing.assert_array_equal(open_zoo(renamed).weights[:], open_zoo(zoo).weights[:])
    assert open_zoo(renamed).models["status"].equals(open_zoo(zoo).models["status"])


def test_the_commands_say_what_differs_and_what_is_copied(tiny_zoo, tmp_path):
    path = tmp_path / "grown.toml"
    path.write_text(GROWN["more seeds"])
    result = CliRunner().invoke(main, ["diff", str(tiny_zoo), str(path)])
    first, last = result.output.splitlines()
    assert first == "axes.product.seed: [1, ..., 5] (5 values), not [1, ..., 7] (7 values)"
    assert last.startswith("models with the same hyper-parameters are the same")
    compared = zoo_gen.diff(open_zoo(tiny_zoo), path)
    assert str(compared) == result.output.rstrip()
    assert [difference.key for difference in compared.differences] == ["axes.product.seed"]
    assert compared.binding == ()
    result = CliRunner().invoke(main, ["run", str(path), "--out", str(tiny_zoo)])
    assert result.exit_code == 2
    assert "differs in axes.product.seed" in result.output
    result = CliRunner().invoke(main, ["plan", str(path), "--reuse", str(tiny_zoo), "--workers", "1"])
    assert "40 of 56 models are copied, 16 trained" in result.output
    assert "40 of 56 models are copied, 16 trained" in str(zoo_gen.plan(path, reuse=[tiny_zoo], workers=1))
    options = ["--reuse", str(tiny_zoo), "--workers", "1"]
    result = CliRunner().invoke(main, ["run", str(path), "--out", str(tmp_path / "grown"), *options])
    assert "trained 16 models in " in result.output
    assert ", 40 copied; complete in " in result.output
