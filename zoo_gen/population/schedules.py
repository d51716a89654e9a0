"""Learning-rate schedules: the factor of a model's learning rate in each step.

Warm-up stands beside the schedule: it multiplies the schedules that count epochs, and comes before those that span the
training.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo_gen.errors import ZooError, one_line

WARM_UP, INITIAL_DIVISOR, FINAL_DIVISOR = 0.3, 25.0, 1e4  # the defaults of torch's OneCycleLR

OwnSchedule = Callable[[float, int], float]  # epoch, n_epochs -> factor


@dataclass(frozen=True)
class Schedule:
    """How the learning rate of a model changes; models with equal ones share its factors."""

    name: str
    warm_up_epochs: float = 0.0
    decay_every: int | None = None
    milestones: tuple[int, ...] = ()
    decay_factor: float = 0.1
    own_function: OwnSchedule | None = None  # instead of the schedule that the name stands for

    def factor(self, step: int, *, steps_per_epoch: int, n_epochs: int) -> float:
        """Return the factor of a step, counted from 0.

        `one_cycle` is the learning rate of torch's OneCycleLR without its cycling of momentum, `learning_rate` being
        the highest (Smith and Topin, "Super-convergence", 2019): up from 1/25 over the first 30 % of the steps, then
        down to 1/250,000, both along a cosine. `cosine` is CosineAnnealingLR down to 0 over the steps (Loshchilov and
        Hutter, "SGDR", 2017, without restarts), `step` StepLR and `milestones` MultiStepLR. Warm-up rises linearly
        to 1 in its last step (Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2).

        Raises:
            ZooError: a schedule of the user's own gives no number, or one below 0.
        """
        warm_up = round(self.warm_up_epochs * steps_per_epoch)
        rise = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
        epoch = step // steps_per_epoch
        if self.own_function is not None:
            return rise * own_factor(self.own_function, self.name, step / steps_per_epoch, n_epochs)
        if self.name == "step":
            assert self.decay_every is not None  # the manifest has checked it
            return rise * self.decay_factor ** (epoch // self.decay_every)
        if self.name == "milestones":
            return rise * self.decay_factor ** sum(epoch >= milestone for milestone in self.milestones)
        after, n_steps = max(0, step - warm_up), max(1, n_epochs * steps_per_epoch - warm_up)
        if self.name == "cosine":
            return rise * _cosine(1.0, 0.0, after / n_steps)
        return rise * (_one_cycle(after, n_steps) if self.name == "one_cycle" else 1.0)


def own_factor(schedule: OwnSchedule, name: str, epoch: float, n_epochs: int) -> float:
    """Return the factor that a schedule of the user's own gives.

    Args:
        schedule: the function.
        name: its reference.
        epoch: how many epochs are done, with the part of the current one.
        n_epochs: of the whole training.

    Raises:
        ZooError: it fails, or gives no number of 0 or more.
    """
    try:
        factor = float(schedule(epoch, n_epochs))
    # What a function of the user's raises is its own affair.
    except Exception as error:
        raise ZooError(f"schedule {name!r}: fails at epoch {epoch:g} of {n_epochs} ({one_line(error)})") from None
    if not 0 <= factor < math.inf:
        raise ZooError(f"schedule {name!r}: gives {factor} at epoch {epoch:g} of {n_epochs}; expected 0 or more")
    return factor


def distinct(schedules: Sequence[Schedule]) -> tuple[list[Schedule], list[int]]:
    """Return the schedules that differ, and for each model (model,) which of them it has."""
    numbers = {schedule: number for number, schedule in enumerate(dict.fromkeys(schedules))}
    return list(numbers), [numbers[schedule] for schedule in schedules]


def _one_cycle(step: int, n_steps: int) -> float:
    lowest_first, lowest_last = 1 / INITIAL_DIVISOR, 1 / (INITIAL_DIVISOR * FINAL_DIVISOR)
    peak = WARM_UP * n_steps - 1
    if step <= peak:
        return _cosine(lowest_first, 1.0, step / peak)
    return _cosine(1.0, lowest_last, (step - peak) / (n_steps - 1 - peak))


def _cosine(start: float, stop: float, share: float) -> float:
    return stop + (start - stop) / 2 * (1 + math.cos(math.pi * share))
