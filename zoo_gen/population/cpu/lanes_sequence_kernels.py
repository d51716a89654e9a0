"""The kernels of linear layers over sequences and of layer norm, for models in the lanes of vectors, image by image."""

from collections.abc import Callable
from functools import cache

from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_matrices import ROWS_AT_ONCE, Matrix, add_rows, even, multiply, sums_of
from zoo_gen.population.cpu.lanes_products import rectified_gradient, tiles


@cache
def linear_forward(
    steps: int, inputs: int, outputs: int, *, bias: bool, relu: bool, lanes: int, bits: int
) -> Callable[..., None]:
    """Return kernel(values, weight, bias, results, number of images).

    Shapes: values (image, step, input, lane), weight (output, input, lane), bias (output, lane), results (image, step,
    output, lane). Operations: 2 x inputs x outputs a step.
    """
    code = Code(4, lanes=lanes, bits=bits)
    values, weight, biases, results, n_images = code.arguments

    def image(number: Value, _: list[Value]) -> None:
        address, target = code.at(values, (number, steps * inputs)), code.at(results, (number, steps * outputs))
        multiply(
            *(code, (steps, outputs, inputs), Matrix(address, inputs), Matrix(weight, inputs).turned),
            Matrix(target, outputs),
            bias=biases if bias else None,
            relu=relu,
        )

    code.loop(n_images, image)
    return code.compiled()


@cache
def linear_backward(
    steps: int, inputs: int, outputs: int, *, bias: bool, relu: bool, lanes: int, bits: int
) -> Callable[..., None]:
    """Return kernel(values, weight, gradient, values', weight', bias', results, room, number of images).

    Shapes as in `linear_forward`; with relu, results are what came out of it, and room is (step, output, lane).
    Gradients (') of weight and bias are added to what is there. Operations: twice those forward.
    """
    code = Code(8, lanes=lanes, bits=bits)
    values, weight, gradient, to_values, to_weight, to_bias, results, room, n_images = code.arguments

    def image(number: Value, _: list[Value]) -> None:
        address, upstream = code.at(values, (number, steps * inputs)), code.at(gradient, (number, steps * outputs))
        target = code.at(to_values, (number, steps * inputs))
        if relu:
            rectified_gradient(code, steps * outputs, upstream, code.at(results, (number, steps * outputs)), room)
            upstream = room
        slopes = Matrix(upstream, outputs)
        multiply(code, (steps, inputs, outputs), slopes, Matrix(weight, inputs), Matrix(target, inputs))
        sums = Matrix(to_weight, inputs)
        multiply(code, (outputs, inputs, steps), slopes.turned, Matrix(address, inputs), sums, add=True)
        if bias:
            add_rows(code, steps, outputs, upstream, to_bias)

    code.loop(n_images, image)
    return code.compiled()


@cache
def norm_forward(steps: int, features: int, epsilon: float, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(values, results, scales, number of images).

    Shapes: values and results (image, step, feature, lane); scales (image, step, lane), by which values less their mean
    are multiplied.
    """
    code = Code(3, lanes=lanes, bits=bits)
    values, results, scales, n_images = code.arguments
    build, count = code.builder, code.constant(features)

    def rows(number: Value, some: int, first: Callable[[Value, int], Value]) -> None:
        address, target, factor_of = first(values, features), first(results, features), first(scales, 1)

        def centred(c: Value, row: int) -> Value:
            return build.fsub(code.load(address, (c, 1), row * features), means[row])

        means = [build.fdiv(total, count) for total in sums_of(
            code, features, some, lambda c, row: code.load(address, (c, 1), row * features)
        )]  # fmt: skip
        squares = sums_of(code, features, some, lambda c, row: build.fmul(centred(c, row), centred(c, row)))
        factors = []
        for row, total in enumerate(squares):
            root = code.root(build.fadd(build.fdiv(total, count), code.constant(epsilon)))
            factors.append(build.fdiv(code.constant(1.0), root))
            code.store(factors[-1], factor_of, row)

        def write(c: Value, _: list[Value]) -> None:
            for row in range(some):
                code.store(build.fmul(centred(c, row), factors[row]), target, (c, 1), row * features)

        code.loop(features, write)

    _over_rows(code, steps, n_images, rows)
    return code.compiled()


@cache
def norm_backward(steps: int, features: int, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(results, scales, gradient, values', number of images), shapes as in `norm_forward`."""
    code = Code(4, lanes=lanes, bits=bits)
    results, scales, gradient, to_values, n_images = code.arguments
    build, count = code.builder, code.constant(features)

    def rows(number: Value, some: int, first: Callable[[Value, int], Value]) -> None:
        address, upstream, target = (first(each, features) for each in (results, gradient, to_values))
        factor_of = first(scales, 1)

        def of(pointer: Value, c: Value, row: int) -> Value:
            return code.load(pointer, (c, 1), row * features)

        means = [
            build.fdiv(total, count) for total in sums_of(code, features, some, lambda c, row: of(upstream, c, row))
        ]
        products = sums_of(code, features, some, lambda c, row: build.fmul(of(upstream, c, row), of(address, c, row)))
        along = [build.fdiv(total, count) for total in products]

        def write(c: Value, _: list[Value]) -> None:
            for row in range(some):
                rest = build.fsub(of(upstream, c, row), means[row])
                rest = build.fsub(rest, build.fmul(of(address, c, row), along[row]))
                code.store(build.fmul(rest, code.load(factor_of, row)), target, (c, 1), row * features)

        code.loop(features, write)

    _over_rows(code, steps, n_images, rows)
    return code.compiled()


def _over_rows(
    code: Code, steps: int, n_images: Value, rows: Callable[[Value, int, Callable[[Value, int], Value]], None]
) -> None:
    """Write `rows(number, how many, first)` for neighbouring steps; `first` is where theirs begin in a tensor."""
    for start, some, repeats in tiles(steps, even(steps, ROWS_AT_ONCE)):

        def image(number: Value, _: list[Value], start: int = start, some: int = some, repeats: int = repeats) -> None:
            def tile(which: Value, _: list[Value]) -> None:
                def first(pointer: Value, width: int) -> Value:
                    return code.at(pointer, (number, steps * width), (which, some * width), start * width)

                rows(number, some, first)

            code.loop(repeats, tile)

        code.loop(n_images, image)
