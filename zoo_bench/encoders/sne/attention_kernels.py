"""Kernels of softmax(q k' scale) v inside small sets and of its gradients, for a CPU.

Both are bound by multiplications, so nothing of the size of the scores is kept for the backward pass, which computes
them again. Scores are in units of log 2, that is, queries are multiplied by scale x log2(e).
"""

import functools
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from zoo_bench.encoders.sne.attention_code import NEVER, TILE, Pair, Tensor, Value, Writer, pieces


class Shape(NamedTuple):
    """What a kernel is written for."""

    dim: int  # numbers of a query, key and value
    scale: float
    is_shared: bool  # the keys are the values
    is_masked: bool


class Room(NamedTuple):
    """Where a kernel keeps what it needs of a pair."""

    queries: Value  # (query, number, lane)
    found: Value  # (query, number, lane), or the gradient of that
    keys: Value  # (key, number, lane)
    values: Value  # (key, number, lane)
    bias: Value  # (key, lane), added to scores
    powers: Value  # (key, query of the tile, lane): scores, then powers of them


class RoomBack(NamedTuple):
    """What the backward pass needs besides."""

    by_query: Value  # (query, number, lane), gradient
    means: Value  # (query, lane), of the slopes of its powers
    by_key: Value  # (key, number, lane), gradient
    by_value: Value  # (key, number, lane), gradient
    slopes: Value  # (key, query of the tile, lane), gradients of scores


def forward_room(dim: int) -> dict[str, list[int]]:
    """Return the parts of the room of `forward`: vectors a query, and vectors a key."""
    return {"queries": [dim, dim], "keys": [dim, dim, 1, TILE]}


def backward_room(dim: int) -> dict[str, list[int]]:
    """Return the parts of the room of `backward`: vectors a query, and vectors a key."""
    return {"queries": [dim, dim, dim, 1], "keys": [dim, dim, 1, TILE, dim, dim, TILE]}


@cache
def forward(shape: Shape) -> Callable[..., None]:
    """Return kernel(query, key, value, found[, mask], statistics, room, numbers, how many pairs).

    Statistics are (pair, query, 2, lane): its highest score and the inverse of its sum of powers. Operations: 4 x
    number + 1 power of two a query and key.
    """
    dim = shape.dim
    code = Writer(4 + shape.is_masked)
    *inputs, found = code.tensors[:4]
    queries, to, *rest = code.rooms(**forward_room(dim))
    room = Room(queries, to, *rest)
    if shape.is_shared:
        room = room._replace(values=room.keys)

    def one(number: Value, _: list[Value]) -> None:
        pair = code.pair(number)
        _gather(code, shape, room, pair, inputs, code.tensors[4:])
        kept = code.kept(number)
        code.loop(code.queries.tiles, lambda tile, _: _means_of_tile(code, dim, room, tile, kept))
        code.scatter(room.found, found, pair, code.queries, dim)

    code.loop(code.pairs, one)
    return code.compiled()


@cache
def backward(shape: Shape, *, back: bool) -> Callable[..., None]:
    """Return kernel(query, key, value, found, found', query', key', value'[, mask], statistics, room, numbers, pairs).

    Gradients (') have the shapes of what they belong to, with heads of their own where those are shared; where keys
    are values, that of the keys is of both. `back` says whether those of keys and values are wanted. Operations: 10 x
    number + 1 power of two a query and key.
    """
    dim = shape.dim
    code = Writer(8 + shape.is_masked)
    *inputs, found, gradient, to_query, to_key, to_value = code.tensors[:8]
    queries, given, by_query, means, keys, values, bias, powers, *rest = code.rooms(**backward_room(dim))
    room, own = Room(queries, given, keys, values, bias, powers), RoomBack(by_query, means, *rest)
    if shape.is_shared:
        room = room._replace(values=room.keys)

    def one(number: Value, _: list[Value]) -> None:
        pair = code.pair(number)
        _gather(code, shape, room, pair, inputs, code.tensors[8:])
        code.gather(gradient, pair, code.queries, dim, room.found)
        code.end(room.found, code.queries, dim, 0.0)  # queries that fill the last tile send nothing back
        code.gather(found, pair, code.queries, dim, own.by_query)
        code.loop(code.queries.padded, lambda query, _: _mean_slope(code, dim, room, own, query))
        if back:
            code.clear((own.by_key, own.by_value), code.keys, dim)
        kept = code.kept(number)

        def tile(tile: Value, _: list[Value]) -> None:
            _slopes_of_tile(code, dim, room, own, tile, kept)
            _send_back(code, dim, room, own, tile, back=back)

        code.loop(code.queries.tiles, tile)
        code.scatter(own.by_query, to_query, pair, code.queries, dim, factor=shape.scale)
        if back and not shape.is_shared:
            code.scatter(own.by_key, to_key, pair, code.keys, dim, factor=math.log(2))
            code.scatter(own.by_value, to_value, pair, code.keys, dim)
        elif back:
            code.loop(code.keys.padded, lambda key, _: _join(code, dim, own, key))
            code.scatter(own.by_value, to_key, pair, code.keys, dim)

    code.loop(code.pairs, one)
    return code.compiled()


