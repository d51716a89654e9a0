"""Tokens of images, their normalisation and their mean, forward and backward; and what kernels over tokens share.

A program works for a model and a share of its images, one image after the other, and holds all tokens of an image at
once, at most 64 of 64 features. Values lie as (model, image, token, feature), `PITCH` elements from token to token.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import (
    FIRST_MIX,
    GOLDEN,
    SECOND_MIX,
    VARYING,
    dot,
    keep_factor,
    operand,
    step_key,
)

DRAW, TWO_DRAWS, DRAW_MASK = constexpr(20), constexpr(40), constexpr(2**20 - 1)  # bits, as `augmentation.draws`


@triton.jit
def share(n_images, SPLITS: constexpr):
    """Return the first image of a program's share and the one behind its last."""
    each = tl.cdiv(n_images, SPLITS)
    first = tl.program_id(1) * each
    return first, tl.minimum(first + each, n_images)


@triton.jit
def tile(values, token, feature, STEPS: constexpr, FEATURES: constexpr, PITCH: constexpr):
    """Return where the tokens of an image lie, (token, feature), and which of these places exist."""
    inside = (token < STEPS)[:, None] & (feature < FEATURES)[None, :]
    return values + token[:, None] * PITCH + feature[None, :], inside


@triton.jit
def turned(at, row, column, ROWS: constexpr, COLUMNS: constexpr):
    """Return where a weight (column, row) lies as (row, column), and which of these places exist."""
    return at + column[None, :] * ROWS + row[:, None], (row < ROWS)[:, None] & (column < COLUMNS)[None, :]


@triton.jit
def turned_weight(at, row, column, ROWS: constexpr, COLUMNS: constexpr, PRECISION: constexpr):
    """Return a weight (column, row) as (row, column), rounded as an operand."""
    places, inside = turned(at, row, column, ROWS, COLUMNS)
    return operand(tl.load(places, mask=inside, other=0.0), PRECISION)


@triton.jit
def vector(at, column, COUNT: constexpr, THERE: constexpr):
    """Return a bias (column,), zeros if it is not THERE."""
    result = tl.zeros(column.shape, tl.float32)
    if THERE:
        result = tl.load(at + column, mask=column < COUNT, other=0.0)
    return result


@triton.jit
def normalized(x, inside, FEATURES: constexpr, EPSILON: constexpr):
    """Return each token less its mean and over its deviation, and one over that; an EPSILON below 0: x as it is."""
    scale = tl.full((x.shape[0],), 1.0, tl.float32)
    if EPSILON >= 0:
        mean = tl.sum(x, axis=1) / FEATURES
        x = tl.where(inside, x - mean[:, None], 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / FEATURES + EPSILON)
        x = x * scale[:, None]
    return x, scale


@triton.jit
def scaled(hat, parameters, feature, NORM: constexpr, FEATURES: constexpr):
    """Return normalised tokens times a scale with a shift, which begin at NORM of the weights; -1: there are none."""
    if NORM >= 0:
        inside = feature < FEATURES
        scale = tl.load(parameters + NORM + feature, mask=inside, other=0.0)
        hat = hat * scale[None, :] + tl.load(parameters + NORM + FEATURES + feature, mask=inside, other=0.0)[None, :]
    return hat


@triton.jit
def normalized_gradient(
    slope, hat, scale, inside, parameters, feature, NORM: constexpr, FEATURES: constexpr, EPSILON: constexpr
):
    """Return the gradient before `normalized` and `scaled` from that behind them."""
    if NORM >= 0:
        slope = slope * tl.load(parameters + NORM + feature, mask=feature < FEATURES, other=0.0)[None, :]
    if EPSILON >= 0:
        slope = tl.where(inside, slope, 0.0)
        mean = tl.sum(slope, axis=1) / FEATURES
        along = tl.sum(slope * hat, axis=1) / FEATURES
        slope = (slope - mean[:, None] - hat * along[:, None]) * scale[:, None]
    return tl.where(inside, slope, 0.0)


