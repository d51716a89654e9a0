"""Triton kernels for populations: products of gathered values with stacked weights, pooling, losses and optimisers.

A program works for one model, and how much of a model it takes never depends on how many models there are: a model
has the same bits alone and in any population. Values between layers lie as (model, image, height, width, channel).
Bytes and operations in the headers are those of one image. What the kernels compute is stated by `forward.py`,
`optimizers.py` and `metrics.py`, their twins in plain torch.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.random import DROPOUT_MIX, DROPOUT_STEP, SPLITMIX

# What stands for an activation function in a table of models.
CODES = {None: 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5, "silu": 6, "sine": 7}
ROUNDED = 1024  # a bit of KINDS beside those of the codes: operands of products are rounded
# Numbers that differ from step to step or population to population: kernels are compiled once for all of them.
VARYING = ["n_images", "n_order", "n_labels", "n_models", "n_steps", "first_place", "second_place"]
# Constants of the words that `random` draws; a kernel reads no globals of another kind.
GOLDEN, FIRST_MIX, SECOND_MIX = map(constexpr, SPLITMIX)
WORD_STEP, FIRST_WORD_MIX, SECOND_WORD_MIX = map(constexpr, (DROPOUT_STEP, *DROPOUT_MIX))


@triton.jit
def _tanh(z, ROUNDED: constexpr):
    """Return tanh; ROUNDED: what reads it is rounded anyway, so the last digits of small results may go."""
    if ROUNDED:
        result = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * z))
    else:
        shrunk = tl.exp(-2.0 * tl.abs(z))
        large = (1.0 - shrunk) / (1.0 + shrunk)
        square = z * z  # the quotient would lose the leading digits of a small result
        small = tl.abs(z) * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
        result = tl.where(z < 0, -1.0, 1.0) * tl.where(tl.abs(z) < 0.2, small, large)
    return result


@triton.jit
def _sigmoid(z):
    return 1.0 / (1.0 + tl.exp(-z))


@triton.jit
def _activated(z, code, KINDS: constexpr):
    """Return the activation that `code` names of float32 values of any shape; KINDS: see `Arrays.kinds`."""
    a = z
    if KINDS & 2:
        if code == 1:
            a = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if KINDS & 4:
        if code == 2:
            a = tl.where(z > 0, z, 0.01 * z)
    if KINDS & 8:
        if code == 3:
            a = _tanh(z, (KINDS & 1024) > 0)
    if KINDS & 16:
        if code == 4:
            a = _sigmoid(z)
    if KINDS & 32:
        if code == 5:
            a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    if KINDS & 64:
        if code == 6:
            a = z * _sigmoid(z)
    if KINDS & 128:
        if code == 7:
            a = tl.sin(30.0 * z)
    return a


@triton.jit
def _sloped(gradient, z, a, code, KINDS: constexpr):
    """Return a gradient times the derivative of an activation at z, where it is a."""
    if KINDS & 2:
        if code == 1:
            gradient = tl.where(z > 0, gradient, 0.0)
    if KINDS & 4:
        if code == 2:
            gradient = tl.where(z > 0, gradient, 0.01 * gradient)
    if KINDS & 8:
        if code == 3:
            gradient = gradient * (1.0 - a * a)
    if KINDS & 16:
        if code == 4:
            gradient = gradient * (a * (1.0 - a))
    if KINDS & 32:
        if code == 5:
            normal = tl.exp(-0.5 * z * z) * 0.3989422804014327
            gradient = gradient * (0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * normal)
    if KINDS & 64:
        if code == 6:
            sigmoid = _sigmoid(z)
            gradient = gradient * (sigmoid * (1.0 + z * (1.0 - sigmoid)))
    if KINDS & 128:
        if code == 7:
            gradient = gradient * (30.0 * tl.cos(30.0 * z))
    return gradient


@triton.jit
def _gated(gradient, a, code, rate, KINDS: constexpr):
    """Return the gradient before activation and dropout from that behind them and the value a that they left.

    For functions whose derivative follows from their value; a dropped value is +0, see `_dropped`.
    """
    before = a * (1.0 - rate)
    dropped = tl.where(rate > 0, 0.0, 1.0)  # what +0 means
    factor = tl.where(a.to(tl.int32, bitcast=True) == 0, dropped, 1.0) / (1.0 - rate)
    return _sloped(gradient * factor, before, before, code, KINDS)


@triton.jit
def _step_key(keys, model, clock):
    """Return both halves of the key of dropout in this step: SplitMix64, as `random.dropout_keys` in torch."""
    golden = tl.full((), GOLDEN, tl.uint64)
    step = tl.load(clock + 1).to(tl.uint64)
    z = tl.load(keys + model).to(tl.uint64) + step * golden
    z = (z ^ (z >> 30)) * tl.full((), FIRST_MIX, tl.uint64)
    z = (z ^ (z >> 27)) * tl.full((), SECOND_MIX, tl.uint64)
    z = z ^ (z >> 31)
    return (z & 0xFFFFFFFF).to(tl.uint32), (z >> 32).to(tl.uint32)


@triton.jit
def _word(low, high, pair):
    """Return the random word of each pair of values, uint32 (any shape)."""
    word = pair.to(tl.uint32) * tl.full((), WORD_STEP, tl.uint32) + low
    word = (word ^ (word >> 16)) * tl.full((), FIRST_WORD_MIX, tl.uint32)
    word = ((word ^ (word >> 15)) + high) * tl.full((), SECOND_WORD_MIX, tl.uint32)
    return word ^ (word >> 16)


@triton.jit
def _factor(half, rate):
    """Return the factor of dropout for values by their 16 random bits."""
    threshold = tl.floor(rate * 65536.0 + 0.5).to(tl.uint32)
    return tl.where(half >= threshold, 1.0 / (1.0 - rate), 0.0)


@triton.jit
def _kept(low, high, place, rate):
    """Return the factor of dropout for values at these places (int32, any shape); see `random.kept_by_dropout`."""
    return _factor((_word(low, high, place >> 1) >> ((place & 1) * 16).to(tl.uint32)) & 0xFFFF, rate)


@triton.jit
def _dropped(a, kept):
    """Return values times their factors of dropout: what is dropped becomes +0, and 0 that is kept becomes -0."""
    minus_zero = tl.full(a.shape, -(2**31), tl.int32).to(tl.float32, bitcast=True)  # of -0.0 Triton makes 0
    return tl.where((a == 0.0) & (kept > 0.0), minus_zero, a * kept + 0.0)


@triton.jit
def _operand(values, PRECISION: constexpr):
    """Round what goes into products as PRECISION says, once for all of them."""
    if PRECISION == "bfloat16":
        values = values.to(tl.bfloat16)
    return values


@triton.jit
def _dot(left, right, total, PRECISION: constexpr):
    """Add left (m, k) x right (k, n) to a float32 total; operands are rounded as PRECISION says."""
    if PRECISION == "bfloat16":
        total = tl.dot(left.to(tl.bfloat16), right.to(tl.bfloat16), total)
    elif PRECISION == "tf32":
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="tf32")
    else:
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    return total


@triton.jit
def _places(rows, HEIGHT: constexpr, WIDTH: constexpr):
    """Split row numbers into image, y and x."""
    return rows // (HEIGHT * WIDTH), rows // WIDTH % HEIGHT, rows % WIDTH


@triton.jit
def _image_bases(
    source, order, row_of, clock, n_order, model, capacity, image, ok, IMAGE: constexpr, BY_NUMBER: constexpr
):
    """Return where the values of each image begin: of the population's images, or of a value between layers."""
    if BY_NUMBER:
        numbers = tl.load(order + tl.load(row_of + model) * n_order + tl.load(clock) + image, mask=ok, other=0)
        place = numbers.to(tl.int64)
    else:
        place = model * capacity + image
    return source + place * IMAGE


