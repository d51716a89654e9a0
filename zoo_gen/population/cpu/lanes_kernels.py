"""The kernels of a convolution, with the pooling and relu after it, and of dropout, for models in the lanes of vectors.

All of these layers is done image by image, so that what lies between them stays in a core's cache, in one image's
room. What one lane computes, and in which order, depends neither on how many lanes there are nor on how sums are cut
into registers: a model has the same bits alone and in any population.
"""

from collections.abc import Callable
from functools import cache, partial

from zoo_gen.architecture.layers import Pooling
from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_products import (
    Stage,
    bias_gradient,
    convolve,
    input_gradient,
    rectified,
    rectified_gradient,
    weight_gradient,
)
from zoo_gen.population.cpu.lanes_windows import pool, pooled, unpool
from zoo_gen.population.random import DROPOUT_MIX, DROPOUT_STEP


@cache
def stage_forward(stage: Stage, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(inputs, weight, bias, outputs, number of images), and with pooling (..., room, places, number).

    Shapes: inputs (image, height, width, input, lane), weight (kernel, kernel, input, output, lane), bias (output,
    lane), outputs (image, height, width, output, lane), room (height, width, output, lane) of the convolution's image,
    places as outputs: which value of each window the pooling took, int8. Operations: 2 x kernel^2 x inputs x outputs
    a pixel of the convolution.
    """
    code = Code(4 if stage.pooling is None else 6, lanes=lanes, bits=bits)
    inputs, weight, bias, outputs, *more, n_images = code.arguments
    convolution, (height, width) = stage.convolution, stage.output_size
    size = height * width * convolution.outputs

    def image(number: Value, _: list[Value]) -> None:
        address = code.at(inputs, (number, stage.height * stage.width * convolution.inputs))
        target = code.at(outputs, (number, size))
        if stage.pooling is None:
            convolve(code, stage, address, weight, bias, target)
            return
        room, places = more
        convolve(code, stage, address, weight, bias, room)
        places = code.at(places, (number, size), kind=code.integers(8))
        then = {"then": partial(rectified, code)} if stage.relu else {}
        pool(code, stage.pooling, stage.convolved, convolution.outputs, room, target, places, **then)

    code.loop(n_images, image)
    return code.compiled()


@cache
def stage_backward(stage: Stage, *, lanes: int, bits: int, back: bool) -> Callable[..., None]:
    """Return kernel(inputs, weight, gradient, inputs', weight', bias', number of images).

    With pooling, (..., room, places, number) as in `stage_forward`; with relu, then (..., before, outputs, number):
    the stage's outputs, and room for one image's gradient before relu. Gradients (') have the shapes of what they
    belong to; those of weight and bias are added to what is there. `back` says whether that of the inputs is wanted.
    Operations: as many as forward for each gradient.
    """
    code = Code(6 + 2 * (stage.pooling is not None) + 2 * stage.relu, lanes=lanes, bits=bits)
    inputs, weight, gradient, to_inputs, to_weight, to_bias, *more, n_images = code.arguments
    convolution, (height, width) = stage.convolution, stage.output_size
    size, n_inputs = height * width * convolution.outputs, stage.height * stage.width * convolution.inputs

    def image(number: Value, _: list[Value]) -> None:
        address = code.at(inputs, (number, n_inputs))
        upstream = code.at(gradient, (number, size))
        if stage.relu:
            *_, before, outputs = more
            rectified_gradient(code, size, upstream, code.at(outputs, (number, size)), before)
            upstream = before
        if stage.pooling is not None:
            room, places, *_ = more
            places = code.at(places, (number, size), kind=code.integers(8))
            unpool(code, stage.pooling, stage.convolved, convolution.outputs, upstream, room, places)
            upstream = room
        weight_gradient(code, stage, address, upstream, to_weight)
        if convolution.bias:
            bias_gradient(code, stage, upstream, to_bias)
        if back:
            input_gradient(code, stage, upstream, weight, code.at(to_inputs, (number, n_inputs)))

    code.loop(n_images, image)
    return code.compiled()


@cache
def pool_forward(
    pooling: Pooling, height: int, width: int, channels: int, *, lanes: int, bits: int
) -> Callable[..., None]:
    """Return kernel(inputs, outputs, places, number of images); shapes and places as in `stage_forward`."""
    code = Code(3, lanes=lanes, bits=bits)
    inputs, outputs, places, n_images = code.arguments
    rows, columns = pooled(pooling, height, width)
    size = rows * columns * channels

    def image(number: Value, _: list[Value]) -> None:
        address, target = code.at(inputs, (number, height * width * channels)), code.at(outputs, (number, size))
        chosen = code.at(places, (number, size), kind=code.integers(8))
        pool(code, pooling, (height, width), channels, address, target, chosen)

    code.loop(n_images, image)
    return code.compiled()


@cache
def pool_backward(
    pooling: Pooling, height: int, width: int, channels: int, *, lanes: int, bits: int
) -> Callable[..., None]:
    """Return kernel(gradient, inputs', places, number of images); shapes and places as in `stage_forward`."""
    code = Code(3, lanes=lanes, bits=bits)
    gradient, to_inputs, places, n_images = code.arguments
    rows, columns = pooled(pooling, height, width)
    size = rows * columns * channels

    def image(number: Value, _: list[Value]) -> None:
        upstream, to_image = code.at(gradient, (number, size)), code.at(to_inputs, (number, height * width * channels))
        chosen = code.at(places, (number, size), kind=code.integers(8))
        unpool(code, pooling, (height, width), channels, upstream, to_image, chosen)

    code.loop(n_images, image)
    return code.compiled()


@cache
def drop(values: int, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(hidden, outputs, low, high, threshold, scale, number of words), of `values` numbers a word: 2 or 1.

    Computes what `random.kept_by_dropout` says of neighbouring values. Shapes: hidden and outputs (number, lane); low
    and high, the halves of the key, low with the first word's share of it, and threshold int32 (lane,); scale (lane,).
    """
    code = Code(6, lanes=lanes, bits=bits)
    hidden, outputs, low, high, threshold, scale, n_words = code.arguments
    build, words = code.builder, code.integers(32)
    low, high, threshold = (code.load(pointer, kind=words) for pointer in (low, high, threshold))
    scale = code.load(scale)

    def fixed(value: int) -> Value:
        return code.constant(value, words)

    def mixed(word: Value, shift: int) -> Value:
        return build.xor(word, build.lshr(word, fixed(shift)))

    def one(number: Value, _: list[Value]) -> None:
        word = build.add(build.mul(code.everywhere(number, words), fixed(DROPOUT_STEP)), low)
        word = build.mul(mixed(word, 16), fixed(DROPOUT_MIX[0]))
        word = mixed(build.mul(build.add(mixed(word, 15), high), fixed(DROPOUT_MIX[1])), 16)
        halves = build.and_(word, fixed(0xFFFF)), build.lshr(word, fixed(16))
        for place, half in enumerate(halves[:values]):
            # A factor of 0, so that what is no number stays none, as elsewhere.
            factor = build.select(build.icmp_unsigned(">=", half, threshold), scale, code.zero)
            code.store(build.fmul(code.load(hidden, (number, values), place), factor), outputs, (number, values), place)

    code.loop(n_words, one)
    return code.compiled()