@triton.jit
def store_vectors(at, first, second, column, COUNT: constexpr, THERE: constexpr):
    """Store the gradients of two vectors (column,) that lie one behind the other."""
    if THERE:
        tl.store(at + column, first, mask=column < COUNT)
        tl.store(at + COUNT + column, second, mask=column < COUNT)


@triton.jit
def token_factor(low, high, image, token, feature, first_place, rate, STEPS: constexpr, FEATURES: constexpr):
    """Return the factors of dropout (token, feature) of an image's tokens."""
    place = (image * STEPS + token)[:, None] * FEATURES + feature[None, :] + first_place
    return keep_factor(low, high, place, rate)


@triton.jit
def _crop(key, number, padding, threshold):
    """Return how far down and to the right an image's crop begins, and whether it is mirrored (0 or 1)."""
    z = key.to(tl.uint64) + (number + 1).to(tl.uint64) * tl.full((), GOLDEN, tl.uint64)
    z = (z ^ (z >> 30)) * tl.full((), FIRST_MIX, tl.uint64)
    z = (z ^ (z >> 27)) * tl.full((), SECOND_MIX, tl.uint64)
    z = z ^ (z >> 31)
    mask = tl.full((), DRAW_MASK, tl.uint64)
    places = 2 * padding + 1
    down = (((z & mask).to(tl.int32) * places) >> DRAW) - padding
    right = ((((z >> DRAW) & mask).to(tl.int32) * places) >> DRAW) - padding
    return down, right, (((z >> TWO_DRAWS) & mask).to(tl.int32) < threshold).to(tl.int32)