@triton.jit
def _gathered(
    bases, y, x, ok, k_table, k_scale, k,
    K: constexpr, HEIGHT: constexpr, WIDTH: constexpr, CHECKED: constexpr, NEIGHBOURS: constexpr,
    BY_NUMBER: constexpr,
):  # fmt: skip
    """Return the values (row, k) that windows at y, x (row,) read; 0 outside the picture."""
    k_ok = k < K
    mask = ok[:, None] & k_ok[None, :]
    if CHECKED:
        own_y = y[:, None] + tl.load(k_table + 2 * K + k, mask=k_ok, other=0)[None, :]
        own_x = x[:, None] + tl.load(k_table + 3 * K + k, mask=k_ok, other=0)[None, :]
        mask = mask & (own_y >= 0) & (own_y < HEIGHT) & (own_x >= 0) & (own_x < WIDTH)
    place = tl.load(k_table + k, mask=k_ok, other=0)
    if NEIGHBOURS > 1:  # known by the tables, not by the compiler
        place = tl.max_contiguous(tl.multiple_of(place, NEIGHBOURS), NEIGHBOURS)
        mask = tl.max_constancy(mask, [1, NEIGHBOURS])
    values = tl.load(bases[:, None] + place[None, :], mask=mask, other=0)
    if BY_NUMBER:
        scale = tl.load(k_scale + k, mask=k_ok, other=0.0)
        offset = tl.load(k_scale + K + k, mask=k_ok, other=0.0)
        values = tl.where(mask, values.to(tl.float32) * scale[None, :] + offset[None, :], 0.0)
    return values


