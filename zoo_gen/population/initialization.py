"""Initial weights of many models at once, by the scheme that each model names.

They are drawn on the host in float64 and rounded once, so that every kind of device starts from the same weights.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from zoo_gen.hyperparameters import Initialization
from zoo_gen.layout import Parameter, ParameterLayout
from zoo_gen.population.random import Purpose, uniforms

BIAS = 0.01  # every bias begins here (Schürholt et al., NeurIPS 2021, as in their public code)


def initial_weights(
    layout: ParameterLayout, seeds: np.ndarray, schemes: Sequence[Initialization], *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the weights (model, parameter) before training, on the CPU.

    The schemes are those of `torch.nn.init` with their defaults: `uniform` U(0, 1), `normal` N(0, 1), `kaiming_*` for
    ReLU by fan-in, `xavier_*` with gain 1. Models of one seed share their underlying draws, whatever their scheme.
    """
    draws = torch.from_numpy(uniforms(seeds, Purpose.WEIGHTS, 0, layout.size))
    weights = torch.empty_like(draws)
    for scheme in sorted(set(schemes)):
        rows = torch.tensor([position for position, own in enumerate(schemes) if own == scheme])
        for parameter in layout.parameters:
            columns = slice(parameter.start, parameter.stop)
            weights[rows, columns] = (
                torch.full((len(rows), parameter.size), BIAS, dtype=torch.float64)
                if parameter.role == "bias"
                else _drawn(scheme, draws[rows, columns], parameter)
            )
    return weights.to(dtype)


def _drawn(scheme: Initialization, uniform: torch.Tensor, parameter: Parameter) -> torch.Tensor:
    """Turn uniform numbers (model, element) into weights of one parameter (outputs, inputs, ...)."""
    receptive_field = math.prod(parameter.shape[2:])
    fan_in, fan_out = parameter.shape[1] * receptive_field, parameter.shape[0] * receptive_field
    deviation = {
        "uniform": 1.0,
        "normal": 1.0,
        "kaiming_uniform": math.sqrt(2.0 / fan_in),
        "kaiming_normal": math.sqrt(2.0 / fan_in),
        "xavier_uniform": math.sqrt(2.0 / (fan_in + fan_out)),
        "xavier_normal": math.sqrt(2.0 / (fan_in + fan_out)),
    }[scheme]
    if scheme == "uniform":
        return uniform
    if scheme.endswith("normal"):
        return torch.special.ndtri(uniform) * deviation
    return (2.0 * uniform - 1.0) * (math.sqrt(3.0) * deviation)
