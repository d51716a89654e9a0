"""The networks of published zoos as our layers, told from the shapes of their tensors.

Sizes always come from the tensors, since configurations of published zoos are known to be wrong; only what the tensors
cannot say (activation, pooling, frequency) comes from the publication.
"""

from collections.abc import Sequence

from zoo_gen.architecture import registry
from zoo_gen.architecture.layers import Activate, Layer, Linear, Shift
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.architecture.specs import ActivationSpec, ConvolutionSpec, LayerSpec, LinearSpec, PlainSpec, PoolingSpec
from zoo_gen.published.formats.states import Shapes, wiring_of
from zoo_gen.published.reading import Wiring

# What publications call activations and initialisations that have another name here.
ACTIVATIONS = {"leakyrelu": "leaky_relu", "leaky-relu": "leaky_relu", "none": "identity", "swish": "silu"}


def activation(name: object) -> str | None:
    """Return our name of an activation."""
    if name is None:
        return None
    plain = str(name).lower()
    return ACTIVATIONS.get(plain, plain)


def model_zoo_wiring(shapes: Shapes) -> tuple[Wiring, str]:
    """Return a network of the ModelZoos or their forerunners, and its name; of other shapes its parameters alone."""
    network = _model_zoo(shapes)
    return (wiring_of(shapes, *network[1:]), network[0]) if network else (wiring_of(shapes, None, None), "unnamed")


def _model_zoo(shapes: Shapes) -> tuple[str, Sequence[Layer], tuple[int, ...]] | None:
    """Return name, layers and input shape of a network of the ModelZoos (2022) or their forerunners (2021), or None.

    Small CNNs read 28 x 28 images and pool twice, the large one reads 32 x 32 and pools three times (public code,
    model_definitions/def_net.py); all else with matrices only is an MLP.
    """
    kernels = [shape for _, shape in shapes if len(shape) > 1]
    has_bias = any(len(shape) == 1 for _, shape in shapes)
    convolutions = [shape for shape in kernels if len(shape) == 4]
    matrices = [shape for shape in kernels if len(shape) == 2]
    if len(convolutions) + len(matrices) != len(kernels) or not matrices:
        return None
    if not convolutions:
        widths = (matrices[0][1], *(shape[0] for shape in matrices))
        side = round(widths[0] ** 0.5)
        shape = (1, side, side) if side * side == widths[0] else (widths[0], 1, 1)
        mlp = registry.MLP(name="mlp", widths=widths, bias=has_bias)
        return "mlp", registry.layers(mlp, shape, widths[-1]), shape
    if len(convolutions) != 3 or len(matrices) != 2:
        return None
    for name, side, pools in (("cnn_small", 28, (True, True, False)), ("cnn_large", 32, (True, True, True))):
        specs: list[LayerSpec] = []
        for kernel, is_pooled in zip(convolutions, pools, strict=True):
            specs.append(ConvolutionSpec(channels=kernel[0], kernel=kernel[2]))
            specs += [PoolingSpec(type="max_pooling", size=2)] if is_pooled else []
            specs += [ActivationSpec()]
            specs += [PlainSpec(type="dropout")] if is_pooled else []
        specs += [PlainSpec(type="flatten"), LinearSpec(units=matrices[0][0]), ActivationSpec()]
        specs += [PlainSpec(type="dropout"), LinearSpec(units=matrices[1][0])]
        input_shape = (convolutions[0][1], side, side)
        try:
            open_one = registry.Layers(name="layers", layers=tuple(specs))
            layers = registry.layers(open_one, input_shape, matrices[1][0])
        except ValueError:
            continue
        linear = next(layer for layer in layers if isinstance(layer, Linear))
        if linear.inputs == matrices[0][1]:
            is_known = [shape[:1] for shape in kernels] in ([(8,), (6,), (4,), (20,), (10,)], _LARGE)
            return name if is_known else f"{name}_variant", layers, input_shape
    return None


_LARGE = [(16,), (32,), (15,), (20,), (10,)]


def siren_layers(sizes: Sequence[tuple[int, ...]]) -> list[Layer]:
    """Return linear layers of these (inputs, outputs), with sin(30 x) between them."""
    layers: list[Layer] = []
    for number, (inputs, outputs) in enumerate(sizes, start=1):
        layers.append(Linear(f"linear{number}", inputs, outputs, bias=True))
        if number < len(sizes):
            layers.append(Activate(f"activation{number}", "sine"))
    return layers


def siren(shapes: Shapes, *, shift: float) -> tuple[Sequence[Layer], tuple[int, ...]] | None:
    """Return the layers of an implicit representation, sin(30 x) between its matrices, and its input shape, or None."""
    matrices = [shape for _, shape in shapes if len(shape) == 2]
    if len(matrices) * 2 != len(shapes):
        return None
    layers = siren_layers([shape[::-1] for shape in matrices])
    if shift:
        layers.append(Shift("shift1", shift))
    input_shape = (matrices[0][1],)
    shape: tuple[int, ...] = input_shape
    try:
        for layer in layers:
            shape = output_shape(layer, shape)
    except ValueError:
        return None
    return layers, input_shape