@triton.jit(do_not_specialize=VARYING)
def product(
    source, order, row_of, clock, n_order, weights, k_table, k_scale, c_table, out, gated,
    codes, rates, keys, n_images, capacity, n_parameters, first_place,
    K: constexpr, N: constexpr, ROWS_H: constexpr, ROWS_W: constexpr, STEP: constexpr,
    HEIGHT: constexpr, WIDTH: constexpr, ROW: constexpr, PIXEL: constexpr, IMAGE: constexpr,
    OUT_H: constexpr, OUT_W: constexpr, OUT_STEP: constexpr, OUT_Y: constexpr, OUT_X: constexpr,
    BIAS: constexpr, BY_NUMBER: constexpr, CHECKED: constexpr, NEIGHBOURS: constexpr, PITCH: constexpr,
    ACTIVATE: constexpr, DROP: constexpr, GATE: constexpr, KINDS: constexpr,
    PRECISION: constexpr, BM: constexpr, BN: constexpr, BK: constexpr,
):  # fmt: skip
    """out (row, n) = sum over k of source (row, k) * weights (k, n): a convolution, a linear layer, or its transpose.

    A row is an output pixel of an image; tables say which source element and which weight each k stands for.
    Forward, the bias, activation and dropout follow; backward (GATE), the gradient is multiplied by the derivative of
    what made the source of the layer. Reads rows x K elements, most of them from a cache, writes rows x N; 2 rows K N
    operations.
    """
    model = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(2) * BN + tl.arange(0, BN)
    column_ok = columns < N
    image, y, x = _places(rows, ROWS_H, ROWS_W)
    ok = image < n_images
    bases = _image_bases(source, order, row_of, clock, n_order, model, capacity, image, ok, IMAGE, BY_NUMBER)
    bases += y * (STEP * ROW) + x * (STEP * PIXEL)
    own = weights + model * n_parameters
    c_offset = tl.load(c_table + columns, mask=column_ok, other=-1)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        values = _gathered(
            bases, y * STEP, x * STEP, ok, k_table, k_scale, k, K, HEIGHT, WIDTH, CHECKED, NEIGHBOURS, BY_NUMBER
        )  # fmt: skip
        k_offset = tl.load(k_table + K + k, mask=k < K, other=-1)
        has_weight = (k_offset >= 0)[:, None] & (c_offset >= 0)[None, :]
        weight = tl.load(own + (k_offset[:, None] + c_offset[None, :]), mask=has_weight, other=0.0)
        total = _dot(values, weight, total, PRECISION)
    if BIAS >= 0:
        total += tl.load(own + BIAS + columns, mask=column_ok, other=0.0)[None, :]
    place = (image * OUT_H + y * OUT_STEP + OUT_Y) * OUT_W + x * OUT_STEP + OUT_X
    offset = place[:, None] * PITCH + columns[None, :]
    mask = ok[:, None] & column_ok[None, :]
    first = model * capacity * (OUT_H * OUT_W * PITCH)
    if ACTIVATE:
        total = _activated(total, tl.load(codes + model), KINDS)
    if DROP:
        rate = tl.load(rates + model)
        if rate > 0:
            low, high = _step_key(keys, model, clock)
            total = _dropped(total, _kept(low, high, place[:, None] * N + columns[None, :] + first_place, rate))
    if GATE:
        value = tl.load(gated + first + offset, mask=mask, other=0.0).to(tl.float32)
        total = _gated(total, value, tl.load(codes + model), tl.load(rates + model), KINDS)
    tl.store(out + first + offset, total, mask=mask)


