"""Populations of networks in the open grammar against the same networks written in torch.nn, one model at a time."""

import math
from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from tests import plain_loop
from tests.grammar_networks import NETWORKS, architecture
from tests.plain_loop import ACTIVATIONS, train_alone, vector
from tests.zoo_gen.population.test_train import dropout_masks, forms_of, models, relative_difference
from zoo_gen.architecture.layers import Convolution
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.image_data import ImageData
from zoo_gen.population import forward
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.train import Trajectories, single_threaded, train

N_TRAIN, BATCH, EPOCHS, STEPS = 22, 8, 2, 6  # three steps an epoch, the last one short
CONVOLUTIONAL = [name for name, (_, _, shape) in NETWORKS.items() if len(shape) == 3]


def numbers(shape: tuple[int, ...]) -> ImageData:
    """Return random inputs of a shape with labels."""
    random = np.random.RandomState(0)
    parts = {}
    for part, count in (("train", N_TRAIN), ("validation", 0), ("test", 20)):
        parts[f"{part}_images"] = random.standard_normal((count, *shape)).astype(np.float32)
        parts[f"{part}_labels"] = random.randint(0, 10, count)
    return ImageData(**parts, n_classes=10, scale=np.ones(shape[0]), offset=np.zeros(shape[0]))


def table_for(name: str) -> pa.Table:
    return models(
        activation=list(ACTIVATIONS),
        optimizer=["adam", "momentum"],
        momentum=[0.0, 0.9],
        learning_rate=[10 ** -(2 + 0.1 * number) for number in range(6)],
        weight_decay=[0.0, 1e-2],
        l2=[0.0, 0.0, 1e-3],
        dropout=[0.0, 0.3, 0.5] if {"type": "dropout"} in NETWORKS[name][0] else [0.0],
        batch_size=[BATCH],
    )


def trained(
    name: str,
    table: pa.Table,
    *,
    form: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Trajectories:
    grammar = Layers.model_validate(architecture(name))
    shape = NETWORKS[name][2]
    forms = forms_of(network(grammar, shape, 10).layers, form)
    settings = TrainingSettings(epochs=EPOCHS, dtype=dtype, forms=forms, device=device)
    return train(grammar, numbers(shape), table, settings, checkpoint_epochs=[0, EPOCHS])


@cache  # every form of a convolution is compared with the same models
def alone(name: str, row: int, initial: bytes) -> nn.Module:
    """Return the model of a row trained by torch alone."""
    _, build, shape = NETWORKS[name]
    model = table_for(name).to_pylist()[row]
    data = numbers(shape)
    orders = np.stack([data_order(torch.tensor([model["seed"]]), epoch, N_TRAIN)[0] for epoch in range(1, EPOCHS + 1)])
    sequence = network(Layers.model_validate(architecture(name)), shape, 10).layers
    return train_alone(
        build,
        torch.from_numpy(data.train_images).double(),
        torch.from_numpy(data.train_labels),
        model,
        initial=np.frombuffer(initial),
        batches=list(plain_loop.batches_of(orders, BATCH)),
        next_mask=dropout_masks(sequence, model["seed"], model["dropout"], STEPS, shape, BATCH),
    )


def check(name: str, *, form: str | None = None, device: str = "cpu") -> None:
    """Compare every model after its steps, and its loss in evaluation mode."""
    table = table_for(name)
    arrays = trained(name, table, form=form, device=device).arrays
    data = numbers(NETWORKS[name][2])
    inputs, labels = torch.from_numpy(data.test_images).double(), torch.from_numpy(data.test_labels)
    for row, model in enumerate(table.to_pylist()):
        module = alone(name, row, arrays["weights"][row, 0].tobytes())
        assert relative_difference(arrays["weights"][row, 1], vector(module)) < 1e-10, model
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module(inputs), labels).item()
        assert arrays["test_loss"][row, 1] == pytest.approx(loss, rel=1e-9)
        if list(module.buffers()):
            assert relative_difference(arrays["buffers"][row, 1], statistics(module)) < 1e-10


def statistics(module: nn.Module) -> np.ndarray:
    values: list[Tensor] = [tensor for name, tensor in module.named_buffers() if "running" in name]
    return torch.cat(values).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_models_of_a_mixed_population_equal_plain_torch_loops(name):
    check(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_models_of_a_mixed_population_on_a_gpu_equal_plain_torch_loops(name):
    check(name, device="cuda")


@pytest.mark.parametrize(
    "layer",
    [
        Convolution("one", 6, 4, 3, 2, 1, bias=True),
        Convolution("groups", 6, 4, 3, 1, 1, bias=True, groups=2),
        Convolution("depthwise", 6, 12, 3, 1, 0, bias=False, groups=6),
        Convolution("not square", 6, 4, 3, 2, 1, True, 2, kernel_width=2, stride_width=1, padding_width=0),
    ],
    ids=lambda layer: layer.name,
)
def test_a_convolution_as_a_product_is_that_of_torch(layer):
    """As a GPU computes it: patches of images times kernels, of each model and group; weights are slices of rows."""
    shape = layer.outputs, 6 // layer.groups, *layer.kernels
    weight = torch.randn(3, 5 + math.prod(shape), dtype=torch.float64)[:, 5:].view(3, *shape)
    bias = torch.randn(3, layer.outputs, dtype=torch.float64) if layer.bias else None
    hidden = torch.randn(5, 3, 6, 8, 7, dtype=torch.float64)
    outputs = forward._convolve_as_product(layer, hidden, weight, bias)
    for model in range(3):
        expected = nn.functional.conv2d(
            *(hidden[:, model], weight[model], None if bias is None else bias[model]),
            *(layer.strides, layer.paddings),
            groups=layer.groups,
        )
        torch.testing.assert_close(outputs[:, model], expected)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *product(CONVOLUTIONAL, ["lanes"]),
        *product(["residual images with batch norm", "windows that are not square"], ["mixed"]),
    ],
)
def test_models_equal_plain_torch_loops_where_convolutions_are_lanes(name, form):
    pytest.importorskip("llvmlite")
    check(name, form=form)


# One network of each kind of layer; all kinds are trained alone, as plain torch, by the tests above.
QUICK = ("layer norm of vectors", "residual of named layers", "residual images with batch norm", "group norm", "groups")
QUICK = (*QUICK, "windows that are not square", "gru over a sequence", "transformer with everything")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough) for name in NETWORKS]
)
def test_a_model_has_the_same_bytes_alone_and_in_company(name):
    pytest.importorskip("llvmlite")
    table = table_for(name)
    with single_threaded():  # as in a worker
        together = trained(name, table, form="lanes", dtype=torch.float32).arrays
        ones = {row: trained(name, table.slice(row, 1), form="lanes", dtype=torch.float32).arrays for row in (0, 3)}
    for row, one in ones.items():
        for array, values in one.items():
            np.testing.assert_array_equal(together[array][row], values[0], err_msg=array)
