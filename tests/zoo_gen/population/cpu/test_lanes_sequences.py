"""Our kernels for sequences on CPUs against torch's own layers and gradients, a model at a time."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.zoo_gen.population.cpu.test_lanes import drawn
from zoo_gen.architecture.layers import Attention, GlobalPooling, LayerNorm, Linear
from zoo_gen.population.cpu import lanes, lanes_sequences

pytest.importorskip("llvmlite")

MODELS = 5


def in_lanes(values: Tensor) -> Tensor:
    """Return sequences (model, image, step, feature) as images of one column, in lanes."""
    return lanes.to_lanes(values.permute(1, 0, 3, 2).unsqueeze(4))


def plain(layer, values: Tensor, parameters: dict[str, Tensor], model: int) -> Tensor:
    """Return what torch gives for the sequences (image, step, feature) of one model."""
    one = {name.removeprefix(f"{layer.name}."): each[model] for name, each in parameters.items()}
    if isinstance(layer, Linear):
        return functional.linear(values, one["weight"], one.get("bias"))
    if isinstance(layer, LayerNorm):
        return functional.layer_norm(values, layer.shape, one.get("weight"), one.get("bias"), eps=layer.epsilon)
    if isinstance(layer, GlobalPooling):
        return values.mean(dim=1) if layer.kind == "average" else values.amax(dim=1)
    parts = [
        functional.linear(values, one[f"{part}.weight"], one.get(f"{part}.bias")) for part in ("query", "key", "value")
    ]
    query, key, value = (each.unflatten(2, (layer.heads, layer.units)) for each in parts)
    shares = torch.softmax(torch.einsum("iqhu,ikhu->ihqk", query, key) / layer.units**0.5, dim=3)
    joined = torch.einsum("ihqk,ikhu->iqhu", shares, value).flatten(2)
    return functional.linear(joined, one["output.weight"], one.get("output.bias"))


def parameters_of(layer, *, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {}
    if isinstance(layer, Linear):
        shapes = {"weight": (layer.outputs, layer.inputs), "bias": (layer.outputs,)}
    elif isinstance(layer, LayerNorm):
        shapes = {"weight": layer.shape, "bias": layer.shape} if layer.affine else {}
    elif isinstance(layer, Attention):
        for part in ("query", "key", "value", "output"):
            wide = (layer.features, layer.inner) if part == "output" else (layer.inner, layer.features)
            shapes |= {f"{part}.weight": wide, f"{part}.bias": wide[:1]}
    if not getattr(layer, "bias", True):
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("bias")}
    return {
        f"{layer.name}.{name}": drawn(MODELS, *shape, seed=number, dtype=dtype).requires_grad_()
        for number, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize(
    ("layer", "steps", "features"),
    [
        (Linear("l", 5, 7, True), 3, 5),
        (Linear("l", 32, 65, False), 49, 32),
        (LayerNorm("n", (6,), 1e-5, affine=True), 9, 6),
        (LayerNorm("n", (33,), 1e-5, affine=False), 1, 33),
        (Attention("a", 6, 3, 2, bias=True), 1, 6),
        (Attention("a", 8, 2, 5, bias=False), 17, 8),
        (Attention("a", 4, 1, 4, bias=True), 70, 4),
        (GlobalPooling("g"), 7, 5),
        (GlobalPooling("g", "max"), 7, 5),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "name") else str(value),
)
def test_a_layer_and_its_gradients_are_those_of_torch(layer, steps, features):
    values = drawn(MODELS, 4, steps, features, seed=9).requires_grad_()
    parameters = parameters_of(layer)
    hidden = lanes_sequences.passed(layer, in_lanes(values), parameters, MODELS)
    pools = isinstance(layer, GlobalPooling)
    outputs = hidden.transpose(1, 2) if pools else lanes_sequences.from_lanes(hidden, MODELS)
    expected = torch.stack([plain(layer, values[model], parameters, model) for model in range(MODELS)])
    torch.testing.assert_close(outputs, expected, rtol=1e-11, atol=1e-11)
    slopes, leaves = drawn(*expected.shape, seed=10), [values, *parameters.values()]
    gradients = torch.autograd.grad((outputs * slopes).sum(), leaves)
    for gradient, other in zip(gradients, torch.autograd.grad((expected * slopes).sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_with_its_relu_and_their_gradients_are_those_of_torch(bias):
    layer, values = Linear("l", 5, 7, bias), drawn(MODELS, 4, 6, 5, seed=9).requires_grad_()
    parameters = parameters_of(layer)
    hidden = lanes_sequences.passed(layer, in_lanes(values), parameters, MODELS, with_relu=True)
    outputs = lanes_sequences.from_lanes(hidden, MODELS)
    expected = torch.stack([plain(layer, values[model], parameters, model) for model in range(MODELS)]).relu()
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    slopes, leaves = drawn(*expected.shape, seed=10), [values, *parameters.values()]
    gradients = torch.autograd.grad((outputs * slopes).sum(), leaves)
    for gradient, other in zip(gradients, torch.autograd.grad((expected * slopes).sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "dtype", "bound"),
    [(1e-3, torch.float32, 1e-5), (1.0, torch.float32, 1e-5), (30.0, torch.float64, 1e-9), (1e3, torch.float64, 1e-7)],
)
def test_softmax_of_small_and_large_scores_is_that_of_float64(size, dtype, bound):
    """Scores grow with the square: the largest are of millions, where one share is 1 and all others are 0."""
    layer = Attention("a", 4, 2, 3, bias=False)
    parameters = {name: (each * size).detach().to(dtype) for name, each in parameters_of(layer).items()}
    values = drawn(MODELS, 2, 11, 4, seed=3, dtype=dtype)
    hidden = lanes_sequences.passed(layer, in_lanes(values), parameters, MODELS)
    outputs = lanes_sequences.from_lanes(hidden, MODELS).double()
    exact = {name: each.double() for name, each in parameters.items()}
    expected = torch.stack([plain(layer, values[model].double(), exact, model) for model in range(MODELS)])
    torch.testing.assert_close(outputs, expected, rtol=bound, atol=bound * float(expected.abs().max()))


def test_what_is_no_number_stays_none_and_in_its_own_model():
    layer = Attention("a", 4, 2, 3, bias=False)
    values = drawn(MODELS, 2, 11, 4, seed=3)
    values[1, 0, 4, 2] = torch.nan
    hidden = lanes_sequences.passed(layer, in_lanes(values), parameters_of(layer), MODELS)
    finite = torch.isfinite(lanes_sequences.from_lanes(hidden, MODELS)).flatten(2).all(dim=2)
    assert (~finite).nonzero().tolist() == [[1, 0]]