@triton.jit(do_not_specialize=VARYING)
def weight_gradient(
    source, order, row_of, clock, n_order, slopes, gradient, k_table, k_scale, c_table,
    n_images, capacity, n_parameters,
    K: constexpr, N: constexpr, ROWS_H: constexpr, ROWS_W: constexpr, STEP: constexpr,
    HEIGHT: constexpr, WIDTH: constexpr, ROW: constexpr, PIXEL: constexpr, IMAGE: constexpr,
    BIAS: constexpr, BY_NUMBER: constexpr, CHECKED: constexpr, NEIGHBOURS: constexpr, PITCH: constexpr,
    PRECISION: constexpr, BM: constexpr, BN: constexpr, BK: constexpr,
):  # fmt: skip
    """gradient (k, n) = sum over rows of source (row, k) * slopes (row, n), and that of the bias.

    The geometry is that of `product`. One program takes all rows of a model, so no sum depends on the order of
    programs. Reads rows x (K + N) elements, most of them from a cache; 2 rows K N operations.
    """
    model = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    columns = tl.program_id(2) * BN + tl.arange(0, BN)
    column_ok = columns < N
    total = tl.zeros((BK, BN), tl.float32)
    bias = tl.zeros((BN,), tl.float32)
    for start in range(0, n_images * (ROWS_H * ROWS_W), BM):
        rows = start + tl.arange(0, BM)
        image, y, x = _places(rows, ROWS_H, ROWS_W)
        ok = image < n_images
        bases = _image_bases(source, order, row_of, clock, n_order, model, capacity, image, ok, IMAGE, BY_NUMBER)
        bases += y * (STEP * ROW) + x * (STEP * PIXEL)
        values = _gathered(
            bases, y * STEP, x * STEP, ok, k_table, k_scale, k, K, HEIGHT, WIDTH, CHECKED, NEIGHBOURS, BY_NUMBER
        )  # fmt: skip
        offset = (model * capacity * (ROWS_H * ROWS_W) + rows)[:, None] * PITCH + columns[None, :]
        slope = tl.load(slopes + offset, mask=ok[:, None] & column_ok[None, :], other=0.0)
        total = _dot(tl.trans(values), slope, total, PRECISION)
        bias += tl.sum(slope.to(tl.float32), axis=0)
    own = gradient + model * n_parameters
    k_offset = tl.load(k_table + K + k, mask=k < K, other=-1)
    c_offset = tl.load(c_table + columns, mask=column_ok, other=-1)
    has_weight = (k_offset >= 0)[:, None] & (c_offset >= 0)[None, :]
    tl.store(own + (k_offset[:, None] + c_offset[None, :]), total, mask=has_weight)
    if BIAS >= 0:
        if tl.program_id(1) == 0:
            tl.store(own + BIAS + columns, bias, mask=column_ok)


