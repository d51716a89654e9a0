"""Products of matrices of vectors whose lanes are models, and sums over their rows; see `lanes`."""

from collections.abc import Callable
from dataclasses import dataclass

from zoo_gen.machine.vector_code import Code, Value
from zoo_gen.population.cpu.lanes_products import block_of, rectified, tiles

ROWS_AT_ONCE = 8  # of a softmax or a norm: as many sums as hide the time that an addition takes


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
                address = code.at(target, (x, some_columns * outputs.column), left * outputs.column)
                places = [r * outputs.row + c * outputs.column for r in range(some_rows) for c in range(some_columns)]
                if add:
                    begun = [code.load(address, place) for place in places]
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
                    code.store(rectified(code, total) if relu else total, address, place)

            code.loop(along, block)

        code.loop(down, row_of_blocks)


def sums_of(code: Code, count: int, rows: int, term: Callable[[Value, int], Value]) -> list[Value]:
    """Return the sum of `term(number, row)` over numbers below `count`, for each of some rows."""

    def more(number: Value, sums: list[Value]) -> list[Value]:
        return [code.builder.fadd(total, term(number, row)) for row, total in enumerate(sums)]

    return code.loop(count, more, [code.zero] * rows)


def add_rows(code: Code, rows: int, columns: int, values: Value, sums: Value) -> None:
    """Add the sum of the rows of a matrix to a vector."""
    for start, some, repeats in tiles(columns, even(columns, ROWS_AT_ONCE)):

        def tile(number: Value, _: list[Value], start: int = start, some: int = some) -> None:
            address = code.at(values, (number, some), start)
            for c, total in enumerate(sums_of(code, rows, some, lambda row, c: code.load(address, (row, columns), c))):
                code.add(total, sums, (number, some), start + c)

        code.loop(repeats, tile)


def even(length: int, most: int) -> int:
    """Return the size of nearly equal pieces of a length, each of up to `most`."""
    return -(-length // -(-length // most))
