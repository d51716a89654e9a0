"""What a model computes has the same bytes wherever it lies in memory, and whichever models it is computed with."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_gen.population.test_layers import numbers, table_for
from tests.zoo_gen.population.test_train import forms_of, models
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.image_data import ImageData
from zoo_gen.population.optimizers import clipped, make_optimizer
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.products import product_of_columns, product_of_rows
from zoo_gen.population.train import populations, single_threaded, train

# Outputs, inputs, columns: no multiples of a register, whole registers, and vectors of either kind.
SIZES = [(5, 9, 32), (7, 36, 32), (5, 49, 10), (10, 8, 6), (16, 33, 16), (30, 100, 64)]
SIZES += [(1, 100, 32), (1, 33, 10), (10, 100, 1), (32, 33, 1), (9, 1, 100), (1, 1, 500)]


def moved(values: Tensor, offset: int) -> Tensor:
    """Return a copy of contiguous values that begins so many numbers after a boundary of 64 bytes."""
    numbers_of_64_bytes = 64 // values.element_size()
    space = torch.empty(values.numel() + 2 * numbers_of_64_bytes, dtype=values.dtype)
    start = -(space.data_ptr() // values.element_size()) % numbers_of_64_bytes + offset
    return space[start : start + values.numel()].view(values.shape).copy_(values)


def with_gradients(of_columns: bool, operands: list[Tensor], gradient: Tensor) -> list[bytes]:
    """Return the bytes of each model's outputs and gradients."""
    weight, values, bias = (each.detach().requires_grad_() for each in operands)
    outputs = product_of_columns(weight, values, bias) if of_columns else product_of_rows(values, weight, bias)
    every = [outputs, *torch.autograd.grad(outputs, [weight, values, bias], gradient)]
    return [b"".join(each[model].detach().numpy().tobytes() for each in every) for model in range(len(weight))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_outputs", "n_inputs", "n_columns"), SIZES)
@pytest.mark.parametrize("of_columns", [True, False], ids=["columns", "rows"])
def test_products_and_their_gradients_have_the_same_bytes_wherever_they_lie(
    of_columns, n_outputs, n_inputs, n_columns, dtype
):
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_outputs, n_inputs), (n_inputs, n_columns), (n_outputs,), (n_outputs, n_columns)]
    if not of_columns:
        shapes = [(n_outputs, n_inputs), (n_columns, n_inputs), (n_outputs,), (n_columns, n_outputs)]
    one = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    seen = set()
    for count, offset in [*product((1, 2), range(16)), *product((3, 5, 16, 33), (0, 1, 6))]:
        some = [moved(each.expand(count, *each.shape).contiguous(), offset) for each in one]
        seen |= set(with_gradients(of_columns, some[:3], some[3]))
    assert len(seen) == 1


@pytest.mark.parametrize("n_parameters", [1, 3, 16, 37, 685])
@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"])
def test_optimisers_have_the_same_bytes_wherever_a_model_lies(optimizer, clip, n_parameters):
    n_models = 5
    generator = torch.Generator().manual_seed(n_parameters)
    weights, *gradients = torch.randn((4, n_models, n_parameters), generator=generator)
    column = torch.linspace(0.1, 0.9, n_models).unsqueeze(1)

    def updated(rows: slice, offset: int) -> Tensor:
        some, rates = moved(weights[rows].contiguous(), offset), column[rows]
        update = make_optimizer(optimizer, some, momentum=rates, weight_decay=rates / 10)
        for gradient in gradients:
            update.step(some, clipped(moved(gradient[rows].contiguous(), offset), clip * rates), rates)
        return some

    together = updated(slice(0, n_models), 0)
    for model, offset in product(range(n_models), range(0, 16, 3)):
        alone = updated(slice(model, model + 1), offset)
        assert alone[0].numpy().tobytes() == together[model].numpy().tobytes(), (model, offset)


