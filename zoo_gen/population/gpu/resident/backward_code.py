"""The loss and the backward pass of a program in CUDA C++, but for the gradients of weights (`sums_code.py`)."""

from zoo_gen.population.gpu.resident.gathers import Field
from zoo_gen.population.gpu.resident.product_code import channel_of, inputs_of, outputs_of, product, row_of
from zoo_gen.population.gpu.resident.program import CODES, IMAGES, Program


def inputs(program: Program, number: int) -> str:
    """Return the gradient of what a stage reads, and so of the stage before."""
    stage, before = program.stages[number], number - 1
    if stage.kind == "mean":
        return _mean(program, number)
    gather, _ = program.backward[stage.name]
    sums = outputs_of(gather)
    channels, height, width = program.stages[before].after
    end = []
    for block in range(gather.channels):
        channel, partial = channel_of(gather, block)
        for half, values in sums.items():
            if half[1] != block:
                continue
            (y, x), _ = half
            conditions = [f"{channel} < {stage.before[0]}"] if partial else []
            if stage.kind == "linear":
                place = [
                    f"const int pixel = {channel} / {channels}, channel = {channel} % {channels};",
                    f"const int y = pixel / {width}, x = pixel % {width};",
                ]
            else:
                sides, windows = gather.grid.sides, gather.grid.windows
                if windows[0] * sides[0] > height:
                    conditions.append(f"down * {sides[0]} + {y} < {height}")
                if windows[1] * sides[1] > width:
                    conditions.append(f"across * {sides[1]} + {x} < {width}")
                place = [
                    f"const int channel = {channel};",
                    f"const int y = down * {sides[0]} + {y}, x = across * {sides[1]} + {x};",
                ]
            lines = [
                *place,
                "(void)y, (void)x;",
                f"float v0 = {values[0]}, v1 = {values[1]};",
                _stored(program, before),
            ]
            inner = "\n                ".join(lines)
            end.append(f"if ({' && '.join(conditions) or 'true'}) {{\n                {inner}\n            }}")
    return product(
        program,
        gather,
        title=f"what {stage.name} reads, backward",
        fragments=program.place[f"backward {stage.name}"],
        source=f"{program.place[f'slopes {stage.name}']} + group * GROUP",
        start=" ".join(f"float c{i}[4] = {{0.0f, 0.0f, 0.0f, 0.0f}};" for i in range(len(gather.tiles))),
        end="\n            ".join(end),
    )


