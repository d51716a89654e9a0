"""The kernels of attention for models in the lanes of vectors, image by image.

No scores are kept: the backward pass computes them again, head by head, which is faster than to fetch them.
"""

import math
from collections.abc import Callable
from functools import cache

from zoo_gen.architecture.layers import Attention
from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_matrices import ROWS_AT_ONCE, Matrix, even, multiply, sums_of
from zoo_gen.population.cpu.lanes_products import tiles
from zoo_gen.population.cpu.lanes_windows import clear

_QUERIES_AT_ONCE = 8  # at most: their scores stay in a core's first cache
_LOG2_E = math.log2(math.e)
# Of numbers of 32 and 64 bits: bits of the fraction, terms of the exponential's series, the least exponent that has a
# normal value, and ln 2 as a number whose products with whole numbers are exact, and the rest.
_EXPONENTIAL = {
    32: (23, 7, -87.0, 0.693359375, -2.12194440054690583e-4),
    64: (52, 13, -708.0, 0.693147180369123816490, 1.90821492927058770002e-10),
}


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
                address = code.at(query.first, (number, some * query.row), start * query.row)
                scores = Matrix(room, steps)
                multiply(code, (some, steps, layer.units), Matrix(address, query.row), key.turned, scores)
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
                block = Matrix(code.at(query.first, (number, some * row), start * row), row)
                target = Matrix(code.at(to_query.first, (number, some * row), start * row), row)
                upstream = Matrix(code.at(gradient, (number, some * layer.inner), start * layer.inner), layer.inner)
                multiply(code, (some, steps, units), block, key.turned, shares)
                _softmax(code, some, steps, room, factor=factor)
                multiply(code, (some, steps, units), upstream, value.turned, slopes)
                multiply(code, (steps, units, some), shares.turned, upstream, to_value, add=True)
                _softmax_gradient(code, some, steps, room, second, factor=factor)
                multiply(code, (some, units, steps), slopes, key, target)
                multiply(code, (steps, units, some), slopes.turned, block, to_key, add=True)

            code.loop(repeats, queries)

    def image(number: Value) -> None:
        clear(code, code.at(to_products, (number, steps * 3 * layer.inner)), steps * 3 * layer.inner)

    _over_heads(code, layer, steps, n_images, head, products, gradient, to_products, before=image)
    return code.compiled()


def queries_at_once(steps: int) -> int:
    """Return how many queries' scores the kernels of attention hold in their room."""
    return even(steps, _QUERIES_AT_ONCE)


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


def _softmax(code: Code, rows: int, columns: int, scores: Value, *, factor: float) -> None:
    """Put the softmax of `factor` x each row in place of the rows (row, column) that lie at an address."""
    build, scale = code.builder, code.constant(factor)
    for start, some, repeats in tiles(rows, even(rows, ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            address = code.at(scores, (number, some * columns), start * columns)

            def larger(c: Value, largest: list[Value]) -> list[Value]:
                values = [code.load(address, (c, 1), row * columns) for row in range(some)]
                return [
                    build.select(build.fcmp_unordered(">", value, best), value, best)
                    for value, best in zip(values, largest, strict=True)
                ]

            largest = code.loop(columns, larger, [code.load(address, row * columns) for row in range(some)])

            def share(c: Value, row: int) -> Value:
                distance = build.fsub(code.load(address, (c, 1), row * columns), largest[row])
                power = _exponential(code, build.fmul(distance, scale))
                code.store(power, address, (c, 1), row * columns)
                return power

            totals = sums_of(code, columns, some, share)
            inverses = [build.fdiv(code.constant(1.0), total) for total in totals]

            def divide(c: Value, _: list[Value]) -> None:
                for row in range(some):
                    place = (c, 1), row * columns
                    code.store(build.fmul(code.load(address, *place), inverses[row]), address, *place)

            code.loop(columns, divide)

        code.loop(repeats, tile)


def _softmax_gradient(code: Code, rows: int, columns: int, shares: Value, slopes: Value, *, factor: float) -> None:
    """Put the gradients of scores in place of those of their softmax, which lie at `slopes` (row, column)."""
    build, scale = code.builder, code.constant(factor)
    for start, some, repeats in tiles(rows, even(rows, ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            address, upstream = (code.at(each, (number, some * columns), start * columns) for each in (shares, slopes))

            def of(pointer: Value, c: Value, row: int) -> Value:
                return code.load(pointer, (c, 1), row * columns)

            along = sums_of(code, columns, some, lambda c, row: build.fmul(of(address, c, row), of(upstream, c, row)))

            def write(c: Value, _: list[Value]) -> None:
                for row in range(some):
                    rest = build.fsub(of(upstream, c, row), along[row])
                    code.store(
                        build.fmul(build.fmul(of(address, c, row), scale), rest), upstream, (c, 1), row * columns
                    )

            code.loop(columns, write)

        code.loop(repeats, tile)


def _exponential(code: Code, values: Value) -> Value:
    """Return e^x of numbers that are no larger than 0: 2^n times the series of the rest, |rest| <= ln 2 / 2."""
    build, bits = code.builder, code.bits
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
