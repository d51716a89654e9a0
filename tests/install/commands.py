"""Every command of both programs with a typical call, run one after the other: `python commands.py ZOO OUT [CALL]...`.

It runs in environments that lack packages, where it imports nothing of the tests, and prints one JSON object: call ->
exit code and output.
"""

import csv
import json
import sys
from pathlib import Path

GEN, BENCH = "zoo-gen", "zoo-bench"


def calls(zoo: Path, out: Path, checkpoints: Path) -> dict[str, list[str]]:
    """Return the calls by a name, program first."""
    manifest = str(zoo / "manifest.toml")
    results = ["--results", str(out / "results")]
    weights = ["--encoder", "weight_statistics", *results, "--device", "cpu"]
    tuning = ["--trials", "1", "--range", "dimension=3", "--zoos", str(zoo.parent), *results]
    as_folder = ["--format", "folder", "--out", str(out / "converted"), "--name", "converted"]
    return {
        "list": [GEN, "list"],
        "list --published": [GEN, "list", "--published"],
        "info": [GEN, "info", str(zoo)],
        "info --json": [GEN, "info", str(zoo), "--json"],
        "info --plots": [GEN, "info", str(zoo), "--plots", str(out / "plots")],
        "diff": [GEN, "diff", str(zoo), "tetris_seed"],
        "plan": [GEN, "plan", manifest, "--workers", "1"],
        "run": [GEN, "run", manifest, "--out", str(out / "made"), "--workers", "1"],
        "run, two workers": [GEN, "run", manifest, "--out", str(out / "shared"), "--workers", "2"],
        "run --engine dask": [
            *(GEN, "run", manifest, "--out", str(out / "dask")),
            *("--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"),
        ],
        "verify": [GEN, "verify", str(zoo), "--sample", "2"],
        "split": [GEN, "split", str(zoo), "-o", str(out / "a"), "--where", "optimizer=adam", "--rest", str(out / "b")],
        "merge": [GEN, "merge", str(out / "a"), str(out / "b"), "-o", str(out / "merged")],
        "export": [GEN, "export", str(zoo), "--out", str(out / "exported"), "--models", "0"],
        "export --format pt": [GEN, "export", str(zoo), "--out", str(out / "pt"), "--models", "0", "--format", "pt"],
        "export --format onnx": [
            GEN,
            "export",
            str(zoo),
            "--out",
            str(out / "onnx"),
            "--models",
            "0",
            "--format",
            "onnx",
        ],
        "convert": [GEN, "convert", str(checkpoints), *as_folder],
        "pull": [GEN, "pull", "hf://nobody/nothing", "--out", str(out / "pulled")],
        "push": [GEN, "push", str(zoo), "nobody/nothing"],
        "info s3://": [GEN, "info", "s3://nobody-s-bucket/zoo"],
        "bench list": [BENCH, "list"],
        "bench run": [BENCH, "run", str(zoo), *weights],
        "bench run pca": [BENCH, "run", str(zoo), "--encoder", "pca", *results, "--device", "cpu"],
        "bench run --mock": [BENCH, "run", "--mock", "--encoder", "weight_statistics"],
        "tune": [BENCH, "tune", "pca", str(zoo), *tuning, "--device", "cpu"],
        "encode": [BENCH, "encode", str(zoo), "--encoder", "pca", "--out", str(out / "e.npz"), "--device", "cpu"],
        "encode --plot": [
            *(BENCH, "encode", str(zoo), "--encoder", "weight_statistics", "--out", str(out / "e.npz")),
            *("--plot", str(out / "e.png"), "--device", "cpu"),
        ],
        "leaderboard": [BENCH, "leaderboard", *results, "--html", str(out / "board.html")],
        "validate": [BENCH, "validate", *results, "--zoos", str(zoo.parent)],
        "bench export": [BENCH, "export", "weight_statistics", *results, "--out", str(out / "own"), "--owner", "me"],
    }


def write_checkpoints(folder: Path) -> None:
    """Write four checkpoints as NumPy-free safetensors, and their table."""
    folder.mkdir(parents=True)
    header = {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    text = json.dumps(header).encode()
    with (folder / "models.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "test_accuracy", "learning_rate"])
        for number in range(4):
            content = len(text).to_bytes(8, "little") + text + bytes([number, 0, 0, 60]) * 4
            (folder / f"{number}.safetensors").write_bytes(content)
            writer.writerow([f"{number}.safetensors", 0.5 + number / 10, 0.1])


def main(zoo: Path, out: Path, only: list[str]) -> dict[str, tuple[int, str]]:
    """Run calls in this process; all of them, if none are named."""
    from click.testing import CliRunner

    from zoo_bench.cli import main as bench
    from zoo_gen.cli.main import main as gen

    write_checkpoints(out / "checkpoints")
    answers: dict[str, tuple[int, str]] = {}
    for name, (program, *arguments) in calls(zoo, out, out / "checkpoints").items():
        if not only or name in only:
            result = CliRunner().invoke(gen if program == GEN else bench, arguments)
            text = result.output if not result.exception or isinstance(result.exception, SystemExit) else ""
            answers[name] = (result.exit_code, text or repr(result.exception))
    return answers


if __name__ == "__main__":
    answers = main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.stdout.write("\n" + json.dumps(answers) + "\n")