def _stored(program: Program, number: int) -> str:
    """Take a gradient v0, v1 at y, x, channel back through a stage's dropout, activation and pooling, and store it."""
    stage, place, row = program.stages[number], program.place, program.row
    word = "column * (int)sizeof(Word)"
    channels, height, width = stage.after
    compact = row_of(Field(channels, height, width), "y", "x", "channel")
    held = row_of(program.field(number), "y", "x", "channel")
    value = f"at<Word>({place[f'values {stage.name}']} + group * GROUP + {held} * {row} + {word})"
    lines = []
    if stage.activates or program.drops(number):
        lines.append(f"const Word value = {value}; float a0 = first_of(value), a1 = second_of(value);")
        if program.drops(number):
            lines.append(
                "if (dropout.rate > 0) { v0 = undropped(dropout, v0, a0); v1 = undropped(dropout, v1, a1); "
                "a0 *= 1.0f - dropout.rate; a1 *= 1.0f - dropout.rate; }"
            )
        if stage.activates:
            code = CODES[stage.function] if stage.function else "code"
            seen = "const float z0 = a0, z1 = a1;"
            if program.keeps_inputs(number):
                stored = inputs_of(program, number)
                seen = f"const Word input = {stored}; const float z0 = first_of(input), z1 = second_of(input);"
            lines.append(f"{seen} v0 = sloped(v0, z0, a0, {code}); v1 = sloped(v1, z1, a1, {code});")
    if stage.pool > 1 and not stage.maximum:
        lines.append(f"v0 *= {1 / stage.pool**2!r}f; v1 *= {1 / stage.pool**2!r}f;")
    if program.in_place(number):
        lines.append(f"{value} = packed(v0, v1);")
        return "\n                ".join(lines)
    field = program.slopes(number)
    slopes = f"{place[f'slopes {stage.name}']} + group * GROUP"
    if stage.pool == 1:
        lines.append(f"at<Word>({slopes} + {row_of(field, 'y', 'x', 'channel')} * {row} + {word}) = packed(v0, v1);")
        return "\n                ".join(lines)
    lines.append("const Word slope = packed(v0, v1);")
    corner = row_of(field, f"y * {stage.pool}", f"x * {stage.pool}", "channel")
    lines.append(f"const int corner = {slopes} + {corner} * {row} + {word};")
    if stage.maximum:
        lines.append(
            f"const Winners winners = winners_of(at<unsigned char>({place[f'winners {stage.name}']} + group * GROUP + "
            f"{compact} * 4 + column));"
        )
    for index in range(stage.pool**2):
        offset = (index // stage.pool * field.line + index % stage.pool * channels) * row
        of_value = f"kept_where(slope, winners, {index})" if stage.maximum else "slope"
        lines.append(f"at<Word>(corner + {offset}) = {of_value};")
    return "\n                ".join(lines)


def _mean(program: Program, number: int) -> str:
    """Share a gradient among the pixels of a channel."""
    stage = program.stages[number]
    channels, height, width = stage.before
    share, items = 1 / (height * width), channels * height * width * 4
    return f"""
    for (int item = thread; item < groups * {items}; item += THREADS) {{  // {stage.name}, backward
        const int column = item & 3, channel = (item >> 2) % {channels};
        const int pixel = (item >> 2) / {channels} % {height * width}, group = item / {items};
        const int y = pixel / {width}, x = pixel % {width};
        (void)y, (void)x;
        const Word word = at<Word>({program.place[f"slopes {stage.name}"]} + group * GROUP + channel * {program.row} +
                                   column * (int)sizeof(Word));
        float v0 = first_of(word) * {share!r}f, v1 = second_of(word) * {share!r}f;
        {_stored(program, number - 1)}
    }}
    barrier();
"""


def loss(program: Program) -> str:
    """Judge the outputs of the images at hand and, in training, begin the gradient."""
    last, place = program.stages[-1], program.place
    outputs = f"{place[f'values {last.name}']} + group * GROUP"
    slopes = f"{place.get(f'slopes {last.name}', 0)} + group * GROUP"
    if not program.n_classes:
        begin = f"store_element({slopes}, slot, held ? 2.0f * error / n_images : 0.0f);" if program.training else ""
        return f"""
    for (int item = thread; item < groups * {IMAGES}; item += THREADS) {{  // squared error
        const int slot = item % {IMAGES}, group = item / {IMAGES};
        const int number = at<int>(numbers_at + item * 4);
        const bool held = number >= 0;
        const float target = held ? targets[(size_t)target_row * n_targets + number] : 0.0f;
        const float error = held ? at<float>({outputs} + slot * 4) + shift - target : 0.0f;
        loss_sum += (double)(error * error);
        {begin}
    }}
    barrier();
"""
    classes = program.n_classes
    each = -(-classes // 4)
    begin = ""
    if program.training:
        begin = f"""
        #pragma unroll
        for (int j = 0; j < {each}; ++j) {{
            const int c = quarter + 4 * j;
            const float slope = held ? (divided(weight[j], total) - (c == label ? 1.0f : 0.0f)) / n_images : 0.0f;
            if (c < {classes}) store_element({slopes} + c * {program.row}, slot, slope);
        }}"""
    else:
        counts = place["counts"]
        begin = f"""
        if (quarter == 0 && held) {{
            if (best < {classes}) count_one({counts} + ({classes} + best) * 4);
            if (best == label) count_one({counts} + label * 4);
            count_one({counts} + ({2 * classes} + label) * 4);
        }}"""
    return f"""
    for (int group = warp; group < groups; group += WARPS) {{  // cross-entropy
        const int slot = lane & 7, quarter = lane >> 3;
        const int number = at<int>(numbers_at + (group * {IMAGES} + slot) * 4);
        const int label = at<int>(numbers_at + ({IMAGES} * GROUPS + group * {IMAGES} + slot) * 4);
        const bool held = number >= 0;
        float z[{each}], weight[{each}], top = -INFINITE, own = 0, total = 0;
        int best = {classes};
        #pragma unroll
        for (int j = 0; j < {each}; ++j) {{
            const int c = quarter + 4 * j;
            z[j] = c < {classes} ? at<float>({outputs} + (c * {IMAGES} + slot) * 4) : -INFINITE;
            best = z[j] > top ? c : best;
            top = greater(top, z[j]);
            own += c == label ? z[j] : 0.0f;
        }}
        #pragma unroll
        for (int mask = 8; mask < 32; mask *= 2) {{
            const float other = from_lane(top, mask);
            const int other_best = from_lane(best, mask);
            best = other > top || (other == top && other_best < best) ? other_best : best;
            top = greater(top, other);
            own += from_lane(own, mask);
        }}
        #pragma unroll
        for (int j = 0; j < {each}; ++j) {{
            weight[j] = quarter + 4 * j < {classes} ? expf(z[j] - top) : 0.0f;
            total += weight[j];
        }}
        total += from_lane(total, 8);
        total += from_lane(total, 16);
        if (quarter == 0 && held) {{
            loss_sum += (double)(logf(total) - (own - top));
            n_right += best == label;
        }}{begin}
    }}
    barrier();
"""
