import numpy as np
import pytest
import torch
from scipy import stats

from zoo_gen.architecture.registry import MLP, Siren, SmallCNNGap, network
from zoo_gen.population.initialization import initial_weights

MLP_LAYOUT = network(MLP(name="mlp", widths=(40, 25, 10)), (1, 8, 5), 10).layout
CNN_LAYOUT = network(SmallCNNGap(name="small_cnn_gap"), (1, 28, 28), 10).layout


def keras_normal(weight: torch.Tensor, *, fans: int) -> torch.Tensor:
    """Keras' variance scaling: a normal cut at two deviations, whose deviation is then sqrt(1 / fans)."""
    cut = stats.truncnorm(-2, 2)
    uniform = torch.rand(weight.numel(), dtype=torch.float64).numpy()
    values = cut.ppf(uniform) / cut.std() * fans**-0.5
    return torch.from_numpy(values).view(weight.shape)


def fan_in(weight: torch.Tensor) -> int:
    return weight[0].numel()


def fan_out(weight: torch.Tensor) -> int:
    return weight[:, 0].numel()


REFERENCE = {
    "uniform": torch.nn.init.uniform_,
    "normal": torch.nn.init.normal_,
    "truncated_normal": torch.nn.init.trunc_normal_,
    "kaiming_uniform": lambda weight: torch.nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: torch.nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
    "orthogonal": torch.nn.init.orthogonal_,
    "glorot_normal": lambda weight: keras_normal(weight, fans=(fan_in(weight) + fan_out(weight)) / 2),
    "he_normal": lambda weight: keras_normal(weight, fans=fan_in(weight) / 2),
}


def draw(layout, seeds, schemes, *, deviation=1.0, scale=1.0, bias=0.01) -> dict[str, np.ndarray]:
    like = torch.ones(len(schemes))
    actual = initial_weights(
        layout, seeds, schemes, deviations=deviation * like, scales=scale * like, biases=bias * like
    )
    return layout.split(actual.numpy())


@pytest.mark.parametrize("scheme", REFERENCE)
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (MLP_LAYOUT, "linear1.weight"),
        (MLP_LAYOUT, "linear2.weight"),
        (CNN_LAYOUT, "convolution1.weight"),
        (CNN_LAYOUT, "convolution2.weight"),
    ],
)
def test_weights_are_distributed_as_the_reference_draws_them(scheme, layout, name):
    ours = draw(layout, torch.arange(50), [scheme] * 50)[name]
    torch.manual_seed(0)
    reference = torch.stack([REFERENCE[scheme](torch.empty(ours.shape[1:])) for _ in range(50)])
    assert stats.ks_2samp(ours.ravel(), reference.numpy().ravel()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["linear1.weight", "linear2.weight"])
def test_orthogonal_rows_are_orthonormal(name):
    weight = draw(MLP_LAYOUT, torch.arange(4), ["orthogonal"] * 4, scale=3.0)[name] / 3
    for rows in weight:
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-6)


def test_siren_draws_within_its_bounds():
    weights = draw(MLP_LAYOUT, torch.arange(50), ["siren"] * 50, bias=0.0)
    assert stats.kstest(weights["linear1.weight"].ravel() * 40, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    bound = np.sqrt(6 / 25) / 30
    assert stats.kstest(weights["linear2.weight"].ravel() / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_the_sirens_of_dwsnets_begin_like_hidden_layers_and_end_like_torch():
    # Their code calls every sine layer with is_first=False, and the last one is a plain nn.Linear.
    layout = network(Siren(name="siren"), (1,), 1).layout
    weights = draw(layout, torch.arange(400), ["siren_dwsnets"] * 400, bias=0.0)
    bounds = {"linear1.weight": 6**0.5 / 30, "linear2.weight": (6 / 32) ** 0.5 / 30}
    for name, bound in bounds.items():
        assert stats.kstest(weights[name].ravel() / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    torch.manual_seed(0)
    plain = [torch.nn.Linear(32, 1) for _ in range(400)]
    for role in ("weight", "bias"):
        reference = np.concatenate([getattr(linear, role).detach().numpy().ravel() for linear in plain])
        assert stats.ks_2samp(weights[f"linear3.{role}"].ravel(), reference).pvalue > 1e-3
    assert (weights["linear1.bias"] == 0).all()
    assert (weights["linear2.bias"] == 0).all()


def test_deviation_scale_and_bias_do_what_they_say():
    seeds = torch.arange(3)
    plain = draw(MLP_LAYOUT, seeds, ["normal", "truncated_normal", "xavier_normal"])
    wide = draw(MLP_LAYOUT, seeds, ["normal", "truncated_normal", "xavier_normal"], deviation=0.5, scale=4.0, bias=0.25)
    for name in ("linear1.weight", "linear2.weight"):
        np.testing.assert_allclose(wide[name][:2], 2.0 * plain[name][:2], rtol=1e-6)
        np.testing.assert_allclose(wide[name][2], 4.0 * plain[name][2], rtol=1e-6)
    assert (plain["linear1.bias"] == np.float32(0.01)).all()
    assert (wide["linear1.bias"] == np.float32(0.25)).all()


def test_a_model_gets_its_weights_whatever_stands_beside_it():
    alone = draw(MLP_LAYOUT, torch.tensor([5]), ["xavier_normal"])["linear1.weight"]
    among = draw(MLP_LAYOUT, torch.tensor([4, 5, 5]), ["uniform", "xavier_normal", "normal"])["linear1.weight"]
    np.testing.assert_array_equal(alone[0], among[1])
    assert (alone[0] != among[2]).any()
