"""The kernels of layers over sequences, for models in the lanes of vectors: linear layers, attention and layer norm.

Everything of them but softmax and norms is one product of two matrices of vectors, however rows and columns lie in
memory. Attention keeps no scores: its backward pass computes them again, head by head, which is faster than to fetch
them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from llvmlite import ir

from zoo_gen.architecture.layers import Attention
from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_products import block_of, tiles
from zoo_gen.population.cpu.lanes_windows import clear

_ROWS_AT_ONCE = 8  # of a softmax or a norm: as many sums as hide the time that an addition takes
_QUERIES_AT_ONCE = 8  # at most: their scores stay in a core's first cache
_LOG2_E = math.log2(math.e)
# Of numbers of 32 and 64 bits: bits of the fraction, terms of the exponential's series, the least exponent that has a
# normal value, and ln 2 as a number whose products with whole numbers are exact, and the rest.
_EXPONENTIAL = {
    32: (23, 7, -87.0, 0.693359375, -2.12194440054690583e-4),
    64: (52, 13, -708.0, 0.693147180369123816490, 1.90821492927058770002e-10),
}


@dataclass(frozen=True)
class Matrix:
    """Vectors in memory: the address of the first, and how many vectors further the next row and column begin."""

    first: Value
    row: int
    column: int = 1

    @property
    def turned(self) -> "Matrix":
        """Rows in place of columns."""
        return Matrix(self.first, self.column, self.row)


def multiply(
    code: Code,
    shape: tuple[int, int, int],
    one: Matrix,
    other: Matrix,
    outputs: Matrix,
    *,
    bias: Value | None = None,
    add: bool = False,
    relu: bool = False,
) -> None:
    """Write outputs (row, column), the products of `one` (row, depth) and `other` (depth, column).

    Args:
        code: the function that is being written.
        shape: rows, columns, depth.
        one: what is multiplied.
        other: by what.
        outputs: where sums go.
        bias: the address of a vector a column that sums begin with.
        add: whether the products are added to what is there.
        relu: whether what is no larger than 0 becomes 0.
    """
    rows, columns, depth = shape
    high, wide = block_of(rows, columns)
    row_tiles = [(row, column) for row in tiles(rows, high) for column in tiles(columns, wide)]
    for (top, some_rows, down), (left, some_columns, along) in row_tiles:

        def row_of_blocks(
            y: Value,
            _: list[Value],
            top: int = top,
            some_rows: int = some_rows,
            left: int = left,
            some_columns: int = some_columns,
            along: int = along,
        ) -> None:
            values = code.at(one.first, (y, some_rows * one.row), top * one.row)
            target = code.at(outputs.first, (y, some_rows * outputs.row), top * outputs.row)

            def block(x: Value, _: list[Value]) -> None:
                factors = code.at(other.first, (x, some_columns * other.column), left * other.column)
                own = code.at(target, (x, some_columns * outputs.column), left * outputs.column)
                places = [r * outputs.row + c * outputs.column for r in range(some_rows) for c in range(some_columns)]
                if add:
                    begun = [code.load(own, place) for place in places]
                elif bias is not None:
                    begun = [code.load(bias, (x, some_columns), left + c) for c in range(some_columns)] * some_rows
                else:
                    begun = [code.zero] * len(places)

                def term(d: Value, sums: list[Value]) -> list[Value]:
                    left_values = [code.load(values, (d, one.column), r * one.row) for r in range(some_rows)]
                    right = [code.load(factors, (d, other.row), c * other.column) for c in range(some_columns)]
                    pairs = [(value, factor) for value in left_values for factor in right]
                    return [code.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

                for total, place in zip(code.loop(depth, term, begun), places, strict=True):
                    code.store(_positive(code, total, total) if relu else total, own, place)

            code.loop(along, block)

        code.loop(down, row_of_blocks)


def _positive(code: Code, sign: Value, values: Value) -> Value:
    """Return values where another is larger than 0, and 0 elsewhere; where it is no number, values stay."""
    return code.builder.select(code.builder.fcmp_ordered("<=", sign, code.zero), code.zero, values)


def _behind_relu(code: Code, count: int, gradient: Value, results: Value, room: Value) -> None:
    """Put into a room what relu sends back of a gradient, by what came out of it."""

    def one(place: Value, _: list[Value]) -> None:
        slope = _positive(code, code.load(results, (place, 1)), code.load(gradient, (place, 1)))
        code.store(slope, room, (place, 1))

    code.loop(count, one)


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
        own, target = code.at(values, (number, steps * inputs)), code.at(results, (number, steps * outputs))
        multiply(
            *(code, (steps, outputs, inputs), Matrix(own, inputs), Matrix(weight, inputs).turned),
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
        own, given = code.at(values, (number, steps * inputs)), code.at(gradient, (number, steps * outputs))
        target = code.at(to_values, (number, steps * inputs))
        if relu:
            _behind_relu(code, steps * outputs, given, code.at(results, (number, steps * outputs)), room)
            given = room
        slopes = Matrix(given, outputs)
        multiply(code, (steps, inputs, outputs), slopes, Matrix(weight, inputs), Matrix(target, inputs))
        sums = Matrix(to_weight, inputs)
        multiply(code, (outputs, inputs, steps), slopes.turned, Matrix(own, inputs), sums, add=True)
        if bias:
            _add_rows(code, steps, outputs, given, to_bias)

    code.loop(n_images, image)
    return code.compiled()


@cache
def attention_forward(layer: Attention, steps: int, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(products, outputs, room, number of images).

    Shapes: products (image, step, 3 x inner, lane), queries, keys and values of all heads one after the other; outputs
    (image, step, inner, lane); room (query, step, lane) for scores. Operations: 4 x units a head and pair of steps.
    """
    code = Code(3, lanes=lanes, bits=bits)
    products, outputs, room, n_images = code.arguments
    at_once = queries_at_once(steps)

    def head(products: Value, outputs: Value) -> None:
        query, key, value = (Matrix(code.at(products, part * layer.inner), 3 * layer.inner) for part in range(3))
        for start, some, repeats in tiles(steps, at_once):

            def queries(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
                own = code.at(query.first, (number, some * query.row), start * query.row)
                scores = Matrix(room, steps)
                multiply(code, (some, steps, layer.units), Matrix(own, query.row), key.turned, scores)
                _softmax(code, some, steps, room, factor=layer.units**-0.5)
                target = code.at(outputs, (number, some * layer.inner), start * layer.inner)
                multiply(code, (some, layer.units, steps), scores, value, Matrix(target, layer.inner))

            code.loop(repeats, queries)

    _over_heads(code, layer, steps, n_images, head, products, outputs)
    return code.compiled()


@cache
def attention_backward(layer: Attention, steps: int, *, lanes: int, bits: int) -> Callable[..., None]:
    """Return kernel(products, gradient, products', room, number of images), shapes as in `attention_forward`.

    Room is (2, query, step, lane). Operations: 10 x units a head and pair of steps.
    """
    code = Code(4, lanes=lanes, bits=bits)
    products, gradient, to_products, room, n_images = code.arguments
    at_once = queries_at_once(steps)
    second, units, factor = code.at(room, at_once * steps), layer.units, layer.units**-0.5

    def head(products: Value, gradient: Value, to_products: Value) -> None:
        (query, key, value), (to_query, to_key, to_value) = (
            [Matrix(code.at(first, part * layer.inner), 3 * layer.inner) for part in range(3)]
            for first in (products, to_products)
        )
        shares, slopes = Matrix(room, steps), Matrix(second, steps)
        for start, some, repeats in tiles(steps, at_once):

            def queries(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
                row = 3 * layer.inner
                own = Matrix(code.at(query.first, (number, some * row), start * row), row)
                target = Matrix(code.at(to_query.first, (number, some * row), start * row), row)
                given = Matrix(code.at(gradient, (number, some * layer.inner), start * layer.inner), layer.inner)
                multiply(code, (some, steps, units), own, key.turned, shares)
                _softmax(code, some, steps, room, factor=factor)
                multiply(code, (some, steps, units), given, value.turned, slopes)
                multiply(code, (steps, units, some), shares.turned, given, to_value, add=True)
                _softmax_gradient(code, some, steps, room, second, factor=factor)
                multiply(code, (some, units, steps), slopes, key, target)
                multiply(code, (steps, units, some), slopes.turned, own, to_key, add=True)

            code.loop(repeats, queries)

    def image(number: Value) -> None:
        clear(code, code.at(to_products, (number, steps * 3 * layer.inner)), steps * 3 * layer.inner)

    _over_heads(code, layer, steps, n_images, head, products, gradient, to_products, before=image)
    return code.compiled()


def queries_at_once(steps: int) -> int:
    """Return how many queries' scores the kernels of attention hold in their room."""
    return _even(steps, _QUERIES_AT_ONCE)


def _even(length: int, most: int) -> int:
    """Return the size of nearly equal pieces of a length, each of up to `most`."""
    return -(-length // -(-length // most))


def _over_heads(
    code: Code,
    layer: Attention,
    steps: int,
    n_images: Value,
    head: Callable[..., None],
    products: Value,
    *of_heads: Value,
    before: Callable[[Value], None] | None = None,
) -> None:
    """Write `head` for each head of each image: for its products, and where its outputs or gradients lie."""
    widths = [3, 1, 3][: 1 + len(of_heads)]

    def image(number: Value, _: list[Value]) -> None:
        if before is not None:
            before(number)

        def one(which: Value, _: list[Value]) -> None:
            firsts = [
                code.at(pointer, (number, steps * width * layer.inner), (which, layer.units))
                for pointer, width in zip((products, *of_heads), widths, strict=True)
            ]
            head(*firsts)

        code.loop(layer.heads, one)

    code.loop(n_images, image)


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
        own, target, factor_of = first(values, features), first(results, features), first(scales, 1)

        def centred(c: Value, row: int) -> Value:
            return build.fsub(code.load(own, (c, 1), row * features), means[row])

        means = [build.fdiv(total, count) for total in _sums(
            code, features, some, lambda c, row: code.load(own, (c, 1), row * features)
        )]  # fmt: skip
        squares = _sums(code, features, some, lambda c, row: build.fmul(centred(c, row), centred(c, row)))
        factors = []
        for row, total in enumerate(squares):
            root = _root(code, build.fadd(build.fdiv(total, count), code.constant(epsilon)))
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
        own, given, target = (first(each, features) for each in (results, gradient, to_values))
        factor_of = first(scales, 1)

        def of(pointer: Value, c: Value, row: int) -> Value:
            return code.load(pointer, (c, 1), row * features)

        means = [build.fdiv(total, count) for total in _sums(code, features, some, lambda c, row: of(given, c, row))]
        products = _sums(code, features, some, lambda c, row: build.fmul(of(given, c, row), of(own, c, row)))
        along = [build.fdiv(total, count) for total in products]

        def write(c: Value, _: list[Value]) -> None:
            for row in range(some):
                rest = build.fsub(of(given, c, row), means[row])
                rest = build.fsub(rest, build.fmul(of(own, c, row), along[row]))
                code.store(build.fmul(rest, code.load(factor_of, row)), target, (c, 1), row * features)

        code.loop(features, write)

    _over_rows(code, steps, n_images, rows)
    return code.compiled()


def _over_rows(
    code: Code, steps: int, n_images: Value, rows: Callable[[Value, int, Callable[[Value, int], Value]], None]
) -> None:
    """Write `rows(number, how many, first)` for neighbouring steps; `first` is where theirs begin in a tensor."""
    for start, some, repeats in tiles(steps, _even(steps, _ROWS_AT_ONCE)):

        def image(number: Value, _: list[Value], start: int = start, some: int = some, repeats: int = repeats) -> None:
            def tile(which: Value, _: list[Value]) -> None:
                def first(pointer: Value, width: int) -> Value:
                    return code.at(pointer, (number, steps * width), (which, some * width), start * width)

                rows(number, some, first)

            code.loop(repeats, tile)

        code.loop(n_images, image)


def _sums(code: Code, count: int, rows: int, term: Callable[[Value, int], Value]) -> list[Value]:
    """Return the sum of `term(number, row)` over numbers below `count`, for each of some rows."""

    def more(number: Value, sums: list[Value]) -> list[Value]:
        return [code.builder.fadd(total, term(number, row)) for row, total in enumerate(sums)]

    return code.loop(count, more, [code.zero] * rows)


def _add_rows(code: Code, rows: int, columns: int, values: Value, sums: Value) -> None:
    """Add the sum of the rows of a matrix to a vector."""
    for start, some, repeats in tiles(columns, _even(columns, _ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            own = code.at(values, (number, some), start)
            for c, total in enumerate(_sums(code, rows, some, lambda row, c: code.load(own, (row, columns), c))):
                code.add(total, sums, (number, some), start + c)

        code.loop(repeats, tile)


def _softmax(code: Code, rows: int, columns: int, scores: Value, *, factor: float) -> None:
    """Put the softmax of `factor` x each row in place of the rows (row, column) that lie at an address."""
    build, scale = code.builder, code.constant(factor)
    for start, some, repeats in tiles(rows, _even(rows, _ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            own = code.at(scores, (number, some * columns), start * columns)

            def larger(c: Value, largest: list[Value]) -> list[Value]:
                values = [code.load(own, (c, 1), row * columns) for row in range(some)]
                return [
                    build.select(build.fcmp_unordered(">", value, best), value, best)
                    for value, best in zip(values, largest, strict=True)
                ]

            largest = code.loop(columns, larger, [code.load(own, row * columns) for row in range(some)])

            def share(c: Value, row: int) -> Value:
                distance = build.fsub(code.load(own, (c, 1), row * columns), largest[row])
                power = _exponential(code, build.fmul(distance, scale))
                code.store(power, own, (c, 1), row * columns)
                return power

            totals = _sums(code, columns, some, share)
            inverses = [build.fdiv(code.constant(1.0), total) for total in totals]

            def divide(c: Value, _: list[Value]) -> None:
                for row in range(some):
                    place = (c, 1), row * columns
                    code.store(build.fmul(code.load(own, *place), inverses[row]), own, *place)

            code.loop(columns, divide)

        code.loop(repeats, tile)


def _softmax_gradient(code: Code, rows: int, columns: int, shares: Value, slopes: Value, *, factor: float) -> None:
    """Put the gradients of scores in place of those of their softmax, which lie at `slopes` (row, column)."""
    build, scale = code.builder, code.constant(factor)
    for start, some, repeats in tiles(rows, _even(rows, _ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            own, given = (code.at(each, (number, some * columns), start * columns) for each in (shares, slopes))

            def of(pointer: Value, c: Value, row: int) -> Value:
                return code.load(pointer, (c, 1), row * columns)

            along = _sums(code, columns, some, lambda c, row: build.fmul(of(own, c, row), of(given, c, row)))

            def write(c: Value, _: list[Value]) -> None:
                for row in range(some):
                    rest = build.fsub(of(given, c, row), along[row])
                    code.store(build.fmul(build.fmul(of(own, c, row), scale), rest), given, (c, 1), row * columns)

            code.loop(columns, write)

        code.loop(repeats, tile)


def _exponential(code: Code, values: Value) -> Value:
    """Return e^x of numbers that are no larger than 0: 2^n times the series of the rest, |rest| <= ln 2 / 2."""
    build, element = code.builder, code.vector.element
    bits = 32 if element == ir.FloatType() else 64
    fraction, terms, least, high, low = _EXPONENTIAL[bits]
    words = code.integers(bits)
    smallest = code.constant(least)
    values = build.select(build.fcmp_ordered("<", values, smallest), smallest, values)
    # Adding 1.5 x 2^fraction rounds to a whole number, and leaves it in the lowest bits.
    magic = code.constant(1.5 * 2.0**fraction)
    shifted = code.multiply_add(values, code.constant(_LOG2_E), magic)
    number = build.fsub(shifted, magic)
    rest = code.multiply_add(number, code.constant(-high), values)
    rest = code.multiply_add(number, code.constant(-low), rest)
    series = code.constant(1 / math.factorial(terms))
    for term in reversed(range(terms)):
        series = code.multiply_add(series, rest, code.constant(1 / math.factorial(term)))
    power = build.shl(build.bitcast(shifted, words), code.constant(fraction, words))
    one = code.constant((127 if bits == 32 else 1023) << fraction, words)
    return build.fmul(series, build.bitcast(build.add(power, one), code.vector))


def _root(code: Code, values: Value) -> Value:
    bits = 32 if code.vector.element == ir.FloatType() else 64
    name = f"llvm.sqrt.v{code.lanes}f{bits}"
    known = code.module.globals.get(name)
    function = known or ir.Function(code.module, ir.FunctionType(code.vector, [code.vector]), name)
    return code.builder.call(function, [values])
