"""The forward pass of a program in CUDA C++: products with what follows them, and means."""

from zoo_gen.population.gpu.resident.gathers import Field
from zoo_gen.population.gpu.resident.product_code import channel_of, inputs_of, outputs_of, product, row_of
from zoo_gen.population.gpu.resident.program import CODES, IMAGES, Program
from zoo_gen.population.gpu.resident.stages import Stage


def outputs(program: Program, number: int) -> str:
    """Return what a stage gives."""
    stage = program.stages[number]
    if stage.kind == "mean":
        return _mean(program, number)
    gather = program.forward[stage.name]
    source = _values(program, number - 1) if number else f"{program.place['images']} + group * GROUP"
    start = []
    for index, tile in enumerate(gather.tiles):
        begins = []
        for half in tile.halves:
            if half is None or stage.bias < 0:
                begins += ["0.0f", "0.0f"]
                continue
            channel, partial = channel_of(gather, half[1])
            bias = f"at<float>({program.place[f'biases {stage.name}']} + {channel} * 4)"
            begins += [f"({channel} < {stage.product[0]} ? {bias} : 0.0f)" if partial else bias] * 2
        start.append(f"float c{index}[4] = {{{', '.join(begins)}}};")
    sums = outputs_of(gather)
    pool = stage.pool
    end: list[str] = []
    for block in range(gather.channels):
        channel, partial = channel_of(gather, block)
        for y in range(gather.grid.sides[0] // pool):
            for x in range(gather.grid.sides[1] // pool):
                places = [(y * pool + dy, x * pool + dx) for dy in range(pool) for dx in range(pool)]
                values = [sums[(where, block)] for where in places]
                lines = [f"const int channel = {channel};"]
                lines += _pooled(stage, values)
                lines += [
                    f"const int y = down * {gather.grid.sides[0] // pool} + {y};",
                    f"const int x = across * {gather.grid.sides[1] // pool} + {x};",
                    "(void)y, (void)x;",
                    _stored(program, number),
                ]
                inner = "\n                ".join(lines)
                guard = f"if ({channel} < {stage.product[0]}) " if partial else ""
                end.append(f"{guard}{{\n                {inner}\n            }}")
    return product(
        program,
        gather,
        title=stage.name,
        fragments=program.place[f"forward {stage.name}"],
        source=source,
        start=" ".join(start),
        end="\n            ".join(end),
    )


def _values(program: Program, number: int) -> str:
    """Return the byte where a group's values of a stage begin, in C++."""
    return f"{program.place[f'values {program.stages[number].name}']} + group * GROUP"


def _pooled(stage: Stage, values: list[tuple[str, str]]) -> list[str]:
    """Declare v0 and v1, the pooled values of both images, and which of a window won."""
    if len(values) == 1:
        return [f"float v0 = {values[0][0]}, v1 = {values[0][1]};"]
    if not stage.maximum:
        return [f"float v{i} = ({' + '.join(value[i] for value in values)}) * {1 / len(values)!r}f;" for i in range(2)]
    lines = [f"float v0 = {values[0][0]}, v1 = {values[0][1]}; int won0 = 0, won1 = 0;"]
    for place, value in enumerate(values[1:], start=1):
        for i in range(2):
            lines.append(f"won{i} = {value[i]} > v{i} ? {place} : won{i}; v{i} = greater(v{i}, {value[i]});")
    return lines


def _stored(program: Program, number: int) -> str:
    """Activate, drop and store v0 and v1 at y, x, channel."""
    stage, place = program.stages[number], program.place
    if number + 1 == len(program.stages):
        where = f"{place[f'values {stage.name}']} + group * GROUP + (channel * {IMAGES} + 2 * column) * 4"
        return f"at<float>({where}) = v0; at<float>({where} + 4) = v1;"
    channels, height, width = stage.after
    compact = row_of(Field(channels, height, width), "y", "x", "channel")
    lines = []
    if program.training and stage.maximum:
        lines.append(
            f"at<unsigned char>({place[f'winners {stage.name}']} + group * GROUP + {compact} * 4 + column) = "
            f"(unsigned char)(won0 | won1 << 4);"
        )
    if program.keeps_inputs(number):
        lines.append(f"{inputs_of(program, number)} = packed(v0, v1);")
    if stage.activates:
        code = CODES[stage.function] if stage.function else "code"
        lines.append(f"v0 = activated(v0, {code}); v1 = activated(v1, {code});")
    if program.drops(number):
        count = channels * height * width
        lines.append(
            f"if (dropout.rate > 0) {{ const int image = first + group * {IMAGES} + 2 * column; "
            f"const u32 number = (u32)(image * {count} + {compact} + first_place{stage.drop}); "
            f"v0 = dropped(dropout, v0, number); v1 = dropped(dropout, v1, number + {count}); }}"
        )
    held = f"{row_of(program.field(number), 'y', 'x', 'channel')} * {program.row} + column * (int)sizeof(Word)"
    lines.append(f"at<Word>({place[f'values {stage.name}']} + group * GROUP + {held}) = packed(v0, v1);")
    return "\n                ".join(lines)


def _mean(program: Program, number: int) -> str:
    """Average each channel over its pixels."""
    stage = program.stages[number]
    channels, height, width = stage.before
    field = program.field(number - 1)
    source = f"{row_of(field, f'pixel / {width}', f'pixel % {width}', 'channel')} * {program.row}"
    return f"""
    for (int item = thread; item < groups * {channels * 4}; item += THREADS) {{  // {stage.name}
        const int column = item & 3, channel = (item >> 2) % {channels}, group = item / {channels * 4};
        float v0 = 0, v1 = 0;
        for (int pixel = 0; pixel < {height * width}; ++pixel) {{
            const Word word = at<Word>({_values(program, number - 1)} + {source} + column * (int)sizeof(Word));
            v0 += first_of(word), v1 += second_of(word);
        }}
        at<Word>({_values(program, number)} + channel * {program.row} + column * (int)sizeof(Word)) =
            packed(v0 * {1 / (height * width)!r}f, v1 * {1 / (height * width)!r}f);
    }}
    barrier();
"""
