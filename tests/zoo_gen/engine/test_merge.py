"""Zoos are merged and split without training: the bytes are those of zoos that were made at once."""

import errno
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import zoo_gen
from tests.conftest import TINY, files_of
from zoo_gen import ZooError, engine, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.store import Store

SEEDS = "seed = { range = [1, 2] }"
# Few models, with one value of most axes.
SMALL = TINY.replace('["relu", "tanh"]', '["relu"]').replace("[1e-2, 3e-2]", "[1e-2]").replace("[1, 5]", "[1, 2]")
RANDOM = SMALL.replace('["adam", "sgd"]', '["sgd"]').replace("[1, 2]", "[1, 1]")
RANDOM += "\n[axes.random]\ncount = 3\nseed = 7\n[axes.random.draw]\nl2 = { uniform = [0.0, 0.1] }\n"


def make(folder, text):
    folder.parent.mkdir(parents=True, exist_ok=True)
    manifest = folder.parent / f"{folder.name}.toml"
    manifest.write_text(text)
    engine.run(manifest, folder, workers=1, progress=False)
    return folder


def made_at_once(zoo, folder):
    """Train the zoo of a manifest."""
    return make(folder, (zoo.path / "manifest.toml").read_text())


@pytest.fixture
def never_trains(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("something was trained")

    return lambda: (
        monkeypatch.setattr("zoo_gen.population.train.train", never),
        monkeypatch.setattr("zoo_gen.engine.driver.load_image_data", never),
    )


PARTS_OF_ONE_GRID = {
    "seeds": [{"seed": [1, 2, 3]}, {"seed": [4, 5]}],
    "seeds, the later ones first": [{"seed": [4, 5]}, {"seed": [1, 2, 3]}],
    "names": [{"optimizer": "adam"}, {"optimizer": "sgd"}],
    "overlapping": [{"seed": [1, 2, 3, 4]}, {"seed": [3, 4, 5]}],
    "one inside the other": [{"seed": [1, 2, 3, 4, 5]}, {"seed": [3, 4]}],
    "three": [{"seed": [1]}, {"seed": [2, 3]}, {"seed": [4, 5]}],
}


@pytest.mark.parametrize(
    "parts",
    [
        *("seeds, the later ones first", "overlapping"),
        # The test of a zoo that falls into parts has an axis of names.
        *(
            pytest.param(kind, marks=pytest.mark.thorough)
            for kind in ("seeds", "names", "one inside the other", "three")
        ),
    ],
)
def test_zoos_that_are_parts_of_one_grid_give_the_zoo_of_that_grid(tmp_path, tiny_zoo, parts, never_trains):
    never_trains()
    zoos = [tmp_path / f"part{number}" for number in range(len(PARTS_OF_ONE_GRID[parts]))]
    for zoo, where in zip(zoos, PARTS_OF_ONE_GRID[parts], strict=True):
        zoo_gen.split(tiny_zoo, zoo, where=where)
    merged = zoo_gen.merge(zoos, tmp_path / "tiny")
    files, expected = files_of(merged.path), files_of(tiny_zoo)
    assert merged.digest == open_zoo(tiny_zoo).digest  # the manifest's text alone is another one
    for name in ("manifest.toml", "SHA256SUMS"):
        del files[name], expected[name]
    assert files == expected
    assert zoo_gen.verify(merged, sample=0).sound


@pytest.mark.parametrize(
    "changes",
    [
        [(SEEDS, "seed = [1]"), ('["adam", "sgd"]', '["sgd"]')],  # no product
        [("batch_size = 32", "batch_size = 32\nl2 = 0.0"), ("batch_size = 32", "batch_size = 32\nl2 = 0.1")],
        [
            ('optimizer = ["adam", "sgd"]', 'optimizer = ["adam"]'),
            ('optimizer = ["adam", "sgd"]', 'optimizer = ["momentum"]'),
        ],
    ],
    ids=["other values", "a constant that becomes a column", "a momentum that follows from the optimiser"],
)
def test_any_zoos_of_one_kind_become_the_zoo_that_their_manifest_trains(tmp_path, changes, never_trains):
    zoos = [make(tmp_path / str(number), SMALL.replace(*change)) for number, change in enumerate(changes)]
    merged = zoo_gen.merge(zoos, tmp_path / "merged")
    assert files_of(merged.path) == files_of(made_at_once(merged, tmp_path / "once" / "merged"))
    names = [n for n in merged.models.column_names if n in ("seed", "optimizer", "learning_rate", "activation", "l2")]
    rows = {tuple(row.values()) for row in merged.models.select(names).to_pylist()}
    separate = [tuple(row.values()) for zoo in zoos for row in open_zoo(zoo).models.select(names).to_pylist()]
    assert rows == set(separate)
    assert len(merged.models) == len(rows)


def test_a_random_zoo_and_the_same_with_more_draws_are_the_larger_one(tmp_path, never_trains):
    few, many = (
        make(tmp_path / name, RANDOM.replace("count = 3", f"count = {count}"))
        for name, count in (("few", 2), ("many", 3))
    )
    merged = zoo_gen.merge([few, many], tmp_path / "tiny")
    assert merged.digest == open_zoo(many).digest


def test_a_zoo_falls_into_parts_that_give_it_again(tmp_path, tiny_zoo, never_trains):
    never_trains()
    adam = zoo_gen.split(tiny_zoo, tmp_path / "adam", where={"optimizer": "adam"}, rest=tmp_path / "sgd")
    assert adam.manifest.axes.product["optimizer"] == ("adam",)
    assert set(adam.models["optimizer"].to_pylist()) == {"adam"}
    assert set(open_zoo(tmp_path / "sgd").models["optimizer"].to_pylist()) == {"sgd"}
    merged = zoo_gen.merge([tmp_path / "adam", tmp_path / "sgd"], tmp_path / "again", name="tiny")
    assert merged.digest == open_zoo(tiny_zoo).digest
    np.testing.assert_array_equal(merged.weights[:], open_zoo(tiny_zoo).weights[:])


def test_a_share_is_a_zoo_of_its_own_whose_models_are_the_old_ones(tmp_path, tiny_zoo, never_trains):
    zoo = open_zoo(tiny_zoo)
    part = zoo_gen.split(tiny_zoo, tmp_path / "part", share=0.25, seed=3, rest=tmp_path / "rest")
    rest = open_zoo(tmp_path / "rest")
    assert (len(part.models), len(rest.models)) == (10, 30)
    digests = [*part.models["sha256"].to_pylist(), *rest.models["sha256"].to_pylist()]
    assert sorted(digests) == sorted(zoo.models["sha256"].to_pylist())
    assert files_of(part.path) == files_of(made_at_once(part, tmp_path / "once" / "part"))
    assert zoo_gen.split(tiny_zoo, tmp_path / "part", share=0.25, seed=3).digest == part.digest  # again: it is there


def test_a_share_keeps_together_what_the_split_does(tmp_path):
    zoo = make(tmp_path / "zoo", TINY.replace("[split]", '[split]\ngroup_by = "seed"'))
    part = zoo_gen.split(zoo, tmp_path / "part", share=0.4, rest=tmp_path / "rest")
    seeds = [set(open_zoo(tmp_path / name).models["seed"].to_pylist()) for name in ("part", "rest")]
    assert not seeds[0] & seeds[1]
    assert len(part.models) == 16


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noise = 0.1", "noise = 0.2", "data.noise: 0.1, not 0.2"),
        ("epochs = 4", "epochs = 2", "training.epochs: 4, not 2"),
        ("test = 0.2", "test = 0.2\nseed = 1", "split.seed: 0, not 1"),
        ("bias = false", "", "architecture.bias: False, not True"),
    ],
)
def test_zoos_of_other_kinds_are_refused_with_the_keys(tmp_path, tiny_zoo, old, new, message):
    other = make(tmp_path / "other", TINY.replace(old, new))
    with pytest.raises(ZooError, match="cannot be merged") as raised:
        zoo_gen.merge([tiny_zoo, other], tmp_path / "merged")
    assert message in str(raised.value)
    assert not (tmp_path / "merged").exists()


