"""The forward pass of a program in CUDA C++: images, products with what follows them, means."""

from collections.abc import Iterator, Sequence

from zoo_gen.population.gpu.resident.gathers import OCTET, Field, Gather, Half
from zoo_gen.population.gpu.resident.program import CODES, IMAGES, LANES, Program
from zoo_gen.population.gpu.resident.stages import Stage

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


def images(program: Program) -> str:
    """Turn the pixels of the images into values."""
    channels, height, width = program.network.image
    field = program.field(-1)
    place, row = program.place["images"], program.row
    size = channels * height * width
    together = 4 if width % 4 == 0 and program.n_classes else 1
    pixel = "const float* pixels" if not program.n_classes else "const unsigned char* pixels"
    load = (
        "const float a = number0 < 0 ? 0.0f : pixels[(size_t)number0 * SIZE + first_pixel];\n"
        "const float b = number1 < 0 ? 0.0f : pixels[(size_t)number1 * SIZE + first_pixel];"
    )
    if program.n_classes:
        kind = "u32" if together == 4 else "unsigned char"
        load = (
            f"const u32 a = number0 < 0 ? 0 : *(const {kind}*)(pixels + (size_t)number0 * SIZE + first_pixel);\n"
            f"const u32 b = number1 < 0 ? 0 : *(const {kind}*)(pixels + (size_t)number1 * SIZE + first_pixel);"
        )
    stores = []
    for i in range(together):
        values = ["a", "b"]
        if program.n_classes:
            values = [
                f"(number{j} < 0 ? 0.0f : number_of_byte({name}, {i}) * scale + offset)" for j, name in enumerate("ab")
            ]
        where = row_of(field, "y", f"x + {i}" if i else "x", "channel")
        stores.append(
            f"at<Word>({place} + group * GROUP + {where} * {row} + pair * (int)sizeof(Word)) = "
            f"packed({values[0]}, {values[1]});"
        )
    scaled = (
        "const float scale = a_scale[channel], offset = a_scale[channel + CHANNELS];" if program.n_classes else ""
    )
    return f"""
    {{  // the images
        const int SIZE = {size}, CHANNELS = {channels};
        (void)CHANNELS;
        for (int item = thread; item < groups * {size // together * 4}; item += THREADS) {{
            const int pair = item & 3, first_pixel = (item >> 2) % {size // together} * {together};
            const int group = item / {size // together * 4};
            const int channel = first_pixel / {height * width}, y = first_pixel / {width} % {height};
            const int x = first_pixel % {width};
            (void)channel, (void)y, (void)x;
            const int number0 = at<int>(numbers_at + (group * {IMAGES} + 2 * pair) * 4);
            const int number1 = at<int>(numbers_at + (group * {IMAGES} + 2 * pair + 1) * 4);
            {load}
            {scaled}
            {" ".join(stores)}
        }}
    }}
    barrier();
""".replace("PIXEL_TYPE", pixel)


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
    wide, grid = program.precision == "bfloat16", gather.grid
    held = gather.blocks == 1 and len(gather.fragments) <= (_HELD_SPLIT if program.precision == "float32" else _HELD)
    declared: list[str] = []
    body: list[str] = []
    patterns: dict[int, str] = {}

    def pattern(offsets: Sequence[int]) -> str:
        number = program.table(offsets)
        if number not in patterns:
            patterns[number] = f"lane{number}"
            declared.append(f"const int lane{number} = at<int>(TABLES + {number} + lane * 4);")
        return patterns[number]

    loaded: set[int] = set()

    def load(octet: int) -> Iterator[str]:
        if octet in loaded:
            return
        if not wide:
            rows = gather.octets[octet]
            words = []
            for four in (rows[:4], rows[4:]):
                name = pattern([(four[lane % 4] - four[0]) * program.row + lane // 4 * 4 for lane in range(LANES)])
                words.append(f"at<u32>(base + {name} + {four[0] * program.row})")
            loaded.add(octet)
            yield f"const Operand b{octet} = {{{words[0]}, {words[1]}}};"
            return
        numbers = [n for n in range(octet, min(octet + 4, len(gather.octets))) if n not in loaded]
        count = 4 if len(numbers) >= 3 else len(numbers)
        numbers = numbers[:count]
        rows = [row for number in numbers for row in gather.octets[number]]
        rows += [rows[0]] * (LANES - len(rows))
        name = pattern([(row - rows[0]) * program.row for row in rows])
        names = [f"b{number}.x" for number in numbers] + ["unused"] * (count - len(numbers))
        loaded.update(numbers)
        yield f"Operand {', '.join(f'b{number}' for number in numbers)};"
        if "unused" in names:
            yield "{ u32 unused;"
        yield f"LOAD{count}(TRANSPOSED, base + {name} + {rows[0] * program.row}, {', '.join(names)});"
        if "unused" in names:
            yield "(void)unused; }"

    size = 16 * program.k * program.width
    of_block = gather.fragments_of_block
    if held:
        declared += [
            f"const Fragment a{number} = fragment_at({fragments} + {number * size} + lane * 16);"
            for number in range(of_block)
        ]
    known = set(range(of_block)) if held else set()
    depth = max(len(tile.steps) for tile in gather.tiles)
    for step in range(depth):
        for number, tile in enumerate(gather.tiles):
            if step >= len(tile.steps):
                continue
            fragment, octets = tile.steps[step]
            for octet in octets:
                body += load(octet)
            if fragment not in known:
                known.add(fragment)
                body.append(
                    f"const Fragment a{fragment} = fragment_at({fragments} + block * {of_block * size} + "
                    f"{fragment * size} + lane * 16);"
                )
            operands = [f"b{octet}" for octet in octets] + ["Operand{0}"] * (wide and len(octets) == 1)
            body.append(f"multiply(c{number}, a{fragment}, {', '.join(operands)});")
    windows = grid.windows[0] * grid.windows[1]
    steps = [step * program.row for step in grid.steps]
    newline = "\n            "
    return f"""
    {{  // {title}
        {(chr(10) + "        ").join(declared)}
        for (int task = warp; task < groups * {windows * gather.blocks}; task += WARPS) {{
            const int group = task / {windows * gather.blocks}, block = task % {windows * gather.blocks} / {windows};
            const int window = task % {windows}, down = window / {grid.windows[1]}, across = window % {grid.windows[1]};
            const int base = {source} + down * {steps[0]} + across * {steps[1]};
            (void)block, (void)down, (void)across;
            {start}
            {newline.join(body)}
            {end}
        }}
    }}
    barrier();
"""


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


def stage(program: Program, number: int) -> str:
    """Return the forward pass of one stage."""
    own = program.stages[number]
    if own.kind == "mean":
        return _mean(program, number)
    gather = program.forward[own.name]
    source = _values(program, number - 1) if number else f"{program.place['images']} + group * GROUP"
    start = []
    for index, tile in enumerate(gather.tiles):
        begins = []
        for half in tile.halves:
            if half is None or own.bias < 0:
                begins += ["0.0f", "0.0f"]
                continue
            channel, partial = channel_of(gather, half[1])
            bias = f"at<float>({program.place[f'biases {own.name}']} + {channel} * 4)"
            begins += [f"({channel} < {own.product[0]} ? {bias} : 0.0f)" if partial else bias] * 2
        start.append(f"float c{index}[4] = {{{', '.join(begins)}}};")
    sums = outputs_of(gather)
    pool = own.pool
    end: list[str] = []
    for block in range(gather.channels):
        channel, partial = channel_of(gather, block)
        for y in range(gather.grid.sides[0] // pool):
            for x in range(gather.grid.sides[1] // pool):
                places = [(y * pool + dy, x * pool + dx) for dy in range(pool) for dx in range(pool)]
                values = [sums[(where, block)] for where in places]
                lines = [f"const int channel = {channel};"]
                lines += _pooled(own, values)
                lines += [
                    f"const int y = down * {gather.grid.sides[0] // pool} + {y};",
                    f"const int x = across * {gather.grid.sides[1] // pool} + {x};",
                    "(void)y, (void)x;",
                    _stored(program, number),
                ]
                inner = "\n                ".join(lines)
                guard = f"if ({channel} < {own.product[0]}) " if partial else ""
                end.append(f"{guard}{{\n                {inner}\n            }}")
    return product(
        program,
        gather,
        title=own.name,
        fragments=program.place[f"forward {own.name}"],
        source=source,
        start=" ".join(start),
        end="\n            ".join(end),
    )


def _values(program: Program, number: int) -> str:
    """Return the byte where a group's values of a stage begin, in C++."""
    return f"{program.place[f'values {program.stages[number].name}']} + group * GROUP"


def _pooled(own: Stage, values: list[tuple[str, str]]) -> list[str]:
    """Declare v0 and v1, the pooled values of both images, and which of a window won."""
    if len(values) == 1:
        return [f"float v0 = {values[0][0]}, v1 = {values[0][1]};"]
    if not own.maximum:
        return [
            f"float v{i} = ({' + '.join(value[i] for value in values)}) * {1 / len(values)!r}f;" for i in range(2)
        ]
    lines = [f"float v0 = {values[0][0]}, v1 = {values[0][1]}; int won0 = 0, won1 = 0;"]
    for place, value in enumerate(values[1:], start=1):
        for i in range(2):
            lines.append(f"won{i} = {value[i]} > v{i} ? {place} : won{i}; v{i} = greater(v{i}, {value[i]});")
    return lines


def _stored(program: Program, number: int) -> str:
    """Activate, drop and store v0 and v1 at y, x, channel."""
    own, place = program.stages[number], program.place
    if number + 1 == len(program.stages):
        return (
            f"at<float>({place[f'values {own.name}']} + group * GROUP + (channel * {IMAGES} + 2 * column) * 4) = v0; "
            f"at<float>({place[f'values {own.name}']} + group * GROUP + (channel * {IMAGES} + 2 * column + 1) * 4) = v1;"
        )
    channels, height, width = own.after
    compact = row_of(Field(channels, height, width), "y", "x", "channel")
    lines = []
    if program.training and own.maximum:
        lines.append(
            f"at<unsigned char>({place[f'winners {own.name}']} + group * GROUP + {compact} * 4 + column) = "
            f"(unsigned char)(won0 | won1 << 4);"
        )
    if program.keeps_inputs(number):
        lines.append(
            f"at<Word>({place[f'inputs {own.name}']} + group * GROUP + {compact} * {program.row} + "
            f"column * (int)sizeof(Word)) = packed(v0, v1);"
        )
    if own.activates:
        code = CODES[own.function] if own.function else "code"
        lines.append(f"v0 = activated(v0, {code}); v1 = activated(v1, {code});")
    if program.drops(number):
        count = channels * height * width
        lines.append(
            f"if (dropout.rate > 0) {{ const int image = first + group * {IMAGES} + 2 * column; "
            f"const u32 number = (u32)(image * {count} + {compact} + first_place{own.drop}); "
            f"v0 = dropped(dropout, v0, number); v1 = dropped(dropout, v1, number + {count}); }}"
        )
    lines.append(
        f"at<Word>({place[f'values {own.name}']} + group * GROUP + {row_of(program.field(number), 'y', 'x', 'channel')} "
        f"* {program.row} + column * (int)sizeof(Word)) = packed(v0, v1);"
    )
    return "\n                ".join(lines)


def _mean(program: Program, number: int) -> str:
    """Average each channel over its pixels."""
    own = program.stages[number]
    channels, height, width = own.before
    field = program.field(number - 1)
    source = row_of(field, f"pixel / {width}", f"pixel % {width}", "channel")
    return f"""
    for (int item = thread; item < groups * {channels * 4}; item += THREADS) {{  // {own.name}
        const int column = item & 3, channel = (item >> 2) % {channels}, group = item / {channels * 4};
        float v0 = 0, v1 = 0;
        for (int pixel = 0; pixel < {height * width}; ++pixel) {{
            const Word word = at<Word>({_values(program, number - 1)} + {source} * {program.row} + column * (int)sizeof(Word));
            v0 += first_of(word), v1 += second_of(word);
        }}
        at<Word>({_values(program, number)} + channel * {program.row} + column * (int)sizeof(Word)) =
            packed(v0 * {1 / (height * width)!r}f, v1 * {1 / (height * width)!r}f);
    }}
    barrier();
"""
