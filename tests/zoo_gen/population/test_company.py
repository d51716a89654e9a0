"""What a model computes has the same bytes wherever it lies in memory, and whichever models it is computed with."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_gen.population.test_layers import numbers, table_for
from tests.zoo_gen.population.test_train import forms_of, models
from zoo_gen.architecture.modules import FUNCTIONS
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.image_data import ImageData
from zoo_gen.population.elementwise import activate
from zoo_gen.population.forward import forward
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


def trained(name: str, table: pa.Table, data: ImageData, *, form: str = "lanes") -> dict[str, np.ndarray]:
    grammar = Layers.model_validate(architecture(name))
    n_outputs = data.n_classes or 1
    forms = forms_of(network(grammar, NETWORKS[name][2], n_outputs).layers, form)
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


# Functions that torch computes otherwise at the end of a tensor, and two that it does not.
MIXED = ["sigmoid", "silu", "gelu", "elu", "celu", "selu", "tanh", "leaky_relu", "relu", "silu", "selu"]


@pytest.mark.parametrize("form", ["lanes", "grouped"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_has_the_same_bytes_alone_and_beside_other_functions(name, form):
    """Eleven models are a whole register of lanes, or a group of 8 and one of 3; alone, half a register is enough."""
    if form == "lanes":
        pytest.importorskip("llvmlite")
    table = models(activation=MIXED, optimizer=["adam"], batch_size=[8], dropout=[0.25])
    if not any("batch" in str(layer) for layer in NETWORKS[name][0]):
        table = table.set_column(table.column_names.index("batch_size"), "batch_size", pa.array([7] * len(table)))
    data = numbers(NETWORKS[name][2])
    with single_threaded():
        together = trained(name, table, data, form=form)
        for place in (0, 3, 5, 6, 8, 10):
            for array, values in trained(name, table.slice(place, 1), data, form=form).items():
                np.testing.assert_array_equal(together[array][place], values[0], err_msg=f"{array} {place}")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("n_values", [1, 5, 31, 33, 100])
def test_a_function_and_its_gradient_have_the_same_bytes_at_every_place_of_a_tensor(function, n_values):
    generator = torch.Generator().manual_seed(0)
    values, gradient = torch.randn((2, 64 * n_values), generator=generator)

    def of(places: slice) -> tuple[Tensor, Tensor]:
        some = values[places].detach().requires_grad_()
        outputs = activate([(function, slice(0, len(some)))], some, axis=0)
        return outputs.detach(), torch.autograd.grad(outputs, some, gradient[places])[0]

    whole = of(slice(None))
    expected = FUNCTIONS[function](values.double())
    torch.testing.assert_close(whole[0].double(), expected, rtol=1e-5, atol=1e-5)
    for start in range(0, len(values), n_values):
        places = slice(start, start + n_values)
        for one, other in zip(of(places), whole, strict=True):
            assert torch.equal(one, other[places])


# Inputs, outputs, kernel, stride, padding, side of the images, how many of them.
CONVOLUTIONS = [(1, 1, 3, 1, 0, 8, 7), (1, 4, 5, 1, 2, 15, 1), (3, 6, 3, 2, 1, 9, 5), (8, 6, 1, 1, 0, 8, 16)]
CONVOLUTIONS += [(4, 4, 2, 2, 0, 8, 32), (16, 16, 3, 1, 1, 7, 2), (6, 5, 7, 3, 3, 15, 3)]


@pytest.mark.parametrize(("n_inputs", "n_outputs", "kernel", "stride", "padding", "side", "n_images"), CONVOLUTIONS)
def test_convolutions_and_their_gradients_have_the_same_bytes_in_every_company(
    n_inputs, n_outputs, kernel, stride, padding, side, n_images
):
    specification = {"type": "convolution", "channels": n_outputs, "kernel": kernel, "stride": stride}
    layers = [specification | {"padding": padding}, {"type": "flatten"}, {"type": "linear", "units": 10}]
    grammar = Layers.model_validate({"name": "layers", "layers": layers})
    layer = network(grammar, (n_inputs, side, side), 10).layers[0]
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_outputs, n_inputs, kernel, kernel), (n_outputs,), (n_images, n_inputs, side, side)]
    weight, bias, images = (torch.randn(shape, generator=generator) for shape in shapes)
    plain = functional.conv2d(images.double(), weight.double(), bias.double(), stride=stride, padding=padding)
    slopes = torch.randn(plain.shape, generator=generator)
    seen = set()
    for count in (1, 2, 3, 5, 8, 11):
        several = [each.expand(count, *each.shape).contiguous().requires_grad_() for each in (weight, bias)]
        inputs = images.unsqueeze(1).repeat(1, count, 1, 1, 1).requires_grad_()
        named = {f"{layer.name}.weight": several[0], f"{layer.name}.bias": several[1]}
        outputs = forward([layer], named, [("relu", slice(0, count))], inputs, as_plain=False)
        torch.testing.assert_close(outputs[:, 0].double(), plain, rtol=1e-3, atol=1e-3)
        every = [outputs, *torch.autograd.grad(outputs, [inputs, *several], slopes.unsqueeze(1).expand_as(outputs))]
        by_model = [*(each.transpose(0, 1) for each in every[:2]), *every[2:]]
        for model in range(count):
            seen.add(b"".join(each[model].detach().contiguous().numpy().tobytes() for each in by_model))
    assert len(seen) == 1


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
