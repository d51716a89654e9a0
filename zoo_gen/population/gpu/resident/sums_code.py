"""The gradients of a program's weights in CUDA C++: sums over the images at hand, by the matrix units.

The left operand is what the weights met, sixteen terms of a gradient high; the right one are the slopes of the outputs.
What is summed over are images and pixels: the two halves of a step are two pixels in bfloat16, else four images each.
"""

from dataclasses import dataclass
from functools import cached_property

from zoo_gen.population.gpu.resident.gathers import OCTET, Field, terms
from zoo_gen.population.gpu.resident.product_code import quotient, remainder, row_of
from zoo_gen.population.gpu.resident.program import Program, Sums
from zoo_gen.population.gpu.resident.stages import Stage


def weights(program: Program, number: int, *, first_warp: int = 0) -> str:
    """Sum the gradient of a stage's weights over the images at hand; no barrier follows.

    The tasks are shared out from `first_warp` on, so that those of several stages keep all warps busy.
    """
    part = _Part(program, number)
    stage, cut = part.stage, part.cut
    declared, parameters = part.tables()
    steps, body = part.over_windows() if part.pooled else part.over_pixels()
    totals = [f"float t{i}_{n}[4] = {{0.0f, 0.0f, 0.0f, 0.0f}};" for i in range(cut.at_once) for n in part.columns]
    shift = -first_warp % program.warps
    first_task = f"(warp + {shift}) % WARPS" if shift else "warp"
    line, newline = "\n        ", "\n            "
    return f"""
    for (int task = {first_task}; task < {cut.tasks}; task += WARPS) {{  // the weights of {stage.name}, backward
        const int part = task % {cut.groups}, split = task / {cut.groups};
        const int sums_at = {program.place[f"gradient {stage.name}"]} + split * {stage.n_weights * 4};
        {line.join(declared + totals)}
        for (int i = split; i < {steps}; i += {cut.splits}) {{
            {newline.join(body)}
        }}
        {line.join(part.stores(parameters))}
    }}
"""