@triton.jit
def _patches(
    source, number, down, right, mirrored, scales, token, k,
    CHANNELS: constexpr, HEIGHT: constexpr, WIDTH: constexpr, SIDE: constexpr, ACROSS: constexpr, PATCHES: constexpr,
):  # fmt: skip
    """Return the pixels (token, k) of an image's patches as models read them, 0 where there is no patch."""
    AREA: constexpr = SIDE * SIDE
    channel, y, x = k // AREA, k % AREA // SIDE, k % SIDE
    there = ((token >= 0) & (token < PATCHES))[:, None] & (channel < CHANNELS)[None, :]
    y = (token // ACROSS * SIDE)[:, None] + y[None, :]
    x = (token % ACROSS * SIDE)[:, None] + x[None, :]
    x = tl.where(mirrored > 0, WIDTH - 1 - x, x) + right
    y = y + down
    lit = there & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
    place = number.to(tl.int64) * (CHANNELS * HEIGHT * WIDTH) + (channel[None, :] * HEIGHT + y) * WIDTH + x
    pixels = tl.load(source + place, mask=lit, other=0).to(tl.float32)
    scale = tl.load(scales + channel, mask=channel < CHANNELS, other=0.0)
    offset = tl.load(scales + CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
    return tl.where(there, pixels * scale[None, :] + offset[None, :], 0.0)


@triton.jit(do_not_specialize=VARYING)
def embed(
    source, order, row_of, clock, n_order, weights, scales, positions, out, rates, keys, crop_keys, paddings,
    thresholds, n_images, capacity, n_parameters, first_place,
    WEIGHT: constexpr, BIAS: constexpr, TOKEN: constexpr, CODES: constexpr,
    CHANNELS: constexpr, HEIGHT: constexpr, WIDTH: constexpr, SIDE: constexpr, ACROSS: constexpr, PATCHES: constexpr,
    STEPS: constexpr, FEATURES: constexpr, PITCH: constexpr, CROP: constexpr, DROP: constexpr, SPLITS: constexpr,
    PRECISION: constexpr, BT: constexpr, BC: constexpr, BK: constexpr,
):  # fmt: skip
    """Patches of bytes, cropped and mirrored, to tokens: a product, a class token (TOKEN), positions, dropout.

    Positions are those of the table (token, feature), or learned ones that begin at CODES. Reads an image's bytes,
    writes its tokens.
    """
    model = tl.program_id(0).to(tl.int64)
    token, feature, k = tl.arange(0, BT), tl.arange(0, BC), tl.arange(0, BK)
    parameters = weights + model * n_parameters
    weight = turned_weight(parameters + WEIGHT, k, feature, CHANNELS * SIDE * SIDE, FEATURES, PRECISION)
    code_places, coded = tile(positions, token, feature, STEPS, FEATURES, FEATURES)
    if CODES >= 0:
        code_places, coded = tile(parameters + CODES, token, feature, STEPS, FEATURES, FEATURES)
    start = tl.load(code_places, mask=coded, other=0.0)
    FIRST: constexpr = 1 if TOKEN >= 0 else 0
    start += tl.where((token >= FIRST)[:, None], vector(parameters + BIAS, feature, FEATURES, BIAS >= 0)[None, :], 0.0)
    if TOKEN >= 0:
        start += tl.where((token == 0)[:, None], vector(parameters + TOKEN, feature, FEATURES, True)[None, :], 0.0)
    rate = tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    order += tl.load(row_of + model) * n_order + tl.load(clock)
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        number = tl.load(order + image)
        down, right, mirrored = number * 0, number * 0, number * 0
        if CROP:
            key, padding = tl.load(crop_keys + model), tl.load(paddings + model)
            down, right, mirrored = _crop(key, number, padding, tl.load(thresholds + model))
        patches = _patches(
            source, number, down, right, mirrored, scales, token - FIRST, k,
            CHANNELS, HEIGHT, WIDTH, SIDE, ACROSS, PATCHES,
        )  # fmt: skip
        y = dot(patches, weight, tl.zeros((BT, BC), tl.float32), PRECISION) + start
        if DROP:
            if rate > 0:
                y = y * token_factor(low, high, image, token, feature, first_place, rate, STEPS, FEATURES)
        image_out = out + (model * capacity + image) * (STEPS * PITCH)
        places, inside = tile(image_out, token, feature, STEPS, FEATURES, PITCH)
        tl.store(places, y, mask=inside)


@triton.jit(do_not_specialize=VARYING)
def embed_gradient(
    source, order, row_of, clock, n_order, slopes, scales, gradient, rates, keys, crop_keys, paddings, thresholds,
    n_images, capacity, n_models, n_parameters, first_place,
    WEIGHT: constexpr, BIAS: constexpr, TOKEN: constexpr, CODES: constexpr,
    CHANNELS: constexpr, HEIGHT: constexpr, WIDTH: constexpr, SIDE: constexpr, ACROSS: constexpr, PATCHES: constexpr,
    STEPS: constexpr, FEATURES: constexpr, PITCH: constexpr, CROP: constexpr, DROP: constexpr, SPLITS: constexpr,
    PRECISION: constexpr, BT: constexpr, BC: constexpr, BK: constexpr,
):  # fmt: skip
    """The gradients of all that `embed` adds up. Reads an image's bytes and the gradient of its tokens."""
    model = tl.program_id(0).to(tl.int64)
    token, feature, k = tl.arange(0, BT), tl.arange(0, BC), tl.arange(0, BK)
    FIRST: constexpr = 1 if TOKEN >= 0 else 0
    rate = tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    order += tl.load(row_of + model) * n_order + tl.load(clock)
    to_weight, to_codes = tl.zeros((BK, BC), tl.float32), tl.zeros((BT, BC), tl.float32)
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        number = tl.load(order + image)
        down, right, mirrored = number * 0, number * 0, number * 0
        if CROP:
            key, padding = tl.load(crop_keys + model), tl.load(paddings + model)
            down, right, mirrored = _crop(key, number, padding, tl.load(thresholds + model))
        patches = _patches(
            source, number, down, right, mirrored, scales, token - FIRST, k,
            CHANNELS, HEIGHT, WIDTH, SIDE, ACROSS, PATCHES,
        )  # fmt: skip
        image_slopes = slopes + (model * capacity + image) * (STEPS * PITCH)
        places, inside = tile(image_slopes, token, feature, STEPS, FEATURES, PITCH)
        slope = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        if DROP:
            if rate > 0:
                slope = slope * token_factor(low, high, image, token, feature, first_place, rate, STEPS, FEATURES)
        to_codes += slope
        to_weight = dot(tl.trans(patches), slope, to_weight, PRECISION)
    sums = gradient + (tl.program_id(1) * n_models.to(tl.int64) + model) * n_parameters
    places, inside = turned(sums + WEIGHT, k, feature, CHANNELS * SIDE * SIDE, FEATURES)
    tl.store(places, to_weight, mask=inside)
    if BIAS >= 0:
        to_bias = tl.sum(tl.where((token >= FIRST)[:, None], to_codes, 0.0), axis=0)
        tl.store(sums + BIAS + feature, to_bias, mask=feature < FEATURES)
    if TOKEN >= 0:
        to_token = tl.sum(tl.where((token == 0)[:, None], to_codes, 0.0), axis=0)
        tl.store(sums + TOKEN + feature, to_token, mask=feature < FEATURES)
    if CODES >= 0:
        places, inside = tile(sums + CODES, token, feature, STEPS, FEATURES, FEATURES)
        tl.store(places, to_codes, mask=inside)


@triton.jit(do_not_specialize=VARYING)
def gather_tokens(
    source, out, weights, n_images, capacity, n_parameters,
    NORM: constexpr, EPSILON: constexpr, STEPS: constexpr, FEATURES: constexpr, PITCH: constexpr,
    OUT_PITCH: constexpr, ONLY_FIRST: constexpr, SPLITS: constexpr, BT: constexpr, BC: constexpr,
):  # fmt: skip
    """Normalise the tokens of each image and write their mean, or (ONLY_FIRST) the first. Reads every token once."""
    model = tl.program_id(0).to(tl.int64)
    token, feature = tl.arange(0, BT), tl.arange(0, BC)
    read = (token < (1 if ONLY_FIRST else STEPS)).to(tl.float32) / (1 if ONLY_FIRST else STEPS)
    parameters = weights + model * n_parameters
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        places, inside = tile(
            source + (model * capacity + image) * (STEPS * PITCH), token, feature, STEPS, FEATURES, PITCH
        )
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, _ = normalized(x, inside, FEATURES, EPSILON)
        y = tl.sum(scaled(hat, parameters, feature, NORM, FEATURES) * read[:, None], axis=0)
        tl.store(out + (model * capacity + image) * OUT_PITCH + feature, y, mask=feature < FEATURES)


@triton.jit(do_not_specialize=VARYING)
def gather_tokens_gradient(
    source, slopes, into, weights, gradient, n_images, capacity, n_models, n_parameters,
    NORM: constexpr, EPSILON: constexpr, STEPS: constexpr, FEATURES: constexpr, PITCH: constexpr,
    OUT_PITCH: constexpr, ONLY_FIRST: constexpr, SPLITS: constexpr, BT: constexpr, BC: constexpr,
):  # fmt: skip
    """The gradient of the tokens that `gather_tokens` read, and of its scale and shift. Reads and writes every token
    once.
    """
    model = tl.program_id(0).to(tl.int64)
    token, feature = tl.arange(0, BT), tl.arange(0, BC)
    read = (token < (1 if ONLY_FIRST else STEPS)).to(tl.float32) / (1 if ONLY_FIRST else STEPS)
    parameters = weights + model * n_parameters
    to_scale, to_shift = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        begin = (model * capacity + image) * (STEPS * PITCH)
        places, inside = tile(source + begin, token, feature, STEPS, FEATURES, PITCH)
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, scale = normalized(x, inside, FEATURES, EPSILON)
        behind = slopes + (model * capacity + image) * OUT_PITCH + feature
        slope = read[:, None] * tl.load(behind, mask=feature < FEATURES, other=0.0).to(tl.float32)[None, :]
        to_scale += tl.sum(slope * hat, axis=0)
        to_shift += tl.sum(slope, axis=0)
        slope = normalized_gradient(slope, hat, scale, inside, parameters, feature, NORM, FEATURES, EPSILON)
        places, inside = tile(into + begin, token, feature, STEPS, FEATURES, PITCH)
        tl.store(places, slope, mask=inside)
    at = gradient + (tl.program_id(1) * n_models.to(tl.int64) + model) * n_parameters + NORM
    store_vectors(at, to_scale, to_shift, feature, FEATURES, NORM >= 0)
