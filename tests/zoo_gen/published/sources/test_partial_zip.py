"""Parts of a zip on a server: only what a conversion needs travels, and what comes is a sound zip."""

import os
import zipfile

import numpy as np
import pytest

from tests.hub_server import Fault
from tests.zoo_gen.published import ray, small_cnn
from tests.zoo_gen.published.ray import convert
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.published.sources import partial_zip

RUNS, EPOCHS, SIZE = 4, 6, 300_000


@pytest.fixture
def contents(server):
    """Return the members of a zip of Ray folders with large states, which is served."""
    members = {"zoo/dataset.pt": os.urandom(SIZE)}
    for run in range(RUNS):
        members[f"zoo/run_{run}/params.json"] = b"{}"
        members[f"zoo/run_{run}/result.json"] = b"{}\n" * 50
        for epoch in range(EPOCHS):
            folder = f"zoo/run_{run}/checkpoint_{epoch:06d}"
            members[f"{folder}/checkpoints"] = os.urandom(SIZE)
            members[f"{folder}/optimizer"] = os.urandom(2 * SIZE)
    with zipfile.ZipFile(server.folder / "zoo.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return members


@pytest.fixture
def fetch(server, tmp_path):
    def fetch(**options):
        options = {"epochs": None, "models": None, "progress": lambda done, total: None, **options}
        return partial_zip.fetch_part(f"{server.url}zoo.zip", tmp_path / "cache", **options)

    return fetch


def read(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def chosen(contents, epochs, models):
    names = [f"zoo/run_{m}/checkpoint_{e:06d}/checkpoints" for m in models for e in epochs]
    return {name: content for name, content in contents.items() if name.endswith(".json") or name in names}


@pytest.mark.parametrize(("epochs", "models"), [([0, 5], None), (None, [1]), ([3], [0, 2]), (range(6), range(4))])
def test_only_the_chosen_states_come_and_no_optimiser(server, contents, fetch, epochs, models):
    part = read(fetch(epochs=epochs, models=models))
    epochs, models = epochs or range(EPOCHS), models or range(RUNS)
    assert part == chosen(contents, epochs, models)
    size = len(list(epochs)) * len(list(models)) * SIZE
    assert size < server.sent("zoo.zip") < size + 300_000


def test_a_part_has_all_that_the_converter_reads_of_a_run(contents, server, fetch):
    with zipfile.ZipFile(server.folder / "zoo.zip", "a") as archive:
        archive.writestr("zoo/run_0/progress.csv", "training_iteration,test_acc\n1,0.5\n")
    assert "zoo/run_0/progress.csv" in read(fetch(epochs=[1]))


def test_a_run_that_only_its_states_name_is_had_with_the_whole(contents, server, fetch):
    with zipfile.ZipFile(server.folder / "zoo.zip", "a") as archive:
        archive.writestr("zoo/a_run_without_params/checkpoint_000001/checkpoints", b"state")
    with pytest.raises(partial_zip.NoRanges):
        fetch(models=[2])


def test_a_part_is_fetched_once(server, contents, fetch):
    path = fetch(epochs=[1])
    server.log.clear()
    assert fetch(epochs=[1]) == path
    assert not server.log
    assert fetch(epochs=[2]) != path


def test_what_breaks_off_goes_on(server, contents, fetch):
    whole = fetch(epochs=[4])
    expected, usual = read(whole), server.sent("zoo.zip")
    server.log.clear()
    server.faults.append(Fault("zoo.zip", times=3))
    assert read(fetch(epochs=[4, 99])) == expected
    assert server.sent("zoo.zip") < usual + 200_000


def test_a_command_that_was_killed_goes_on_where_it_was(server, contents, fetch):
    class Killed(BaseException):
        pass

    def kill(done, total):
        if done > total / 2:
            raise Killed

    with pytest.raises(Killed):
        fetch(epochs=[1, 3], progress=kill)
    server.log.clear()
    assert read(fetch(epochs=[1, 3])) == chosen(contents, [1, 3], range(RUNS))
    assert server.sent("zoo.zip") < RUNS * 2 * SIZE / 2 + 300_000


def test_a_file_that_changed_in_between_is_begun_anew(server, contents, fetch):
    class Killed(BaseException):
        pass

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        fetch(epochs=[1], progress=kill)
    other = {name: os.urandom(len(content)) if "check" in name else content for name, content in contents.items()}
    with zipfile.ZipFile(server.folder / "zoo.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, content in other.items():
            archive.writestr(name, content)
    assert read(fetch(epochs=[1])) == chosen(other, [1], range(RUNS))


def test_a_server_without_ranges_gives_no_part(server, contents, fetch):
    server.ranges = False
    with pytest.raises(partial_zip.NoRanges):
        fetch(epochs=[1])


def test_what_is_no_zip_is_named(server, fetch):
    (server.folder / "zoo.zip").write_bytes(os.urandom(10_000))
    with pytest.raises(ZooError, match=r"zoo.zip: BadZipFile: File is not a zip file; the same command resumes"):
        fetch(epochs=[1])


def test_a_part_converts_to_what_the_whole_does(server, fetch, tmp_path):
    published = ray.zoo(small_cnn.noise())
    ray.zipped(server.folder / "zoo.zip", published.files)
    epochs = [0, 3]
    part = fetch(epochs=epochs, models=[1, 2])
    zoos = [
        open_zoo(convert(path, tmp_path / name, format="model_zoos", epochs=epochs, models=[1, 2]))
        for name, path in (("part", part), ("whole", server.folder / "zoo.zip"))
    ]
    np.testing.assert_array_equal(*(np.asarray(zoo.weights[:]) for zoo in zoos))
    assert zoos[0].models.equals(zoos[1].models)
