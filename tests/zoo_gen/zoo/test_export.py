import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.conftest import files_of
from zoo_gen import ZooError, export, load_image_data, open_zoo
from zoo_gen.cli.main import main


@pytest.mark.parametrize(("format_", "load"), [("pt", torch.load), ("safetensors", load_file)])
def test_a_file_holds_the_state_dict(tiny_zoo, tmp_path, format_, load):
    zoo = open_zoo(tiny_zoo)
    paths = export(zoo, tmp_path / "out", format=format_, models=[39, 2], epochs=[0, 4])
    assert [path.name for path in paths] == [
        f"model-{model:05d}-epoch-{epoch:04d}.{format_}" for model in (39, 2) for epoch in (0, 4)
    ]
    for path, (model, epoch) in zip(paths, [(39, 0), (39, 4), (2, 0), (2, 4)], strict=True):
        torch.testing.assert_close(dict(load(path)), zoo.state_dict(model, epoch), rtol=0, atol=0)


def test_an_onnx_file_computes_the_stored_accuracy(tiny_zoo, tmp_path):
    from onnx.reference import ReferenceEvaluator

    zoo = open_zoo(tiny_zoo)
    (path,) = export(zoo, tmp_path / "out", format="onnx", models=[7])
    images, labels = (tensor.numpy() for tensor in load_image_data(zoo.manifest.data).tensors("test"))
    evaluator = ReferenceEvaluator(str(path))
    (logits,) = evaluator.run(None, {evaluator.input_names[0]: images})
    assert np.float32((logits.argmax(axis=1) == labels).mean()) == zoo.test_accuracy[7, -1]


def test_the_command_writes_all_models_and_a_table(tiny_zoo, tmp_path):
    result = CliRunner().invoke(main, ["export", str(tiny_zoo), "--out", str(tmp_path / "out"), "--format", "pt"])
    assert (result.exit_code, result.output) == (0, f"{tmp_path / 'out'}: 40 files and models.csv\n")
    lines = (tmp_path / "out" / "models.csv").read_text().splitlines()
    assert len(lines) == 41
    assert lines[1].startswith('"model-00000-epoch-0004.pt",0,1,"relu"')


def test_nothing_is_left_of_an_export_that_fails(tiny_zoo, tmp_path):
    with pytest.raises(ZooError, match="model 40 does not exist"):
        export(open_zoo(tiny_zoo), tmp_path / "out", models=[0, 40])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tiny_zoo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ZooError, match="is there already"):
        export(open_zoo(tiny_zoo), tmp_path / "out")
    assert files_of(tmp_path) == {"out/mine.txt": b"mine"}


@pytest.mark.parametrize("format_", ["pt", "safetensors"])
def test_a_disk_without_room_is_one_line(tiny_zoo, tmp_path, format_):
    """No file may be longer than 64 bytes here; libraries that write themselves have other errors than Python's."""
    command = [sys.executable, "-m", "zoo_gen", "export", tiny_zoo, "--out", tmp_path / "out"]
    result = subprocess.run(
        [*command, "--format", format_],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
    )
    assert (result.returncode, result.stderr) == (2, f"error: {tmp_path / 'out'}: cannot be written (File too large)\n")
    assert list(tmp_path.iterdir()) == []
