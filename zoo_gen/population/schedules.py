"""Learning-rate schedules: the factor of a model's learning rate in each step."""

import math

WARM_UP, INITIAL_DIVISOR, FINAL_DIVISOR = 0.3, 25.0, 1e4  # the defaults of torch's OneCycleLR
LINEAR_WARM_UP = 0.1  # of `warmup_cosine`: ten epochs of a hundred, as the Small Transformer Zoo has


def factor(schedule: str, step: int, n_steps: int) -> float:
    """Return the factor of a step (from 0 on) of a training of `n_steps`.

    `one_cycle` is the learning rate of torch's OneCycleLR without its cycling of momentum, `learning_rate` being the
    highest (Smith and Topin, "Super-convergence", 2019): up from 1/25 over the first 30 % of the steps, then down to
    1/250,000, both along a cosine. `warmup_cosine` rises linearly over the first tenth of the steps to the learning
    rate itself, and then falls to 0 along a cosine.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "warmup_cosine":
        warm = max(1, round(LINEAR_WARM_UP * n_steps))
        return (step + 1) / warm if step < warm else _cosine(1.0, 0.0, (step + 1 - warm) / (n_steps + 1 - warm))
    lowest_first, lowest_last = 1 / INITIAL_DIVISOR, 1 / (INITIAL_DIVISOR * FINAL_DIVISOR)
    peak = WARM_UP * n_steps - 1
    if step <= peak:
        return _cosine(lowest_first, 1.0, step / peak)
    return _cosine(1.0, lowest_last, (step - peak) / (n_steps - 1 - peak))


def _cosine(start: float, stop: float, share: float) -> float:
    return stop + (start - stop) / 2 * (1 + math.cos(math.pi * share))
