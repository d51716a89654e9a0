"""Views of random networks whose layers are known, for encoders that read graphs."""

import numpy as np

from tests import grammar_networks
from tests.zoo_bench.encoders.layouts import FakeView
from tests.zoo_gen.architecture.test_symmetry_group import weights_of
from zoo_bench.protocol.computing import Computing
from zoo_gen.architecture import layers as L
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.zoo import ForwardPass

# Of the open grammar; two have edges that would lead to the network's inputs: a sum, and a normalisation.
GRAMMAR = tuple(
    name for name in grammar_networks.NETWORKS if name not in ("residual of named layers", "batch norm of vectors")
)
# Rows of two channels one after another: each channel's numbers are no neighbours then.
FORMLESS = Network((L.Rows("rows1"), L.Flatten("flatten1"), L.Linear("linear1", 32, 3, True)), (2, 4, 4))


def of_grammar(name):
    """Return a network of the open grammar."""
    return network(Layers.model_validate(grammar_networks.architecture(name)), grammar_networks.NETWORKS[name][2], 10)


def view_of(net: Network, count, *, seed=0, functions=("relu",), target=None):
    """Return a view of random networks; `target` gives their labels from their weights (network, parameter)."""
    weights = weights_of(net, count, seed)
    values = np.random.default_rng(seed).uniform(0.1, 0.9, count) if target is None else target(weights)
    view = FakeView(net.layout, weights[:, None], {"test_accuracy": values})
    names = [functions[number % len(functions)] for number in range(count)]
    runs = not net.buffer_layout.size
    view.computing = Computing(net, "", ForwardPass.of(net, names)) if runs else Computing(net, "running statistics")
    return view


def moved(view, **drawn):
    """Return a view of the same networks, each changed by an element of the symmetry group."""
    rows = view.weights[:, 0]
    member = view.computing.symmetries(view.layout, len(rows)).draw(seed=3, **drawn)
    other = FakeView(view.layout, member.apply(rows)[:, None], view.targets)
    other.computing = view.computing
    return other


def paired(net: Network):
    """Return a target of dense networks that follows from which numbers meet in a unit, not from their distribution.

    It is the sum over hidden units of the mean weight that comes in times the mean weight that goes out.
    """

    def target(weights):
        tensors = net.layout.split(weights)
        into, out = tensors["linear1.weight"].mean(axis=2), tensors["linear2.weight"].mean(axis=1)
        totals = (into * out).sum(axis=1)
        return 1 / (1 + np.exp(-2 * totals / totals.std()))

    return target
