"""Kernels of transformers against torch's own operations: Triton's interpreter runs them on the CPU in float32."""

import numpy as np
import pytest
import torch

from tests.transformer_networks import PLAIN, WHOLE, layers
from tests.zoo_gen.population.gpu.test_device import compared, small
from tests.zoo_gen.population.test_train import models
from zoo_gen.architecture.registry import Layers, ViT, network
from zoo_gen.image_data import load_image_data
from zoo_gen.population.gpu import served, transformer_form
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import populations, train

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _interpreted():
    from zoo_gen.population.gpu import kernels

    if type(kernels.attention).__name__ != "InterpretedFunction":
        pytest.skip("kernels are compiled here; test_cuda.py runs them")


def grammar(settings: dict) -> Layers:
    return Layers.model_validate({"name": "layers", "layers": layers(settings)})


NETWORKS = {
    "as published, smaller": (ViT(name="vit", width=20, heads=2, patch=4), (1, 12, 12)),
    "the open grammar": (grammar(PLAIN), (1, 8, 12)),
    "class token, skips, scales, biases, learned positions": (grammar(WHOLE), (2, 6, 6)),
    "heads wider than features": (ViT(name="vit", width=8, heads=2, head_units=9, patch=2, skips=True), (3, 6, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_train_as_torch_does(name):
    architecture, shape = NETWORKS[name]
    table = models(
        activation=["relu", "gelu", "tanh"], dropout=[0.3, 0.0, 0.5], crop_padding=[0, 2, 1], flip=[0.0, 0.5, 0.0],
        learning_rate=[1e-2], batch_size=[5], optimizer=["sgd"], initialization=["kaiming_normal"],
    )  # fmt: skip
    compared(architecture, load_image_data(small(shape, train_size=9)), table)
