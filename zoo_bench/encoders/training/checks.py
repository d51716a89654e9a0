"""Checks of training views that every learning encoder makes before it trains.

An encoder that cannot read a zoo says so in one line, with what would work instead, and not after an hour of training
with a number that means nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo_bench.protocol.views import SelectionViews, TrainingView
from zoo_gen.errors import ZooError


def check_views(name: str, train: Sequence[TrainingView], validation: SelectionViews) -> None:
    """Refuse views without models, and weights that are not finite.

    Raises:
        ZooError: there is nothing to learn from or to select on, or a checkpoint holds NaN or infinity.
    """
    for part, views in (("training", train), ("validation", validation)):
        if sum(len(view.weights) for view in views) == 0:
            raise ZooError(f"{name}: no {part} models; expected a zoo whose split has train and validation parts")
        for view in views:
            finite = np.isfinite(view.weights).all(axis=(1, 2))
            if not finite.all():
                model = "a validation model" if part == "validation" else f"training model {view.models[~finite][0]}"
                raise ZooError(
                    f"{name}: weights of {model} of {view.zoo.name} are not finite; "
                    f"expected models that did not diverge (status complete)"
                )


def check_one_layout(name: str, views: Sequence[Any]) -> None:
    """Refuse views of several architectures, for an encoder that reads one.

    Raises:
        ZooError: the layouts differ.
    """
    first, *rest = views
    for view in rest:
        if view.layout != first.layout:
            raise ZooError(
                f"{name}: {first.zoo.name} and {view.zoo.name} differ in architecture ({first.layout.size:,} and "
                f"{view.layout.size:,} parameters); expected one architecture, or an encoder that mixes them, "
                f"such as sne or pooled_layer_statistics"
            )


def check_target(name: str, target: str | None, values: np.ndarray) -> None:
    """Refuse a target (row,) that says nothing.

    Raises:
        ZooError: all values are the same.
    """
    if (values == values[0]).all():
        raise ZooError(f"{name}: {target} is {values[0]} for all models; expected a target that varies")