@triton.jit
def _window(
    source, y, x, channel, ok,
    WIDTH: constexpr, PITCH: constexpr, SIZE_Y: constexpr, SIZE_X: constexpr, MAXIMUM: constexpr,
):  # fmt: skip
    """Return the maximum or mean of the windows that begin at y, x, and the number of the first maximum."""
    value = tl.full(y.shape, float("-inf") if MAXIMUM else 0.0, tl.float32)
    winner = tl.zeros(y.shape, tl.int32)
    for number in range(SIZE_Y * SIZE_X):
        place = ((y + number // SIZE_X) * WIDTH + x + number % SIZE_X) * PITCH + channel
        found = tl.load(source + place, mask=ok, other=0.0).to(tl.float32)
        if MAXIMUM:
            better = (found > value) | (found != found)  # NaN wins
            winner = tl.where(better, number, winner)
            value = tl.where(better, found, value)
        else:
            value += found * (1.0 / (SIZE_Y * SIZE_X))
    return value, winner


@triton.jit(do_not_specialize=VARYING)
def pool(
    source, out, clock, codes, rates, keys, n_images, capacity, first_place,
    HEIGHT: constexpr, WIDTH: constexpr, CHANNELS: constexpr, PITCH: constexpr, OUT_H: constexpr, OUT_W: constexpr,
    SIZE_Y: constexpr, SIZE_X: constexpr, STEP: constexpr, MAXIMUM: constexpr,
    ACTIVATE: constexpr, DROP: constexpr, CHANNEL_FIRST: constexpr, KINDS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Pool windows (of one value: nothing is pooled), then activate, then drop. Reads every value once, writes one a
    window.
    """
    model = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    channel, pixel = element % PITCH, element // PITCH
    image, y, x = _places(pixel, OUT_H, OUT_W)
    ok = image < n_images
    own = source + (model * capacity + image) * (HEIGHT * WIDTH * PITCH)
    value, _ = _window(own, y * STEP, x * STEP, channel, ok, WIDTH, PITCH, SIZE_Y, SIZE_X, MAXIMUM)
    if ACTIVATE:
        value = _activated(value, tl.load(codes + model), KINDS)
    if DROP:
        rate = tl.load(rates + model)
        if rate > 0:
            place = pixel * CHANNELS + channel
            if CHANNEL_FIRST:
                place = ((image * CHANNELS + channel) * OUT_H + y) * OUT_W + x
            low, high = _step_key(keys, model, clock)
            value = value * _kept(low, high, place + first_place, rate)
    tl.store(out + model * capacity * (OUT_H * OUT_W * PITCH) + element, value, mask=ok)


@triton.jit(do_not_specialize=VARYING)
def pool_gradient(
    source, slopes, out, clock, codes, rates, keys, gate_codes, gate_rates, n_images, capacity, first_place,
    HEIGHT: constexpr, WIDTH: constexpr, CHANNELS: constexpr, PITCH: constexpr, OUT_H: constexpr, OUT_W: constexpr,
    SIZE_Y: constexpr, SIZE_X: constexpr, STEP: constexpr, MAXIMUM: constexpr,
    ACTIVATE: constexpr, DROP: constexpr, CHANNEL_FIRST: constexpr, GATE: constexpr, KINDS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """The gradient (model, image, height, width, channel) before `pool` from that behind it.

    Which value of a window won, and what it became, is computed again. Reads every value and its window's gradient,
    writes every value.
    """
    model = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    channel, pixel = element % PITCH, element // PITCH
    image, y, x = _places(pixel, HEIGHT, WIDTH)
    ok = image < n_images
    own = source + (model * capacity + image) * (HEIGHT * WIDTH * PITCH)
    own_slopes = slopes + (model * capacity + image) * (OUT_H * OUT_W * PITCH)
    code, rate = tl.load(codes + model), tl.load(rates + model)
    total = tl.zeros((BLOCK,), tl.float32)
    # Windows that hold a value begin up to size - 1 before it; where windows do not overlap there is one at most.
    REACH_Y: constexpr = SIZE_Y if SIZE_Y > STEP else 1
    REACH_X: constexpr = SIZE_X if SIZE_X > STEP else 1
    for reach in range(REACH_Y * REACH_X):
        if REACH_Y == 1:
            window_y, inner_y = y // STEP, y % STEP
            held = ok & (inner_y < SIZE_Y) & (window_y < OUT_H)
        else:
            inner_y = reach // REACH_X
            window_y = (y - inner_y) // STEP
            held = ok & (y >= inner_y) & ((y - inner_y) % STEP == 0) & (window_y < OUT_H)
        if REACH_X == 1:
            window_x, inner_x = x // STEP, x % STEP
            held = held & (inner_x < SIZE_X) & (window_x < OUT_W)
        else:
            inner_x = reach % REACH_X
            window_x = (x - inner_x) // STEP
            held = held & (x >= inner_x) & ((x - inner_x) % STEP == 0) & (window_x < OUT_W)
        value, winner = _window(
            own, window_y * STEP, window_x * STEP, channel, held, WIDTH, PITCH, SIZE_Y, SIZE_X, MAXIMUM
        )  # fmt: skip
        window = window_y * OUT_W + window_x
        slope = tl.load(own_slopes + window * PITCH + channel, mask=held, other=0.0).to(tl.float32)
        if ACTIVATE:
            slope = _sloped(slope, value, _activated(value, code, KINDS), code, KINDS)
        if DROP:
            if rate > 0:
                number = (image * (OUT_H * OUT_W) + window) * CHANNELS + channel
                if CHANNEL_FIRST:
                    number = ((image * CHANNELS + channel) * OUT_H + window_y) * OUT_W + window_x
                low, high = _step_key(keys, model, clock)
                slope = slope * _kept(low, high, number + first_place, rate)
        if MAXIMUM:
            total += tl.where(held & (winner == inner_y * SIZE_X + inner_x), slope, 0.0)
        else:
            total += tl.where(held, slope * (1.0 / (SIZE_Y * SIZE_X)), 0.0)
    if GATE:
        value = tl.load(source + model * capacity * (HEIGHT * WIDTH * PITCH) + element, mask=ok, other=0.0)
        value = value.to(tl.float32)
        total = _gated(total, value, tl.load(gate_codes + model), tl.load(gate_rates + model), KINDS)
    tl.store(out + model * capacity * (HEIGHT * WIDTH * PITCH) + element, total, mask=ok)


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
    first = _operand(bias, PRECISION)
    rest = bias - first.to(tl.float32)
    embedded = tl.where((p == 63)[:, None], first.to(tl.float32)[None, :], embedded * scale)
    return _operand(tl.where((p == 62)[:, None], rest[None, :], embedded), PRECISION)


@triton.jit
def _kept_hidden(
    low, high, rate, rows, column, first_place, FIRST: constexpr, STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Return the factors of dropout of a first convolution's outputs (row, column) where a second one reads them."""
    image, y, x = _places(rows, H2, W2)
    WIDE: constexpr = column.shape[0]
    pair = tl.arange(0, WIDE // 2)  # neighbouring channels, which share a word
    tap, channel = FIRST + pair // 8, pair % 8 * 2
    corner = ((image * H1 + y * STEP) * W1 + x * STEP) * C1 + first_place
    place = corner[:, None] + (((tap // 3) * W1 + tap % 3) * C1 + channel)[None, :]
    word = _word(low, high, place >> 1)
    halves = tl.reshape(tl.join(word & 0xFFFF, word >> 16), (rows.shape[0], WIDE))
    return _factor(halves, rate)


@triton.jit
def _patch(
    source, order, rows, n_rows, SIDE: constexpr, WIDTH: constexpr, STEP: constexpr, ALIGNED: constexpr,
    H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Return the patch of 8 x 8 pixels that each row sees, float32 (row, 64), its last line 0 but for two ones."""
    p = tl.arange(0, 64)
    image, y, x = _places(rows, H2, W2)
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
    a = _activated(_dot(patch, first, start, PRECISION), code, KINDS)
    if DROP:
        if rate > 0:
            a = a * _kept_hidden(low, high, rate, rows, column, first_place, FIRST, STEP, H1, W1, C1, H2, W2)
    return _dot(a, second, total, PRECISION)


@triton.jit
def _back_through(
    patch, first, second, slope, first_total, second_total, code, low, high, rate, rows, column, first_place,
    DROP: constexpr, KINDS: constexpr, PRECISION: constexpr, FIRST: constexpr, STEP: constexpr,
    H1: constexpr, W1: constexpr, C1: constexpr, H2: constexpr, W2: constexpr,
):  # fmt: skip
    """Add to the gradients of `_embedded` (p, column) and `_second` (column, output) what a tile of rows says."""
    BM: constexpr = patch.shape[0]
    WIDE: constexpr = first.shape[1]
    z = _dot(patch, first, tl.zeros((BM, WIDE), tl.float32), PRECISION)
    a = _activated(z, code, KINDS)
    if KINDS & (32 | 64 | 128) == 0:
        z = a  # which says as much of the derivative, and is kept anyway
    back = _sloped(_dot(slope, second, tl.zeros((BM, WIDE), tl.float32), PRECISION), z, a, code, KINDS)
    if DROP:
        if rate > 0:
            kept = _kept_hidden(low, high, rate, rows, column, first_place, FIRST, STEP, H1, W1, C1, H2, W2)
            a, back = a * kept, back * kept
    return _dot(tl.trans(patch), back, first_total, PRECISION), _dot(tl.trans(a), slope, second_total, PRECISION)


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
    second_a = _operand(_second(own + SECOND, wide, output, 0, C1, C2), PRECISION)
    second_c = _operand(_second(own + SECOND, narrow, output, 8, C1, C2), PRECISION)
    if WIDE == 64:
        first_b = _embedded(own, p, wide, 4, FIRST_KERNEL, FIRST_STEP, C1)
        first_b = _with_bias(own, first_b, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
        second_b = _operand(_second(own + SECOND, wide, output, 4, C1, C2), PRECISION)
    bias = tl.zeros((16,), tl.float32)
    if SECOND_BIAS >= 0:
        bias = tl.load(own + SECOND_BIAS + output, mask=output < C2, other=0.0)
    code, second_code, rate = tl.load(first_codes + model), tl.load(second_codes + model), tl.load(rates + model)
    low, high = _step_key(keys, model, clock)
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
        total = _activated(total, second_code, KINDS)
        if DROP_SECOND:
            if rate > 0:
                total = _dropped(total, _kept(low, high, rows[:, None] * C2 + output[None, :] + second_place, rate))
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
    second_a = _operand(tl.trans(_second(own + SECOND, wide, output, 0, C1, C2)), PRECISION)
    second_c = _operand(tl.trans(_second(own + SECOND, narrow, output, 8, C1, C2)), PRECISION)
    if WIDE == 64:
        first_b = _embedded(own, p, wide, 4, FIRST_KERNEL, FIRST_STEP, C1)
        first_b = _with_bias(own, first_b, p, wide, scale, offset, FIRST_BIAS, C1, PRECISION)
        second_b = _operand(tl.trans(_second(own + SECOND, wide, output, 4, C1, C2)), PRECISION)
    code, rate = tl.load(first_codes + model), tl.load(rates + model)
    low, high = _step_key(keys, model, clock)
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


@triton.jit(do_not_specialize=VARYING)
def classification(
    logits, order, row_of, clock, n_order, labels, labels_of, n_labels, gradient, losses, counts,
    n_images, capacity,
    CLASSES: constexpr, PITCH: constexpr, TRAIN: constexpr, BM: constexpr, BN: constexpr,
):  # fmt: skip
    """Cross-entropy of one model's images, added to its sums, and (TRAIN) the gradient of its mean.

    losses (model,) float64; counts (model, 3, BN) int32: rightly predicted, predicted and labelled, class by class.
    """
    model = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BN)
    loss = tl.zeros((BM,), tl.float32)
    right = tl.zeros((BN,), tl.int32)
    predicted = tl.zeros((BN,), tl.int32)
    labelled = tl.zeros((BN,), tl.int32)
    for start in range(0, n_images, BM):
        image = start + tl.arange(0, BM)
        ok = image < n_images
        number = tl.load(order + tl.load(row_of + model) * n_order + tl.load(clock) + image, mask=ok, other=0)
        label = tl.load(labels + tl.load(labels_of + model) * n_labels + number, mask=ok, other=0)
        offset = (model * capacity + image)[:, None] * PITCH + column[None, :]
        mask = ok[:, None] & (column < CLASSES)[None, :]
        z = tl.load(logits + offset, mask=mask, other=float("-inf"))
        z = tl.where(ok[:, None], z, 0.0)
        top = tl.max(z, axis=1)
        weight = tl.exp(z - top[:, None])
        total = tl.sum(weight, axis=1)
        is_label = column[None, :] == label[:, None]
        own = tl.sum(tl.where(is_label, z, 0.0), axis=1)
        loss += tl.where(ok, tl.log(total) - (own - top), 0.0)
        # The first of equals, as argmax; where a logit is not a number, the class is none.
        first = tl.min(tl.where(z == top[:, None], column[None, :], BN), axis=1)
        is_predicted = (column[None, :] == first[:, None]) & ok[:, None]
        is_label = is_label & ok[:, None]
        right += tl.sum((is_predicted & is_label).to(tl.int32), axis=0)
        predicted += tl.sum(is_predicted.to(tl.int32), axis=0)
        labelled += tl.sum(is_label.to(tl.int32), axis=0)
        if TRAIN:
            slope = (weight / total[:, None] - is_label.to(tl.float32)) / n_images
            tl.store(gradient + offset, slope, mask=mask)
    tl.store(losses + model, tl.load(losses + model) + tl.sum(loss, axis=0).to(tl.float64))
    own_counts = counts + model * (3 * BN) + column
    tl.store(own_counts, tl.load(own_counts) + right)
    tl.store(own_counts + BN, tl.load(own_counts + BN) + predicted)
    tl.store(own_counts + 2 * BN, tl.load(own_counts + 2 * BN) + labelled)


@triton.jit(do_not_specialize=VARYING)
def regression(
    outputs, order, row_of, clock, n_order, targets, gradient, losses, n_images, capacity, shift,
    PITCH: constexpr, TRAIN: constexpr, BM: constexpr,
):  # fmt: skip
    """Squared error of one model's points, added to its sum (model,) float64, and (TRAIN) the gradient of its mean."""
    model = tl.program_id(0).to(tl.int64)
    loss = tl.zeros((BM,), tl.float32)
    for start in range(0, n_images, BM):
        image = start + tl.arange(0, BM)
        ok = image < n_images
        number = tl.load(order + tl.load(row_of + model) * n_order + tl.load(clock) + image, mask=ok, other=0)
        target = tl.load(targets + model * n_order + number, mask=ok, other=0.0)
        output = tl.load(outputs + (model * capacity + image) * PITCH, mask=ok, other=0.0)
        error = tl.where(ok, output + shift - target, 0.0)
        loss += error * error
        if TRAIN:
            tl.store(gradient + (model * capacity + image) * PITCH, 2.0 * error / n_images, mask=ok)
    tl.store(losses + model, tl.load(losses + model) + tl.sum(loss, axis=0).to(tl.float64))


@triton.jit(do_not_specialize=VARYING)
def update(
    weights, gradient, velocities, squares, codes, rates, momenta, decays, l2, schedules, table, clock,
    n_models, n_parameters, n_steps, kernels,
    SPLITS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """One step of every model's own optimiser. Reads weights, gradient and two moments, writes all but the gradient:
    28 bytes a parameter, once.

    table (2 + schedule, step): Adam's two bias corrections, then the factors of every schedule.
    """
    model = tl.program_id(0).to(tl.int64)
    parameter = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    ok = parameter < n_parameters
    place = model * n_parameters + parameter
    w = tl.load(weights + place, mask=ok, other=0.0)
    g = tl.load(gradient + place, mask=ok, other=0.0)
    for split in tl.static_range(1, SPLITS):
        g += tl.load(gradient + split * n_models.to(tl.int64) * n_parameters + place, mask=ok, other=0.0)
    g += 2.0 * tl.load(l2 + model) * tl.load(kernels + parameter, mask=ok, other=0.0) * w
    step = tl.load(clock + 2)
    rate = tl.load(rates + model) * tl.load(table + (2 + tl.load(schedules + model)) * n_steps + step)
    decay = tl.load(decays + model)
    code = tl.load(codes + model)
    if code == 2:
        w = w * (1.0 - rate * decay)
    else:
        g = g + decay * w
    if code % 4 == 0:  # without and with Nesterov's look ahead
        momentum = tl.load(momenta + model)
        velocity = momentum * tl.load(velocities + place, mask=ok, other=0.0) + g
        w = w - rate * tl.where(code == 4, g + momentum * velocity, velocity)
        tl.store(velocities + place, velocity, mask=ok)
    elif code == 3:
        square = 0.99 * tl.load(squares + place, mask=ok, other=0.0) + (1.0 - 0.99) * g * g
        w = w - rate * g / (tl.sqrt(square) + 1e-8)
        tl.store(squares + place, square, mask=ok)
    else:
        mean = tl.load(velocities + place, mask=ok, other=0.0)
        mean = mean + (1.0 - 0.9) * (g - mean)
        square = 0.999 * tl.load(squares + place, mask=ok, other=0.0) + (1.0 - 0.999) * g * g
        first, second = tl.load(table + step), tl.load(table + n_steps + step)
        w = w - (rate / first) * mean / (tl.sqrt(square) / second + 1e-8)
        tl.store(velocities + place, mean, mask=ok)
        tl.store(squares + place, square, mask=ok)
    tl.store(weights + place, w, mask=ok)


@triton.jit(do_not_specialize=VARYING)
def tick(clock, n_images):
    """Move a clock (first image, step of the training, step of the epoch) to the next step."""
    tl.store(clock, tl.load(clock) + n_images)
    tl.store(clock + 1, tl.load(clock + 1) + 1)
    tl.store(clock + 2, tl.load(clock + 2) + 1)
