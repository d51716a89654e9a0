"""Several zoos read as one: every value is the one that its own zoo has, whatever the zoos differ in."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import zoo_gen
from tests.conftest import TINY
from zoo_gen import ZooError, open_zoo, open_zoos
from zoo_gen.manifest import Split

SMALL = TINY.replace('["relu", "tanh"]', '["relu"]').replace("[1e-2, 3e-2]", "[1e-2]")
OTHER = SMALL.replace('"tiny"', '"other"').replace("[16, 5, 4]", "[16, 6, 4]").replace("epochs = 4", "epochs = 2")
SHORT = (
    SMALL.replace('"tiny"', '"short"').replace("epochs = 4", "epochs = 6").replace("range = [1, 5]", "range = [6, 8]")
)
SHORT += "\n[checkpoints]\nepochs = [0, 4, 6]\n"


@pytest.fixture(scope="module")
def zoos(tmp_path_factory):
    """Twenty models of an MLP, five of another, and six of the first with other checkpoints."""
    folder, opened = tmp_path_factory.mktemp("joint"), {}
    for text in (SMALL, OTHER, SHORT):
        name = text.split('"')[1]
        (folder / f"{name}.toml").write_text(text)
        opened[name] = zoo_gen.run(folder / f"{name}.toml", folder / name, workers=1, progress=False)
    return opened


def plainly(zoo, joint, name, width):
    """Return the values of a zoo at the epochs of several, by a plain loop."""
    values = np.full((len(zoo.models), len(joint.epochs), *width), np.nan, np.float32)
    for position, epoch in enumerate(joint.epochs.tolist()):
        if epoch in zoo.epochs:
            values[:, position] = zoo.array(name)[:, zoo.epochs.tolist().index(epoch)]
    return values


def test_a_notebook_shows_each_of_them(zoos):
    html = ElementTree.fromstring(f"<div>{open_zoos([zoos['tiny'], zoos['other']])._repr_html_()}</div>")
    assert [name.text for name in html.iter("strong")] == ["tiny", "other"]


def test_zoos_of_one_architecture_are_one_array(zoos):
    joint = open_zoos([zoos["tiny"], zoos["short"]])
    assert joint.epochs.tolist() == [0, 1, 2, 3, 4, 6]
    assert joint.weights.shape == (16, 6, 100)
    for name, width in (("weights", (100,)), ("test_loss", ()), ("test_class_f1", (4,))):
        expected = np.concatenate([plainly(zoo, joint, name, width) for zoo in joint.zoos])
        array = joint.weights if name == "weights" else joint.metric(name)
        np.testing.assert_array_equal(array[:], expected)
        np.testing.assert_array_equal(array[12, -1], expected[12, -1])
        np.testing.assert_array_equal(array[[1, 15], 2:4], expected[[1, 15], 2:4])
        view = joint.view([15, 0, 11], epochs=[4, 0])
        values = view.weights if name == "weights" else view.metric(name)
        np.testing.assert_array_equal(values, expected[[15, 0, 11]][:, [4, 0]])


def test_the_table_says_of_each_model_its_zoo_its_part_and_its_checkpoints(zoos):
    joint = open_zoos([zoos["tiny"], zoos["short"]])
    rows = joint.models.to_pylist()
    separate = [row for name in ("tiny", "short") for row in zoos[name].models.to_pylist()]
    assert [row["model_id"] for row in rows] == list(range(16))
    assert [row["zoo"] for row in rows] == ["tiny"] * 10 + ["short"] * 6
    assert [row["checkpoints"] for row in rows] == [[0, 1, 2, 3, 4]] * 10 + [[0, 4, 5]] * 6
    for name in ("split", "seed", "optimizer", "sha256", "test_accuracy"):
        assert [row[name] for row in rows] == [row[name] for row in separate]
    parts = {part: {rows[model]["split"] for model in joint.split(part)} for part in ("train", "validation", "test")}
    assert parts == {part: {part} for part in parts}
    assert joint.varying == ("optimizer", "activation", "learning_rate", "seed")


def test_zoos_of_several_architectures_give_views_of_one(zoos):
    joint = open_zoos([zoos["tiny"], zoos["other"]])
    assert joint.ragged
    assert [layout.size for layout in joint.layouts] == [100, 120]
    np.testing.assert_array_equal(joint.view([12, 10], epochs=[2]).weights, zoos["other"].view([2, 0], [2]).weights)
    with pytest.raises(ZooError, match="have 2 architectures"):
        joint.view([0, 10]).weights  # noqa: B018
    with pytest.raises(ZooError, match="have 2 architectures"):
        joint.weights  # noqa: B018


def test_models_compute_as_in_their_own_zoo(zoos):
    joint = open_zoos([zoos["tiny"], zoos["other"]])
    images = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(joint.module(13, 2)(images), zoos["other"].module(3, 2)(images))
    assert joint.state_dict(13, 2).keys() == zoos["other"].state_dict(3, 2).keys()


def test_frames_and_samples_are_those_of_the_zoos_together(zoos):
    pytest.importorskip("pandas")
    joint = open_zoos([zoos["tiny"], zoos["short"]])
    frame = joint.to_pandas()
    assert len(frame) == 10 * 5 + 6 * 3
    alone = zoos["short"].to_pandas()
    assert frame[frame.zoo == "short"]["test_loss"].tolist() == alone["test_loss"].tolist()
    samples = joint.torch_dataset("train", target="test_loss")
    assert len(samples) == sum(len(zoo.torch_dataset("train")) for zoo in joint.zoos)
    weights, loss = samples[len(samples) - 1]
    model, epoch = int(samples.models[-1]), int(samples.epochs[-1])
    np.testing.assert_array_equal(weights.numpy(), joint.weights[model, joint.checkpoint(epoch)])
    assert loss == joint.metric("test_loss")[model, joint.checkpoint(epoch)]


def test_a_split_may_be_drawn_over_all_models(zoos):
    joint = open_zoos([zoos["tiny"], zoos["short"]]).with_split(
        Split(train=0.5, validation=0.25, test=0.25, group_by="seed")
    )
    parts = {
        part: set(joint.models["seed"].take(joint.split(part)).to_pylist()) for part in ("train", "validation", "test")
    }
    assert set.union(*parts.values()) == set(range(1, 9))
    assert sum(map(len, parts.values())) == 8


def test_a_model_that_two_zoos_hold_is_refused(zoos, tmp_path):
    part = zoo_gen.split(zoos["tiny"].path, tmp_path / "part", where={"seed": 1})
    with pytest.raises(ZooError, match="model 0 of part is model 0 of tiny; expected zoos without a common model"):
        open_zoos([zoos["tiny"], part])
    with pytest.raises(ZooError, match="two zoos are called 'tiny'"):
        open_zoos([zoos["tiny"], zoos["tiny"]])
    with pytest.raises(ZooError, match="got no zoos"):
        open_zoos([])


def test_what_is_not_there_is_an_error_with_the_names(zoos):
    joint = open_zoos([zoos["tiny"], zoos["short"]])
    with pytest.raises(ZooError, match="unknown metric 'test_los'; did you mean 'test_loss'"):
        joint.metric("test_los")
    with pytest.raises(ZooError, match="model 16 does not exist; it has 0 to 15"):
        joint.view([16])
    with pytest.raises(ZooError, match="no checkpoint of epoch 5; kept are 0, 1, 2, 3, 4, 6, last 6"):
        joint.view([0], epochs=[5])
    assert open_zoo(zoos["tiny"].path).name in joint.name