@dataclass(frozen=True)
class _Part:
    """The sums of one stage."""

    program: Program
    number: int

    @cached_property
    def stage(self) -> Stage:
        return self.program.stages[self.number]

    @cached_property
    def cut(self) -> Sums:
        return self.program.sums(self.number)

    @property
    def columns(self) -> range:
        """Blocks of eight outputs."""
        return range(-(-self.stage.product[0] // OCTET))

    @property
    def wide(self) -> bool:
        """Whether a step takes two pixels."""
        return self.program.precision == "bfloat16"

    @property
    def pooled(self) -> bool:
        """Whether only what pooling left is kept of the slopes, and which of a window's values they belong to."""
        return self.program.in_place(self.number) and self.stage.pool > 1

    @property
    def source(self) -> int:
        """The byte where the values begin that the weights met."""
        place, number = self.program.place, self.number
        return place["images"] if number == 0 else place[f"values {self.program.stages[number - 1].name}"]

    @property
    def slopes(self) -> int:
        """The byte where the slopes begin."""
        kind = "values" if self.program.in_place(self.number) else "slopes"
        return self.program.place[f"{kind} {self.stage.name}"]

    @property
    def steps(self) -> tuple[int, int]:
        """Bytes from what an output met to what the one below it did, and the one right of it."""
        if self.stage.kind == "linear":
            return 0, 0
        line, row = self.program.field(self.number - 1).line, self.program.row
        return self.stage.stride * line * row, self.stage.stride * self.stage.before[0] * row

    def tables(self) -> tuple[list[str], int]:
        """Declare where a lane's rows of the left operand lie; return also the table of which parameters they are.

        A row lies at an offset from where a pixel's window begins or, odd, at the ones that a bias meets.
        """
        program, cut = self.program, self.cut
        rows = terms(self.stage)
        rows += [(-1, -1, 0)] * (cut.groups * cut.at_once * 16 - len(rows))
        ones = program.place["ones"] + 1
        offsets = program.table([ones if row < 0 else row * program.row for row, _, _ in rows])
        parameters = program.table([begin | stride << 16 if begin >= 0 else -1 for _, begin, stride in rows])
        upper = "16"  # bytes to the upper half of a step
        if self.wide:
            upper = f"{self.steps[1] if self.pooled else 0} * relative"
        declared = []
        for i in range(cut.at_once):
            upper_of_tile = upper.replace("relative", f"relative{i}")
            declared += [
                f"int offset{i} = at<int>(TABLES + {offsets} + ((part * {cut.at_once} + {i}) * 16 + (lane & 15)) * 4);",
                f"const int relative{i} = ~offset{i} & 1;",
                f"offset{i} = (offset{i} & ~1) + (lane >> 4) * {upper_of_tile};",
            ]
        return declared, parameters

    def over_windows(self) -> tuple[str, list[str]]:
        """Return how many steps there are, and the code of one: a window, of which each channel has one winner."""
        stage, program = self.stage, self.program
        _, height, width = stage.after
        down, across = self.steps
        windows, pool = height * width, stage.pool
        body = [
            f"const int group = {quotient('i', windows, program.groups)};",
            f"const int window = {remainder('i', windows, program.groups)};",
            f"const int y = window / {width}, x = window % {width};",
            f"const int from = {self.source} + group * GROUP + y * {pool * down} + x * {pool * across};",
        ]
        for n in self.columns:
            body += self._slopes_of_window(n)
        for y in range(pool):
            for x in range(0, pool, 2 if self.wide else 1):
                places = [y * pool + x] + [y * pool + x + 1] * (self.wide and x + 1 < pool)
                operands = []
                for n in self.columns:
                    names = [f"right{n}_{place}" for place in places]
                    body += [
                        f"const Operand {name} = operand_of({self._slope_of_winner(n, place)});"
                        for name, place in zip(names, places, strict=True)
                    ]
                    operands.append(names + ["Operand{0}"] * (self.wide and len(names) == 1))
                body += self._products(y * down + x * across, operands)
        return f"groups * {windows}", body

    def _slopes_of_window(self, n: int) -> list[str]:
        """Declare the slope of a window in a block of channels, and which of its values it belongs to."""
        stage, program = self.stage, self.program
        value = row_of(program.slopes(self.number), "y", "x", "channel")
        compact = row_of(Field(*stage.after), "y", "x", "channel")
        channel = f"{n * OCTET} + row"
        if stage.product[0] % OCTET:  # where there is no such channel, any will do: what it gives is not stored
            channel = f"{channel} < {stage.product[0]} ? {channel} : 0"
        winners = f"{program.place.get(f'winners {stage.name}')} + group * GROUP + {compact} * 4"
        return [
            f"Word slope{n}; Winners winners{n}; {{",
            f"const int channel = {channel};",
            f"slope{n} = word_for_sum({self.slopes} + group * GROUP + {value} * {program.row}, column);",
            f"winners{n} = winners_of({f'winners_for_sum({winners}, column)' if stage.maximum else 0});",
            "}",
        ]

    def _slope_of_winner(self, n: int, place: int) -> str:
        return f"kept_where(slope{n}, winners{n}, {place})" if self.stage.maximum else f"slope{n}"

    def over_pixels(self) -> tuple[str, list[str]]:
        """Return how many steps there are, and the code of one: one or two outputs."""
        stage, program = self.stage, self.program
        _, height, width = stage.product
        pixels, at_once = height * width, 2 if self.wide else 1
        down, across = self.steps

        def located(name: str, which: str) -> list[str]:
            return [
                f"const int {name} = {which};",
                f"const int {name}_group = {quotient(name, pixels, program.groups)};",
                f"const int {name}_pixel = {remainder(name, pixels, program.groups)};",
                f"const int {name}_y = {name}_pixel / {width}, {name}_x = {name}_pixel % {width};",
            ]

        body = [
            f"const int last = groups * {pixels} - 1;",
            *located("read", "min(2 * i + (lane >> 4), last)" if self.wide else "i"),
            f"const int from = {self.source} + read_group * GROUP + read_y * {down} + read_x * {across};",
            *located("met", "2 * i + ((lane >> 3) & 1)" if self.wide else "i"),
        ]
        operands = []
        for n in self.columns[::2]:
            some = self.columns[n : n + 2]
            names = [f"right{column}.{half}" for column in some for half in "xy"]
            body.append(f"Right {', '.join(f'right{column}' for column in some)};")
            body.append(f"LOAD{len(names)}(STRAIGHT, {self._met(n, pair=len(some) > 1)}, {', '.join(names)});")
            for column in some:
                halves = [f"right{column}.x", f"right{column}.y"]
                operands.append(
                    [f"Operand{{{half}}}" for half in halves] if self.wide else [f"Operand{{{', '.join(halves)}}}"]
                )
        body += self._products(0, operands)
        return f"(groups * {pixels} + {at_once - 1}) / {at_once}", body

    def _met(self, n: int, *, pair: bool) -> str:
        """Return where a lane's row of the right operand lies, in C++; `pair`: two blocks of channels are loaded."""
        outputs, row = self.stage.product[0], self.program.row
        at = row_of(self.program.slopes(self.number), "met_y", "met_x", "(lane & 7)")
        channel = f"{n * OCTET} + (lane >> 4) * {OCTET}" if pair else f"{n * OCTET}"
        if outputs % OCTET:
            channel = f"({channel} + (lane & 7) < {outputs} ? {channel} : 0)"
        half = "" if self.wide else " + ((lane >> 3) & 1) * 16"
        where = f"{self.slopes} + met_group * GROUP + ({at} + {channel}) * {row}{half}"
        return f"(met > last ? {self.program.place['zeros']} : {where})" if self.wide else where

    def _products(self, offset: int, operands: list[list[str]]) -> list[str]:
        """Return a step of each tile; `offset`: bytes that what was met lies behind `from`."""
        code = []
        for i in range(self.cut.at_once):
            where = f"from * relative{i} + (offset{i} + relative{i} * {offset})"
            code += [
                f"{{ Left a; LOAD4(STRAIGHT, {where}, a.x, a.y, a.z, a.w);",
                "const Fragment left = fragment_of(a);",
            ]
            code += [f"multiply(t{i}_{n}, left, {', '.join(operands[n])});" for n in self.columns]
            code.append("}")
        return code

    def stores(self, parameters: int) -> list[str]:
        """Add the sums to those of the images before, or begin with them."""
        code = []
        for i in range(self.cut.at_once):
            for half in range(2):
                which = f"(part * {self.cut.at_once} + {i}) * 16 + {8 * half} + row"
                code.append(f"{{ const int packed = at<int>(TABLES + {parameters} + ({which}) * 4);")
                code.append("const int begin = packed & 0xffff, stride = packed >> 16;")
                for n in self.columns:
                    for image in range(2):
                        channel = f"({n * OCTET} + 2 * column + {image})"
                        total = f"t{i}_{n}[{half * 2 + image}]"
                        code.append(f"if (packed >= 0 && {channel} < {self.stage.product[0]})")
                        code.append(f"    add(sums_at + (begin + {channel} * stride) * 4, {total}, first == 0);")
                code.append("}")
        return code
