"""Code of a convolution of one image whose numbers are vectors of models: forward, and the gradients of its parts.

Sums are cut into blocks that stay in registers; how they are cut does not change the order of a sum.
"""

from dataclasses import dataclass
from itertools import pairwise

from zoo_gen.architecture.layers import Convolution, Pooling
from zoo_gen.machine import vector_code
from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_windows import clear, pooled, windows


@dataclass(frozen=True)
class Stage:
    """A convolution without padding, the pooling after it and relu after that, if any, on images of (height, width)."""

    convolution: Convolution
    pooling: Pooling | None
    height: int
    width: int
    relu: bool = False

    @property
    def convolved(self) -> tuple[int, int]:
        """(height, width) of what the convolution gives."""
        return windows(self.height, self.width, self.convolution.kernel, self.convolution.stride)

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of what the stage gives."""
        return self.convolved if self.pooling is None else pooled(self.pooling, *self.convolved)


def convolve(code: Code, stage: Stage, inputs: Value, weight: Value, bias: Value, outputs: Value) -> None:
    """Convolve; sums of one block of outputs and neighbouring pixels are in registers while all taps are added."""
    layer, (height, width) = stage.convolution, stage.convolved
    most_outputs, most_pixels = block_of(layer.outputs, width)
    step = layer.stride * layer.inputs  # vectors from a pixel's window to the next one's

    def row(y: Value, _: list[Value]) -> None:
        above, below = code.at(inputs, (y, stage.width * step)), code.at(outputs, (y, width * layer.outputs))
        for first, some in _cut(layer.outputs, most_outputs):
            for start, pixels, repeats in tiles(width, most_pixels):
                tile(above, below, first, some, start, pixels, repeats)

    def tile(above: Value, below: Value, first: int, some: int, start: int, pixels: int, repeats: int) -> None:
        def one(number: Value, _: list[Value]) -> None:
            address = code.at(above, (number, pixels * step), start * step)
            destination = code.at(below, (number, pixels * layer.outputs), start * layer.outputs + first)
            begun = [code.load(bias, first + o) if layer.bias else code.zero for o in range(some)]

            def down(ky: Value, sums: list[Value]) -> list[Value]:
                line = code.at(address, (ky, stage.width * layer.inputs))
                kernel = code.at(weight, (ky, layer.kernel * layer.inputs * layer.outputs), first)

                def along(tap: Value, sums: list[Value]) -> list[Value]:
                    values = [code.load(line, (tap, 1), p * step) for p in range(pixels)]
                    weights = [code.load(kernel, (tap, layer.outputs), o) for o in range(some)]
                    pairs = [(value, one) for one in weights for value in values]
                    return [code.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

                return code.loop(layer.kernel * layer.inputs, along, sums)

            sums = code.loop(layer.kernel, down, [each for each in begun for _ in range(pixels)])
            for place, total in enumerate(sums):
                o, p = divmod(place, pixels)
                value = rectified(code, total) if stage.relu and stage.pooling is None else total
                code.store(value, destination, p * layer.outputs + o)

        code.loop(repeats, one)

    code.loop(height, row)


def rectified(code: Code, value: Value) -> Value:
    """Return relu of a vector, which leaves -0 and what is no number as they are, as torch does."""
    return code.builder.select(code.builder.fcmp_ordered("<", value, code.zero), code.zero, value)


def rectified_gradient(code: Code, count: int, gradient: Value, outputs: Value, before: Value) -> None:
    """Put the gradient before relu of so many vectors into `before`: 0 where relu gave 0."""

    def one(number: Value, _: list[Value]) -> None:
        is_off = code.builder.fcmp_ordered("<=", code.load(outputs, (number, 1)), code.zero)
        code.store(code.builder.select(is_off, code.zero, code.load(gradient, (number, 1))), before, (number, 1))

    code.loop(count, one)


def weight_gradient(code: Code, stage: Stage, inputs: Value, gradient: Value, to_weight: Value) -> None:
    """Add the sums over all pixels of an image; those of one block of taps and outputs are in registers."""
    layer, (height, width) = stage.convolution, stage.convolved
    taps = layer.kernel * layer.inputs  # of a row of the kernel; its inputs are neighbours
    most_taps, most_outputs = block_of(taps, layer.outputs)
    step = layer.stride * layer.inputs

    def down(ky: Value, _: list[Value]) -> None:
        line, kernel = code.at(inputs, (ky, stage.width * layer.inputs)), code.at(to_weight, (ky, taps * layer.outputs))
        for start, some_taps, repeats in tiles(taps, most_taps):
            tile(line, kernel, start, some_taps, repeats)

    def tile(line: Value, kernel: Value, start: int, some_taps: int, repeats: int) -> None:
        def one(number: Value, _: list[Value]) -> None:
            address = code.at(line, (number, some_taps), start)
            destination = code.at(kernel, (number, some_taps * layer.outputs), start * layer.outputs)
            for first, some in _cut(layer.outputs, most_outputs):
                sums = over_pixels(address, first, some, some_taps)
                for place, total in enumerate(sums):
                    tap, o = divmod(place, some)
                    code.add(total, destination, tap * layer.outputs + first + o)

        code.loop(repeats, one)

    def over_pixels(address: Value, first: int, some: int, some_taps: int) -> list[Value]:
        def row(y: Value, sums: list[Value]) -> list[Value]:
            above = code.at(address, (y, stage.width * step))
            gradient_row = code.at(gradient, (y, width * layer.outputs), first)

            def pixel(x: Value, sums: list[Value]) -> list[Value]:
                values = [code.load(above, (x, step), tap) for tap in range(some_taps)]
                gradients = [code.load(gradient_row, (x, layer.outputs), o) for o in range(some)]
                pairs = [(value, each) for value in values for each in gradients]
                return [code.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

            return code.loop(width, pixel, sums)

        return code.loop(height, row, [code.zero] * (some * some_taps))

    code.loop(layer.kernel, down)


def bias_gradient(code: Code, stage: Stage, gradient: Value, to_bias: Value) -> None:
    """Add the sums over all pixels of an image."""
    layer, (height, width) = stage.convolution, stage.convolved
    for first, some in _cut(layer.outputs, vector_code.machine().sums):

        def pixel(number: Value, sums: list[Value], first: int = first) -> list[Value]:
            address = code.at(gradient, (number, layer.outputs), first)
            return [code.builder.fadd(total, code.load(address, o)) for o, total in enumerate(sums)]

        for o, total in enumerate(code.loop(height * width, pixel, [code.zero] * some)):
            code.add(total, to_bias, first + o)


def input_gradient(code: Code, stage: Stage, gradient: Value, weight: Value, to_inputs: Value) -> None:
    """Gather what all outputs send back to each input; sums of neighbouring pixels and inputs are in registers.

    With a stride, inputs at one remainder of their place meet the same taps, so each remainder has code of its own. An
    input adds up rows of the kernel downwards, and of each row what its outputs send from left to right.
    """
    layer, shape = stage.convolution, stage.convolved
    remainders = range(min(layer.stride, layer.kernel))
    if layer.stride > layer.kernel or any(
        _reach(layer, n) < n_inputs for n, n_inputs in zip(shape, (stage.height, stage.width), strict=True)
    ):
        clear(code, to_inputs, stage.height * stage.width * layer.inputs)  # some inputs that no output reads
    for down in remainders:
        n_down = len(range(down, layer.kernel, layer.stride))

        def row(number: Value, _: list[Value], down: int = down, n_down: int = n_down) -> None:
            address = code.at(
                to_inputs, (number, layer.stride * stage.width * layer.inputs), down * stage.width * layer.inputs
            )
            rows = _Taps(code, number, n_outputs=shape[0], count=n_down)
            for across in remainders:
                _gather_row(code, stage, gradient, weight, address, rows, down=down, across=across)

        code.loop(shape[0] + n_down - 1, row)


class _Taps:
    """The outputs that send something to an input along one axis, by the number of their tap: first, last and count."""

    def __init__(self, code: Code, place: Value, *, n_outputs: int, count: int) -> None:
        build, integer = code.builder, vector_code.INT
        beyond = build.sub(place, integer(n_outputs - 1))
        self.first = build.select(build.icmp_signed(">", beyond, integer(0)), beyond, integer(0))
        most = integer(count - 1)
        self.last = build.select(build.icmp_signed("<", place, most), place, most)
        self.count = build.add(build.sub(self.last, self.first), integer(1))
        self.place = place


def _gather_row(
    code: Code, stage: Stage, gradient: Value, weight: Value, address: Value, rows: _Taps, *, down: int, across: int
) -> None:
    """Write a row of inputs' gradients, those whose column has a remainder of `across`."""
    layer, width, build, integer = stage.convolution, stage.convolved[1], code.builder, vector_code.INT
    n_across = len(range(across, layer.kernel, layer.stride))
    n_inner = max(width - n_across + 1, 0)  # columns that meet every tap
    most_pixels, most_inputs = block_of(max(n_inner, 1), layer.inputs)

    def sums(column: Value, first: Value, first_tap: Value, n_taps: Value | int, pixels: int, some: int) -> list[Value]:
        """Return the sums of neighbouring columns (pixel, input); of a row of the kernel, the last tap comes first."""

        def over_rows(number: Value, carried: list[Value]) -> list[Value]:
            tap = build.add(rows.first, number)
            line = code.at(gradient, (build.sub(rows.place, tap), width * layer.outputs))
            row_size = layer.kernel * layer.inputs * layer.outputs
            kernel = code.at(weight, (tap, layer.stride * row_size), down * row_size)

            def over_taps(back: Value, carried: list[Value]) -> list[Value]:
                tap = build.sub(first_tap, back)
                gradient_column = code.at(line, (build.sub(column, tap), layer.outputs))
                size = layer.inputs * layer.outputs
                taps = code.at(kernel, (tap, layer.stride * size), (first, layer.outputs), across * size)

                def output(o: Value, carried: list[Value]) -> list[Value]:
                    values = [code.load(gradient_column, (o, 1), pixel * layer.outputs) for pixel in range(pixels)]
                    weights = [code.load(taps, (o, 1), each * layer.outputs) for each in range(some)]
                    pairs = [(value, each) for value in values for each in weights]
                    return [code.multiply_add(*pair, total) for pair, total in zip(pairs, carried, strict=True)]

                return code.loop(layer.outputs, output, carried)

            return code.loop(n_taps, over_taps, carried)

        return code.loop(rows.count, over_rows, [code.zero] * (pixels * some))

    def tile(column: Value, first_tap: Value, n_taps: Value | int, pixels: int, most: int) -> None:
        for start, some, repeats in tiles(layer.inputs, most):

            def one(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
                first = build.add(build.mul(number, integer(some)), integer(start))
                target = code.at(address, (column, layer.stride * layer.inputs), (first, 1), across * layer.inputs)
                for place, total in enumerate(sums(column, first, first_tap, n_taps, pixels, some)):
                    pixel, each = divmod(place, some)
                    code.store(total, target, pixel * layer.stride * layer.inputs + each)

            code.loop(repeats, one)

    for start, pixels, repeats in tiles(n_inner, most_pixels):

        def inner(number: Value, _: list[Value], start: int = start, pixels: int = pixels) -> None:
            column = build.add(build.mul(number, integer(pixels)), integer(n_across - 1 + start))
            tile(column, integer(n_across - 1), n_across, pixels, most_inputs)

        code.loop(repeats, inner)

    def edge(number: Value, _: list[Value]) -> None:
        is_left = build.icmp_signed("<", number, integer(n_across - 1))
        column = build.select(is_left, number, build.add(number, integer(n_inner)))
        taps = _Taps(code, column, n_outputs=width, count=n_across)
        tile(column, taps.last, taps.count, 1, min(vector_code.machine().sums, layer.inputs))

    if n_edge := width + n_across - 1 - n_inner:
        code.loop(n_edge, edge)


def _reach(layer: Convolution, n_outputs: int) -> int:
    """Return how many inputs along an axis the outputs read, gaps between strides not counted."""
    return (n_outputs - 1) * layer.stride + layer.kernel


def _cut(length: int, most: int) -> list[tuple[int, int]]:
    """Cut a length into nearly equal pieces (start, size) of up to `most`."""
    pieces = -(-length // most)
    bounds = [length * number // pieces for number in range(pieces + 1)]
    return [(start, stop - start) for start, stop in pairwise(bounds)]


def tiles(length: int, size: int) -> list[tuple[int, int, int]]:
    """Cut a length into tiles of a size and a rest: (start, size, how many)."""
    whole, rest = divmod(length, size)
    return [(0, size, whole)] * (whole > 0) + [(whole * size, rest, 1)] * (rest > 0)


def block_of(rows: int, columns: int) -> tuple[int, int]:
    """Return the largest (rows, columns) of sums that a block of registers holds with fewest loads a product."""
    sums = vector_code.machine().sums

    def loads(block: tuple[int, int]) -> float:
        high, wide = block
        return rows * -(-columns // wide) + columns * -(-rows // high)

    blocks = [(a, b) for a in range(1, min(rows, sums) + 1) for b in range(1, min(columns, sums // a) + 1)]
    return min(blocks, key=loads)
