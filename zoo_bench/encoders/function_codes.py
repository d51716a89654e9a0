"""The activation function of each network as a number in front of its weights, for encoders that must know it.

They run networks, or know which changes of weights a function allows; no other encoder is told the function.
"""

from typing import get_args

import numpy as np

from zoo_bench.protocol.views import TrainingView, WeightsView
from zoo_gen.architecture.layers import Function

FUNCTIONS: tuple[Function, ...] = tuple(name for part in get_args(Function) for name in get_args(part))


def rows_with_functions(view: TrainingView | WeightsView) -> np.ndarray:
    """Return the weights with the place of each row's function in FUNCTIONS in front, (model, checkpoint, number).

    Raises:
        ZooError: the functions are not known, or are what a benchmark asks for.
    """
    forward = view.computing.forward_pass
    places = np.array([FUNCTIONS.index(function or "identity") for function in forward.functions], np.float32)
    codes = places[forward.function_of].reshape(*view.weights.shape[:2], 1)
    return np.concatenate([codes, view.weights], axis=2)
