"""A program: what one thread block does for a network, and where everything lies in its shared memory.

How the work is cut follows from the layers, the batch size and the precision alone, never from which models are trained
together. So sums have one order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from zoo_gen.population.gpu.resident import gathers
from zoo_gen.population.gpu.resident.gathers import OCTET, Field, Gather
from zoo_gen.population.gpu.resident.stages import Cube, Stage, StagedNetwork, UnservedError

IMAGES = 8  # of a group: the columns of the matrix units
CODES = {None: 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5, "silu": 6, "sine": 7}
BY_INPUT = ("gelu", "silu", "sine")  # activations whose derivative does not follow from their value
SHARED_MOST = 227 * 1024  # bytes of shared memory that a thread block can have (compute capability 9.0)
SHARED_OF_PROCESSOR, SHARED_OF_SYSTEM = 228 * 1024, 1024  # of a multiprocessor, and what each block takes of it
MOST_THREADS = 512  # of a multiprocessor, each with the registers that products want
_MOST_SMALL = 24  # models of one warp that a multiprocessor holds
LANES = 32
# Numbers that the partial sums of one layer's gradient take at most, if it has fewer itself: more are faster.
_MOST_PARTIAL = (8000, 5000, 2600, 1700)
_FEW, _SOME, _MANY = 1, 8, 16  # warps
_MOST_GROUPS = 4  # that one warp does at once
_SMALL = 4000  # products of an image, up to which one warp does a model
_TABLES = 6 * 1024  # bytes that tables take at most, before they are known
_MOST_TOTALS = 14  # tiles of the matrix units that a warp sums at once


@dataclass(frozen=True)
class Sums:
    """How the gradient of a layer's weights is cut: tiles of sixteen terms, `at_once` of them a task, in `splits`."""

    tiles: int
    at_once: int
    splits: int

    @property
    def groups(self) -> int:
        """Of tiles."""
        return -(-self.tiles // self.at_once)

    @property
    def tasks(self) -> int:
        """Of warps."""
        return self.groups * self.splits


@dataclass(frozen=True)
class Program:
    """What is compiled for a network; `place` gives the bytes where each region begins."""

    network: StagedNetwork
    precision: str
    batch_size: int
    training: bool
    kinds: frozenset[str | None]  # activations that occur
    groups: int  # of eight images, whose values are held at once
    warps: int
    n_classes: int  # 0: the outputs are numbers
    most_partial: int = _MOST_PARTIAL[0]
    outside: bool = False  # whether what activations were computed from lies in global memory, for want of room
    tables: list[int] = field(default_factory=list)  # what lanes look up; they lie behind all else

    @cached_property
    def width(self) -> int:
        """Bytes of a value."""
        return 2 if self.precision == "bfloat16" else 4

    @property
    def row(self) -> int:
        """Bytes of a value of eight images."""
        return IMAGES * self.width

    @property
    def k(self) -> int:
        """Rows of a step of the matrix units."""
        return 16 if self.precision == "bfloat16" else 8

    @cached_property
    def forward(self) -> dict[str, Gather]:
        """The products of the forward pass."""
        return {s.name: gathers.forward(s, k=self.k) for s in self.stages if s.kind != "mean"}

    @cached_property
    def backward(self) -> dict[str, tuple[Gather, Field]]:
        """Those of the backward pass, and where they read."""
        if not self.training:
            return {}
        return {s.name: gathers.backward(s, k=self.k) for s in self.stages[1:] if s.kind != "mean"}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of the network."""
        return self.network.stages

    @property
    def threads(self) -> int:
        """Of a thread block."""
        return self.warps * LANES

    def border(self, number: int) -> int:
        """Return the zeros around each image of a stage's values; stage -1 are the images themselves."""
        following = self.stages[number + 1] if number + 1 < len(self.stages) else None
        return following.padding if following is not None else 0

    def shape(self, number: int) -> Cube:
        """Return the shape of a stage's values."""
        return self.network.image if number < 0 else self.stages[number].after

    def field(self, number: int) -> Field:
        """Return how a stage's values lie; stage -1 are the images themselves."""
        border = self.border(number)
        return Field(*self.shape(number), border, border)

    def in_place(self, number: int) -> bool:
        """Whether the gradient of a stage is written over its values, of which only what pooling left is kept."""
        return number == 0 and len(self.stages) > 1

    def slopes(self, number: int) -> Field:
        """Return how the gradient of a stage's product lies."""
        stage = self.stages[number]
        channels, height, width = stage.after
        if self.in_place(number):
            return self.field(0)
        return self.backward[stage.name][1] if stage.name in self.backward else Field(channels, height, width)

    def drops(self, number: int) -> bool:
        """Whether dropout follows a stage in training."""
        return self.training and self.stages[number].drop >= 0

    def keeps_inputs(self, number: int) -> bool:
        """Whether what an activation was computed from is kept beside what it gave."""
        stage = self.stages[number]
        occurring = {stage.function} if stage.function else self.kinds
        return self.training and stage.activates and any(kind in BY_INPUT for kind in occurring)

    def sums(self, number: int) -> Sums:
        """Return how the gradient of a layer's weights is cut."""
        stage = self.stages[number]
        tiles = -(-len(gathers.terms(stage)) // 16)
        columns = -(-stage.product[0] // OCTET)
        pixels = stage.product[1] * stage.product[2] * self.groups
        best, least = Sums(tiles, 1, 1), float("inf")
        for at_once in range(1, min(tiles, max(1, _MOST_TOTALS // columns)) + 1):
            for splits in range(1, 17):
                if splits > 1 and splits * stage.n_weights > self.most_partial:
                    continue
                cut = Sums(tiles, at_once, splits)
                rounds = -(-cut.groups * splits // self.warps)
                cost = rounds * -(-pixels // splits) * (at_once * (1 + columns) + columns + 4)
                if cost * (1 + 0.03 * splits) < least:
                    best, least = cut, cost * (1 + 0.03 * splits)
        return best

    def table(self, numbers: Sequence[int]) -> int:
        """Return where a table of numbers begins among all tables, in bytes."""
        entries = [int(number) for number in numbers]
        for start in range(0, len(self.tables) - len(entries) + 1, 16):
            if self.tables[start : start + len(entries)] == entries:
                return 4 * start
        start = len(self.tables)
        self.tables.extend(entries + [0] * (-len(entries) % 16))
        return 4 * start

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each region of shared memory begins; those of a group are counted from where the group begins."""
        fixed: dict[str, int] = {}
        end = 0

        def take(name: str, size: int) -> None:
            nonlocal end
            fixed[name], end = end, end + -(-size // 16) * 16

        take("zeros", 64)
        take("ones", 64)
        take("sums", 256)
        take("counts", 4 * 3 * max(self.n_classes, 1))
        take("numbers", 2 * 4 * 2 * IMAGES * self.groups)
        for stage in self.stages:
            if stage.bias >= 0:
                take(f"biases {stage.name}", 4 * stage.product[0])
        for name, gather in self.forward.items():
            take(f"forward {name}", gather.fragments.size * self.width)
        for name, (gather, _) in self.backward.items():
            take(f"backward {name}", gather.fragments.size * self.width)
        if self.training:
            for number, stage in enumerate(self.stages):
                if stage.kind != "mean":
                    take(f"gradient {stage.name}", 4 * stage.n_weights * self.sums(number).splits)
        start = end
        take("images", self.field(-1).rows * self.row)
        for number, stage in enumerate(self.stages):
            last = number + 1 == len(self.stages)
            channels, height, width = stage.after
            take(f"values {stage.name}", self.field(number).rows * (4 * IMAGES if last else self.row))
            if not self.training:
                continue
            if stage.maximum:
                take(f"winners {stage.name}", channels * height * width * 4)
            if self.keeps_inputs(number) and not self.outside:
                take(f"inputs {stage.name}", channels * height * width * self.row)
            if not self.in_place(number):
                take(f"slopes {stage.name}", self.slopes(number).rows * self.row)
        # A window may reach behind the last row where nothing it reads there counts; it must be a number, though.
        fixed["group"] = end - start
        fixed["tables"] = start + self.groups * (end - start) + 256
        return fixed

    @cached_property
    def outside_places(self) -> dict[str, int]:
        """Where what each activation was computed from begins in global memory, counted from where the group begins."""
        places: dict[str, int] = {}
        end = 0
        for number, stage in enumerate(self.stages):
            if self.outside and self.keeps_inputs(number):
                places[stage.name], end = end, end + math.prod(stage.after) * self.row
        return places

    @property
    def outside_group(self) -> int:
        """Bytes of global memory that a group takes."""
        return sum(math.prod(stage.after) for stage in self.stages if stage.name in self.outside_places) * self.row

    @property
    def outside_size(self) -> int:
        """Bytes of global memory that a model takes."""
        return self.groups * self.outside_group

    @property
    def size(self) -> int:
        """Bytes of shared memory, the tables that the code asked for so far included."""
        return self.place["tables"] + 4 * len(self.tables)

    @property
    def blocks(self) -> int:
        """How many models a multiprocessor holds."""
        size = self.size if self.tables else self.size + _TABLES
        most = _MOST_SMALL if self.warps == _FEW else MOST_THREADS // self.threads
        return max(1, min(SHARED_OF_PROCESSOR // (size + SHARED_OF_SYSTEM), most))

    @property
    def asks_early(self) -> bool:
        """Whether pixels are asked for while the images before are worked at: another model fills the time, if any."""
        return self.blocks == 1

    def weight_places(self) -> np.ndarray:
        """Return where each weight is written for the matrix units, int32 (copy, parameter).

        In bytes; -1: nowhere; of a bias, which is read as it is, -2 minus them.
        """
        places: list[list[int]] = [[] for _ in range(self.n_parameters)]
        for direction, products in (
            ("forward", self.forward),
            ("backward", {name: gather for name, (gather, _) in self.backward.items()}),
        ):
            for stage in self.stages:
                if stage.name not in products:
                    continue
                start = self.place[f"{direction} {stage.name}"]
                fragments = products[stage.name].fragments
                for number, m, k in np.argwhere(fragments >= 0):
                    places[stage.start + fragments[number, m, k]].append(
                        start + int(number) * 16 * self.k * self.width + self._element(int(m), int(k))
                    )
        for stage in self.stages:
            for channel in range(stage.product[0] if stage.bias >= 0 else 0):
                places[stage.bias + channel].append(-2 - self.place[f"biases {stage.name}"] - 4 * channel)
        most = max(1, *map(len, places))
        return np.array([some + [-1] * (most - len(some)) for some in places], dtype=np.int32).T.copy()

    @cached_property
    def n_parameters(self) -> int:
        """Of a model."""
        return sum(stage.n_weights for stage in self.stages if stage.kind != "mean")

    def _element(self, m: int, k: int) -> int:
        """Return the byte of an element of a fragment: 16 bytes a lane, as `mma` of PTX lays the left operand out."""
        if self.width == 2:
            lane, register = m % 8 * 4 + k % 8 // 2, m // 8 + k // 8 * 2
            return lane * 16 + register * 4 + k % 2 * 2
        return (m % 8 * 4 + k % 4) * 16 + (m // 8 + k // 4 * 2) * 4


def plan(
    network: StagedNetwork,
    *,
    precision: str,
    batch_size: int,
    training: bool,
    kinds: frozenset[str | None],
    n_classes: int,
) -> Program:
    """Return the program of a network: with two models a multiprocessor if they fit, else with twice the warps.

    Which models there are has no say in it: `kinds` takes memory, but changes no sum. Where shared memory holds a model
    but not what every activation was computed from, that lies in global memory, and only gelu, silu and sine need it.
    """

    def program(warps: int, most_partial: int) -> Program:
        return Program(network, precision, batch_size, training, frozenset(), 1, warps, n_classes, most_partial)

    products = sum(math.prod(stage.product) * stage.inputs for stage in network.stages if stage.kind != "mean")
    if products <= _SMALL:
        groups = min(_MOST_GROUPS, -(-batch_size // IMAGES))
        return replace(program(_FEW, _MOST_PARTIAL[0]), kinds=kinds, groups=groups)
    for most_partial in _MOST_PARTIAL:
        candidate = program(_SOME, most_partial)
        if candidate.blocks > 1:
            return replace(candidate, kinds=kinds, tables=[])
    for outside in (False, True):
        for most_partial in _MOST_PARTIAL:
            candidate = replace(program(_MANY, most_partial), kinds=frozenset(BY_INPUT), outside=outside)
            if candidate.size + _TABLES <= SHARED_MOST:
                break
        if candidate.size <= SHARED_MOST:
            break
    return replace(candidate, kinds=kinds, tables=[])


def check_size(program: Program) -> None:
    """Refuse a program, whose code has been written, that does not fit into the shared memory of a multiprocessor.

    Raises:
        UnservedError: it does not.
    """
    # Room for every activation is asked for, so that what is served does not depend on which models there are.
    largest = replace(program, kinds=program.kinds | {BY_INPUT[0]}).size
    if largest > SHARED_MOST:
        raise UnservedError(f"needs {largest / 1024:.0f} kB of shared memory, {SHARED_MOST // 1024} kB are there")
