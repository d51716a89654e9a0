"""What our kernels of attention are written with: the sets of a bucket in the lanes of vector registers.

A kernel takes one (group of sets, head) after another, a group as many sets as there are lanes. It copies queries, keys
and values, transposed, into room that stays in the cache, so every product is one of vectors (lane,) and no set ever
meets another. Elements are padded to whole tiles there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from zoo_gen.machine.vector_code import INT, Code, Value, machine

TILE = 4  # queries and keys whose scores are in registers at once
COUNTS = 5  # of a kernel's numbers: queries, keys, sets, heads, the first pair; then the strides of each tensor
NEVER = -1e30  # the score of what is masked
# 2^f - 1 = f times this polynomial for |f| <= 1/2, to 0.7 units in the last place of 2^f (fitted at Chebyshev nodes).
_POWERS = (0.6931472055771, 0.2402264846228, 0.0555032903515, 0.0096183732514, 0.0013399848290, 0.0001537070481)
_TO_INTEGER = 1.5 * 2**23  # a float32 this large has no digits behind the point


def lanes() -> int:
    """Return how many sets stand side by side: as many as 256 bits hold, so that what one head needs stays near.

    Measured on a Zen 4: whole registers of 512 bits are no faster at 144 elements, and slower at 16.
    """
    return min(machine().bits, 256) // 32


def padded(count: int) -> int:
    """Return how many elements stand in whole tiles."""
    return -(-count // TILE) * TILE


class Tensor(NamedTuple):
    """A tensor (set, element, head, number) in memory; the numbers of a head are neighbours."""

    pointer: Value
    of_set: Value  # strides, in numbers
    of_element: Value
    of_head: Value


class Elements(NamedTuple):
    """How many elements a set has."""

    count: Value
    tiles: Value
    padded: Value  # to whole tiles


class Pair(NamedTuple):
    """A group of sets and a head."""

    sets: list[Value]  # of each lane: the number of its set
    head: Value


class Writer(Code):
    """A kernel for pairs of a group and a head; it takes tensors, room, numbers and how many pairs."""

    def __init__(self, tensors: int) -> None:
        super().__init__(tensors + 3, lanes=lanes(), bits=32)
        *addresses, self.statistics, self.room, numbers, self.pairs = self.arguments
        n_queries, n_keys, self.n_sets, self.heads, self.first = (self.integer(numbers, at) for at in range(COUNTS))
        self.tensors = [
            Tensor(address, *(self.integer(numbers, COUNTS + 3 * place + at) for at in range(3)))
            for place, address in enumerate(addresses)
        ]
        self.queries, self.keys = self.padded(n_queries), self.padded(n_keys)
        self._bits = self.integers(32)

    def integer(self, pointer: Value, at: int) -> Value:
        """Return one of an array of integers."""
        return self.builder.load(self.builder.gep(pointer, [INT(at)], source_etype=INT), typ=INT)

    def padded(self, count: Value) -> Elements:
        """Return so many elements, padded."""
        b = self.builder
        tiles = b.udiv(b.add(count, INT(TILE - 1)), INT(TILE))
        return Elements(count, tiles, b.mul(tiles, INT(TILE)))

    def largest(self, one: Value, other: Value) -> Value:
        """Return the larger of two numbers of each lane."""
        return self.builder.select(self.builder.fcmp_ordered(">", one, other), one, other)

    def pair(self, number: Value) -> Pair:
        """Return which sets and head these are; lanes without a set repeat the last one, and what they find is its."""
        b = self.builder
        number = b.add(number, self.first)
        first = b.mul(b.udiv(number, self.heads), INT(self.lanes))
        last = b.sub(self.n_sets, INT(1))
        sets = []
        for lane in range(self.lanes):
            own = b.add(first, INT(lane))
            sets.append(b.select(b.icmp_unsigned("<", own, last), own, last))
        return Pair(sets, b.urem(number, self.heads))

    def rows(self, tensor: Tensor, pair: Pair) -> list[Value]:
        """Return the address of each lane's first element."""
        b = self.builder
        start = b.gep(tensor.pointer, [b.mul(pair.head, tensor.of_head)], source_etype=self.vector.element)
        return [b.gep(start, [b.mul(own, tensor.of_set)], source_etype=self.vector.element) for own in pair.sets]

    def gather(
        self, tensor: Tensor, pair: Pair, elements: Elements, dim: int, room: Value, factor: float = 1.0
    ) -> None:
        """Copy elements to (element, number, lane); what fills the last tile is the last element again."""
        b = self.builder
        rows, last = self.rows(tensor, pair), b.sub(elements.count, INT(1))
        factors = self.constant(factor)

        def one(element: Value, _: list[Value]) -> None:
            own = b.select(b.icmp_unsigned("<", element, last), element, last)
            offset = b.mul(own, tensor.of_element)
            for start, size in _powers(dim, self.lanes):
                kind = self.several(size)
                parts = [
                    b.load(b.gep(row, [b.add(offset, INT(start))], source_etype=self.vector.element), typ=kind, align=4)
                    for row in rows
                ]
                while len(parts) > 1:
                    half = len(parts) // 2
                    parts = [self._interleaved(a, c) for a, c in zip(parts[:half], parts[half:], strict=True)]
                for number in range(size):
                    vector = self.chosen(parts[0], range(number * self.lanes, (number + 1) * self.lanes))
                    vector = vector if factor == 1.0 else b.fmul(vector, factors)
                    self.store(vector, room, (element, dim), start + number)

        self.loop(elements.padded, one)

    def scatter(
        self, room: Value, tensor: Tensor, pair: Pair, elements: Elements, dim: int, factor: float = 1.0
    ) -> None:
        """Copy (element, number, lane) back to the elements of a tensor."""
        b = self.builder
        rows = self.rows(tensor, pair)
        factors = self.constant(factor)

        def one(element: Value, _: list[Value]) -> None:
            offset = b.mul(element, tensor.of_element)
            for start, size in _powers(dim, self.lanes):
                vectors = [self.load(room, (element, dim), start + number) for number in range(size)]
                if factor != 1.0:
                    vectors = [b.fmul(vector, factors) for vector in vectors]
                while len(vectors) > 1:
                    vectors = [self._joined(a, c) for a, c in zip(vectors[::2], vectors[1::2], strict=True)]
                parts = vectors
                while len(parts) < self.lanes:
                    count = parts[0].type.count
                    parts = [self.chosen(part, range(odd, count, 2)) for odd in range(2) for part in parts]
                for row, part in zip(rows, parts, strict=True):
                    b.store(part, b.gep(row, [b.add(offset, INT(start))], source_etype=self.vector.element), align=4)

        self.loop(elements.count, one)

    def mask(self, tensor: Tensor | None, pair: Pair, room: Value) -> None:
        """Put what is added to the scores of each key into (element, lane)."""
        if tensor is not None:
            self.gather(tensor, pair, self.keys, 1, room)
        else:
            self.loop(self.keys.padded, lambda key, _: self.store(self.zero, room, (key, 1)))
        self.end(room, self.keys, 1, NEVER)

    def end(self, room: Value, elements: Elements, dim: int, value: float) -> None:
        """Put a value into what fills the last tile of (element, number, lane)."""
        b = self.builder

        def one(number: Value, _: list[Value]) -> None:
            for at in range(dim):
                self.store(self.constant(value), room, (b.add(elements.count, number), dim), at)

        with b.if_then(b.icmp_unsigned("<", elements.count, elements.padded)):
            self.loop(b.sub(elements.padded, elements.count), one)

    def power_of_two(self, exponents: Value) -> Value:
        """Return 2^x for x <= 0; what is below float32's smallest numbers is 0."""
        b = self.builder
        x = self.largest(exponents, self.constant(-127.0))
        shifted = b.fadd(x, self.constant(_TO_INTEGER))
        rest = b.fsub(x, b.fsub(shifted, self.constant(_TO_INTEGER)))
        found = self.constant(_POWERS[-1])
        for power in (*_POWERS[-2::-1], 1.0):
            found = self.multiply_add(found, rest, self.constant(power))
        whole = b.shl(b.bitcast(shifted, self._bits), self.constant(23, self._bits))
        return b.bitcast(b.add(b.bitcast(found, self._bits), whole), self.vector)

    def products(self, left: Value, right: Value, dim: int, begun: list[Value]) -> list[Value]:
        """Add products of TILE rows of each of two (row, number, lane): for each row on the right, all on the left."""

        def one(number: Value | None, sums: list[Value], offset: int = 0) -> list[Value]:
            place = () if number is None else ((number, 1),)
            own = [self.load(left, *place, row * dim + offset) for row in range(TILE)]
            others = [self.load(right, *place, row * dim + offset) for row in range(TILE)]
            pairs = [(one, other) for other in others for one in own]
            return [self.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

        if dim > 16:
            return self.loop(dim, one, begun)
        for number in range(dim):
            begun = one(None, begun, number)
        return begun

    def clear(self, rooms: Sequence[Value], elements: Elements, dim: int) -> None:
        """Put zeros into some rooms (element, number, lane)."""

        def one(element: Value, _: list[Value]) -> None:
            for room in rooms:
                for at in range(dim):
                    self.store(self.zero, room, (element, dim), at)

        self.loop(elements.padded, one)

    def weighted(self, weights: Value, rows: Value, dim: int, start: int, size: int) -> list[Value]:
        """Return for each of TILE queries the sums of some numbers of all rows, weighted."""

        def one(other: Value, sums: list[Value]) -> list[Value]:
            its = [self.load(weights, (other, TILE), row) for row in range(TILE)]
            values = [self.load(rows, (other, dim), start + at) for at in range(size)]
            pairs = [(weight, value) for weight in its for value in values]
            return [self.multiply_add(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

        return self.loop(self.keys.padded, one, [self.zero] * (TILE * size))

    def spread(self, weights: Value, queries: Value, to: Value, dim: int, start: int, size: int) -> None:
        """Add to some numbers of each row those of TILE queries, weighted."""
        own = [[self.load(queries, row * dim + start + at) for at in range(size)] for row in range(TILE)]

        def one(other: Value, _: list[Value]) -> None:
            its = [self.load(weights, (other, TILE), row) for row in range(TILE)]
            for at in range(size):
                total = self.load(to, (other, dim), start + at)
                for row, weight in enumerate(its):
                    total = self.multiply_add(weight, own[row][at], total)
                self.store(total, to, (other, dim), start + at)

        self.loop(self.keys.padded, one)

    def rooms(self, *, queries: Sequence[int], keys: Sequence[int]) -> list[Value]:
        """Cut room into parts of so many vectors a query, and parts of so many a key."""
        found, room = [], self.room
        for elements, sizes in ((self.queries, queries), (self.keys, keys)):
            for size in sizes:
                found.append(room)
                room = self.at(room, (elements.padded, size))
        return found

    def kept(self, number: Value) -> Value:
        """Return where the statistics of a pair begin."""
        b = self.builder
        return self.at(self.statistics, (b.mul(b.add(number, self.first), self.queries.padded), 2))

    def _interleaved(self, one: Value, other: Value) -> Value:
        count = one.type.count
        return self.chosen(one, [at for number in range(count) for at in (number, number + count)], other)

    def _joined(self, one: Value, other: Value) -> Value:
        return self.chosen(one, range(2 * one.type.count), other)


def _powers(dim: int, most: int) -> list[tuple[int, int]]:
    """Cut numbers into (start, size), the sizes powers of two."""
    found, start = [], 0
    while start < dim:
        size = min(most, 1 << ((dim - start).bit_length() - 1))
        found.append((start, size))
        start += size
    return found


def pieces(dim: int) -> list[tuple[int, int]]:
    """Cut numbers into (start, size) of at most TILE."""
    return [(start, min(TILE, dim - start)) for start in range(0, dim, TILE)]
