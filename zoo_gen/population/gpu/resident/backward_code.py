"""The backward pass of a program in CUDA C++: gradients of values, sums over images for those of the weights."""

from zoo_gen.population.gpu.resident.forward_code import channel_of, outputs_of, product, quotient, remainder, row_of
from zoo_gen.population.gpu.resident.gathers import OCTET, Field, terms
from zoo_gen.population.gpu.resident.program import CODES, IMAGES, Program


def inputs(program: Program, number: int) -> str:
    """Return the gradient of what a stage reads, and so of the stage before."""
    own, before = program.stages[number], number - 1
    if own.kind == "mean":
        return _mean(program, number)
    gather, field = program.backward[own.name]
    sums = outputs_of(gather)
    channels, height, width = program.stages[before].after
    end = []
    for block in range(gather.channels):
        channel, partial = channel_of(gather, block)
        for half, values in sums.items():
            if half[1] != block:
                continue
            (y, x), _ = half
            conditions = [f"{channel} < {own.before[0]}"] if partial else []
            if own.kind == "linear":
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
            lines = [*place, "(void)y, (void)x;", f"float v0 = {values[0]}, v1 = {values[1]};", _stored(program, before)]
            inner = "\n                ".join(lines)
            end.append(f"if ({' && '.join(conditions) or 'true'}) {{\n                {inner}\n            }}")
    return product(
        program,
        gather,
        title=f"what {own.name} reads, backward",
        fragments=program.place[f"backward {own.name}"],
        source=f"{program.place[f'slopes {own.name}']} + group * GROUP",
        start=" ".join(f"float c{i}[4] = {{0.0f, 0.0f, 0.0f, 0.0f}};" for i in range(len(gather.tiles))),
        end="\n            ".join(end),
    )


