"""What docs/own_data.md shows is run as it stands there, and its tables are read with data that fits them."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo_gen
from zoo_gen.cli.main import main
from zoo_gen.files.schema import Schema
from zoo_gen.image_data import DataSource

PAGE = (Path(__file__).parent.parent / "docs" / "own_data.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
DATA = [
    document
    for code in (code for language, code in BLOCKS if language == "toml")
    if set(document := tomllib.loads(code)) == {"data"}
]
IN_ONE_CALL, TRAINING = (code for language, code in BLOCKS if language == "python")
(OWN_TRAINING,) = (code for language, code in BLOCKS if language == "toml" and "my_training" in code)


class Manifest(Schema):
    data: DataSource


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder and the data root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path / "root"))
    return tmp_path


def test_the_python_of_the_page_does_what_it_says(folder, capsys, monkeypatch):
    code = IN_ONE_CALL
    (folder / "page.py").write_text(code.replace("module=MyNet,", "module=MyNet, workers=1, progress=False,"))
    monkeypatch.syspath_prepend(str(folder))
    __import__("page")
    written = [line.split("# ")[1] for line in code.splitlines() if line.startswith("print")]
    assert capsys.readouterr().out.splitlines() == written


def test_the_loss_optimiser_and_schedule_of_the_page_train_a_zoo(folder, monkeypatch):
    (folder / "my_training.py").write_text(TRAINING)
    assert "range = [1, 5]" in OWN_TRAINING
    (folder / "own_training.toml").write_text(OWN_TRAINING.replace("range = [1, 5]", "range = [1, 1]"))
    monkeypatch.syspath_prepend(str(folder))
    for command in (["plan"], ["run", "--workers", "1"]):
        result = CliRunner().invoke(main, [*command, "own_training.toml"])
        assert result.exit_code == 0, result.output
    zoo = zoo_gen.open_zoo("zoos/own_training")
    assert set(zoo.manifest.training.source_sha256) == {
        f"my_training:{name}" for name in ("focal", "Lion", "polynomial")
    }
    accuracies = zoo.metric("test_accuracy")[:]
    assert (accuracies[:, -1] > accuracies[:, 0] + 0.3).all()
    assert zoo_gen.verify(zoo).sound


def test_the_tables_of_the_page_describe_data(folder):
    (folder / "photos.tar.xz").mkdir()  # a folder is read as well as a tar
    for number in range(10):
        place = folder / "photos.tar.xz" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), number, dtype=np.uint8)).save(place)
    np.savez(folder / "own.npz", x=np.zeros((10, 4)), y=np.arange(10) % 2)
    (folder / "houses.csv").write_text("rooms,area,price\n" + "".join(f"{n},{n * 10},{n + 0.5}\n" for n in range(10)))
    sources = [Manifest.model_validate(document).data for document in DATA]
    assert [source.source for source in sources] == ["folder", "arrays", "table"]
    assert [source.input_shape for source in sources] == [(3, 32, 32), (4,), (2,)]
    assert [(source.n_train, source.n_test) for source in sources] == [(8, 2)] * 3
    assert sources[2].task == "regression"
