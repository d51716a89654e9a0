"""Pooling with what follows it, and its gradient."""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import (
    VARYING,
    activated,
    gate_gradient,
    keep_factor,
    places,
    sloped,
    step_key,
)


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
        element = tl.load(source + place, mask=ok, other=0.0).to(tl.float32)
        if MAXIMUM:
            better = (element > value) | (element != element)  # NaN wins
            winner = tl.where(better, number, winner)
            value = tl.where(better, element, value)
        else:
            value += element * (1.0 / (SIZE_Y * SIZE_X))
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
    image, y, x = places(pixel, OUT_H, OUT_W)
    ok = image < n_images
    own = source + (model * capacity + image) * (HEIGHT * WIDTH * PITCH)
    value, _ = _window(own, y * STEP, x * STEP, channel, ok, WIDTH, PITCH, SIZE_Y, SIZE_X, MAXIMUM)
    if ACTIVATE:
        value = activated(value, tl.load(codes + model), KINDS)
    if DROP:
        rate = tl.load(rates + model)
        if rate > 0:
            place = pixel * CHANNELS + channel
            if CHANNEL_FIRST:
                place = ((image * CHANNELS + channel) * OUT_H + y) * OUT_W + x
            low, high = step_key(keys, model, clock)
            value = value * keep_factor(low, high, place + first_place, rate)
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
    image, y, x = places(pixel, HEIGHT, WIDTH)
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
            slope = sloped(slope, value, activated(value, code, KINDS), code, KINDS)
        if DROP:
            if rate > 0:
                number = (image * (OUT_H * OUT_W) + window) * CHANNELS + channel
                if CHANNEL_FIRST:
                    number = ((image * CHANNELS + channel) * OUT_H + window_y) * OUT_W + window_x
                low, high = step_key(keys, model, clock)
                slope = slope * keep_factor(low, high, number + first_place, rate)
        if MAXIMUM:
            total += tl.where(held & (winner == inner_y * SIZE_X + inner_x), slope, 0.0)
        else:
            total += tl.where(held, slope * (1.0 / (SIZE_Y * SIZE_X)), 0.0)
    if GATE:
        value = tl.load(source + model * capacity * (HEIGHT * WIDTH * PITCH) + element, mask=ok, other=0.0)
        value = value.to(tl.float32)
        total = gate_gradient(total, value, tl.load(gate_codes + model), tl.load(gate_rates + model), KINDS)
    tl.store(out + model * capacity * (HEIGHT * WIDTH * PITCH) + element, total, mask=ok)
