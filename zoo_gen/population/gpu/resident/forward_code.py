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


def quotient(number: str, divisor: int, most: int) -> str:
    """Return a quotient that is less than `most`, in C++."""
    return "0" if most == 1 else f"({number}) / {divisor}"


def remainder(number: str, divisor: int, most: int) -> str:
    """Return the remainder that belongs to `quotient`."""
    return number if most == 1 else f"({number}) % {divisor}"


def images(program: Program) -> str:
    """Turn the pixels that were asked for into values."""
    channels, height, width = program.network.image
    field = program.field(-1)
    together, each = _pixels_of_item(program), _items_of_thread(program)
    stores = []
    for i in range(together):
        values = ["asked0[j]", "asked1[j]"]
        if program.n_classes:
            values = [f"(number{n} < 0 ? 0.0f : number_of_byte({values[n]}, {i}) * scale + offset)" for n in range(2)]
        where = row_of(field, "y", f"x + {i}" if i else "x", "channel")
        stores.append(
            f"at<Word>({program.place['images']} + group * GROUP + {where} * {program.row} + "
            f"pair * (int)sizeof(Word)) = packed({values[0]}, {values[1]});"
        )
    scaled = ""
    if program.n_classes:
        scaled = f"const float scale = a_scale[channel], offset = a_scale[channel + {channels}];"
    newline = "\n            "
    return f"""
    #pragma unroll
    for (int j = 0; j < {each}; ++j) {{  // the images
        {_item(program, numbers="numbers_at")}
            const int channel = first_pixel / {height * width}, y = first_pixel / {width} % {height};
            const int x = first_pixel % {width};
            (void)channel, (void)y, (void)x, (void)number0, (void)number1;
            {scaled}
            {newline.join(stores)}
        }}
    }}
    barrier();
"""


def images_asked(program: Program, *, numbers: str) -> str:
    """Ask for the pixels of the images whose numbers lie at `numbers`, long before they are used."""
    together = _pixels_of_item(program)
    kind = ("u32" if together == 4 else "unsigned char") if program.n_classes else "float"
    size = program.network.image[0] * program.network.image[1] * program.network.image[2]
    loads = [
        f"asked{n}[j] = number{n} < 0 ? 0 : *(const {kind}*)(pixels + (size_t)number{n} * {size} + first_pixel);"
        for n in range(2)
    ]
    return f"""
    #pragma unroll
    for (int j = 0; j < {_items_of_thread(program)}; ++j) {{
        {_item(program, numbers=numbers)}
            {" ".join(loads)}
        }}
    }}
"""


def asked(program: Program) -> str:
    """Declare what is asked for."""
    kind = "u32" if program.n_classes else "float"
    return f"{kind} asked0[{_items_of_thread(program)}], asked1[{_items_of_thread(program)}];"


def _item(program: Program, *, numbers: str) -> str:
    """Say which pixels of which two images thread and j stand for."""
    items = _items(program)
    return f"""const int item = thread + j * THREADS;
        if (item < GROUPS * {items}) {{
            const int group = {quotient("item", items, program.groups)}, pair = item & 3;
            const int first_pixel = {remainder("(item >> 2)", items // 4, program.groups)} * {_pixels_of_item(program)};
            const int number0 = at<int>({numbers} + (group * {IMAGES} + 2 * pair) * 4);
            const int number1 = at<int>({numbers} + (group * {IMAGES} + 2 * pair + 1) * 4);"""


def _pixels_of_item(program: Program) -> int:
    return 4 if program.network.image[2] % 4 == 0 and program.n_classes else 1


def _items(program: Program) -> int:
    """Items of a group: some pixels of two images."""
    channels, height, width = program.network.image
    return channels * height * width // _pixels_of_item(program) * 4


def _items_of_thread(program: Program) -> int:
    return -(-_items(program) * program.groups // program.threads)


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
    of_group = remainder("task", windows * gather.blocks, program.groups)
    return f"""
    {{  // {title}
        {(chr(10) + "        ").join(declared)}
        for (int task = warp; task < groups * {windows * gather.blocks}; task += WARPS) {{
            const int group = {quotient("task", windows * gather.blocks, program.groups)};
            const int block = {quotient(of_group, windows, gather.blocks)};
            const int window = {remainder(of_group, windows, gather.blocks)};
            const int down = window / {grid.windows[1]}, across = window % {grid.windows[1]};
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
