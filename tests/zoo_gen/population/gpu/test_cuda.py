import numpy as np
import pytest
import torch
from scipy import stats

from tests.benchmarks.plain import graphed_accuracies
from tests.zoo_gen.population import own_training
from tests.zoo_gen.population.interruptions import check_interruptions
from tests.zoo_gen.population.test_train import NETWORKS, OPTIMIZERS, models, relative_difference, synthetic
from tests.zoo_gen.population.test_training import GRAMMAR
from zoo_gen.architecture.registry import Siren
from zoo_gen.architecture.source_code import source_sha256
from zoo_gen.image_data import Idx, load_image_data
from zoo_gen.image_data.sine import Sine
from zoo_gen.population.gpu.resident import choice
from zoo_gen.population.gpu.resident.resident import Resident
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order, kept_by_dropout
from zoo_gen.population.train import populations, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# Of the weights' change after a few steps, and of the loss: what operands are rounded to, and other winners of pools.
TOLERANCES = {None: (1e-9, 1e-8), "float32": (5e-4, 1e-5), "tf32": (6e-2, 2e-3), "bfloat16": (1.5e-1, 5e-3)}


@pytest.fixture
def layer_by_layer(monkeypatch):
    """Train no model in one multiprocessor."""
    monkeypatch.setattr(choice.compiling, "hindrance", lambda device: "a test asks for other kernels")


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("network", ["mlp", "cnn_small", "small_cnn_gap"])
def test_kernels_that_go_layer_by_layer_train_the_same_models(layer_by_layer, network, precision):
    check_a_gpu(network, precision)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_gpu_trains_the_models_that_a_cpu_trains_in_float64(network, precision):
    check_a_gpu(network, precision)


def test_a_gpu_trains_models_of_32_pixels_that_a_cpu_trains_in_float64():
    """What gelu is computed from lies in global memory there."""
    check_a_gpu("small_cnn_gap", "bfloat16", shape=(1, 32, 32), batch_size=256, train_size=600)
    architecture, data = NETWORKS["small_cnn_gap"][0], load_image_data(synthetic((1, 32, 32), train_size=600))
    table = models(activation=["gelu", "relu", "tanh"], dropout=[0.2], batch_size=[256])
    settings = TrainingSettings(epochs=2, device="cuda", kernels="bfloat16")
    together = train(architecture, data, table, settings, checkpoint_epochs=[2]).arrays
    for row in range(len(table)):
        alone = train(architecture, data, table.slice(row, 1), settings, checkpoint_epochs=[2]).arrays
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][row], err_msg=name)
    ((_, population),) = populations(architecture, data, table, settings)
    assert isinstance(population._arithmetic, Resident)


def check_a_gpu(network, precision, *, shape=None, batch_size=16, train_size=70):
    architecture, _, usual = NETWORKS[network]
    data = load_image_data(synthetic(shape or usual, train_size=train_size))
    dropout = [0.0] if network.startswith("mlp") else [0.0, 0.3]
    table = models(
        optimizer=OPTIMIZERS if precision is None else ["momentum"],
        momentum=[0.0] if precision is None else [0.9],
        activation=["tanh", "relu", "gelu"],
        dropout=dropout,
        l2=[0.0, 1e-3],
        label_noise=[0.0, 0.2],
        batch_size=[batch_size],
        learning_rate=[1e-3],
        seed=list(range(10)),
    )
    ours = {"dtype": torch.float64} if precision is None else {"kernels": precision}
    epochs = {"checkpoint_epochs": [0, 2]}
    actual = train(architecture, data, table, TrainingSettings(epochs=2, device="cuda", **ours), **epochs).arrays
    expected = train(architecture, data, table, TrainingSettings(epochs=2, dtype=torch.float64), **epochs).arrays
    start = expected["weights"][:, 0]
    np.testing.assert_allclose(actual["weights"][:, 0], start, rtol=1e-6)
    of_step, of_loss = TOLERANCES[precision]
    steps = [arrays["weights"][:, 1] - start for arrays in (actual, expected)]
    assert relative_difference(*steps) < of_step
    np.testing.assert_allclose(actual["test_loss"], expected["test_loss"], rtol=of_loss)


