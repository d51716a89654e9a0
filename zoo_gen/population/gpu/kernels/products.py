"""Products of gathered values with stacked weights: convolutions, linear layers, their transposes and gradients."""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import (
    VARYING,
    activated,
    dot,
    drop,
    gate_gradient,
    keep_factor,
    places,
    step_key,
)


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
    image, y, x = places(rows, ROWS_H, ROWS_W)
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
        total = dot(values, weight, total, PRECISION)
    if BIAS >= 0:
        total += tl.load(own + BIAS + columns, mask=column_ok, other=0.0)[None, :]
    place = (image * OUT_H + y * OUT_STEP + OUT_Y) * OUT_W + x * OUT_STEP + OUT_X
    offset = place[:, None] * PITCH + columns[None, :]
    mask = ok[:, None] & column_ok[None, :]
    first = model * capacity * (OUT_H * OUT_W * PITCH)
    if ACTIVATE:
        total = activated(total, tl.load(codes + model), KINDS)
    if DROP:
        rate = tl.load(rates + model)
        if rate > 0:
            low, high = step_key(keys, model, clock)
            total = drop(total, keep_factor(low, high, place[:, None] * N + columns[None, :] + first_place, rate))
    if GATE:
        value = tl.load(gated + first + offset, mask=mask, other=0.0).to(tl.float32)
        total = gate_gradient(total, value, tl.load(codes + model), tl.load(rates + model), KINDS)
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
        image, y, x = places(rows, ROWS_H, ROWS_W)
        ok = image < n_images
        bases = _image_bases(source, order, row_of, clock, n_order, model, capacity, image, ok, IMAGE, BY_NUMBER)
        bases += y * (STEP * ROW) + x * (STEP * PIXEL)
        values = _gathered(
            bases, y * STEP, x * STEP, ok, k_table, k_scale, k, K, HEIGHT, WIDTH, CHECKED, NEIGHBOURS, BY_NUMBER
        )  # fmt: skip
        offset = (model * capacity * (ROWS_H * ROWS_W) + rows)[:, None] * PITCH + columns[None, :]
        slope = tl.load(slopes + offset, mask=ok[:, None] & column_ok[None, :], other=0.0)
        total = dot(tl.trans(values), slope, total, PRECISION)
        bias += tl.sum(slope.to(tl.float32), axis=0)
    own = gradient + model * n_parameters
    k_offset = tl.load(k_table + K + k, mask=k < K, other=-1)
    c_offset = tl.load(c_table + columns, mask=column_ok, other=-1)
    has_weight = (k_offset >= 0)[:, None] & (c_offset >= 0)[None, :]
    tl.store(own + (k_offset[:, None] + c_offset[None, :]), total, mask=has_weight)
    if BIAS >= 0:
        if tl.program_id(1) == 0:
            tl.store(own + BIAS + columns, bias, mask=column_ok)
