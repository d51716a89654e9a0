"""Products as tables: which values and which weights each element of a tile of the matrix units stands for.

A value of eight images is a *row* of shared memory. Eight rows are an octet: what one matrix instruction reads, or half
of that. The left operand is made of weights, sixteen rows high: two halves of eight channels each, of one output pixel
or of two neighbours, which then share what they read. So a product is a list of octets, found from where its window
begins, and a list of weights for each step.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from zoo_gen.population.gpu.resident.stages import Stage

OCTET = 8
_MOST_PADDING = 1.15  # of a line of taps to whole octets, where it lets two lines of outputs share what they read

Half = tuple[tuple[int, int], int]  # the place of an output in its window (y, x), and its block of eight channels
Entries = list[tuple[int, int, int]]  # (line of taps, row, key of the weight)


@dataclass(frozen=True)
class Tile:
    """Sixteen rows of outputs, and the steps that sum them: (fragment, its one or two octets)."""

    halves: tuple[Half, Half | None]
    steps: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Grid:
    """Outputs cut into windows, each the work of one warp."""

    windows: tuple[int, int]  # down, across
    sides: tuple[int, int]  # outputs of a window, down and across
    outputs: tuple[int, int, int]  # channel, height, width: what is outside is computed and not stored
    steps: tuple[int, int]  # rows of the source from a window to the next, down and across


@dataclass(frozen=True)
class Gather:
    """A product: `blocks` times the same tiles, with fragments of their own and the same octets."""

    grid: Grid
    octets: tuple[tuple[int, ...], ...]  # rows, from that of the window on
    tiles: tuple[Tile, ...]  # of the first block
    blocks: int
    channels: int  # blocks of eight channels in each of them
    fragments: np.ndarray  # int64 (block x fragment, 16, k): which weight of the layer, -1 none

    @property
    def fragments_of_block(self) -> int:
        """How many there are."""
        return len(self.fragments) // self.blocks

    def reach(self) -> int:
        """Return the first row behind all that is read."""
        last = sum((count - 1) * step for count, step in zip(self.grid.windows, self.grid.steps, strict=True))
        return last + max(map(max, self.octets)) + 1


@dataclass(frozen=True)
class Field:
    """Where pixels lie: with zeros around them, so that a window may reach outside.

    What is right of a line is what is left of the next one.
    """

    channels: int
    height: int
    width: int
    low: int = 0  # pixels of border before the first one
    high: int = 0  # and behind the last one

    @property
    def line(self) -> int:
        """How many rows lie between a pixel and the one below it."""
        return (self.width + max(self.low, self.high)) * self.channels

    @property
    def rows(self) -> int:
        """How many there are in all."""
        return self.line * (self.height + self.low + self.high) + min(self.low, self.high) * self.channels


def forward(stage: Stage, *, k: int) -> Gather:
    """Return the product of a convolution or linear layer; `k`: rows of a step of the matrix units, 8 or 16."""
    channels, _, _ = stage.product
    if stage.kind == "linear":
        flat: Entries = [(0, row, stage.feature(row)) for row in range(stage.before[0])]
        grid = Grid((1, 1), (1, 1), stage.product, (0, 0))
        return _gather(grid, lambda _: flat, lambda m, key: m * stage.inputs + key, channels, k=k)
    inputs, _, width = stage.before
    line = (width + stage.padding) * inputs
    _, height, across = stage.after
    pool = stage.pool
    pairs = 2 if pool == 1 and channels <= OCTET and across % 2 == 0 else 1
    sides = (pool, pool * pairs)
    step = stage.stride
    grid = Grid(
        (height, across // pairs),
        sides,
        (channels, height * pool, across * pool),
        (step * sides[0] * line, step * sides[1] * inputs),
    )

    def entries(place: tuple[int, int]) -> Entries:
        y, x = place
        return [
            (
                y * step + down,
                (y * step + down) * line + (x * step + right) * inputs + channel,
                (channel * stage.kernel + down) * stage.kernel + right,
            )
            for down in range(stage.kernel)
            for right in range(stage.kernel)
            for channel in range(inputs)
        ]

    return _gather(grid, entries, lambda m, key: m * stage.inputs + key, channels, k=k)


def backward(stage: Stage, *, k: int) -> tuple[Gather, Field]:
    """Return the product that gives the gradient of what a stage reads, and where it finds that of its outputs."""
    channels, height, width = stage.product
    if stage.kind == "linear":
        flat: Entries = [(0, channel, channel) for channel in range(channels)]
        grid = Grid((1, 1), (1, 1), stage.before, (0, 0))
        gather = _gather(
            grid, lambda _: flat, lambda m, key: key * stage.inputs + stage.feature(m), stage.before[0], k=k
        )
        return gather, Field(channels, 1, 1)
    inputs, before_height, before_width = stage.before
    step, area = stage.stride, stage.kernel**2
    side = step if step > 1 or -(-inputs // OCTET) % 2 == 0 else 2
    windows = (-(-before_height // side), -(-before_width // side))

    def taps(place: int) -> list[tuple[int, int]]:
        """Return (output, tap) pairs, along one axis, of the window at 0."""
        return [
            ((place + stage.padding - tap) // step, tap)
            for tap in reversed(range(stage.kernel))
            if (place + stage.padding - tap) % step == 0
        ]

    reached = [output for place in range(side) for output, _ in taps(place)]
    low = max(0, -min(reached))
    high = max(
        max(0, (count - 1) * (side // step) + max(reached) - (length - 1))
        for count, length in zip(windows, (height, width), strict=True)
    )
    slopes = Field(channels, height, width, low, high)

    def entries(place: tuple[int, int]) -> Entries:
        return [
            (
                y,
                (y + low) * slopes.line + (x + low) * channels + channel,
                channel * stage.inputs + down * stage.kernel + right,
            )
            for y, down in taps(place[0])
            for x, right in taps(place[1])
            for channel in range(channels)
        ]

    stride = side // step
    grid = Grid(windows, (side, side), stage.before, (stride * slopes.line, stride * channels))
    return _gather(grid, entries, lambda m, key: key + m * area, inputs, k=k), slopes


def terms(stage: Stage) -> list[tuple[int, int, int]]:
    """Return what the gradient of a layer's weights is a sum of: (row, or -1: ones; first parameter; from one output to
    the next).
    """
    if stage.kind == "linear":
        rows = [(row, stage.feature(row), stage.inputs) for row in range(stage.before[0])]
    else:
        inputs, _, width = stage.before
        line = (width + stage.padding) * inputs
        rows = [
            (
                down * line + right * inputs + channel,
                (channel * stage.kernel + down) * stage.kernel + right,
                stage.inputs,
            )
            for down in range(stage.kernel)
            for right in range(stage.kernel)
            for channel in range(inputs)
        ]
    if stage.bias >= 0:
        rows.append((-1, stage.product[0] * stage.inputs, 1))
    return rows


def _gather(
    grid: Grid,
    entries_of: Callable[[tuple[int, int]], Entries],
    weight_of: Callable[[int, int], int],
    channels: int,
    *,
    k: int,
) -> Gather:
    """Cut outputs into tiles, and what they read into octets."""
    places = [(y, x) for y in range(grid.sides[0]) for x in range(grid.sides[1])]
    n_blocks = -(-channels // OCTET)
    of_block = 1 if n_blocks == 1 else 2
    blocks = -(-n_blocks // of_block)
    halves: list[Half] = [(place, block) for place in places for block in range(of_block)]
    pairs = [(halves[i], halves[i + 1] if i + 1 < len(halves) else None) for i in range(0, len(halves), 2)]
    octets: dict[tuple[int, ...], int] = {}
    elements: list[np.ndarray] = []
    tiles: list[Tile] = []
    for block in range(blocks):
        known: dict[tuple[bytes, int], int] = {}
        first = len(elements)
        for pair in pairs:
            steps = []
            keys = [{row: key for _, row, key in entries_of(half[0])} if half else {} for half in pair]
            lines = sorted({(line, row) for half in pair if half for line, row, _ in entries_of(half[0])})
            groups = list(_octets(lines, share=grid.sides[0] > 1))
            for start in range(0, len(groups), k // OCTET):
                some = groups[start : start + k // OCTET]
                weights = np.full((16, k), -1, dtype=np.int64)
                for column, (row, real) in enumerate(element for group in some for element in group):
                    for number, half in enumerate(pair):
                        if half is None or not real or row not in keys[number]:
                            continue
                        channel = (block * of_block + half[1]) * OCTET
                        for m in range(min(OCTET, channels - channel)):
                            weights[number * OCTET + m, column] = weight_of(channel + m, keys[number][row])
                # Two lines of outputs have the same weights, a line apart.
                name = (weights.tobytes(), start) if blocks == 1 else (b"", len(elements))
                if name not in known:
                    known[name] = len(elements) - first
                    elements.append(weights)
                numbers = tuple(octets.setdefault(tuple(row for row, _ in group), len(octets)) for group in some)
                steps.append((known[name], numbers))
            if block == 0:
                tiles.append(Tile(pair, tuple(steps)))
    return Gather(grid, tuple(octets), tuple(tiles), blocks, of_block, np.stack(elements))


def _octets(lines: list[tuple[int, int]], *, share: bool) -> Iterable[list[tuple[int, bool]]]:
    """Yield eights of rows, each with whether it has weights: line by line where little is lost, else all in turn."""
    by_line: dict[int, list[int]] = {}
    for line, row in lines:
        by_line.setdefault(line, []).append(row)
    padded = sum(-(-len(rows) // OCTET) * OCTET for rows in by_line.values())
    parts = list(by_line.values())
    if not share or padded > _MOST_PADDING * len(lines):
        parts = [[row for _, row in lines]]
    for rows in parts:
        for start in range(0, len(rows), OCTET):
            some = rows[start : start + OCTET]
            yield [(row, True) for row in some] + [(some[0], False)] * (OCTET - len(some))
