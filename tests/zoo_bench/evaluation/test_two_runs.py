"""Two runs at once on one folder of results, as two array jobs or two impatient people start them."""

import subprocess
import sys

from zoo_bench.evaluation.validate import validate
from zoo_bench.results import read_result, records

WRITES = """
import sys
from pathlib import Path
from zoo_bench.results import read_result, records, write_result

source, path = map(Path, sys.argv[1:])
result = read_result(source)
predictions = records.read_predictions(records.predictions_path(source))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150):
    records.write_predictions(predictions, records.predictions_path(path))
    write_result(result, path)
"""
BENCHMARK = """
name = "tiny_standard"
protocol = "data_efficiency"
zoos = ["tiny"]
targets = ["epoch", "test_accuracy"]
"""


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
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert read_result(path) == expected
            assert records.file_sha256(records.predictions_path(path)) == expected.predictions_sha256
    for writer in writers:
        errors = writer.communicate()[1]
        assert writer.returncode == 0, errors
    assert sorted(file.name for file in tmp_path.iterdir()) == ["seed-0.json", "seed-0.predictions.parquet"]


def test_two_commands_on_one_folder_both_end_well(tmp_path, tiny_zoo):
    (tmp_path / "its.toml").write_text(BENCHMARK)
    command = [sys.executable, "-c", "from zoo_bench.cli import main; main()", "run", "its.toml", "--seeds", "0,1,2"]
    command += ["--zoos", str(tiny_zoo.parent), "--encoder", "weights", "--encoder", "pca"]
    commands = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in commands:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    checked = dict(validate(tmp_path / "results", zoos=tiny_zoo.parent))
    assert len(checked) == 6
    assert not any(checked.values())
    assert not (tmp_path / "results" / ".cells").exists()
