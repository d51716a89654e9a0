"""Ranges of settings that a tuning searches: as they are written, and those of the encoders that come with the package.

A range is a list of values, `16,32,64`, or two ends, `1e-4..1e-2`, between which numbers are drawn uniformly; with
`log` behind them, their logarithms are. An encoder of one's own declares them as its attribute `ranges`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from zoo_gen.errors import ZooError

_TRAINING = {"learning_rate": "1e-4..1e-2 log", "weight_decay": "1e-5..1e-1 log"}
RANGES: dict[str, dict[str, str]] = {
    "pca": {"dimension": "4..400 log"},
    "statistics_boosting": {"most_trees": "50..4000 log"},
    "statistics_network": {**_TRAINING, "batch_size": "8,32,128"},
    "mlp": {**_TRAINING, "batch_size": "16,64,256"},
    "deep_sets": {**_TRAINING, "batch_size": "16,64,256"},
    "graph_network": {**_TRAINING, "rounds": "2,3,4", "width": "24,64"},
    "scale_graph_network": {**_TRAINING, "rounds": "2,3,4", "width": "24,64"},
    "sne": {**_TRAINING, "noise": "0..0.6", "width": "32,64"},
    "hyper_representation": {"epochs_share": "0.1,0.3,1.0", "warm_up_share": "0.0,0.05", "standardize": "false,true"},
    "hyper_representation_small": {
        "learning_rate": "1e-4..1e-2 log",
        "gamma": "0.05..0.95",
        "latent": "20,50,100",
        "standardize": "false,true",
    },
}


@dataclass(frozen=True)
class Range:
    """The values that a setting may take: a list, or the numbers between two ends."""

    values: tuple[str, ...] = ()
    ends: tuple[float, float] | None = None
    is_whole: bool = False
    is_logarithmic: bool = False

    def draw(self, random: np.random.RandomState) -> str:
        """Return one value as it would be written."""
        if self.ends is None:
            return self.values[random.randint(len(self.values))]
        low, high = np.log(self.ends) if self.is_logarithmic else self.ends
        value = float(low + (high - low) * random.random_sample())
        value = float(np.exp(value)) if self.is_logarithmic else value
        return str(round(value)) if self.is_whole else f"{value:.4g}"


def parsed_range(setting: str, text: str) -> Range:
    """Return a range from its text.

    Raises:
        ZooError: it is no range.

    >>> parsed_range("dimension", "4..400 log").is_logarithmic
    True
    """
    ends, dots, rest = text.partition("..")
    if not dots:
        values = tuple(value.strip() for value in text.split(","))
        if not all(values) or len(set(values)) < len(values):
            raise ZooError(f"{setting}={text}: expected values that differ, such as 16,32,64")
        return Range(values)
    high, *words = rest.split() or [""]
    try:
        numbers = (float(ends), float(high))
    except ValueError:
        raise ZooError(f"{setting}={text}: expected LOW..HIGH, or LOW..HIGH log, with two numbers") from None
    is_logarithmic = words == ["log"]
    if (words and not is_logarithmic) or not numbers[0] < numbers[1] or (is_logarithmic and numbers[0] <= 0):
        above = " above 0" if is_logarithmic else ""
        raise ZooError(f"{setting}={text}: expected LOW..HIGH, or LOW..HIGH log, with LOW{above} below HIGH")
    is_whole = all(end.strip().lstrip("-").isdecimal() for end in (ends, high))
    return Range(ends=numbers, is_whole=is_whole, is_logarithmic=is_logarithmic)


def declared_ranges(base: str, maker: Callable[..., Any]) -> dict[str, str]:
    """Return the ranges that an encoder declares, setting -> text; those of a size or variant are its family's.

    Args:
        base: the encoder's name without settings.
        maker: what makes it.
    """
    declared = getattr(maker.func if isinstance(maker, partial) else maker, "ranges", None)
    if isinstance(declared, Mapping):
        return {str(name): str(text) for name, text in declared.items()}
    families = [name for name in RANGES if base == name or base.startswith(f"{name}_")]
    return RANGES[max(families, key=len)] if families else {}


def drawn(ranges: Mapping[str, Range], count: int, *, seed: int) -> list[dict[str, str]]:
    """Return so many different choices of settings, drawn at random; fewer, where there are no more."""
    random = np.random.RandomState(seed)
    choices: dict[tuple[str, ...], dict[str, str]] = {}
    for _ in range(100 * count):
        choice = {name: each.draw(random) for name, each in ranges.items()}
        choices.setdefault(tuple(choice.values()), choice)
        if len(choices) == count:
            break
    return list(choices.values())


def grid(ranges: Mapping[str, Range], count: int) -> list[dict[str, str]]:
    """Return every combination of values.

    Raises:
        ZooError: a range is no list, or there are more combinations than trials.
    """
    for name, each in ranges.items():
        if not each.values:
            raise ZooError(f"{name}: is no list of values; expected one, such as {name}=16,32,64, or random search")
    choices = [dict(zip(ranges, values, strict=True)) for values in product(*(each.values for each in ranges.values()))]
    if len(choices) > count:
        raise ZooError(f"the grid has {len(choices)} combinations for {count} trials; expected fewer values")
    return choices