def _gather(code: Writer, shape: Shape, room: Room, pair: Pair, inputs: list[Tensor], mask: list[Tensor]) -> None:
    """Bring queries, keys, values and the mask of a pair into its room."""
    query, key, value = inputs
    code.gather(query, pair, code.queries, shape.dim, room.queries, factor=shape.scale * math.log2(math.e))
    code.gather(key, pair, code.keys, shape.dim, room.keys)
    if not shape.is_shared:
        code.gather(value, pair, code.keys, shape.dim, room.values)
    code.mask(mask[0] if mask else None, pair, room.bias)


def _scores(code: Writer, dim: int, room: Room, tile: Value, keys: Value) -> list[Value]:
    """Return the scores of a tile of keys, of each those of a tile of queries."""
    begun = [code.load(room.bias, (keys, TILE), key) for key in range(TILE) for _ in range(TILE)]
    rows = code.at(room.queries, (tile, TILE * dim)), code.at(room.keys, (keys, TILE * dim))
    return code.products(*rows, dim, begun)


def _means_of_tile(code: Writer, dim: int, room: Room, tile: Value, kept: Value) -> None:
    """Find what a tile of queries gets: means of the values, weighted by powers of the scores."""
    b = code.builder

    def scores(keys: Value, highest: list[Value]) -> list[Value]:
        its = _scores(code, dim, room, tile, keys)
        for place, score in enumerate(its):
            code.store(score, room.powers, (keys, TILE**2), place)
        return [functools.reduce(code.largest, its[query::TILE], most) for query, most in enumerate(highest)]

    highest = code.loop(code.keys.tiles, scores, [code.constant(NEVER)] * TILE)

    def powers(key: Value, sums: list[Value]) -> list[Value]:
        its = [b.fsub(code.load(room.powers, (key, TILE), query), most) for query, most in enumerate(highest)]
        its = [code.power_of_two(each) for each in its]
        for query, power in enumerate(its):
            code.store(power, room.powers, (key, TILE), query)
        return [b.fadd(total, power) for total, power in zip(sums, its, strict=True)]

    sums = code.loop(code.keys.padded, powers, [code.zero] * TILE)
    inverses = [b.fdiv(code.constant(1.0), total) for total in sums]
    for query in range(TILE):
        code.store(highest[query], kept, (tile, 2 * TILE), 2 * query)
        code.store(inverses[query], kept, (tile, 2 * TILE), 2 * query + 1)
    for start, size in pieces(dim):
        for place, total in enumerate(code.weighted(room.powers, room.values, dim, start, size)):
            query, at = divmod(place, size)
            code.store(b.fmul(total, inverses[query]), room.found, (tile, TILE * dim), query * dim + start + at)


def _mean_slope(code: Writer, dim: int, room: Room, own: RoomBack, query: Value) -> None:
    """Find the mean of the slopes of a query's powers: its gradient times what it found, which is in `by_query`."""
    total = code.zero
    for at in range(dim):
        given, found = (code.load(part, (query, dim), at) for part in (room.found, own.by_query))
        total = code.multiply_add(given, found, total)
    code.store(total, own.means, (query, 1))


def _slopes_of_tile(code: Writer, dim: int, room: Room, own: RoomBack, tile: Value, kept: Value) -> None:
    """Find the powers of a tile of queries again, and the gradients of their scores."""
    b = code.builder
    highest, inverses = ([code.load(kept, (tile, 2 * TILE), 2 * query + at) for query in range(TILE)] for at in (0, 1))
    means = [code.load(own.means, (tile, TILE), query) for query in range(TILE)]

    def one(keys: Value, _: list[Value]) -> None:
        for place, score in enumerate(_scores(code, dim, room, tile, keys)):
            query = place % TILE
            power = b.fmul(code.power_of_two(b.fsub(score, highest[query])), inverses[query])
            code.store(power, room.powers, (keys, TILE**2), place)
        rows = code.at(room.found, (tile, TILE * dim)), code.at(room.values, (keys, TILE * dim))
        for place, slope in enumerate(code.products(*rows, dim, [code.zero] * TILE**2)):
            power = code.load(room.powers, (keys, TILE**2), place)
            code.store(b.fmul(power, b.fsub(slope, means[place % TILE])), own.slopes, (keys, TILE**2), place)

    code.loop(code.keys.tiles, one)


def _send_back(code: Writer, dim: int, room: Room, own: RoomBack, tile: Value, *, back: bool) -> None:
    """Find the gradients of a tile of queries; add what it sends back to keys and values."""
    queries, given = (code.at(part, (tile, TILE * dim)) for part in (room.queries, room.found))
    for start, size in pieces(dim):
        for place, total in enumerate(code.weighted(own.slopes, room.keys, dim, start, size)):
            query, at = divmod(place, size)
            code.store(total, own.by_query, (tile, TILE * dim), query * dim + start + at)
        if back:
            code.spread(room.powers, given, own.by_value, dim, start, size)
            code.spread(own.slopes, queries, own.by_key, dim, start, size)


def _join(code: Writer, dim: int, own: RoomBack, key: Value) -> None:
    """Add a key's gradient, brought to natural units, to that of its value."""
    for at in range(dim):
        to = code.at(own.by_value, (key, dim), at)
        by_key = code.load(own.by_key, (key, dim), at)
        code.store(code.multiply_add(by_key, code.constant(math.log(2)), code.load(to)), to)
