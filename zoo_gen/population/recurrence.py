"""Layers over the steps of sequences, for all models of a population at once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo_gen.architecture.layers import Linear, Recurrent
from zoo_gen.population.products import product_of_rows


def linear_of_steps(layer: Linear, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return a linear layer of (model, image, step, feature) at every step."""
    weight, bias = parameters[f"{layer.name}.weight"], parameters.get(f"{layer.name}.bias")
    return product_of_rows(hidden.flatten(1, 2), weight, bias).unflatten(1, hidden.shape[1:3])


def recur(layer: Recurrent, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return the states (model, image, step, unit) of (model, image, step, feature), or the last (model, unit, image).

    The equations are those of torch.nn.RNN and GRU: of a GRU r and z are sigmoids, n = tanh(input + r x recalled) and
    the new state is (1 - z) n + z times the old one.
    """
    weights = {
        role: parameters.get(f"{layer.name}.{role}_l0") for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    inputs, recurrent = weights["weight_ih"], weights["weight_hh"]
    assert inputs is not None  # which every such layer has
    assert recurrent is not None
    steps = product_of_rows(hidden.flatten(1, 2), inputs, weights["bias_ih"]).unflatten(1, hidden.shape[1:3]).unbind(2)
    state = hidden.new_zeros(*hidden.shape[:2], layer.outputs)
    states = []
    for from_input in steps:
        recalled = product_of_rows(state, recurrent, weights["bias_hh"])
        if layer.kind == "rnn":
            state = (torch.tanh if layer.function == "tanh" else torch.relu)(from_input + recalled)
        else:
            input_gates, input_new = from_input.split([2 * layer.outputs, layer.outputs], dim=2)
            recalled_gates, recalled_new = recalled.split([2 * layer.outputs, layer.outputs], dim=2)
            reset, update = _sigmoid(input_gates + recalled_gates).chunk(2, dim=2)
            new = torch.tanh(input_new + reset * recalled_new)
            state = new + update * (state - new)
        states.append(state)
    return torch.stack(states, dim=2) if layer.sequence else state.transpose(1, 2)


def _sigmoid(values: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)); torch's own rounds otherwise at the end of a tensor, wherever a model lies in it."""
    return (torch.tanh(values / 2) + 1) / 2