@pytest.mark.parametrize("way", ["resident", "layer by layer"])
@pytest.mark.parametrize("network", ["mlp", "cnn_small"])
def test_kernels_know_nesterov_and_every_schedule(way, network, request):
    if way != "resident":
        request.getfixturevalue("layer_by_layer")
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=70))
    table = models(
        optimizer=["nesterov", "sgd", "nesterov", "momentum", "nesterov", "nesterov"],
        momentum=[0.9, 0.0, 0.5, 0.9, 0.9, 0.8],
        schedule=["constant", "one_cycle", "cosine", "step", "milestones", "step"],
        warm_up_epochs=[0.0, 0.0, 1.0, 0.5, 0.0, 0.0],
        decay_every=[1],
        milestones=["1"],
        decay_factor=[0.5, 0.5, 0.5, 0.1, 0.2, 0.3],
        batch_size=[16],
        learning_rate=[1e-2],
    )
    epochs = {"checkpoint_epochs": [0, 2]}
    settings = TrainingSettings(epochs=2, device="cuda", kernels="float32")
    actual = train(architecture, data, table, settings, **epochs).arrays["weights"]
    expected = train(architecture, data, table, TrainingSettings(epochs=2, dtype=torch.float64), **epochs).arrays
    for row in range(len(table)):
        steps = [weights[row, 1] - weights[row, 0] for weights in (actual, expected["weights"])]
        assert relative_difference(*steps) < TOLERANCES["float32"][0], table.slice(row, 1).to_pylist()


@pytest.mark.parametrize("network", ["mlp", "cnn_small", "layers"])
def test_what_kernels_do_not_know_is_trained_by_torch_on_a_gpu(network):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=70))
    references = {name: f"{own_training.__name__}:{name}" for name in ("focal", "Lion", "saw")}
    table = models(
        loss=["standard", references["focal"]],
        **GRAMMAR["everything"] | {"optimizer": ["nesterov", references["Lion"], "adam"]},
        batch_size=[16], learning_rate=[1e-3],
    )  # fmt: skip
    functions = {references[name]: source_sha256(getattr(own_training, name)) for name in references}
    settings = [
        TrainingSettings(epochs=3, device=device, dtype=torch.float64, functions=functions)
        for device in ("cuda", "cpu")
    ]
    epochs = {"checkpoint_epochs": [0, 3]}
    actual, expected = (train(architecture, data, table, each, **epochs).arrays["weights"] for each in settings)
    # Lion's signs turn where a mean of gradients is rounded to another side of 0.
    signs = [row for row, model in enumerate(table.to_pylist()) if model["optimizer"] == references["Lion"]]
    others = [row for row in range(len(table)) if row not in signs]
    assert relative_difference(actual[others, 1], expected[others, 1]) < 1e-9
    assert relative_difference(actual[signs, 1], expected[signs, 1]) < 1e-3


@pytest.mark.parametrize("way", ["resident", "layer by layer"])
def test_a_gpu_fits_the_sirens_that_a_cpu_fits_in_float64(way, request):
    """In float32 alone: the sine of thirty times a value makes of the roundings of bfloat16 a third of a step."""
    if way == "layer by layer":
        request.getfixturevalue("layer_by_layer")
    data = load_image_data(Sine(source="sine", points=64))
    table = models(
        initialization=["siren"],
        frequency=[0.7, 3.0, 9.5],
        amplitude=[1.0, 2.0],
        batch_size=[64],
        optimizer=["adam", "momentum"],
        momentum=[0.9],
        learning_rate=[1e-3],
        initial_bias=[0.0],
        seed=list(range(8)),
    ).drop_columns(["activation", "label_noise", "train_fraction"])
    settings = {"epochs": 3, "device": "cuda", "kernels": "float32"}
    at = {"checkpoint_epochs": [0, 3]}
    actual = train(Siren(name="siren"), data, table, TrainingSettings(**settings), **at).arrays
    expected = train(Siren(name="siren"), data, table, TrainingSettings(epochs=3, dtype=torch.float64), **at).arrays
    steps = [arrays["weights"][:, 1] - expected["weights"][:, 0] for arrays in (actual, expected)]
    of_step, of_loss = TOLERANCES["float32"]
    assert relative_difference(*steps) < of_step
    np.testing.assert_allclose(actual["test_loss"], expected["test_loss"], rtol=10 * of_loss)
    alone = train(Siren(name="siren"), data, table.slice(3, 1), TrainingSettings(**settings), **at).arrays
    np.testing.assert_array_equal(alone["weights"][0], actual["weights"][3])
    ((_, population),) = populations(Siren(name="siren"), data, table, TrainingSettings(**settings))
    assert isinstance(population._arithmetic, Resident) == (way == "resident")


