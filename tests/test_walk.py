"""docs/your_own.md as a user walks it: every command of the page, in an empty folder, with real interruptions."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests import hub_server, waiting
from tests.conftest import files_of
from zoo_bench import load_results
from zoo_gen import open_zoo

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parent.parent / "docs" / "your_own.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
MANIFEST, LARGER, BENCHMARK = (code for language, code in BLOCKS if language == "toml")
(ENCODER,) = (code for language, code in BLOCKS if language == "python")
INSTALL, *LINES = (line for language, code in BLOCKS if language == "sh" for line in code.splitlines())
PROGRAMS = {"zoo-gen": "zoo_gen", "zoo-bench": "zoo_bench"}
WHOLE = "zoo-gen run my_zoo.toml --out whole"  # what no line of the page does: a run that nobody interrupts


def write_pictures(folder: Path) -> None:
    """Write scikit-learn's handwritten digits as PNG files, by class."""
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:300], digits.target, strict=False)):
        path = folder / ("test" if number >= 200 else "train") / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9375).astype(np.uint8)).save(path)


def begin(line: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command of the page in a folder, in a process group of its own."""
    program, *arguments = shlex.split(line, comments=True)
    command = [sys.executable, "-m", PROGRAMS[program], *arguments]
    with (folder / "said").open("w") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, text=True, start_new_session=True)


def done(line: str, folder: Path) -> str:
    """Run a command of the page to its end, and return what it says."""
    code = begin(line, folder).wait()
    output = (folder / "said").read_text()
    assert code == 0, f"{line}\n{output}"
    return output


def interrupt(folder: Path, number: signal.Signals) -> int:
    """Run the page's zoo until some shards are complete and others trained half-way; interrupt it; return its code."""
    before = len(list(folder.glob("zoos/my_zoo/models/part-*")))
    process = begin("zoo-gen run my_zoo.toml --save-every 0", folder)

    def is_in_the_middle() -> bool:
        complete = len(list(folder.glob("zoos/my_zoo/models/part-*"))) > before
        return complete and bool(list(folder.glob("zoos/my_zoo/models/.*.training.tmp")))

    waiting.until(lambda: process.poll() is not None or is_in_the_middle(), pause=0.001)
    assert process.poll() is None
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.wait()


def test_the_page_leads_from_pictures_to_the_leaderboard(tmp_path, monkeypatch, interruptible):
    assert INSTALL == "pip install 'zoo-gen[generate,bench,hub]'"
    write_pictures(tmp_path / "photos")
    manifest = tmp_path / "my_zoo.toml"
    manifest.write_text(MANIFEST)
    (tmp_path / "mine.py").write_text(ENCODER)
    (tmp_path / "my_benchmark.toml").write_text(BENCHMARK)
    outputs: dict[str, str] = {}
    with hub_server.serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # the server's limit
        for line in LINES:
            if line.startswith("zoo-gen run my_zoo.toml  "):
                done(WHOLE, tmp_path)
                assert interrupt(tmp_path, signal.SIGINT) == 130
                assert "the same command resumes" in (tmp_path / "said").read_text()
                assert interrupt(tmp_path, signal.SIGKILL) == -signal.SIGKILL
                assert len(open_zoo(tmp_path / "zoos/my_zoo").complete_shards) < 16
                outputs[line] = done(line, tmp_path)
                assert files_of(tmp_path / "zoos/my_zoo") == files_of(tmp_path / "whole")
                continue
            if "--reuse" in line:
                for key in LARGER.splitlines():
                    text, count = re.subn(rf"^{key.split(' = ')[0]} = .*$", key, manifest.read_text(), flags=re.M)
                    assert count == 1
                    manifest.write_text(text)
            outputs[line] = done(line, tmp_path)
    zoo = open_zoo(tmp_path / "fetched/my_zoo")
    assert zoo.weights.shape == (400, 21, 1362)
    assert "batch_norm1.running_var" in zoo.state_dict(7)
    fetched = files_of(zoo.path)
    del fetched[".gitattributes"]  # of the repository
    assert fetched == files_of(tmp_path / "zoos/my_zoo")
    assert "0 of 400 models are copied, 400 trained" in "".join(outputs.values())
    assert "best of 4 on validation models: mine:Quantiles" in "".join(outputs.values())
    results = load_results(tmp_path / "results")
    ranked = results.to_pandas()
    assert {"mine:Quantiles[penalty=10.0]", "sne_small"} <= set(ranked["encoder"])
    assert set(ranked["target"]) == {"test_accuracy"}
    page = (tmp_path / "leaderboard.html").read_text()
    assert "mine:Quantiles[penalty=10.0]" in page
    assert "sne_small" in page
