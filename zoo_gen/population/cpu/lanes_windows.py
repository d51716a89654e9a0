"""Code that pools the windows of an image whose numbers are vectors of models, and sends gradients back through it."""

from collections.abc import Callable

from zoo_gen.architecture.layers import Pooling
from zoo_gen.machine.vector_code import Code, Value


def windows(height: int, width: int, size: int, stride: int) -> tuple[int, int]:
    """Return how many windows fit into an image, down and along."""
    return (height - size) // stride + 1, (width - size) // stride + 1


def pooled(pooling: Pooling, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of what pooling gives."""
    return windows(height, width, pooling.size, pooling.stride)


def pool(
    code: Code,
    pooling: Pooling,
    shape: tuple[int, int],
    channels: int,
    inputs: Value,
    outputs: Value,
    places: Value,
    *,
    then: Callable[[Value], Value] = lambda value: value,
) -> None:
    """Pool; the maximum is the first of equals and NaN wins, as in torch, and `places` says which it was.

    `then` is what becomes of each result before it is stored.
    """
    build, small = code.builder, code.integers(8)

    def window(address: Value, target: Value, chosen: Value) -> None:
        values = [code.load(address, place) for place in _window(pooling, shape[1], channels)]
        best, which = values[0], code.constant(0, small)
        for number, value in enumerate(values[1:], start=1):
            if pooling.kind == "average":
                best = build.fadd(best, value)
                continue
            better = build.or_(build.fcmp_ordered(">", value, best), build.fcmp_unordered("uno", value, value))
            best = build.select(better, value, best)
            which = build.select(better, code.constant(number, small), which)
        if pooling.kind == "average":
            best = build.fdiv(best, code.constant(len(values)))
        else:
            code.store(which, chosen)
        code.store(then(best), target)

    _over_windows(code, pooling, shape, channels, inputs, outputs, places, window)


def unpool(
    code: Code,
    pooling: Pooling,
    shape: tuple[int, int],
    channels: int,
    gradient: Value,
    to_inputs: Value,
    places: Value,
) -> None:
    """Send the gradient of each window to the value that was taken, or in equal parts to all."""
    build, small = code.builder, code.integers(8)
    apart = pooling.stride >= pooling.size
    rows, columns = pooled(pooling, *shape)
    if not apart or (rows * pooling.size, columns * pooling.size) != shape:
        clear(code, to_inputs, shape[0] * shape[1] * channels)

    def window(address: Value, upstream: Value, chosen: Value) -> None:
        value = code.load(upstream)
        targets = _window(pooling, shape[1], channels)
        if pooling.kind == "average":
            value = build.fdiv(value, code.constant(len(targets)))
        else:
            which = code.load(chosen, kind=small)
        for number, place in enumerate(targets):
            part = value
            if pooling.kind == "max":
                part = build.select(build.icmp_unsigned("==", which, code.constant(number, small)), value, code.zero)
            (code.store if apart else code.add)(part, address, place)

    _over_windows(code, pooling, shape, channels, to_inputs, gradient, places, window)


def _over_windows(
    code: Code,
    pooling: Pooling,
    shape: tuple[int, int],
    channels: int,
    large: Value,
    small: Value,
    places: Value,
    window: Callable[[Value, Value, Value], None],
) -> None:
    """Write `window(first value, the window's number, its place)` for each window and channel."""
    rows, columns = pooled(pooling, *shape)

    def row(y: Value, _: list[Value]) -> None:
        def column(x: Value, _: list[Value]) -> None:
            def channel(c: Value, _: list[Value]) -> None:
                steps = (y, columns * channels), (x, channels), (c, 1)
                address = code.at(
                    large, (y, pooling.stride * shape[1] * channels), (x, pooling.stride * channels), (c, 1)
                )
                window(address, code.at(small, *steps), code.at(places, *steps, kind=code.integers(8)))

            code.loop(channels, channel)

        code.loop(columns, column)

    code.loop(rows, row)


def _window(pooling: Pooling, width: int, channels: int) -> list[int]:
    """Return where the values of a window lie, from its first one."""
    return [(y * width + x) * channels for y in range(pooling.size) for x in range(pooling.size)]


def clear(code: Code, pointer: Value, count: int) -> None:
    """Put zeros into so many vectors."""
    code.loop(count, lambda number, _: code.store(code.zero, pointer, (number, 1)))
