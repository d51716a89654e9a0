"""Layouts made by hand, and views of random weights with them."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from zoo_gen.layout import Move, Parameter, ParameterLayout, Symmetry


def make_layout(*shapes, bias=True, positions=1):
    """Return the layout of layers that follow one another; `positions` is what a channel becomes when flattened."""
    parameters, start = [], 0
    names = [f"{'convolution' if len(shape) == 4 else 'linear'}{number}" for number, shape in enumerate(shapes)]
    for name, shape in zip(names, shapes, strict=True):
        for role, its in (("weight", shape), ("bias", shape[:1]))[: 1 + bias]:
            parameters.append(Parameter(name, role, tuple(its), start))
            start = parameters[-1].stop
    symmetries = []
    for number, shape in enumerate(shapes[:-1]):
        roles = ("weight", "bias")[: 1 + bias]
        own = [Move(f"{names[number]}.{role}", axis=0, block=1) for role in roles]
        block = positions if len(shape) == 4 and len(shapes[number + 1]) == 2 else 1
        own.append(Move(f"{names[number + 1]}.weight", axis=1, block=block))
        symmetries.append(Symmetry(names[number], shape[0], tuple(own)))
    if "symmetries" in {its.name for its in dataclasses.fields(ParameterLayout)}:
        return ParameterLayout(tuple(parameters), tuple(symmetries))
    return ParameterLayout(tuple(parameters))


CNN = make_layout((8, 1, 3, 3), (6, 8, 3, 3), (10, 6))
DEEP_CNN = make_layout((4, 3, 5, 5), (5, 4, 3, 3), (7, 20), (10, 7), positions=4)
INR = make_layout((8, 1), (8, 8), (1, 8))
PLAIN = make_layout((5, 16), (4, 5), bias=False)


@dataclass
class FakeZoo:
    name: str = "fake"


@dataclass
class FakeView:
    """What an encoder may ask of a view, with weights and targets given."""

    layout: ParameterLayout
    weights: np.ndarray
    targets: dict = field(default_factory=dict)
    zoo: FakeZoo = field(default_factory=FakeZoo)

    @property
    def models(self):
        return np.arange(len(self.weights))

    @property
    def checkpoints(self):
        return np.arange(self.weights.shape[1])

    epochs = checkpoints

    def metric(self, name):
        return self.targets[name]

    def hyperparameter(self, name):
        return self.targets[name]


def random_view(layout, *, models=12, checkpoints=1, seed=0, target="test_accuracy"):
    """Return a view whose target is a smooth function of the weights."""
    random = np.random.RandomState(seed)
    scales = random.uniform(0.05, 0.5, (models, checkpoints, 1))
    weights = (random.standard_normal((models, checkpoints, layout.size)) * scales).astype(np.float32)
    return FakeView(layout, weights, {target: 1 / (1 + np.exp(4 - 16 * scales[:, :, 0]))})
