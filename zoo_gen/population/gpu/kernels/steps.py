"""A step of every model's own optimiser, and the clock that says which step it is."""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import VARYING


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
