"""The encoders of docs/views.md are made, fitted and evaluated as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.zoo_bench.layouts import CNN_SMALL, layout_of
from zoo_bench.evaluation import run
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView
from zoo_gen import open_zoo

PAGE = (Path(__file__).parent.parent / "docs" / "views.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def encoders():
    names: dict[str, object] = {}
    for block in BLOCKS:
        assert len(block.splitlines()) <= 40
        exec(compile(block, "views.md", "exec"), names)
    return {name: value for name, value in names.items() if isinstance(value, type)}


ENCODERS = encoders()


def test_the_page_has_an_encoder_of_each_kind():
    assert list(ENCODERS) == ["Layers", "Words", "Messages", "Augmented", "Probes"]


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_the_page_is_fitted_and_encodes(tiny_zoo, name):
    zoo = open_zoo(tiny_zoo)
    train = TrainingView.of(zoo.view(zoo.split("train")))
    view = HiddenRows.of(zoo.view(zoo.split("test"))).view
    encoder = ENCODERS[name]().fit([train], [], seed=0)
    embeddings = encoder.encode(view)
    assert len(embeddings) == 40
    assert np.isfinite(embeddings).all()
    if name in ("Messages", "Probes"):  # reordered units are the same to them
        member = view.symmetries.draw(seed=0)
        moved = WeightsView(member.apply(view.weights[:, 0])[:, None], view.layout, view.computing)
        np.testing.assert_allclose(encoder.encode(moved), embeddings, rtol=1e-4, atol=1e-5)


def test_words_are_read_of_another_architecture(tiny_zoo):
    zoo, random = open_zoo(tiny_zoo), np.random.default_rng(0)
    encoder = ENCODERS["Words"]().fit([TrainingView.of(zoo.view([0, 1, 2]))], [], seed=0)
    other = WeightsView(random.normal(size=(3, 1, CNN_SMALL.size)).astype(np.float32), CNN_SMALL)
    shares = encoder.encode(other)
    np.testing.assert_allclose(shares.reshape(3, 2, 32).sum(axis=2), 1, atol=0.01)
    # The distances of the page are those of a loop over tokens.
    tokens = other.tokens(16)
    network, token = 1, 1  # the second half of a kernel and a bias
    in_token = tokens.mask[token]
    one_row = layout_of((1, in_token.sum()), bias=False)
    distances = ((tokens.values[network, token, in_token] - encoder.words[:, in_token]) ** 2).mean(axis=1)
    likeness = np.exp(-distances / encoder.scale)
    single = WeightsView(tokens.values[network, token, in_token][None, None], one_row)
    shares = encoder.encode(single)[0, :32]
    np.testing.assert_allclose(shares, likeness / likeness.sum(), rtol=1e-3, atol=1e-6)


def test_an_encoder_that_runs_networks_is_evaluated_in_its_own_processes(tiny_zoo, tmp_path, monkeypatch):
    (tmp_path / "page.py").write_text(next(block for block in BLOCKS if "class Probes" in block))
    monkeypatch.syspath_prepend(tmp_path)
    content = {"protocol": "standard", "zoos": ["tiny"], "checkpoints": "last"}
    benchmark = BenchmarkManifest(name="by_running", targets=["test_accuracy"], **content)
    ((result, _),) = run.run(benchmark, ["page:Probes"], zoos=tiny_zoo.parent, results=tmp_path / "r", seeds=[0])
    (cell,) = result.cells
    assert not result.failures
    assert cell.dimension == 32
    assert cell.operations == 8 * 2 * 100  # multiplications and additions of each of 100 weights, for 8 inputs
    assert cell.networks_per_second > 0
