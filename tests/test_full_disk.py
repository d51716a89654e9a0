"""A disk without room, from Python: an error that names the file and what is true then, and a call that goes on."""

import resource
import shutil
import signal
from contextlib import contextmanager

import pytest

import zoo_bench
import zoo_gen
from tests.conftest import files_of
from zoo_bench import BenchmarkManifest
from zoo_gen import open_zoo

GOES_ON = ["what is complete is kept; the same call resumes"]


@contextmanager
def little_room(most_bytes):
    """Let this process, and those that it starts, write no larger files: a write fails in the middle of a real file."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # by Python, so that the write fails
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails_and_goes_on(call, folder, *, most_bytes):
    """Call with little room, then with all; return the files that there were in between."""
    with little_room(most_bytes), pytest.raises(OSError, match="File too large") as raised:
        call()
    assert str(raised.value.filename).startswith(str(folder))
    assert raised.value.__notes__ == GOES_ON
    between = files_of(folder)
    call()
    return between


@pytest.mark.parametrize("workers", [1, 2])
def test_a_zoo_keeps_its_complete_shards_and_is_made_to_its_end(tmp_path, tiny_zoo, tiny_manifest, workers):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    for shard in (1, 2):
        (folder / "models" / f"part-0000{shard}.parquet").unlink()
    complete = files_of(folder / "models")
    largest = max(
        path.stat().st_size for path in (folder / "weights.zarr" / "weights" / "c").rglob("0") if path.is_file()
    )

    def train():
        zoo_gen.run(tiny_manifest, folder, workers=workers, progress=False)

    between = fails_and_goes_on(train, folder, most_bytes=largest // 2)
    assert {name: between[f"models/{name}"] for name in complete} == complete
    assert not {"models/part-00001.parquet", "models/part-00002.parquet"} & set(between)
    assert files_of(folder) == files_of(tiny_zoo)


@pytest.mark.parametrize(
    "way",
    [
        lambda zoo, out: zoo_gen.split(zoo, out, share=0.5),
        lambda zoo, out: zoo_gen.merge([zoo, zoo], out),
    ],
    ids=["split", "merge"],
)
def test_what_copies_models_does_so_to_the_end(tmp_path, tiny_zoo, way):
    fails_and_goes_on(lambda: way(tiny_zoo, tmp_path / "new"), tmp_path / "new", most_bytes=9000)
    assert files_of(tmp_path / "new") == files_of(way(tiny_zoo, tmp_path / "once" / "new").path)
    assert open_zoo(tmp_path / "new").complete


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_keeps_its_results_and_adds_the_others(tmp_path, tiny_zoo, workers):
    benchmark = BenchmarkManifest(name="mine", protocol="standard", zoos=["tiny"], targets=["epoch"])

    def evaluate(*encoders):
        return zoo_bench.evaluate(
            encoders, benchmark, zoos=tiny_zoo.parent, results=tmp_path, workers=workers, progress=False
        )

    evaluate("weight_statistics")
    complete = files_of(tmp_path)
    between = fails_and_goes_on(lambda: evaluate("weight_statistics", "pca"), tmp_path, most_bytes=2000)
    assert {name: between[name] for name in complete} == complete
    results = zoo_bench.load_results(tmp_path)
    assert {result.encoder for result in results} == {"pca", "weight_statistics"}
    assert {name: files_of(tmp_path)[name] for name in complete} == complete


def test_an_evaluation_that_keeps_nothing_promises_nothing(tiny_zoo):
    benchmark = BenchmarkManifest(name="mine", protocol="standard", zoos=["tiny"], targets=["epoch"])
    with little_room(2000), pytest.raises(OSError, match="File too large") as raised:
        zoo_bench.evaluate("weight_statistics", benchmark, zoos=tiny_zoo.parent, progress=False)
    assert not hasattr(raised.value, "__notes__")
