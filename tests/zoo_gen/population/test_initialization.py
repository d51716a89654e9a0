import numpy as np
import pytest
import torch
from scipy import stats

from zoo_gen.architectures import MLP, parameter_layout
from zoo_gen.population.initialization import initial_weights

ARCHITECTURE = MLP(name="mlp", widths=(40, 25, 10))
LAYOUT = parameter_layout(ARCHITECTURE)
TORCH = {
    "uniform": torch.nn.init.uniform_,
    "normal": torch.nn.init.normal_,
    "kaiming_uniform": lambda weight: torch.nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: torch.nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
}


@pytest.mark.parametrize("scheme", TORCH)
@pytest.mark.parametrize("layer", ["linear1", "linear2"])
def test_weights_are_distributed_as_torch_draws_them(scheme, layer):
    ours = LAYOUT.split(initial_weights(LAYOUT, np.arange(50), [scheme] * 50).numpy())[f"{layer}.weight"]
    torch.manual_seed(0)
    theirs = torch.stack([TORCH[scheme](torch.empty(ours.shape[1:])) for _ in range(50)]).numpy()
    assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 1e-3


def test_biases_begin_at_a_hundredth():
    weights = LAYOUT.split(initial_weights(LAYOUT, np.arange(3), ["normal"] * 3).numpy())
    assert (weights["linear1.bias"] == np.float32(0.01)).all()


def test_a_model_gets_its_weights_whatever_stands_beside_it():
    alone = initial_weights(LAYOUT, np.array([5]), ["xavier_normal"])
    among = initial_weights(LAYOUT, np.array([4, 5, 5]), ["uniform", "xavier_normal", "normal"])
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(alone[0], among[2])