def test_a_zoo_that_is_not_complete_is_refused(tmp_path, tiny_zoo, tiny_manifest):
    zoo_gen.run(tiny_manifest, tmp_path / "half", part=(1, 2), workers=1, progress=False)
    with pytest.raises(ZooError, match="2 of 4 shards are not complete; finish it with zoo-gen run"):
        zoo_gen.merge([tiny_zoo, tmp_path / "half"], tmp_path / "merged")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": {"optimiser": "adam"}}, "unknown hyper-parameter 'optimiser'; did you mean 'optimizer'?"),
        ({"where": {"optimizer": "rmsprop"}}, "optimizer: no model has 'rmsprop'; expected some of adam, sgd"),
        ({"where": {"seed": "1"}}, "seed: "),
        ({"share": 1.5}, "share 1.5: expected a number above 0 and below 1"),
        ({}, "expected either `where` or `share`"),
        ({"where": {"seed": [1, 2, 3, 4, 5]}, "rest": "rest"}, "takes 40 of 40 models"),
    ],
)
def test_what_chooses_no_part_is_refused(tmp_path, tiny_zoo, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=message.split("'")[0]) as raised:
        zoo_gen.split(tiny_zoo, "part", **options)
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_do_the_same(tmp_path, tiny_zoo):
    run = CliRunner().invoke
    result = run(
        main, ["split", str(tiny_zoo), "-o", str(tmp_path / "a"), "--where", "seed=1,2", "--rest", str(tmp_path / "b")]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"a: 16 of 40 models in {tmp_path / 'a'}",
        f"b: 24 of 40 models in {tmp_path / 'b'}",
    ]
    result = run(main, ["merge", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "tiny")])
    assert result.output == f"tiny: 40 models of 2 zoos in {tmp_path / 'tiny'}\n"
    assert open_zoo(tmp_path / "tiny").digest == open_zoo(tiny_zoo).digest
    result = run(main, ["split", str(tiny_zoo), "-o", str(tmp_path / "c"), "--where", "learning_rate=fast"])
    assert (result.exit_code, result.output) == (
        2,
        "error: learning_rate=fast: could not convert string to float: 'fast'\n",
    )


