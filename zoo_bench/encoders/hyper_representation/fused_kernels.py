"""Triton kernels for what lies between the matrix products of a block, forward and backward.

Each reads every number once and writes it once, in rows of WIDTH of which a program holds BLOCK places. The gradients
of biases and norms are sums over all rows: a backward program goes over many rows, keeps its sums in registers and
writes them once, (program, sum, WIDTH), to be added up behind it. What was dropped is drawn again in the backward pass,
or known from what came out.
"""

import triton
import triton.language as tl
from triton.language import constexpr

ROUNDS = constexpr(7)  # of Philox, the fewest that pass all statistical tests (Salmon et al., SC 2011)


@triton.jit
def _kept(seed, row, threshold, factor, BLOCK: constexpr):
    """Return the factors of dropout of a row, float32 (BLOCK,); eight neighbours share a call of Philox."""
    call = row * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    first, second, third, fourth = tl.randint4x(tl.load(seed), call.to(tl.int32), ROUNDS)
    low = tl.join(tl.join(first & 0xFFFF, second & 0xFFFF), tl.join(third & 0xFFFF, fourth & 0xFFFF))
    high = tl.join(tl.join(first >> 16, second >> 16), tl.join(third >> 16, fourth >> 16))
    drawn = tl.reshape(tl.join(low, high), (BLOCK,)).to(tl.int32) & 0xFFFF
    return tl.where(drawn >= threshold, factor, 0.0)


@triton.jit
def add_and_normalize(
    tokens, product, bias, weight, shift, total, normed, means, inverses, seed, threshold, factor,
    WIDTH: constexpr, BLOCK: constexpr, DROP: constexpr,
):  # fmt: skip
    """total = tokens + drop(product + bias); normed = weight * (total - mean) / deviation + shift, for each row.

    Reads 2 x width elements of a row and writes 2 x width, its mean and 1 / deviation (unbiased).
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    offset = row * WIDTH + column
    update = tl.load(product + offset, mask=inside, other=0.0).to(tl.float32)
    update += tl.load(bias + column, mask=inside, other=0.0)
    if DROP:
        update *= _kept(seed, row, threshold, factor, BLOCK)
    result = tl.load(tokens + offset, mask=inside, other=0.0).to(tl.float32) + update
    result = result.to(total.dtype.element_ty)
    tl.store(total + offset, result, mask=inside)
    result = result.to(tl.float32)  # of what is kept for the backward pass
    mean = tl.sum(result, axis=0) / WIDTH
    centred = tl.where(inside, result - mean, 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, axis=0) / (WIDTH - 1) + 1e-12)
    tl.store(means + row, mean)
    tl.store(inverses + row, inverse)
    scaled = tl.load(weight + column, mask=inside, other=0.0) * (centred * inverse)
    scaled += tl.load(shift + column, mask=inside, other=0.0)
    tl.store(normed + offset, scaled, mask=inside)


@triton.jit
def add_and_normalize_gradient(
    slopes_of_total, slopes_of_normed, total, means, inverses, weight, to_tokens, to_product, sums,
    seed, threshold, factor, n_rows,
    WIDTH: constexpr, BLOCK: constexpr, DROP: constexpr,
):  # fmt: skip
    """The gradients of tokens and product, and sums of those of weight, shift and bias (program, 3, WIDTH).

    Reads 3 x width elements of a row and writes 2 x width.
    """
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    scale = tl.load(weight + column, mask=inside, other=0.0)
    to_weight = tl.zeros((BLOCK,), tl.float32)
    to_shift = tl.zeros((BLOCK,), tl.float32)
    to_bias = tl.zeros((BLOCK,), tl.float32)
    pitch = tl.full((), WIDTH, tl.int64)
    for row in range(program, n_rows, tl.num_programs(0)):
        offset = row * pitch + column
        slope = tl.load(slopes_of_normed + offset, mask=inside, other=0.0).to(tl.float32)
        result = tl.load(total + offset, mask=inside, other=0.0).to(tl.float32)
        inverse = tl.load(inverses + row)
        centred = tl.where(inside, (result - tl.load(means + row)) * inverse, 0.0)
        to_weight += slope * centred
        to_shift += slope
        slope *= scale
        mean = tl.sum(slope, axis=0) / WIDTH
        along = tl.sum(slope * centred, axis=0) / (WIDTH - 1)
        slope = inverse * (slope - mean - along * centred)
        slope += tl.load(slopes_of_total + offset, mask=inside, other=0.0).to(tl.float32)
        tl.store(to_tokens + offset, slope, mask=inside)
        if DROP:
            slope *= _kept(seed, row, threshold, factor, BLOCK)
        tl.store(to_product + offset, slope, mask=inside)
        to_bias += slope
    sums += program * 3 * WIDTH + column
    tl.store(sums, to_weight, mask=inside)
    tl.store(sums + WIDTH, to_shift, mask=inside)
    tl.store(sums + 2 * WIDTH, to_bias, mask=inside)


@triton.jit
def activate(
    product, bias, activated, seed, threshold, factor,
    WIDTH: constexpr, BLOCK: constexpr, DROP: constexpr,
):  # fmt: skip
    """activated = drop(relu(product + bias)), for each row: reads width elements and writes as many."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    offset = row * WIDTH + column
    result = tl.load(product + offset, mask=inside, other=0.0).to(tl.float32)
    result = tl.maximum(result + tl.load(bias + column, mask=inside, other=0.0), 0.0)
    if DROP:
        result *= _kept(seed, row, threshold, factor, BLOCK)
    tl.store(activated + offset, result, mask=inside)


@triton.jit
def activate_gradient(
    slopes, activated, to_product, sums, factor, n_rows,
    WIDTH: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """The gradient of the product, and sums of that of the bias (program, WIDTH): reads 2 x width, writes width.

    What came out as 0 was negative or dropped; either way nothing flows back.
    """
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    to_bias = tl.zeros((BLOCK,), tl.float32)
    pitch = tl.full((), WIDTH, tl.int64)
    for row in range(program, n_rows, tl.num_programs(0)):
        offset = row * pitch + column
        slope = tl.load(slopes + offset, mask=inside, other=0.0).to(tl.float32) * factor
        slope = tl.where(tl.load(activated + offset, mask=inside, other=0.0) > 0, slope, 0.0)
        tl.store(to_product + offset, slope, mask=inside)
        to_bias += slope
    tl.store(sums + program * WIDTH + column, to_bias, mask=inside)
