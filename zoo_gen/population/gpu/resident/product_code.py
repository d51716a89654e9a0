"""Products in CUDA C++: a warp goes from window to window, and what its sums become is up to who asks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo_gen.population.gpu.resident.gathers import OCTET, Field, Gather, Half
from zoo_gen.population.gpu.resident.program import LANES, Program

_HELD = 16  # fragments of weights that a warp keeps in registers while it goes from window to window, at most
_HELD_SPLIT = 6  # where each is two


def row_of(field: Field, y: str, x: str, channel: str) -> str:
    """Return the row of a value in a field, in C++."""
    low = (field.low * field.line) + field.low * field.channels
    terms = [channel]
    if field.height > 1:
        terms.append(f"({y}) * {field.line}")
    if field.width > 1:
        terms.append(f"({x}) * {field.channels}")
    return f"({' + '.join(terms)} + {low})" if low else f"({' + '.join(terms)})"


def quotient(number: str, divisor: int, most: int) -> str:
    """Return a quotient that is less than `most`, in C++."""
    return "0" if most == 1 else f"({number}) / {divisor}"


def remainder(number: str, divisor: int, most: int) -> str:
    """Return the remainder that belongs to `quotient`."""
    return number if most == 1 else f"({number}) % {divisor}"


def product(program: Program, gather: Gather, *, title: str, fragments: int, source: str, start: str, end: str) -> str:
    """Return the loop of a product: for each window, what `start` sets c<tile> to, the sums, and what `end` does.

    Args:
        program: whose it is.
        gather: its tables.
        title: a comment.
        fragments: the byte where its weights begin.
        source: the byte where the rows of a group begin that it reads, in C++.
        start: code that declares what sums begin with.
        end: code that uses them.
    """
    grid, size, of_block = gather.grid, 16 * program.k * program.width, gather.fragments_of_block
    most = _HELD_SPLIT if program.precision == "float32" else _HELD
    held = range(of_block if gather.blocks == 1 and of_block <= most else 0)
    octets = _Octets(program, gather)
    known, body = set(held), []
    for step in range(max(len(tile.steps) for tile in gather.tiles)):
        for number, tile in enumerate(gather.tiles):
            if step >= len(tile.steps):
                continue
            fragment, some = tile.steps[step]
            body += [line for octet in some for line in octets.loaded(octet)]
            if fragment not in known:
                known.add(fragment)
                place = f"{fragments + fragment * size} + block * {of_block * size} + lane * 16"
                body.append(f"const Fragment a{fragment} = fragment_at({place});")
            operands = [f"b{octet}" for octet in some]
            operands += ["Operand{0}"] * (program.k // OCTET - len(some))
            body.append(f"multiply(c{number}, a{fragment}, {', '.join(operands)});")
    declared = octets.declared + [
        f"const Fragment a{fragment} = fragment_at({fragments + fragment * size} + lane * 16);" for fragment in held
    ]
    windows = grid.windows[0] * grid.windows[1]
    of_group = remainder("task", windows * gather.blocks, program.groups)
    line, newline = "\n        ", "\n            "
    return f"""
    {{  // {title}
        {line.join(declared)}
        for (int task = warp; task < groups * {windows * gather.blocks}; task += WARPS) {{
            const int group = {quotient("task", windows * gather.blocks, program.groups)};
            const int block = {quotient(of_group, windows, gather.blocks)};
            const int window = {remainder(of_group, windows, gather.blocks)};
            const int down = window / {grid.windows[1]}, across = window % {grid.windows[1]};
            const int base = {source} + down * {grid.steps[0] * program.row} + across * {grid.steps[1] * program.row};
            (void)block, (void)down, (void)across;
            {start}
            {newline.join(body)}
            {end}
        }}
    }}
    barrier();
"""


@dataclass
class _Octets:
    """The loads of a window's octets, each once, and what lanes must look up for them beforehand."""

    program: Program
    gather: Gather
    declared: list[str] = field(default_factory=list)
    known: set[int] = field(default_factory=set)

    def loaded(self, octet: int) -> list[str]:
        """Return the code that declares b<octet>, unless it has been."""
        if octet in self.known:
            return []
        if self.program.precision == "bfloat16":
            return self._loaded_together(octet)
        self.known.add(octet)
        rows, row = self.gather.octets[octet], self.program.row
        words = []
        for four in (rows[:4], rows[4:]):
            lanes = self._lanes([(four[lane % 4] - four[0]) * row + lane // 4 * 4 for lane in range(LANES)])
            words.append(f"at<u32>(base + {lanes} + {four[0] * row})")
        return [f"const Operand b{octet} = {{{', '.join(words)}}};"]

    def _loaded_together(self, octet: int) -> list[str]:
        """Load up to four octets by one instruction."""
        following = range(octet, min(octet + 4, len(self.gather.octets)))
        numbers = [number for number in following if number not in self.known]
        count = 4 if len(numbers) >= 3 else len(numbers)
        self.known.update(numbers)
        rows = [row for number in numbers for row in self.gather.octets[number]]
        lanes = self._lanes([(row - rows[0]) * self.program.row for row in rows + [rows[0]] * (LANES - len(rows))])
        names = [f"b{number}.x" for number in numbers] + ["unused"] * (count - len(numbers))
        load = f"LOAD{count}(TRANSPOSED, base + {lanes} + {rows[0] * self.program.row}, {', '.join(names)});"
        if "unused" in names:
            load = f"{{ u32 unused; {load} (void)unused; }}"
        return [f"Operand {', '.join(f'b{number}' for number in numbers)};", load]

    def _lanes(self, offsets: Sequence[int]) -> str:
        """Return the name of a number that each lane looks up."""
        place = self.program.table(offsets)
        line = f"const int lane{place} = at<int>(TABLES + {place} + lane * 4);"
        if line not in self.declared:
            self.declared.append(line)
        return f"lane{place}"


def inputs_of(program: Program, number: int) -> str:
    """Return what the activation of a stage at y, x, channel is computed from, a word in memory, in C++."""
    name = program.stages[number].name
    held = f"{row_of(Field(*program.shape(number)), 'y', 'x', 'channel')} * {program.row} + column * (int)sizeof(Word)"
    if program.outside:
        return f"*(Word*)(inputs + {program.outside_places[name]} + group * {program.outside_group} + {held})"
    return f"at<Word>({program.place[f'inputs {name}']} + group * GROUP + {held})"


def outputs_of(gather: Gather) -> dict[Half, tuple[str, str]]:
    """Return the names of the sums of both images of a thread, for each output pixel and block of channels."""
    return {
        half: (f"c{number}[{2 * which}]", f"c{number}[{2 * which + 1}]")
        for number, tile in enumerate(gather.tiles)
        for which, half in enumerate(tile.halves)
        if half is not None
    }


def channel_of(gather: Gather, block: int) -> tuple[str, bool]:
    """Return a thread's channel in a block of eight, in C++, and whether some threads have none there."""
    channel = f"({f'(block * {gather.channels} + {block})' if gather.blocks > 1 else block} * {OCTET} + row)"
    return channel, gather.grid.outputs[0] < gather.blocks * gather.channels * OCTET
