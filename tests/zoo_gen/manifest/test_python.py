"""Manifests made in Python: of plain dictionaries, written as TOML, and refused in one line."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from zoo_gen.errors import ZooError
from zoo_gen.files.schema import parse_toml
from zoo_gen.manifest import ZooManifest, find_manifest, read_any, read_manifest, shipped_manifests

ARCHITECTURE = {"name": "mlp", "widths": [16, 5, 4]}
TRAINING = {
    "epochs": 4,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "activation": "tanh",
    "initialization": "uniform",
}


def manifest_of(**changes):
    fields = {"name": "mine", "data": {"source": "tetris"}, "architecture": ARCHITECTURE, "training": TRAINING}
    return ZooManifest(**{**fields, "axes": {"product": {"seed": range(1, 6)}}, **changes})


def test_a_manifest_of_dictionaries_is_the_one_of_the_same_text():
    text = '[data]\nsource = "tetris"\n[architecture]\nname = "mlp"\nwidths = [16, 5, 4]\n[training]\nepochs = 4\n'
    text += 'batch_size = 32\noptimizer = "adam"\nlearning_rate = 1e-2\nactivation = "tanh"\n'
    text += 'initialization = "uniform"\n[axes.product]\nseed = { range = [1, 5] }\n'
    read = parse_toml('name = "mine"\n' + text, ZooManifest, where="mine.toml")
    assert manifest_of() == read
    assert manifest_of().digest == read.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {**TRAINING, "epoch": 3}}, "training: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"data": {"source": "tetriss"}}, "data.source: unknown source 'tetriss'; did you mean 'tetris'?"),
        ({"axes": {"product": {"seed": range(0)}}}, "axes.product.seed: is empty; expected at least one value"),
        ({"training": {**TRAINING, "seed": 1}}, "training.seed: also stands in axes; expected one of the two"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(changes, message):
    with pytest.raises(ZooError) as error:
        manifest_of(**changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_shipped_manifests_survive_being_written_as_toml():
    for path in shipped_manifests().values():
        manifest = read_manifest(path)
        again = parse_toml(manifest.to_toml(), ZooManifest, where=str(path))
        assert again == manifest
        assert again.digest == manifest.digest


NAMES = st.text("abc_0", min_size=1).map(lambda text: f"z{text}")
RATES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=4, unique=True)
SEEDS = st.one_of(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5, unique=True),
    st.builds(lambda first, count: list(range(first, first + count)), st.integers(0, 9), st.integers(1, 9)),
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LAYERS = [
    {"type": "flatten"},
    {"type": "linear", "units": 7},
    {"type": "activation"},
    {"type": "linear", "units": 4, "bias": False},
]


@settings(max_examples=60, deadline=None)
@given(
    name=NAMES,
    description=PLAIN,
    axes=st.permutations(["learning_rate", "seed", "weight_decay"]),
    rates=RATES,
    seeds=SEEDS,
    decay=st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True),
    random=st.booleans(),
    bounds=st.tuples(st.floats(1e-9, 1e-3), st.floats(2e-3, 1.0)),
    noise=st.floats(0, 1),
    architecture=st.sampled_from([ARCHITECTURE, {"name": "layers", "layers": LAYERS}]),
    checkpoints=st.sampled_from([{}, {"epochs": [0, 2, 4]}, {"epochs": {"every": 2}}, {"train_images": 20}]),
    split=st.sampled_from([{}, {"train": 0.5, "validation": 0.25, "test": 0.25, "group_by": "seed"}]),
)
def test_toml_of_a_manifest_reads_as_an_equal_one_with_the_same_digest(
    name, description, axes, rates, seeds, decay, random, bounds, noise, architecture, checkpoints, split
):
    values = {"learning_rate": rates, "seed": seeds, "weight_decay": decay}
    grid = {"product": {axis: values[axis] for axis in axes}}
    if random:
        grid["random"] = {"count": 3, "seed": 1, "draw": {"initial_bias": {"log_uniform": bounds}}}
    training = {key: value for key, value in TRAINING.items() if key != "learning_rate"}
    manifest = manifest_of(
        name=name,
        description=description,
        data={"source": "tetris", "noise": noise},
        architecture=architecture,
        training=training,
        checkpoints=checkpoints,
        axes=grid,
        split=split,
    )
    again = parse_toml(manifest.to_toml(), ZooManifest, where="made")
    assert again == manifest
    assert again.digest == manifest.digest
    assert list(again.axes.product) == list(manifest.axes.product)  # their order is the order of the models


def test_a_manifest_that_was_read_keeps_the_bytes_of_its_file(tmp_path):
    content = ("\ufeff# a remark\r\n" + TINY).encode()
    (tmp_path / "tiny.toml").write_bytes(content)
    for read in (read_manifest, read_any):
        manifest = read(tmp_path / "tiny.toml")
        assert manifest.content == content
        assert pickle.loads(pickle.dumps(manifest)).content == content
        assert manifest == parse_toml(manifest.to_toml(), ZooManifest, where="made")


def test_a_changed_copy_keeps_nothing_that_followed_from_the_old_values():
    manifest = read_manifest(find_manifest("tetris_seed"))
    old = manifest.digest, manifest.content, manifest.layout
    copy = manifest.model_copy(update={"name": "other"})
    assert copy.digest != old[0]
    assert b'name = "other"' in copy.content
    assert (manifest.digest, manifest.content, manifest.layout) == old
