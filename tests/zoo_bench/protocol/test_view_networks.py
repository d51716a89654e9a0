"""What a view shows of its rows' networks: tensors, symmetries, graphs and the forward pass, and nothing of labels."""

import numpy as np
import pytest
import torch

from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.machine.pickling import pickled, unpickled

MODELS = [3, 17, 30, 5]  # two of each activation


@pytest.fixture
def view(tiny_zoo):
    return open_zoo(tiny_zoo).view(MODELS, epochs=[0, 2])


def through_pickle(shown):
    parts = pickled(shown)
    return unpickled([bytes(part) for part in parts])


@pytest.mark.parametrize("copied", [False, True])
def test_rows_are_run_as_their_modules_are(tiny_zoo, view, copied):
    zoo, rows = open_zoo(tiny_zoo), HiddenRows.of(view)
    training, hidden = TrainingView.of(view), rows.view
    if copied:
        training, hidden = through_pickle(training), through_pickle(hidden)
    images = torch.rand((6, *training.input_shape))
    outputs = training.forward(images)
    assert outputs.shape == (8, 6, 4)
    expected = torch.stack([zoo.module(model, epoch)(images) for model in MODELS for epoch in (0, 2)]).detach()
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    in_order = rows.in_order(hidden.forward(images).numpy())
    np.testing.assert_allclose(in_order, expected, rtol=1e-4, atol=1e-5)
    some = np.array([5, 0, 3])
    torch.testing.assert_close(training.forward(images, rows=some), expected[some], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden.part(some).forward(images), hidden.forward(images)[some])


def test_tensors_share_the_memory_of_the_weights(view):
    for shown in (TrainingView.of(view), HiddenRows.of(view).view):
        tensors = shown.tensors()
        assert {layer: list(roles) for layer, roles in tensors.items()} == {
            "linear1": ["weight"],
            "linear2": ["weight"],
        }
        assert tensors["linear1"]["weight"].shape == (8, 5, 16)
        assert np.shares_memory(tensors["linear2"]["weight"], shown.weights)
        flat = np.concatenate([tensors[layer]["weight"].reshape(8, -1) for layer in tensors], axis=1)
        np.testing.assert_array_equal(flat, shown.weights.reshape(8, -1))


def test_symmetries_of_rows_leave_their_outputs(view):
    shown = HiddenRows.of(view).view
    images = torch.rand((6, *shown.input_shape))
    member = shown.symmetries.draw(seed=1, scales=(1, 10), flips=True)
    moved = WeightsView(member.apply(shown.weights[:, 0])[:, None], shown.layout, shown.computing)
    assert (moved.weights != shown.weights).any(axis=(1, 2)).all()
    torch.testing.assert_close(moved.forward(images), shown.forward(images), rtol=1e-4, atol=1e-5)


def test_rows_are_graphs(view):
    shown = TrainingView.of(view)
    graphs = shown.graphs()
    assert len(graphs) == 8
    np.testing.assert_array_equal(graphs.edges[:, :80, 0], shown.weights.reshape(8, -1)[:, :80])


def test_where_the_activation_is_asked_for_nothing_tells_it(view):
    for shown in (TrainingView.of(view, hide_activation=True), HiddenRows.of(view, hide_activation=True).view):
        for run in (lambda shown=shown: shown.forward(torch.rand(2, 1, 4, 4)), lambda shown=shown: shown.input_shape):
            with pytest.raises(ZooError, match="'activation' is a target of this benchmark, and running") as error:
                run()
            assert "\n" not in str(error.value)
        with pytest.raises(ZooError, match="expected orders alone"):
            shown.symmetries.draw(seed=0, scales=(1, 10))
        assert (shown.symmetries.draw(seed=0).apply(shown.weights.reshape(8, -1)) != 0).any()
        assert len(shown.graphs()) == 8  # the layers are those of every row
        assert b"tanh" not in b"".join(bytes(part) for part in pickled(shown.computing))


def test_of_one_function_nothing_has_to_be_hidden(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    alike = np.flatnonzero(zoo.models["activation"].to_numpy(zero_copy_only=False) == "tanh")[:3]
    shown = TrainingView.of(zoo.view(alike), hide_activation=True)
    assert shown.forward(torch.rand(2, 1, 4, 4)).shape == (15, 2, 4)


def test_weights_alone_cannot_be_run(view):
    shown = WeightsView(view.weights.reshape(8, 1, -1), view.layout)
    with pytest.raises(ZooError, match="made of weights and their layout alone; expected an encoder of weights"):
        shown.forward(torch.rand(2, 1, 4, 4))
    assert shown.symmetries.draw(seed=0).index.shape == (8, 100)
