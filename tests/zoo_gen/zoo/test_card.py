import numpy as np
import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner

import zoo_gen
from tests.conftest import TINY
from zoo_gen.cli.main import main
from zoo_gen.zoo import open_zoo, summary


def test_the_front_matter_points_at_the_table(tiny_zoo):
    _, front, body = (tiny_zoo / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(front)
    (config,) = header["configs"]
    parts = sorted(tiny_zoo.glob(config["data_files"]))
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 40
    assert header["pretty_name"] == "tiny"
    assert open_zoo(tiny_zoo).revision in body
    assert "| learning_rate | 0.01, 0.03 |" in body


def test_a_zoo_without_a_description_has_no_hole_in_its_card(tmp_path):
    text = TINY.replace('description = "a zoo for tests"\n', "").replace("[1, 5]", "[1, 1]")
    (tmp_path / "tiny.toml").write_text(text)
    zoo = zoo_gen.run(tmp_path / "tiny.toml", tmp_path / "zoo", workers=1, progress=False)
    body = (zoo.path / "README.md").read_text()
    assert "# tiny\n\nA model zoo" in body
    assert "\n\n\n" not in body
    output = CliRunner().invoke(main, ["info", str(zoo.path)]).output
    assert output.splitlines()[0] == "tiny"


def test_the_histogram_counts():
    bars = summary.histogram(np.array([0.05] * 8 + [0.95]), low=0.0, high=1.0, width=10)
    assert bars == "█        ▁"
