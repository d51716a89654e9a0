"""The kinds of tensors, against the modules whose tensors they are."""

import numpy as np
import pytest
from torch import nn

from tests.grammar_networks import NETWORKS, architecture
from zoo_bench.encoders.sne.chunks import CONVOLUTION, EMBEDDING, LINEAR, NORMALISATION, OTHER, cut, tensor_type
from zoo_bench.encoders.sne.settings import Settings
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.registry import Layers, network

MODULES = {
    nn.Conv1d(2, 3, 3): CONVOLUTION,
    nn.Conv2d(2, 3, 3): CONVOLUTION,
    nn.Linear(4, 3): LINEAR,
    nn.BatchNorm2d(3): NORMALISATION,
    nn.LayerNorm(3): NORMALISATION,
    nn.MultiheadAttention(4, 2): LINEAR,
    nn.RNN(4, 3): LINEAR,
    nn.GRU(4, 3): LINEAR,
}


def layout_of_state(state):
    """Return the layout of a state dict, as a converter lays it out: layer and role of each tensor by its key."""
    parameters, start = [], 0
    for key, tensor in state.items():
        layer, _, role = key.rpartition(".")
        parameters.append(Parameter(layer, role, tuple(tensor.shape) or (1,), start))
        start += parameters[-1].size
    return ParameterLayout(tuple(parameters))


def types(layout):
    return {
        parameter.name: tensor_type(parameter, [other for other in layout.parameters if other.layer == parameter.layer])
        for parameter in layout.parameters
    }


@pytest.mark.parametrize(("module", "expected"), MODULES.items(), ids=lambda value: type(value).__name__)
def test_tensors_of_a_module_are_of_its_kind(module, expected):
    state = {f"net.{key}": tensor for key, tensor in module.state_dict().items() if tensor.dim() > 0}
    assert set(types(layout_of_state(state)).values()) == {expected}


class Transformer(nn.Module):
    """The tensors of a small vision transformer, under the names that such code uses."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(nn.init.zeros_(nn.Linear(1, 4).weight).reshape(1, 1, 4))
        self.pos_embed = nn.Parameter(nn.init.zeros_(nn.Linear(5, 4).weight).reshape(1, 5, 4))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, 4, 2)})
        self.word_embeddings = nn.Embedding(7, 4)
        self.mlp = nn.Linear(4, 4)
        self.gamma = nn.Parameter(nn.Linear(1, 4).bias.detach())


def test_embeddings_and_tokens_are_no_linear_layers_whatever_their_axes():
    layout = layout_of_state(Transformer().state_dict())
    assert types(layout) == {
        "cls_token": EMBEDDING,
        "pos_embed": EMBEDDING,
        "gamma": OTHER,
        "patch_embed.proj.weight": CONVOLUTION,
        "patch_embed.proj.bias": CONVOLUTION,
        "word_embeddings.weight": EMBEDDING,
        "mlp.weight": LINEAR,
        "mlp.bias": LINEAR,
    }
    layers = cut(layout, Settings(), chunk=32, kernel=2)
    assert [tensor.type for layer in layers for tensor in layer] == [
        types(layout)[parameter.name]
        for name in layout.layers
        for parameter in layout.parameters
        if parameter.layer == name
    ]


@pytest.mark.parametrize("chunk", ["row", 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_chunks_of_any_layers_of_the_grammar_hold_each_number_once(name, chunk):
    layout = network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10).layout
    layers = cut(layout, Settings(conv_tokens="scalars"), chunk=chunk, kernel=0)
    positions = [block.positions.ravel() for layer in layers for tensor in layer for block in tensor.blocks]
    assert sorted(np.concatenate(positions)) == list(range(layout.size))
    assert OTHER not in {tensor.type for layer in layers for tensor in layer}