@pytest.mark.parametrize(
    ("network", "precision", "served"),
    [
        ("cnn_small", "float32", True),
        ("cnn_small", "tf32", True),
        ("cnn_small", "bfloat16", True),
        ("small_cnn_gap", "bfloat16", True),
        ("small_cnn_gap", "float32", False),  # does not fit into shared memory
        ("mlp_without_bias", "float32", True),
        ("mlp", "float32", True),
        ("cnn3_fc2", "bfloat16", False),
    ],
)
def test_a_model_lives_in_one_multiprocessor_where_it_fits(network, precision, served):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape))
    ((_, population),) = populations(
        architecture, data, models(seed=[1]), TrainingSettings(epochs=1, device="cuda", kernels=precision)
    )
    assert isinstance(population._arithmetic, Resident) == served


def test_random_numbers_are_the_same_on_both():
    seeds = torch.arange(5)
    assert torch.equal(data_order(seeds, 3, 1000), data_order(seeds.cuda(), 3, 1000).cpu())
    rates = torch.full((5,), 0.3)
    factors = kept_by_dropout(seeds, rates, 7, 999, start=8)
    assert torch.equal(factors, kept_by_dropout(seeds.cuda(), rates.cuda(), 7, 999, start=8).cpu())


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("network", ["cnn_small", "small_cnn_gap"])
def test_a_model_has_the_same_bytes_again_alone_and_among_others(network, precision):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape))
    table = models(seed=list(range(20)), dropout=[0.2], batch_size=[16])
    settings = TrainingSettings(epochs=4, device="cuda", kernels=precision)
    first, again = (train(architecture, data, table, settings, checkpoint_epochs=[4]).arrays for _ in range(2))
    alone = train(architecture, data, table.slice(7, 1), settings, checkpoint_epochs=[4]).arrays
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)
        np.testing.assert_array_equal(alone[name][0], values[7], err_msg=name)


@pytest.mark.parametrize("kernels", ["bfloat16", "float32", None])
@pytest.mark.parametrize("network", ["cnn_small", "small_cnn_gap"])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(network, kernels):
    architecture, _, shape = NETWORKS[network]
    table = models(seed=list(range(5)), optimizer=["adam", "momentum"], momentum=[0.9], dropout=[0.2], batch_size=[16])
    settings = TrainingSettings(epochs=3, device="cuda", kernels=kernels)
    check_interruptions(architecture, load_image_data(synthetic(shape)), table, settings)


@pytest.fixture(scope="module")
def fashion(data_root):
    return load_image_data(
        Idx(source="idx", folder="fashion-mnist", train_size=60_000, test_size=10_000), data_root=data_root
    )


@pytest.fixture(scope="module")
def plain_accuracies(fashion):
    """Of 96 plain float32 loops, three epochs each."""
    return graphed_accuracies(fashion, list(range(96)), epochs=3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_final_accuracies_are_distributed_as_those_of_plain_loops(
    fashion, plain_accuracies, precision, record_property
):
    """small_cnn_gap on Fashion-MNIST, 96 models each way, from other seeds."""
    architecture, _, _ = NETWORKS["small_cnn_gap"]
    table = models(
        seed=list(range(1000, 1096)), activation=["relu"], batch_size=[128], learning_rate=[1e-3],
        initialization=["kaiming_uniform"],
    )  # fmt: skip
    settings = TrainingSettings(epochs=3, device="cuda", kernels=precision)
    ours = train(architecture, fashion, table, settings, checkpoint_epochs=[3]).arrays["test_accuracy"][:, 0]
    medians = [float(np.median(values)) for values in (ours, plain_accuracies)]
    error = np.hypot(*(1.2533 * values.std() / len(values) ** 0.5 for values in (ours, plain_accuracies)))
    same = stats.ks_2samp(ours, plain_accuracies).pvalue
    record_property("medians, standard error of their difference, p", f"{medians}, {error:.4f}, {same:.3f}")
    assert abs(medians[0] - medians[1]) < 3 * error
    assert same > 1e-3
