import ast
import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo_bench.encoders import (
    DEFAULT_ENCODERS,
    ENCODERS,
    GROUPS,
    encoder_digest,
    encoder_names,
    make_encoder,
)
from zoo_bench.encoders.baselines.statistics import PCA, WeightStatistics
from zoo_bench.encoders.digest import source_statements
from zoo_bench.encoders.training.runtime import Runtime
from zoo_gen import engine, open_zoo
from zoo_gen.errors import ZooError


@pytest.fixture(scope="module")
def biased_zoo(tmp_path_factory):
    """A zoo whose layers have biases."""
    folder = tmp_path_factory.mktemp("biased")
    manifest = folder / "biased.toml"
    manifest.write_text(
        """
name = "biased"
[data]
source = "digits"
test_size = 1500
[architecture]
name = "mlp"
widths = [64, 6, 10]
[training]
epochs = 1
batch_size = 64
optimizer = "adam"
learning_rate = 1e-2
activation = "relu"
initialization = "kaiming_normal"
[axes]
product.seed = { range = [1, 10] }
"""
    )
    engine.run(manifest, folder / "biased", workers=1)
    return open_zoo(folder / "biased")


@pytest.mark.parametrize(("biases", "features"), [(True, 28), (False, 14)])
def test_statistics_are_mean_variance_and_percentiles_of_each_layer(biased_zoo, biases, features):
    view = biased_zoo.view([4, 2])
    actual = WeightStatistics(biases=biases).fit([view], [view], seed=0).encode(view)
    assert actual.shape == (2 * 2, features)
    for row, (model, epoch) in enumerate([(4, 0), (4, 1), (2, 0), (2, 1)]):
        expected = []
        for name, tensor in biased_zoo.state_dict(model, epoch).items():
            values = tensor.numpy().ravel().astype(float)
            if biases or name.endswith("weight"):
                middle = values.mean()
                expected += [middle, ((values - middle) ** 2).mean()]
                expected += [np.percentile(values, percentile) for percentile in (1, 25, 50, 75, 99)]
        np.testing.assert_allclose(actual[row], expected, rtol=1e-6, atol=1e-9)


def test_raw_weights_are_the_rows_of_the_zoo(biased_zoo):
    view = biased_zoo.view([3, 1])
    actual = make_encoder("weights").fit([view], [view], seed=0).encode(view)
    np.testing.assert_array_equal(actual, np.concatenate([biased_zoo.weights[3], biased_zoo.weights[1]]))


def test_pca_is_the_singular_value_decomposition_of_the_training_rows(biased_zoo):
    train, test = biased_zoo.view(range(8)), biased_zoo.view([8, 9])
    actual = PCA(dimension=3).fit([train], [], seed=0).encode(test)
    rows = train.weights.reshape(-1, biased_zoo.layout.size).astype(float)
    _, _, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = (test.weights.reshape(4, -1) - rows.mean(axis=0)) @ axes[:3].T
    np.testing.assert_allclose(np.abs(actual), np.abs(expected), rtol=1e-3, atol=1e-4)


def test_pca_has_no_more_dimensions_than_the_rows_give(biased_zoo):
    train = biased_zoo.view([0, 1])
    assert PCA().fit([train], [], seed=0).encode(train).shape == (4, 4)


@pytest.mark.parametrize("name", DEFAULT_ENCODERS)
def test_encoders_give_finite_rows_and_plain_settings(biased_zoo, name):
    view = biased_zoo.view(range(10))
    encoder = make_encoder(name).fit([view], [view], seed=0)
    actual = encoder.encode(view)
    assert len(actual) == 20
    assert np.isfinite(actual).all()
    assert len(encoder_digest(name, encoder)) == 64


def test_the_digest_changes_with_the_settings():
    assert encoder_digest("pca", PCA()) != encoder_digest("pca", PCA(dimension=3))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_made_fresh_with_plain_settings(name):
    runtime = Runtime(device="cpu")
    encoder = make_encoder(name, runtime=runtime)
    assert encoder is not make_encoder(name)
    assert json.loads(json.dumps(encoder.config)) == encoder.config
    assert getattr(encoder, "runtime", runtime) is runtime


def test_no_two_encoders_have_one_digest():
    digests = {encoder_digest("same name", make_encoder(name)) for name in ENCODERS}
    assert len(digests) == len(ENCODERS)


CHAIN = {
    "chain/__init__.py": "",
    "chain/encoder.py": """
import chain.deep
from chain import near
from .rel import thing
class Encoder:
    config = {}
    fit = encode = None
""",
    "chain/near.py": "",
    "chain/deep.py": "def late():\n    from chain import later\n    import numpy\n",
    "chain/later.py": "",
    "chain/rel.py": "thing = 1\n",
    "chain/apart.py": "",
}


