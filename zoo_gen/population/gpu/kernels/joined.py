"""Two joined convolutions, the stem of a small CNN: no value between the two is ever written."""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import (
    VARYING,
    activated,
    dot,
    drop,
    dropout_factor,
    keep_factor,
    operand,
    places,
    random_word,
    sloped,
    step_key,
)


@triton.jit
def _embedded(own, p, column, FIRST: constexpr, KERNEL: constexpr, STEP: constexpr, CHANNELS: constexpr):
    """Return a first convolution as a matrix (p, column): patch of 8 x 8 pixels -> its outputs at taps of a second.

    A column is (tap, channel), 16 channels a tap from tap FIRST on.
    """
    tap, channel = FIRST + column // 16, column % 16
    y = (p // 8)[:, None] - STEP * (tap // 3)[None, :]
    x = (p % 8)[:, None] - STEP * (tap % 3)[None, :]
    ok = (y >= 0) & (y < KERNEL) & (x >= 0) & (x < KERNEL) & (channel < CHANNELS)[None, :]
    return tl.load(own + (channel * (KERNEL * KERNEL))[None, :] + y * KERNEL + x, mask=ok, other=0.0)


@triton.jit
def _second(own, column, output, FIRST: constexpr, INPUTS: constexpr, OUTPUTS: constexpr):
    """Return taps of a second, 3 x 3 convolution as a matrix (column, output); columns as in `_embedded`."""
    tap, channel = FIRST + column // 16, column % 16
    ok = (channel < INPUTS)[:, None] & (output < OUTPUTS)[None, :]
    return tl.load(own + output[None, :] * (INPUTS * 9) + (channel * 9 + tap)[:, None], mask=ok, other=0.0)


@triton.jit
def _with_bias(own, embedded, p, column, scale, offset, BIAS: constexpr, CHANNELS: constexpr, PRECISION: constexpr):
    """Return `_embedded` as it meets bytes: scaled, with what its outputs have without any light beside it.

    A patch ends with two ones. The bias, and the offset of the pixels, meet them in two parts, so that rounding the
    operands leaves twice as many digits of it.
    """
    channel = column % 16
    bias = tl.sum(embedded, axis=0) * offset
    if BIAS >= 0:
        bias += tl.load(own + BIAS + channel, mask=channel < CHANNELS, other=0.0)
    first = operand(bias, PRECISION)
    rest = bias - first.to(tl.float32)
    embedded = tl.where((p == 63)[:, None], first.to(tl.float32)[None, :], embedded * scale)
    return operand(tl.where((p == 62)[:, None], rest[None, :], embedded), PRECISION)


@triton.jit
def _kept_hidden(
    low, high, rate, rows, column, first_place, FIRST: constexpr, STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Return the factors of dropout of a first convolution's outputs (row, column) where a second one reads them."""
    image, y, x = places(rows, H2, W2)
    WIDE: constexpr = column.shape[0]
    pair = tl.arange(0, WIDE // 2)  # neighbouring channels, which share a word
    tap, channel = FIRST + pair // 8, pair % 8 * 2
    corner = ((image * H1 + y * STEP) * W1 + x * STEP) * C1 + first_place
    place = corner[:, None] + (((tap // 3) * W1 + tap % 3) * C1 + channel)[None, :]
    word = random_word(low, high, place >> 1)
    halves = tl.reshape(tl.join(word & 0xFFFF, word >> 16), (rows.shape[0], WIDE))
    return dropout_factor(halves, rate)


@triton.jit
def _patch(
    source, order, rows, n_rows, SIDE: constexpr, WIDTH: constexpr, STEP: constexpr, ALIGNED: constexpr,
    H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Return the patch of 8 x 8 pixels that each row sees, float32 (row, 64), its last line 0 but for two ones."""
    p = tl.arange(0, 64)
    image, y, x = places(rows, H2, W2)
    ok = rows < n_rows
    number = tl.load(order + image, mask=ok, other=0)
    corner = number * (WIDTH * WIDTH) + (y * WIDTH + x) * STEP
    place = tl.multiple_of(corner, ALIGNED)[:, None] + ((p // 8) * WIDTH + p % 8)[None, :]
    # Beside a patch lie other pixels, whose weights are 0: so bytes are read in fours.
    patch = tl.load(source + place, mask=ok[:, None] & (p // 8 < SIDE)[None, :], other=0).to(tl.float32)
    return tl.where((p >= 62)[None, :], 1.0, patch)


@triton.jit
def _through(
    patch, first, second, total, code, low, high, rate, rows, column, first_place,
    DROP: constexpr, KINDS: constexpr, PRECISION: constexpr, FIRST: constexpr, STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Add to a total (row, output) what some taps of the second convolution see of a patch."""
    start = tl.zeros((patch.shape[0], first.shape[1]), tl.float32)
    a = activated(dot(patch, first, start, PRECISION), code, KINDS)
    if DROP:
        if rate > 0:
            a = a * _kept_hidden(low, high, rate, rows, column, first_place, FIRST, STEP, H1, W1, C1, H2, W2)
    return dot(a, second, total, PRECISION)


@triton.jit
def _back_through(
    patch, first, second, slope, first_total, second_total, code, low, high, rate, rows, column, first_place,
    DROP: constexpr, KINDS: constexpr, PRECISION: constexpr, FIRST: constexpr, STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Add to the gradients of `_embedded` (p, column) and `_second` (column, output) what a tile of rows says."""
    BM: constexpr = patch.shape[0]
    WIDE: constexpr = first.shape[1]
    z = dot(patch, first, tl.zeros((BM, WIDE), tl.float32), PRECISION)
    a = activated(z, code, KINDS)
    if KINDS & (32 | 64 | 128) == 0:
        z = a  # which says as much of the derivative, and is kept anyway
    back = sloped(dot(slope, second, tl.zeros((BM, WIDE), tl.float32), PRECISION), z, a, code, KINDS)
    if DROP:
        if rate > 0:
            kept = _kept_hidden(low, high, rate, rows, column, first_place, FIRST, STEP, H1, W1, C1, H2, W2)
            a, back = a * kept, back * kept
    return dot(tl.trans(patch), back, first_total, PRECISION), dot(tl.trans(a), slope, second_total, PRECISION)


@triton.jit(do_not_specialize=VARYING)
def stem(
    source, order, row_of, clock, n_order, weights, out,
    first_codes, second_codes, rates, keys, n_images, capacity, n_parameters, scale, offset, first_place, second_place,
    SIDE: constexpr, WIDTH: constexpr, FIRST_KERNEL: constexpr, FIRST_STEP: constexpr, SECOND_STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr, C2: constexpr, PITCH: constexpr,
    FIRST_BIAS: constexpr, SECOND: constexpr, SECOND_BIAS: constexpr, ALIGNED: constexpr,
    DROP: constexpr, DROP_SECOND: constexpr, KINDS: constexpr, SPLITS: constexpr, PRECISION: constexpr,
    WIDE: constexpr, BM: constexpr,
):  # fmt: skip
    """Two convolutions of grey images, the second 3 x 3, with activation and dropout.

    What the first one gives never leaves the processor.

    A row is a pixel of the second; its field of view is a patch of 8 x 8 bytes, and the first convolution at its nine
    taps is a product of that patch, WIDE columns (four or eight taps) at a time. Reads 784 bytes an image, writes
    H2 x W2 x C2 elements; H2 W2 (64 + C2) 288 operations.
    """
    model = tl.program_id(0).to(tl.int64)
    n_rows = n_images * (H2 * W2)
    per_split = tl.cdiv(tl.cdiv(n_rows, BM), SPLITS)
    own = weights + model * n_parameters
    p, wide, narrow, output = tl.arange(0, 64), tl.arange(0, WIDE), tl.arange(0, 16), tl.arange(0, 16)
    first_a = _embedded(own, p, wide, 0, FIRST_KERNEL, FIRST_STEP, C1)
    first_c = _embedded(own, p, narrow, 8, FIRST_KERNEL, FIRST_STEP, C1)
    first_a = _with_bias(own, first_a, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
    first_c = _with_bias(own, first_c, p, narrow, scale, offset, FIRST_BIAS, C1, PRECISION)
    second_a = operand(_second(own + SECOND, wide, output, 0, C1, C2), PRECISION)
    second_c = operand(_second(own + SECOND, narrow, output, 8, C1, C2), PRECISION)
    if WIDE == 64:
        first_b = _embedded(own, p, wide, 4, FIRST_KERNEL, FIRST_STEP, C1)
        first_b = _with_bias(own, first_b, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
        second_b = operand(_second(own + SECOND, wide, output, 4, C1, C2), PRECISION)
    bias = tl.zeros((16,), tl.float32)
    if SECOND_BIAS >= 0:
        bias = tl.load(own + SECOND_BIAS + output, mask=output < C2, other=0.0)
    code, second_code, rate = tl.load(first_codes + model), tl.load(second_codes + model), tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    order += tl.load(row_of + model) * n_order + tl.load(clock)
    for tile in range(tl.program_id(1) * per_split, (tl.program_id(1) + 1) * per_split):
        rows = tile * BM + tl.arange(0, BM)
        patch = _patch(source, order, rows, n_rows, SIDE, WIDTH, FIRST_STEP * SECOND_STEP, ALIGNED, H2, W2)
        total = tl.zeros((BM, 16), tl.float32) + bias[None, :]
        total = _through(
            patch, first_a, second_a, total, code, low, high, rate, rows, wide, first_place,
            DROP, KINDS, PRECISION, 0, SECOND_STEP, H1, W1, C1, H2, W2,
        )  # fmt: skip
        if WIDE == 64:
            total = _through(
                patch, first_b, second_b, total, code, low, high, rate, rows, wide, first_place,
                DROP, KINDS, PRECISION, 4, SECOND_STEP, H1, W1, C1, H2, W2,
            )  # fmt: skip
        total = _through(
            patch, first_c, second_c, total, code, low, high, rate, rows, narrow, first_place,
            DROP, KINDS, PRECISION, 8, SECOND_STEP, H1, W1, C1, H2, W2,
        )  # fmt: skip
        total = activated(total, second_code, KINDS)
        if DROP_SECOND:
            if rate > 0:
                total = drop(total, keep_factor(low, high, rows[:, None] * C2 + output[None, :] + second_place, rate))
        place = (model * capacity * (H2 * W2) + rows)[:, None] * PITCH + output[None, :]
        tl.store(out + place, total, mask=(rows < n_rows)[:, None] & (output < C2)[None, :])


@triton.jit
def _folded(total, p, j, FIRST: constexpr, TAPS: constexpr, STEP: constexpr, KERNEL: constexpr):
    """Sum gradients of `_embedded` (p, column) over the taps that share element j of the kernel: (channel,)."""
    tap = FIRST + tl.arange(0, TAPS * 16) // 16
    place = (STEP * (tap // 3) + j // KERNEL) * 8 + STEP * (tap % 3) + j % KERNEL
    return _over_taps(tl.sum(tl.where(p[:, None] == place[None, :], total, 0.0), axis=0), TAPS)


@triton.jit
def _over_taps(columns, TAPS: constexpr):
    """Sum columns (tap, channel) to (channel,)."""
    return tl.sum(tl.reshape(columns, (TAPS, 16)), axis=0)


@triton.jit
def _lit(total, p, TAPS: constexpr):
    """Return the gradient of the first bias (channel,): that of the patch's last element, which is always 1."""
    return _over_taps(tl.sum(tl.where((p == 63)[:, None], total, 0.0), axis=0), TAPS)


@triton.jit
def _store_second(own, total, column, output, FIRST: constexpr, C1: constexpr, C2: constexpr):
    """Store gradients of `_second` (column, output)."""
    tap, channel = FIRST + column // 16, column % 16
    ok = (channel < C1)[:, None] & (output < C2)[None, :]
    tl.store(own + output[None, :] * (C1 * 9) + (channel * 9 + tap)[:, None], total, mask=ok)


@triton.jit(do_not_specialize=VARYING)
def stem_gradient(
    source, order, row_of, clock, n_order, weights, slopes, gradient,
    first_codes, rates, keys, n_images, capacity, n_models, n_parameters, scale, offset, first_place,
    SIDE: constexpr, WIDTH: constexpr, FIRST_KERNEL: constexpr, FIRST_STEP: constexpr, SECOND_STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr, C2: constexpr, PITCH: constexpr,
    FIRST_BIAS: constexpr, SECOND: constexpr, SECOND_BIAS: constexpr, ALIGNED: constexpr,
    DROP: constexpr, KINDS: constexpr, SPLITS: constexpr, PRECISION: constexpr, WIDE: constexpr, BM: constexpr,
):  # fmt: skip
    """The gradients of both convolutions of `stem` from that of its outputs before their activation.

    The first one's outputs are computed again; their gradient is summed where the second reads them, and no value
    between the two is ever written. Reads 784 bytes an image and H2 x W2 x C2 elements; H2 W2 (64 + C2) 576 operations.
    """
    model = tl.program_id(0).to(tl.int64)
    n_rows = n_images * (H2 * W2)
    per_split = tl.cdiv(tl.cdiv(n_rows, BM), SPLITS)
    own = weights + model * n_parameters
    p, wide, narrow, output = tl.arange(0, 64), tl.arange(0, WIDE), tl.arange(0, 16), tl.arange(0, 16)
    first_a = _embedded(own, p, wide, 0, FIRST_KERNEL, FIRST_STEP, C1)
    first_c = _embedded(own, p, narrow, 8, FIRST_KERNEL, FIRST_STEP, C1)
    first_a = _with_bias(own, first_a, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
    first_c = _with_bias(own, first_c, p, narrow, scale, offset, FIRST_BIAS, C1, PRECISION)
    second_a = operand(tl.trans(_second(own + SECOND, wide, output, 0, C1, C2)), PRECISION)
    second_c = operand(tl.trans(_second(own + SECOND, narrow, output, 8, C1, C2)), PRECISION)
    if WIDE == 64:
        first_b = _embedded(own, p, wide, 4, FIRST_KERNEL, FIRST_STEP, C1)
        first_b = _with_bias(own, first_b, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
        second_b = operand(tl.trans(_second(own + SECOND, wide, output, 4, C1, C2)), PRECISION)
    code, rate = tl.load(first_codes + model), tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    order += tl.load(row_of + model) * n_order + tl.load(clock)
    first_a_total, second_a_total = tl.zeros((64, WIDE), tl.float32), tl.zeros((WIDE, 16), tl.float32)
    first_c_total, second_c_total = tl.zeros((64, 16), tl.float32), tl.zeros((16, 16), tl.float32)
    if WIDE == 64:
        first_b_total, second_b_total = tl.zeros((64, WIDE), tl.float32), tl.zeros((WIDE, 16), tl.float32)
    bias_total = tl.zeros((BM, 16), tl.float32)
    for tile in range(tl.program_id(1) * per_split, (tl.program_id(1) + 1) * per_split):
        rows = tile * BM + tl.arange(0, BM)
        patch = _patch(source, order, rows, n_rows, SIDE, WIDTH, FIRST_STEP * SECOND_STEP, ALIGNED, H2, W2)
        place = (model * capacity * (H2 * W2) + rows)[:, None] * PITCH + output[None, :]
        slope = tl.load(slopes + place, mask=(rows < n_rows)[:, None] & (output < C2)[None, :], other=0.0)
        bias_total += slope.to(tl.float32)
        first_a_total, second_a_total = _back_through(
            patch, first_a, second_a, slope, first_a_total, second_a_total,
            code, low, high, rate, rows, wide, first_place,
            DROP, KINDS, PRECISION, 0, SECOND_STEP, H1, W1, C1, H2, W2,
        )  # fmt: skip
        if WIDE == 64:
            first_b_total, second_b_total = _back_through(
                patch, first_b, second_b, slope, first_b_total, second_b_total,
                code, low, high, rate, rows, wide, first_place,
                DROP, KINDS, PRECISION, 4, SECOND_STEP, H1, W1, C1, H2, W2,
            )  # fmt: skip
        first_c_total, second_c_total = _back_through(
            patch, first_c, second_c, slope, first_c_total, second_c_total,
            code, low, high, rate, rows, narrow, first_place,
            DROP, KINDS, PRECISION, 8, SECOND_STEP, H1, W1, C1, H2, W2,
        )  # fmt: skip
    own = gradient + (tl.program_id(1) * n_models.to(tl.int64) + model) * n_parameters
    light = _lit(first_a_total, p, WIDE // 16) + _lit(first_c_total, p, 1)
    if WIDE == 64:
        light += _lit(first_b_total, p, 4)
    for j in range(FIRST_KERNEL * FIRST_KERNEL):
        element = _folded(first_a_total, p, j, 0, WIDE // 16, FIRST_STEP, FIRST_KERNEL)
        element += _folded(first_c_total, p, j, 8, 1, FIRST_STEP, FIRST_KERNEL)
        if WIDE == 64:
            element += _folded(first_b_total, p, j, 4, 4, FIRST_STEP, FIRST_KERNEL)
        place = narrow * (FIRST_KERNEL * FIRST_KERNEL) + j
        tl.store(own + place, scale * element + offset * light, mask=narrow < C1)
    if FIRST_BIAS >= 0:
        tl.store(own + FIRST_BIAS + narrow, light, mask=narrow < C1)
    if SECOND_BIAS >= 0:
        tl.store(own + SECOND_BIAS + output, tl.sum(bias_total, axis=0), mask=output < C2)
    _store_second(own + SECOND, second_a_total, wide, output, 0, C1, C2)
    _store_second(own + SECOND, second_c_total, narrow, output, 8, C1, C2)
    if WIDE == 64:
        _store_second(own + SECOND, second_b_total, wide, output, 4, C1, C2)
