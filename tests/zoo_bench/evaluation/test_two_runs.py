"""Two runs at once on one folder of results, as two array jobs or two impatient people start them."""

import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests import waiting
from zoo_bench.cli import main
from zoo_bench.evaluation import cell_queue, run
from zoo_bench.evaluation.assembly import stored_path
from zoo_bench.evaluation.validate import validate
from zoo_bench.protocol import zoos
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import read_result, records
from zoo_gen.errors import ZooError
from zoo_gen.zoo import open_zoo

WRITES = """
import sys
from pathlib import Path
from zoo_bench.results import read_result, records, write_result

source, path = map(Path, sys.argv[1:])
result = read_result(source)
predictions = records.read_predictions(source)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(12):
    records.write_predictions(predictions, path)
    write_result(result, path)
"""
BENCHMARK = """
name = "tiny_standard"
protocol = "data_efficiency"
zoos = ["tiny"]
targets = ["test_accuracy"]
shares = [0.5, 1.0]
"""
QUICK = BenchmarkManifest(name="quick", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))  # one cell


def test_two_processes_that_write_one_result_never_fail_nor_leave_half_a_file(tmp_path, tiny_results):
    source = tiny_results[0] / "tiny_standard" / "pca" / "seed-0.json"
    path = tmp_path / "seed-0.json"
    expected = read_result(source)
    command = [sys.executable, "-c", WRITES, str(source), str(path)]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert read_result(path) == expected
            assert records.file_sha256(records.predictions_path(path)) == expected.predictions_sha256
    for writer in writers:
        errors = writer.communicate()[1]
        assert writer.returncode == 0, errors
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "seed-0.floors.parquet",
        "seed-0.json",
        "seed-0.predictions.parquet",
    ]


@pytest.mark.thorough  # the tests below have the quick forms, in this process
def test_two_commands_on_one_folder_both_end_well(tmp_path, tiny_zoo):
    (tmp_path / "its.toml").write_text(BENCHMARK)
    results = tmp_path / "results"
    words = ["run", str(tmp_path / "its.toml"), "--seeds", "0", "--zoos", str(tiny_zoo.parent)]
    words += ["--results", str(results), "--encoder", "weights", "--encoder", "pca"]
    command = [sys.executable, "-c", "from zoo_bench.cli import main; main()", *words]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting.until(lambda: other.poll() is not None or results.exists())
    here = CliRunner().invoke(main, words)
    assert here.exit_code == 0, here.output
    errors = other.communicate(timeout=waiting.LIMIT)[1]
    assert other.returncode == 0, errors
    checked = dict(validate(tmp_path / "results", zoos=tiny_zoo.parent))
    assert len(checked) == 2
    assert not any(checked.values())
    assert not (tmp_path / "results" / ".cells").exists()


@pytest.fixture(scope="module")
def pending_cell(made_once, tiny_zoo):
    """Results of a run of the quick benchmark that ended before its only cell became a result."""

    def fill(folder):
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(run, "assemble", None)
            with pytest.raises(TypeError):
                list(run.run(QUICK, ["weights"], zoos=tiny_zoo.parent, results=folder, seeds=[0]))

    return made_once("pending-cell", fill)


@pytest.mark.parametrize(
    ("damaged", "content"),
    [
        ("*.json", b""),
        ("*.json", b'{"results": ['),
        ("*.predictions.parquet", b""),
        ("*.resamples.parquet", b'{"results": ['),
    ],
)
def test_a_damaged_pending_cell_is_computed_again(tmp_path, pending_cell, tiny_zoo, damaged, content):
    shutil.copytree(pending_cell, tmp_path, dirs_exist_ok=True)
    (file,) = (tmp_path / ".cells").glob(damaged)
    file.write_bytes(content)
    file.with_name(f".{file.name}.7.ab.tmp").write_bytes(b"left by a killed writer")
    ((result, is_new),) = run.run(QUICK, ["weights"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0])
    assert is_new
    assert not result.failures
    assert not (tmp_path / ".cells").exists()
    assert not any(problems for _, problems in validate(tmp_path, zoos=tiny_zoo.parent))


def test_a_result_that_another_run_has_just_stored_stays_there_for_its_readers(tmp_path, tiny_zoo, monkeypatch):
    """A run that reads its results must not find one gone because another one stores the same at that time."""
    its_own = run.assemble
    present = []

    def stored_twice(setting, cells, outcomes, results):
        first = its_own(setting, cells, outcomes, results)
        path = stored_path(results, first)
        with monkeypatch.context() as watched:
            write = records.write_files
            watched.setattr(records, "write_files", lambda files: (present.append(path.exists()), write(files)))
            return its_own(setting, cells, outcomes, results)

    monkeypatch.setattr(run, "assemble", stored_twice)
    list(run.run(QUICK, ["weights"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0]))
    assert present == [True]
    assert not any(problems for _, problems in validate(tmp_path, zoos=tiny_zoo.parent))


def test_a_pending_cell_that_another_run_removed_is_computed_again(tmp_path, tiny_zoo, monkeypatch):
    read = run.pending.read

    def removed_before_it_is_read(setting, cell):
        monkeypatch.setattr(run.pending, "read", read)
        shutil.rmtree(tmp_path / ".cells", ignore_errors=True)
        return read(setting, cell)

    def evaluate_all(*arguments, **options):
        for setting in original(*arguments, **options):
            monkeypatch.setattr(run.pending, "read", removed_before_it_is_read)
            yield setting

    original = run.evaluate_all
    monkeypatch.setattr(run, "evaluate_all", evaluate_all)
    ((result, _),) = run.run(QUICK, ["weights"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0])
    assert not result.failures
    assert not any(problems for _, problems in validate(tmp_path, zoos=tiny_zoo.parent))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_result_is_one_line_that_names_the_file_and_stops_no_other(
    tmp_path, tiny_benchmark, tiny_zoo, tiny_results, content
):
    shutil.copytree(tiny_results[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tiny_standard" / "weights" / "seed-0.json"
    path.write_bytes(content)
    outcomes = run.run(tiny_benchmark, ["weights", "pca"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0])
    assert next(outcomes)[0].encoder == "pca"
    with pytest.raises(ZooError, match=r"^[^\n]*weights/seed-0.json: [^\n]*delete it to have it computed again$"):
        next(outcomes)
    assert path.read_bytes() == content


def test_a_worker_process_opens_each_zoo_once(tmp_path, tiny_zoo, monkeypatch):
    manifest = BenchmarkManifest(
        name="b", protocol="data_efficiency", zoos=("tiny",), targets=("epoch",), shares=(0.5, 1.0)
    )
    opened = []
    monkeypatch.setattr(zoos, "open_zoo", lambda path: opened.append(path) or open_zoo(path))

    def here(task, blocks, lost, **options):
        for block in blocks:
            yield task(block)

    monkeypatch.setattr("zoo_gen.machine.workers.train_all", here)
    cell_queue._cells.cache_clear()
    list(run.run(manifest, ["weights", "pca"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0], workers=2))
    assert len(opened) == 2  # the driver, and the worker for all of its four cells
