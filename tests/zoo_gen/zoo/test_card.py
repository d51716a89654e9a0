import numpy as np
import pyarrow.parquet as pq
import yaml

from zoo_gen.zoo import open_zoo, summary


def test_the_front_matter_points_at_the_table(tiny_zoo):
    _, front, body = (tiny_zoo / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    (config,) = found["configs"]
    parts = sorted(tiny_zoo.glob(config["data_files"]))
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 40
    assert found["pretty_name"] == "tiny"
    assert open_zoo(tiny_zoo).revision in body
    assert "| learning_rate | 0.01, 0.03 |" in body


def test_the_histogram_counts():
    bars = summary.histogram(np.array([0.05] * 8 + [0.95]), low=0.0, high=1.0, width=10)
    assert bars == "█        ▁"