def test_the_command_names_its_own_options_and_says_that_there_are_more_values(tiny_zoo, tmp_path):
    for options in ([], ["--where", "seed=1", "--share", "0.5"]):
        result = CliRunner().invoke(main, ["split", str(tiny_zoo), "-o", str(tmp_path / "part"), *options])
        assert (result.exit_code, result.stderr) == (2, "error: split: expected either --where or --share\n")
    zoo = make(tmp_path / "tens", RANDOM.replace("[1, 1]", "[1, 4]"))
    result = CliRunner().invoke(main, ["split", str(zoo), "-o", str(tmp_path / "part"), "--where", "l2=0.5"])
    assert re.search(r"^error: l2: no model has 0.5; expected some of ([^,]+, ){7}[^,]+ and 4 more\n$", result.stderr)


def test_a_split_that_a_full_disk_ended_is_resumed_by_the_same_command(tiny_zoo, tmp_path, monkeypatch):
    arguments = [
        "split",
        str(tiny_zoo),
        "--share",
        "0.6",
        "-o",
        str(tmp_path / "part"),
        "--rest",
        str(tmp_path / "rest"),
    ]
    write, written = Store.write_shard, []

    def fill_the_disk(store, shard, values, **options):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", str(store.folder))
        written.append(shard)
        write(store, shard, values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_shard", fill_the_disk)
        failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 2
    assert "the same command resumes" in failed.stderr
    assert CliRunner().invoke(main, arguments).exit_code == 0
    zoo_gen.split(tiny_zoo, tmp_path / "again" / "part", share=0.6, rest=tmp_path / "again" / "rest")
    for name in ("part", "rest"):
        assert files_of(tmp_path / name) == files_of(tmp_path / "again" / name)


@pytest.mark.parametrize("array", ["weights", "test_accuracy"])
def test_models_whose_arrays_are_lost_are_not_copied_as_if_they_had_diverged(tiny_zoo, tmp_path, tiny_manifest, array):
    damaged, new = shutil.copytree(tiny_zoo, tmp_path / "damaged"), tmp_path / "new"
    (lost,) = (path for path in (damaged / "weights.zarr" / array / "c" / "1").rglob("*") if path.is_file())
    lost.unlink()
    other = make(tmp_path / "other", SMALL.replace("[1, 2]", "[6, 7]"))
    for copy in (
        lambda: zoo_gen.split(damaged, new / "some", where={"optimizer": ["adam", "sgd"]}),
        lambda: zoo_gen.split(damaged, new / "some", where={"seed": [1]}, rest=new / "rest"),
        lambda: zoo_gen.merge([other, damaged], new / "merged"),
        lambda: engine.run(tiny_manifest, new / "again", reuse=[damaged], workers=1, progress=False),
    ):
        with pytest.raises(
            ZooError, match=r"damaged: model \d+ cannot be copied \(its weights or metrics are not those"
        ):
            copy()
        assert not new.exists()
    part = (1, 4)  # shard 0 alone, which lost nothing
    engine.run(tiny_manifest, new / "again", reuse=[damaged], part=part, workers=1, progress=False)
    assert open_zoo(new / "again").complete_shards == [0]


@pytest.mark.parametrize("taken", ["out", "rest"])
def test_a_split_into_a_folder_that_is_taken_writes_neither_zoo(tiny_zoo, tmp_path, taken):
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "notes.txt").touch()
    with pytest.raises(ZooError, match=f"{taken}: exists and is not a zoo"):
        zoo_gen.split(tiny_zoo, tmp_path / "out", share=0.5, rest=tmp_path / "rest")
    assert [path.name for path in tmp_path.rglob("*")] == [taken, "notes.txt"]


def test_a_split_into_one_folder_is_refused(tiny_zoo, tmp_path):
    with pytest.raises(ZooError, match="out for both zoos; expected two folders"):
        zoo_gen.split(tiny_zoo, tmp_path / "out", share=0.5, rest=str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