def trained(name: str, table: pa.Table, data: ImageData) -> dict[str, np.ndarray]:
    grammar = Layers.model_validate(architecture(name))
    n_outputs = data.n_classes or 1
    forms = forms_of(network(grammar, NETWORKS[name][2], n_outputs).layers, "lanes")
    settings = TrainingSettings(epochs=2, forms=forms)
    return train(grammar, data, table, settings, checkpoint_epochs=[0, 2]).arrays


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_has_the_same_bytes_at_every_place_of_every_company(name):
    """The last step of an epoch has one image, whose products are of vectors, unless batch norm needs more."""
    pytest.importorskip("llvmlite")
    row = table_for(name).slice(0, 1)
    if not any("batch" in str(layer) for layer in NETWORKS[name][0]):
        row = row.set_column(row.column_names.index("batch_size"), "batch_size", pa.array([7]))
    data = numbers(NETWORKS[name][2])
    with single_threaded():
        alone = trained(name, row, data)
        for count in (2, 3, 5):
            together = trained(name, pa.concat_tables([row] * count), data)
            for array, values in alone.items():
                for place in range(count):
                    np.testing.assert_array_equal(together[array][place], values[0], err_msg=f"{array} {place}/{count}")


@pytest.mark.parametrize("shape", [(1,), (3,), (40,)])
def test_a_model_of_one_number_has_the_same_bytes_alone_and_in_company(shape):
    random = np.random.RandomState(0)
    parts = {}
    for part, count in (("train", 33), ("validation", 0), ("test", 19)):
        parts[f"{part}_images"] = random.standard_normal((count, *shape)).astype(np.float32)
        parts[f"{part}_labels"] = random.standard_normal(count).astype(np.float32)
    data = ImageData(**parts, n_classes=None, scale=np.ones(shape), offset=np.zeros(shape))
    layers = [{"type": "linear", "units": 33}, {"type": "activation"}, {"type": "linear", "units": 1}]
    grammar = Layers.model_validate({"name": "layers", "layers": layers})
    table = models(optimizer=["adam", "sgd"], activation=["tanh", "relu", "gelu"], batch_size=[16])
    settings = TrainingSettings(epochs=3)
    with single_threaded():
        together = train(grammar, data, table, settings, checkpoint_epochs=[1, 3]).arrays
        for place in range(len(table)):
            alone = train(grammar, data, table.slice(place, 1), settings, checkpoint_epochs=[1, 3]).arrays
            for array, values in alone.items():
                np.testing.assert_array_equal(together[array][place], values[0], err_msg=f"{array} {place}")


class Layouts(TorchDispatchMode):
    """Records of every product whether each of its matrices is transposed in memory, and its size."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default):
            self.seen.append(tuple(map(layout, args[-2:])))
        return function(*args, **(kwargs or {}))


def layout(matrices: Tensor) -> tuple[int, int, bool]:
    """Return rows and columns of (model, row, column), and whether columns are what lies together in memory."""
    rows, columns = matrices.shape[1:]
    return rows, columns, min(rows, columns) > 1 and matrices.stride(1) < matrices.stride(2)


def layouts(name: str, table: pa.Table) -> list[tuple]:
    grammar = Layers.model_validate(architecture(name))
    data = numbers(NETWORKS[name][2])
    forms = forms_of(network(grammar, data.input_shape, data.n_outputs).layers, "lanes")
    ((_, population),) = populations(grammar, data, table, TrainingSettings(epochs=1, forms=forms))
    with single_threaded(), Layouts() as recorded:
        population.train_epoch(1)
    return recorded.seen


@pytest.mark.parametrize("name", NETWORKS)
def test_whether_matrices_are_transposed_does_not_depend_on_company(name):
    """Where company brings other activation functions and dropout: MKL adds up transposed matrices in another order."""
    pytest.importorskip("llvmlite")
    table = table_for(name)
    together = layouts(name, table)
    for place in range(len(table)):
        assert layouts(name, table.slice(place, 1)) == together
