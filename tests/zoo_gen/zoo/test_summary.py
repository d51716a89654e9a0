import re

import numpy as np

from tests.conftest import TINY
from zoo_gen import engine, open_zoo
from zoo_gen.zoo import card
from zoo_gen.zoo.summary import Outcome


def test_a_histogram_spans_the_values_and_not_all_that_an_accuracy_may_be():
    values = np.linspace(0.958, 0.986, 400)
    assert "`" not in Outcome("test_accuracy", values).sentence()  # on a terminal
    sentence = Outcome("test_accuracy", values).sentence(markdown=True)
    assert "0.958 to 0.986, median 0.972" in sentence
    assert len(set(re.search("`(.*)`", sentence)[1])) <= 2  # equally full bars from the first to the last
    assert " " not in re.search("`(.*)`", sentence)[1]


def test_an_axis_of_one_value_does_not_vary(tmp_path):
    manifest = tmp_path / "one.toml"
    manifest.write_text(TINY.replace('["relu", "tanh"]', '["relu"]').replace("[1e-2, 3e-2]", "[1e-2]"))
    engine.run(manifest, tmp_path / "one", workers=1)
    zoo = open_zoo(tmp_path / "one")
    assert zoo.varying_values() == {"optimizer": "adam, sgd", "seed": "1, 2, 3, 4, 5"}
    assert list(zoo.described()["varying"]) == ["optimizer", "seed"]
    assert "activation" not in zoo.facts()
    assert "| varies | values |\n|---|---|\n| optimizer | adam, sgd |\n| seed | 1, 2, 3, 4, 5 |\n\n" in card.text(zoo)
    (tmp_path / "one" / "models" / "part-00000.parquet").unlink()
    assert list(open_zoo(tmp_path / "one").varying_values()) == [
        "optimizer",
        "seed",
    ]  # nor in a part
    manifest.write_text(manifest.read_text().replace('["adam", "sgd"]', '["sgd"]').replace("[1, 5]", "[4, 4]"))
    engine.run(manifest, tmp_path / "single", workers=1)
    assert "varies" not in card.text(open_zoo(tmp_path / "single"))
