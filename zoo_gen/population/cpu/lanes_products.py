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
    """A convolution without padding, and the pooling of what it gives, if any, on images of (height, width)."""

    convolution: Convolution
    pooling: Pooling | None
    height: int
    width: int

    @property
    def convolved(self) -> tuple[int, int]:
        """(height, width) of what the convolution gives."""
        return windows(self.height, self.width, self.convolution.kernel, self.convolution.stride)

    @property
    def given(self) -> tuple[int, int]:
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
            own = code.at(above, (number, pixels * step), start * step)
            destination = code.at(below, (number, pixels * layer.outputs), start * layer.outputs + first)
            begun = [code.load(bias, first + o) if layer.bias else code.zero for o in range(some)]

            def down(ky: Value, sums: list[Value]) -> list[Value]:
                line = code.at(own, (ky, stage.width * layer.inputs))
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
                code.store(total, destination, p * layer.outputs + o)

        code.loop(repeats, one)

    code.loop(height, row)


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
            own = code.at(line, (number, some_taps), start)
            destination = code.at(kernel, (number, some_taps * layer.outputs), start * layer.outputs)
            for first, some in _cut(layer.outputs, most_outputs):
                sums = over_pixels(own, first, some, some_taps)
                for place, total in enumerate(sums):
                    tap, o = divmod(place, some)
                    code.add(total, destination, tap * layer.outputs + first + o)

        code.loop(repeats, one)

    def over_pixels(own: Value, first: int, some: int, some_taps: int) -> list[Value]:
        def row(y: Value, sums: list[Value]) -> list[Value]:
            above = code.at(own, (y, stage.width * step))
            given = code.at(gradient, (y, width * layer.outputs), first)

            def pixel(x: Value, sums: list[Value]) -> list[Value]:
                values = [code.load(above, (x, step), tap) for tap in range(some_taps)]
                gradients = [code.load(given, (x, layer.outputs), o) for o in range(some)]
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
            own = code.at(gradient, (number, layer.outputs), first)
            return [code.builder.fadd(total, code.load(own, o)) for o, total in enumerate(sums)]

        for o, total in enumerate(code.loop(height * width, pixel, [code.zero] * some)):
            code.add(total, to_bias, first + o)


def input_gradient(code: Code, stage: Stage, gradient: Value, weight: Value, to_inputs: Value) -> None:
    """Add what each tap sends back to its inputs, for a block of rows and neighbouring taps at once.

    Rows of outputs send the same tap to different rows of inputs, so the sums of a block never meet.
    """
    layer, (height, width) = stage.convolution, stage.convolved
    taps = layer.kernel * layer.inputs
    most_rows, most_taps = block_of(height, taps)
    down_a_row = layer.stride * stage.width * layer.inputs
    clear(code, to_inputs, stage.height * stage.width * layer.inputs)

    def down(ky: Value, _: list[Value]) -> None:
        line, kernel = code.at(to_inputs, (ky, stage.width * layer.inputs)), code.at(weight, (ky, taps * layer.outputs))

        def pixel(x: Value, _: list[Value]) -> None:
            given, destination = code.at(gradient, (x, layer.outputs)), code.at(line, (x, layer.stride * layer.inputs))
            for start, some, repeats in tiles(taps, most_taps):
                tile(given, destination, kernel, start, some, repeats)

        code.loop(width, pixel)

    def tile(given: Value, destination: Value, kernel: Value, start: int, some: int, repeats: int) -> None:
        def one(number: Value, _: list[Value]) -> None:
            own = code.at(kernel, (number, some * layer.outputs), start * layer.outputs)
            target = code.at(destination, (number, some), start)
            for first, rows in _cut(height, most_rows):
                block(own, target, given, first, rows, some)

        code.loop(repeats, one)

    def block(own: Value, target: Value, given: Value, first: int, rows: int, some: int) -> None:
        places = [(first + row) * down_a_row + tap for row in range(rows) for tap in range(some)]

        def output(o: Value, sums: list[Value]) -> list[Value]:
            weights = [code.load(own, (o, 1), tap * layer.outputs) for tap in range(some)]
            values = [code.load(given, (o, 1), (first + row) * width * layer.outputs) for row in range(rows)]
            pairs = [(value, each) for value in values for each in weights]
            return [code.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

        sums = code.loop(layer.outputs, output, [code.load(target, place) for place in places])
        for place, total in zip(places, sums, strict=True):
            code.store(total, target, place)

    code.loop(layer.kernel, down)


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
