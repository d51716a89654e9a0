"""Layouts of networks for tests that need no zoo: those of the papers, and chains of layers from their shapes."""

import itertools

from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout, Symmetry
from zoo_gen.architecture.registry import MLP, CNNSmall, SmallCNNGap, network


def layout_of(*layers: tuple[int, ...], bias: bool = True) -> ParameterLayout:
    """Return the layout of layers that follow one another, from the shapes of their weights."""
    parameters: list[Parameter] = []
    counts = {"convolution": 0, "linear": 0}
    for shape in layers:
        kind = "convolution" if len(shape) == 4 else "linear"
        counts[kind] += 1
        for role, size in (("weight", shape), ("bias", shape[:1])) if bias else (("weight", shape),):
            start = parameters[-1].stop if parameters else 0
            parameters.append(Parameter(f"{kind}{counts[kind]}", role, size, start))
    kernels = [parameter for parameter in parameters if parameter.role == "weight"]
    symmetries = []
    for kernel, reader in itertools.pairwise(kernels):
        units = kernel.shape[0]
        moves = [Move(p.name, 0, 1) for p in parameters if p.layer == kernel.layer]
        symmetries.append(Symmetry(kernel.layer, units, (*moves, Move(reader.name, 1, reader.shape[1] // units))))
    return ParameterLayout(tuple(parameters), tuple(symmetries))


TETRIS = network(MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4).layout
CNN_SMALL = network(CNNSmall(name="cnn_small"), (1, 28, 28), 10).layout
SMALL_CNN_GAP = network(SmallCNNGap(name="small_cnn_gap"), (1, 28, 28), 10).layout