@pytest.mark.parametrize(
    ("changed", "counts"), [(name, name not in ("chain/__init__.py", "chain/apart.py")) for name in CHAIN]
)
def test_the_digest_covers_what_the_encoder_imports_and_nothing_else(tmp_path, monkeypatch, changed, counts):
    for name, text in CHAIN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        encoder = make_encoder("chain.encoder:Encoder")
        before = encoder_digest("chain", encoder)
        (tmp_path / changed).write_text(CHAIN[changed] + "changed = True\n")
        assert (encoder_digest("chain", encoder) != before) == counts
    finally:
        for module in [module for module in sys.modules if module.partition(".")[0] == "chain"]:
            del sys.modules[module]


REWRITTEN = {
    "chain/near.py": "# a comment\n",
    "chain/deep.py": '"""A docstring."""\ndef late():\n    "Another."\n    from chain import later\n    import numpy\n',
    "chain/rel.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json\nthing = (\n    1\n)\n",
}
MOVED = {
    "chain/encoder.py": CHAIN["chain/encoder.py"].replace("chain.deep", "chain.below.deeper").replace(".rel", ".below"),
    "chain/below/__init__.py": CHAIN["chain/rel.py"],
    "chain/below/deeper.py": CHAIN["chain/deep.py"],
}


@pytest.mark.parametrize("changes", [REWRITTEN, MOVED], ids=["rewritten", "moved"])
def test_the_digest_stays_when_code_is_explained_or_moved(tmp_path, monkeypatch, changes):
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for files in (CHAIN, {**CHAIN, **changes}):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        importlib.invalidate_caches()
        try:
            digests.append(encoder_digest("chain", make_encoder("chain.encoder:Encoder")))
        finally:
            for module in [module for module in sys.modules if module.partition(".")[0] == "chain"]:
                del sys.modules[module]
    assert digests[0] == digests[1]


def test_no_code_of_an_encoder_names_a_module_of_ours_so_that_a_move_changes_no_digest():
    encoders = {type(encoder): getattr(encoder, "source", type(encoder)) for encoder in map(make_encoder, ENCODERS)}
    modules = {module for source in encoders.values() for module in source_statements(source)}
    ours = re.compile(r"zoo_(gen|bench)(\.\w+)+")
    named = {}
    for module in modules:
        tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        named[module] = [text for text in texts if isinstance(text, str) and ours.fullmatch(text)]
    assert source_statements.__module__ in named
    assert {module: texts for module, texts in named.items() if texts} == {}


def test_the_digest_of_a_hyper_representation_covers_tokens_views_and_training():
    actual = source_statements(type(make_encoder("hyper_representation")))
    assert {
        "zoo_gen.architecture.tokens",
        "zoo_bench.encoders.hyper_representation.augment",
        "zoo_bench.encoders.training.loop",
        "zoo_bench.encoders.training.steps",
        "zoo_bench.encoders.hyper_representation.encoder",
        "zoo_bench.encoders.hyper_representation.configurations",
        "zoo_bench.encoders.hyper_representation.losses",
        "zoo_bench.encoders.hyper_representation.network",
        "zoo_bench.encoders.hyper_representation.objective",
        "zoo_gen.architecture.layout",
    } <= set(actual)
    assert not {"zoo_bench.encoders", "zoo_bench.evaluation.cell", "zoo_bench.standings.text"} & set(actual)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wieghts", "unknown encoder 'wieghts'; did you mean 'weights'?"),
        ("nowhere:Encoder", "cannot be made"),
        ("json:Nothing", "cannot be made"),
        ("json:JSONDecoder", "has no 'fit'; expected fit, encode and config"),
    ],
)
def test_an_encoder_that_is_not_one_is_named(name, message):
    with pytest.raises(ZooError) as error:
        make_encoder(name)
    assert message in str(error.value)


def test_a_group_stands_for_encoders_that_suit_the_protocol():
    assert encoder_names(["default", "pca", "mine:Own"]) == [*DEFAULT_ENCODERS, "mine:Own"]
    assert set(encoder_names(["small"])) == set(GROUPS["small"]) <= set(ENCODERS)
    mixed = encoder_names(["small"], protocol="cross_architecture")
    assert mixed == [
        "last_layer_statistics",
        "pooled_layer_statistics",
        "deep_sets_small",
        "graph_network_small",
        "scale_graph_network_small",
        "sane_small",
        "sne_small",
    ]
    asked = encoder_names(["small"], targets=["epoch", "hyperparameters"])
    # Both are told activation functions.
    assert set(GROUPS["small"]) - set(asked) == {"probing_small", "scale_graph_network_small"}
    # Who is named is tried, and says itself what it cannot do.
    assert encoder_names(["pca"], protocol="cross_architecture") == ["pca"]
