"""Kernels of transformers against torch's own operations: Triton's interpreter runs them on the CPU in float32."""

import numpy as np
import pytest

from tests.transformer_networks import PLAIN, WHOLE, layers
from tests.zoo_gen.population.gpu.test_device import compared, small
from tests.zoo_gen.population.test_train import models
from zoo_gen.architecture.registry import Layers, ViT, network
from zoo_gen.image_data import load_image_data
from zoo_gen.population.gpu import served, transformer_form
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import train

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _interpreted():
    from zoo_gen.population.gpu import kernels

    if type(kernels.attention).__name__ != "InterpretedFunction":
        pytest.skip("kernels are compiled here; test_cuda.py runs them")


def grammar(settings: dict) -> Layers:
    return Layers.model_validate({"name": "layers", "layers": layers(settings)})


NETWORKS = {
    "as published, smaller": (ViT(name="vit", width=20, heads=2, patch=4, blocks=1), (1, 12, 12)),
    "the open grammar": (grammar(PLAIN), (1, 8, 12)),
    "class token, skips, scales, biases, learned positions": (grammar(WHOLE), (2, 6, 6)),
    "heads wider than features": (ViT(name="vit", width=8, heads=2, head_units=9, patch=2, skips=True), (3, 6, 6)),
}


# The interpreter takes ten seconds a network, and this one has everything but heads of several blocks.
QUICK = ("class token, skips, scales, biases, learned positions",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_kernels_train_as_torch_does(name):
    architecture, shape = NETWORKS[name]
    table = models(
        activation=["relu", "gelu"], dropout=[0.3, 0.0], crop_padding=[0, 2], flip=[0.0, 0.5],
        learning_rate=[1e-2], batch_size=[4], optimizer=["sgd"], initialization=["kaiming_normal"],
    )  # fmt: skip
    compared(architecture, load_image_data(small(shape, train_size=5)), table)


def test_a_transformer_has_the_same_bytes_alone_and_among_others():
    architecture, shape = ViT(name="vit", width=8, heads=1, blocks=1, patch=2), (1, 4, 4)
    data = load_image_data(small(shape, train_size=3))
    table = models(activation=["relu", "gelu"], dropout=[0.2], crop_padding=[1], flip=[0.5], batch_size=[3])
    settings = TrainingSettings(epochs=1, kernels="float32")
    among = train(architecture, data, table, settings, checkpoint_epochs=[1]).arrays
    alone = train(architecture, data, table.slice(1, 1), settings, checkpoint_epochs=[1]).arrays
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], among[name][1], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"patch": 3}, (1, 27, 27)),  # 81 tokens
        ({"width": 66}, (1, 28, 28)),
        ({"heads": 5, "head_units": 16}, (1, 28, 28)),
        ({"mlp_ratio": 5}, (1, 28, 28)),
        ({"patch": 5}, (3, 25, 25)),  # 75 pixels
    ],
    ids=str,
)
def test_larger_transformers_are_torchs(changes, shape):
    layers = network(ViT(name="vit", **changes), shape, 10).layers
    assert served.unserved(layers, shape) is not None
    assert not served.reads_crops(layers, shape)


def test_the_published_network_has_a_form_of_its_own():
    layers = network(ViT(name="vit", skips=True), (1, 28, 28), 10).layers
    form = transformer_form.read(layers, (1, 28, 28))
    assert form is not None
    assert served.unserved(layers, (1, 28, 28)) is None
    assert (form.steps, len(form.mixing), len(form.rest)) == (49, 4, 3)
    assert all(part.skip and part.dropout and part.norm is not None for part in form.mixing)