def _stored(program: Program, number: int) -> str:
    """Take a gradient v0, v1 at y, x, channel back through a stage's dropout, activation and pooling, and store it."""
    own, place, row = program.stages[number], program.place, program.row
    word = "column * (int)sizeof(Word)"
    channels, height, width = own.after
    compact = row_of(Field(channels, height, width), "y", "x", "channel")
    value = f"at<Word>({place[f'values {own.name}']} + group * GROUP + {row_of(program.field(number), 'y', 'x', 'channel')} * {row} + {word})"
    lines = []
    if own.activates or program.drops(number):
        lines.append(f"const Word value = {value}; float a0 = first_of(value), a1 = second_of(value);")
        if program.drops(number):
            lines.append(
                "if (dropout.rate > 0) { v0 = undropped(dropout, v0, a0); v1 = undropped(dropout, v1, a1); "
                "a0 *= 1.0f - dropout.rate; a1 *= 1.0f - dropout.rate; }"
            )
        if own.activates:
            code = CODES[own.function] if own.function else "code"
            seen = "const float z0 = a0, z1 = a1;"
            if program.keeps_inputs(number):
                kept = f"at<Word>({place[f'inputs {own.name}']} + group * GROUP + {compact} * {row} + {word})"
                seen = f"const Word input = {kept}; const float z0 = first_of(input), z1 = second_of(input);"
            lines.append(f"{seen} v0 = sloped(v0, z0, a0, {code}); v1 = sloped(v1, z1, a1, {code});")
    if own.pool > 1 and not own.maximum:
        lines.append(f"v0 *= {1 / own.pool**2!r}f; v1 *= {1 / own.pool**2!r}f;")
    if program.in_place(number):
        lines.append(f"{value} = packed(v0, v1);")
        return "\n                ".join(lines)
    field = program.slopes(number)
    slopes = f"{place[f'slopes {own.name}']} + group * GROUP"
    if own.pool == 1:
        lines.append(f"at<Word>({slopes} + {row_of(field, 'y', 'x', 'channel')} * {row} + {word}) = packed(v0, v1);")
        return "\n                ".join(lines)
    lines.append("const Word slope = packed(v0, v1);")
    corner = row_of(field, f"y * {own.pool}", f"x * {own.pool}", "channel")
    lines.append(f"const int corner = {slopes} + {corner} * {row} + {word};")
    if own.maximum:
        lines.append(
            f"const Winners winners = winners_of(at<unsigned char>({place[f'winners {own.name}']} + group * GROUP + "
            f"{compact} * 4 + column));"
        )
    for index in range(own.pool**2):
        offset = (index // own.pool * field.line + index % own.pool * channels) * row
        kept = "slope"
        if own.maximum:
            kept = f"kept_where(slope, winners, {index})"
        lines.append(f"at<Word>(corner + {offset}) = {kept};")
    return "\n                ".join(lines)


def _mean(program: Program, number: int) -> str:
    """Share a gradient among the pixels of a channel."""
    own = program.stages[number]
    channels, height, width = own.before
    share = 1 / (height * width)
    return f"""
    for (int item = thread; item < groups * {channels * height * width * 4}; item += THREADS) {{  // {own.name}, backward
        const int column = item & 3, channel = (item >> 2) % {channels};
        const int pixel = (item >> 2) / {channels} % {height * width}, group = item / {channels * height * width * 4};
        const int y = pixel / {width}, x = pixel % {width};
        (void)y, (void)x;
        const Word word = at<Word>({program.place[f"slopes {own.name}"]} + group * GROUP + channel * {program.row} +
                                   column * (int)sizeof(Word));
        float v0 = first_of(word) * {share!r}f, v1 = second_of(word) * {share!r}f;
        {_stored(program, number - 1)}
    }}
    barrier();
"""


def weights(program: Program, number: int, *, first_warp: int = 0) -> str:
    """Sum the gradient of a stage's weights over the images at hand; no barrier follows.

    The tasks are shared out from `first_warp` on, so that those of several stages keep all warps busy.
    """
    own, cut, place, row = program.stages[number], program.sums(number), program.place, program.row
    wide = program.precision == "bfloat16"
    rows = terms(own)
    columns = -(-own.product[0] // OCTET)
    masked = program.in_place(number) and own.pool > 1
    source = place["images"] if number == 0 else place[f"values {program.stages[number - 1].name}"]
    source_line = program.field(number - 1).line if number or own.kind == "convolution" else 0
    step_y, step_x = own.stride * source_line, own.stride * own.before[0]
    _, height, width = own.product
    if own.kind == "linear":
        step_y = step_x = 0
        height = width = 1
    slopes_at = place[f"values {own.name}"] if program.in_place(number) else place[f"slopes {own.name}"]
    field = program.slopes(number)
    # Where a row of the left operand lies: as an offset from where a pixel's window begins, or, odd, at the ones.
    upper = (own.stride * own.before[0] * row if masked else 0) if wide else 16  # of the upper half of k
    rows += [(-1, -1, 0)] * (cut.groups * cut.at_once * 16 - len(rows))
    lines = program.table([place["ones"] + 1 if term < 0 else term * row for term, _, _ in rows])
    parameters = program.table([begin | stride << 16 if begin >= 0 else -1 for _, begin, stride in rows])
    declared = []
    for i in range(cut.at_once):
        declared.append(
            f"int offset{i} = at<int>(TABLES + {lines} + ((part * {cut.at_once} + {i}) * 16 + (lane & 15)) * 4); "
            f"const int relative{i} = ~offset{i} & 1; "
            f"offset{i} = (offset{i} & ~1) + (lane >> 4) * {upper}{f' * relative{i}' if wide else ''};"
        )
    totals = [f"float t{i}_{n}[4] = {{0.0f, 0.0f, 0.0f, 0.0f}};" for i in range(cut.at_once) for n in range(columns)]

    def tiles(offset: int, operands: list[list[str]]) -> list[str]:
        found = []
        for i in range(cut.at_once):
            found.append(
                f"{{ Left a; LOAD4(STRAIGHT, from * relative{i} + (offset{i} + relative{i} * {offset}), a.x, a.y, a.z, a.w);"
                f" const Fragment left = fragment_of(a);"
            )
            found += [f"multiply(t{i}_{n}, left, {', '.join(operands[n])});" for n in range(columns)]
            found.append("}")
        return found

    body: list[str] = []
    if masked:
        across = own.after[2]
        windows = own.after[1] * across
        stepping = f"groups * {windows}"
        line = [
            f"const int group = {quotient('i', windows, program.groups)};",
            f"const int window = {remainder('i', windows, program.groups)}, y = window / {across}, x = window % {across};",
            f"const int from = {source} + group * GROUP + y * {own.pool * step_y * row} + x * {own.pool * step_x * row};",
        ]
        value = row_of(field, "y", "x", "channel")
        compact = row_of(Field(*own.after), "y", "x", "channel")
        for n in range(columns):
            guard = "" if own.product[0] % OCTET == 0 else f"channel < {own.product[0]} ? "
            line.append(f"Word slope{n}; int winners{n} = 0; {{")
            line.append(f"const int channel = {n * OCTET} + row;")
            if guard:
                line.append(f"const int held = channel < {own.product[0]} ? channel : 0;")
                value_n, compact_n = (text.replace("(channel", "(held", 1) for text in (value, compact))
            else:
                value_n, compact_n = value, compact
            line.append(f"slope{n} = word_for_sum({slopes_at} + group * GROUP + {value_n} * {row}, column);")
            if own.maximum:
                won = f"{place[f'winners {own.name}']} + group * GROUP + {compact_n} * 4"
                line.append(f"winners{n} = winners_for_sum({won}, column);")
            line.append(f"}} const Winners chosen{n} = winners_of(winners{n}); (void)chosen{n};")
        body += line

        def kept(n: int, index: int) -> str:
            if not own.maximum:
                return f"slope{n}"
            return f"kept_where(slope{n}, chosen{n}, {index})"

        for y in range(own.pool):
            if wide:
                for x in range(0, own.pool, 2):
                    if x + 1 < own.pool:
                        operands = [
                            [f"operand_of({kept(n, y * own.pool + at)})" for at in (x, x + 1)] for n in range(columns)
                        ]
                    else:
                        operands = [[f"operand_of({kept(n, y * own.pool + x)})", "Operand{0}"] for n in range(columns)]
                    body += tiles((y * step_y + x * step_x) * row, operands)
            else:
                for x in range(own.pool):
                    operands = []
                    for n in range(columns):
                        body.append(f"const Word kept{y}_{x}_{n} = {kept(n, y * own.pool + x)};")
                        operands.append([f"operand_of(kept{y}_{x}_{n})"])
                    body += tiles((y * step_y + x * step_x) * row, operands)
    else:
        pixels = height * width
        per_step = 2 if wide else 1
        stepping = f"(groups * {pixels} + {per_step - 1}) / {per_step}"
        body.append(f"const int last = groups * {pixels} - 1;")

        def located(name: str, which: str) -> str:
            return (
                f"const int {name} = {which}; const int {name}_group = {quotient(name, pixels, program.groups)}, "
                f"{name}_pixel = {remainder(name, pixels, program.groups)}, "
                f"{name}_y = {name}_pixel / {width}, {name}_x = {name}_pixel % {width};"
            )

        body.append(located("read", "2 * i + (lane >> 4) > last ? last : 2 * i + (lane >> 4)" if wide else "i"))
        body.append(
            f"const int from = {source} + read_group * GROUP + read_y * {step_y * row} + read_x * {step_x * row};"
        )
        body.append(located("met", "2 * i + ((lane >> 3) & 1)" if wide else "i"))
        at = row_of(field, "met_y", "met_x", "(lane & 7)")
        half = "" if wide else " + ((lane >> 3) & 1) * 16"
        met = f"{slopes_at} + met_group * GROUP + {at} * {row}{half}"
        for n in range(0, columns, 2):
            pair = n + 1 < columns
            # Where there is no such channel, any row will do: what it gives is not stored.
            channel = f"({n * OCTET} + (lane >> 4) * {OCTET} * {int(pair)})"
            held = f"({channel} + (lane & 7) < {own.product[0]} ? {channel} : 0)" if own.product[0] % OCTET else channel
            where = f"{met} + {held} * {row}"
            if wide:
                where = f"(met > last ? {place['zeros']} : {where})"
            names = [f"m{n}.x", f"m{n}.y"] + ([f"m{n + 1}.x", f"m{n + 1}.y"] if pair else [])
            body.append(f"Right m{n}{f', m{n + 1}' if pair else ''};")
            body.append(f"LOAD{len(names)}(STRAIGHT, {where}, {', '.join(names)});")
        operands = [[f"Operand{{m{n}.x}}", f"Operand{{m{n}.y}}"] if wide else [f"Operand{{m{n}.x, m{n}.y}}"] for n in range(columns)]
        body += tiles(0, operands)
    stores = []
    for i in range(cut.at_once):
        for half in range(2):
            stores.append(
                f"{{ const int packed = at<int>(TABLES + {parameters} + ((part * {cut.at_once} + {i}) * 16 + {8 * half} + "
                "row) * 4), begin = packed & 0xffff, stride = packed >> 16;"
            )
            for n in range(columns):
                for which in range(2):
                    channel = f"({n * OCTET} + 2 * column + {which})"
                    stores.append(
                        f"if (packed >= 0 && {channel} < {own.product[0]}) add(sums_at + (begin + {channel} * stride) * 4, "
                        f"t{i}_{n}[{half * 2 + which}], first == 0);"
                    )
            stores.append("}")
    newline = "\n                "
    shift = -first_warp % program.warps
    own_warp = f"(warp + {shift}) % WARPS" if shift else "warp"
    return f"""
    for (int task = {own_warp}; task < {cut.tasks}; task += WARPS) {{  // the weights of {own.name}, backward
        const int part = task % {cut.groups}, split = task / {cut.groups};
        const int sums_at = {place[f"gradient {own.name}"]} + split * {own.n_weights * 4};
        {(chr(10) + "        ").join(declared)}
        {" ".join(totals)}
        for (int i = split; i < {stepping}; i += {cut.splits}) {{
                {newline.join(body)}
        }}
        {(chr(10) + "        ").join(stores)}
    }}
"""


def loss(program: Program) -> str:
    """Judge the outputs of the images at hand and, in training, begin the gradient."""
    own, place = program.stages[-1], program.place
    outputs = f"{place[f'values {own.name}']} + group * GROUP"
    slopes = f"{place.get(f'slopes {own.name}', 0)} + group * GROUP"
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
            const int its_best = from_lane(best, mask);
            best = other > top || (other == top && its_best < best) ? its_best : best;
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
