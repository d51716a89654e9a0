"""The shipped manifests against the numbers of the papers, written here a second time."""

import re
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from zoo_gen import engine, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.engine import cost
from zoo_gen.manifest import ZooManifest, find_manifest, grid, read_manifest, shipped_manifests

SETTINGS = ("activation", "dropout", "initialization", "optimizer", "learning_rate", "weight_decay")
# Without the optimiser in SVHN's, and without the learning rate in CIFAR10's.
SVHN_SETTINGS = tuple(name for name in SETTINGS if name != "optimizer")
CIFAR10_SETTINGS = tuple(name for name in SETTINGS if name != "learning_rate")
DRAWN = (
    *("learning_rate", "l2", "dropout", "initialization", "initialization_deviation"),
    *("activation", "optimizer", "train_fraction"),
)

# name: models, checkpoints, parameters, steps of a model's epoch, what varies
EXPECTED: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    "hyperreps_mnist_seed": (1000, 26, 2464, 5000, ("seed",)),
    "hyperreps_fashion_seed": (1000, 26, 2464, 5000, ("seed",)),
    "hyperreps_mnist_hyp_1_fix_seed": (1152, 26, 2464, 5000, SETTINGS),
    "hyperreps_mnist_hyp_1_rand_seed": (1152, 26, 2464, 5000, (*SETTINGS, "seed")),
    "hyperreps_mnist_hyp_5_fix_seed": (1280, 26, 2464, 5000, (*SETTINGS, "seed")),
    "hyperreps_mnist_hyp_5_rand_seed": (1280, 26, 2464, 5000, (*SETTINGS, "seed")),
    "sne_sine_inr": (4000, 4, 1153, 1, ("seed", "frequency")),
    "dng_cifar10_vit": (1000, 9, 26986, 391, ("seed",)),
}
for _optimizers in ("adam", "sgd"):
    EXPECTED[f"small_transformer_zoo_mnist_{_optimizers}"] = (
        *(8000, 4, 18506, 0),
        ("optimizer", "learning_rate", "initialization_deviation", "weight_decay", "train_fraction", "dropout"),
    )
# ModelZoos: parameters, steps of an epoch, models of a grid, what varies in it
MODELZOOS = {
    "mnist": (2464, 5000, 2560, SETTINGS),
    "fashion": (2464, 5000, 2560, SETTINGS),
    "svhn": (2464, 6000, 4320, SVHN_SETTINGS),
    "usps": (2464, 600, 2560, SETTINGS),
    "cifar10_small": (2864, 4200, 1280, CIFAR10_SETTINGS),
    "cifar10_large": (10853, 4200, 1280, CIFAR10_SETTINGS),
    "stl10_small": (2864, 420, 2560, SETTINGS),
    "stl10_large": (10853, 420, 2560, SETTINGS),
}
for _data, (_size, _steps, _models, _names) in MODELZOOS.items():
    EXPECTED[f"modelzoos_{_data}_seed"] = (1000, 51, _size, _steps, ("seed",))
    for _seeds in ("fixed", "random"):
        EXPECTED[f"modelzoos_{_data}_hyp_10_{_seeds}"] = (_models, 51, _size, _steps, (*_names, "seed"))
# Models see four shares of the images, so the steps of an epoch differ between them.
VARYING_STEPS = 0
for _data in ("mnist", "fashion", "cifar10", "svhn"):
    EXPECTED[f"small_cnn_zoo_{_data}"] = (30000, 9, 4970, VARYING_STEPS, DRAWN)
for _data, _size, _size_of_kernel3 in (
    ("mnist", 29242, 16698),
    ("cifar10", 37210, 24154),
    ("svhn", 37210, 24154),
):
    EXPECTED[f"sne_{_data}"] = (750, 9, _size, VARYING_STEPS, DRAWN)
    EXPECTED[f"sne_{_data}_kernel3"] = (750, 9, _size_of_kernel3, VARYING_STEPS, DRAWN)


def shipped(name: str) -> ZooManifest:
    return read_manifest(find_manifest(name))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_zoo_of_a_paper_has_its_extent_and_axes(name):
    models, checkpoints, parameters, steps_per_epoch, varies = EXPECTED[name]
    manifest = shipped(name)
    plan = cost.plan(manifest)
    assert (plan.models, plan.checkpoints, plan.parameters) == (models, checkpoints, parameters)
    assert set(manifest.axes.names) == set(varies)
    if steps_per_epoch != VARYING_STEPS:
        assert plan.steps == models * manifest.training.epochs * steps_per_epoch


def test_the_grids_of_the_small_transformer_zoo_hold_the_published_values():
    rates = {
        "adam": [3e-4, 5e-4, 1e-3, 3e-3, 5e-3, 1e-2, 3e-2, 5e-2],
        "sgd": [1e-3, 3e-3, 5e-3, 7e-3, 1e-2, 3e-2, 5e-2, 7e-2],
    }
    deviations = {"adam": [0.1, 0.2, 0.3, 0.4, 0.5], "sgd": [0.1, 0.15, 0.2, 0.25, 0.3]}
    optimizers = {"adam": ["adam", "rmsprop"], "sgd": ["sgd", "momentum"]}
    for key, values in rates.items():
        manifest = shipped(f"small_transformer_zoo_mnist_{key}")
        assert list(manifest.values("optimizer")) == optimizers[key]
        assert list(manifest.values("learning_rate")) == values
        assert list(manifest.values("initialization_deviation")) == deviations[key]
        assert list(manifest.values("weight_decay")) == [1e-8, 1e-7, 1e-6, 1e-4, 1e-2]
        assert list(manifest.values("train_fraction")) == [1.0, 0.9, 0.8, 0.7]
        assert list(manifest.values("dropout")) == [0.0, 0.05, 0.1, 0.15, 0.2]
        assert manifest.checkpoint_epochs == (1, 50, 75, 100)
        constant = manifest.training
        assert (constant.batch_size, constant.seed, constant.activation, constant.drop_last) == (128, 3, "relu", True)
        assert constant.initial_bias == 0.0
        assert {
            row["momentum"] for row in grid.table_of_models(manifest).to_pylist() if row["optimizer"] == "momentum"
        } <= {0.9}
    for data in ("mnist", "fashion"):
        assert (cost.plan(shipped(f"medium_{data}_vit")).models, shipped(f"medium_{data}_vit").layout.size) == (
            1000,
            18506,
        )


def test_the_zoo_after_dngs_generator_has_its_epochs_and_says_what_they_betray():
    manifest = shipped("dng_cifar10_vit")
    assert manifest.checkpoint_epochs == (0, 1, 2, 3, 5, 10, 13, 18, 23)
    assert shipped("mini_digits_vit_epochs").checkpoint_epochs == manifest.checkpoint_epochs
    assert "whatever tells the epoch predicts accuracy" in manifest.description


def test_every_shipped_zoo_is_of_a_paper_or_our_own_and_has_the_name_of_its_file():
    sizes = "mini_", "medium_", "small_cnn_zoo_4096_"
    elsewhere = {"tetris_seed", "tetris_hyp", "digits_hyp", "mnist_inr", "fashion_inr"} | {
        name for name in shipped_manifests() if name.startswith(sizes)
    }
    assert set(shipped_manifests()) == set(EXPECTED) | elsewhere
    for name, path in shipped_manifests().items():
        manifest = read_manifest(path)
        assert manifest.name == name
        assert manifest.description.endswith(".")


@pytest.mark.parametrize(
    ("data", "parameters"),
    [("mnist", (4970, 29242, 2464)), ("fashion", (4970, 29242, 2464)), ("cifar10_jpeg", (4970, 36410, 2464))],
)
def test_medium_zoos_of_three_architectures_differ_in_the_network_and_the_draws_alone(data, parameters):
    architectures = ("small_cnn_gap", "cnn3_fc2", "cnn_small")
    zoos = [shipped(f"medium_{data}_{name}") for name in architectures]
    assert tuple(zoo.architecture.name for zoo in zoos) == architectures
    assert tuple(zoo.layout.size for zoo in zoos) == parameters
    assert [zoo.n_models for zoo in zoos] == [1500, 1000, 1500]
    contents = [zoo.model_dump() for zoo in zoos]
    assert len({content["axes"]["random"].pop("seed") for content in contents}) == 3
    sizes = [content["data"].pop("resize", None) for content in contents]
    assert sizes == [None, None, 28 if data == "cifar10_jpeg" else None]  # cnn_small reads no other size
    for content in contents:
        del content["name"], content["description"], content["architecture"], content["axes"]["random"]["count"]
    assert contents[0] == contents[1] == contents[2]
    learning_rates = [grid.table_of_models(zoo)["learning_rate"].to_pylist() for zoo in zoos]
    assert len({tuple(values[:50]) for values in learning_rates}) == 3


def test_modelzoos_has_47360_cnns_in_24_zoos():
    zoos = [name for name in shipped_manifests() if name.startswith("modelzoos_")]
    assert len(zoos) == 24
    counts = [cost.plan(shipped(name)).models for name in zoos]
    assert sum(counts) == 47_360
    assert Counter(counts) == {1000: 8, 2560: 10, 1280: 4, 4320: 2}
    assert sum(models * 51 for models in counts) + 1000 * (50 + 60 + 60) == 2_585_360  # with the ResNets': published


@pytest.mark.parametrize("name", [name for name in EXPECTED if "_hyp_" in name])
def test_fixed_seeds_are_the_same_in_every_setting_and_random_ones_are_drawn_afresh(name):
    models = grid.table_of_models(shipped(name)).to_pylist()
    seeds_of: dict[tuple[object, ...], list[int]] = {}
    for row in models:
        seeds_of.setdefault(tuple(row[setting] for setting in SETTINGS), []).append(row["seed"])
    each = int(re.search(r"_hyp_(\d+)_", name)[1])
    assert {len(seeds) for seeds in seeds_of.values()} == {each}
    if "fix" in name:
        assert {tuple(seeds) for seeds in seeds_of.values()} == {tuple(range(1, each + 1))}
        return
    assert all(len(set(seeds)) == each for seeds in seeds_of.values())
    drawn = np.array([row["seed"] for row in models])
    # Of n draws from a million, about n^2 / 2 million pairs are equal.
    assert len(drawn) - len(set(drawn)) <= 5 + len(drawn) ** 2 / 1e6
    assert drawn.min() < 10_000
    assert 990_000 < drawn.max() < 1_000_000
    assert abs(drawn.mean() - 5e5) < 4 * 1e6 / np.sqrt(12 * len(drawn))


def test_the_random_zoos_do_not_share_their_draws():
    zoos = [name for name in EXPECTED if "random" in name or "_rand_" in name or name.startswith("small_cnn_zoo")]
    first = {name: grid.table_of_models(shipped(name)).slice(0, 50).to_pydict() for name in zoos}
    draws = [tuple(columns["learning_rate"] + columns["seed"]) for columns in first.values()]
    assert len(set(draws)) == len(zoos) == 14


def test_the_grids_of_modelzoos_hold_the_published_values():
    grids = {name: shipped(f"modelzoos_{name}_hyp_10_fixed") for name in MODELZOOS}
    for manifest in grids.values():
        assert set(manifest.values("activation")) == {"tanh", "relu", "sigmoid", "gelu"}
        assert set(manifest.values("initialization")) == {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
        assert (manifest.training.batch_size, manifest.training.epochs, manifest.training.momentum) == (10, 50, 0.9)
    values = {
        name: tuple(sorted(manifest.values(axis)) for axis in ("dropout", "optimizer", "learning_rate", "weight_decay"))
        for name, manifest in grids.items()
    }
    both = [0.0, 0.5], ["adam", "sgd"]
    assert values["mnist"] == values["fashion"] == (*both, [1e-4, 1e-3], [1e-4, 1e-3])
    assert values["usps"] == values["stl10_small"] == values["stl10_large"] == (*both, [1e-4, 1e-3], [1e-3, 1e-2])
    assert values["cifar10_small"] == values["cifar10_large"] == (*both, [1e-3], [1e-3, 1e-2])
    assert values["svhn"] == ([0.0, 0.3, 0.5], ["sgd"], [1e-4, 1e-3, 1e-2], [0.0, 1e-3, 1e-1])
    for name in MODELZOOS:
        random, fixed = shipped(f"modelzoos_{name}_hyp_10_random"), grids[name]
        assert (random.data, random.architecture, random.training) == (fixed.data, fixed.architecture, fixed.training)
        assert {axis: random.values(axis) for axis in SETTINGS} == {axis: fixed.values(axis) for axis in SETTINGS}


def test_the_seed_zoos_of_modelzoos_hold_the_published_values():
    names = ("activation", "initialization", "optimizer", "learning_rate", "weight_decay", "dropout")
    digests = {
        name: tuple(getattr(shipped(f"modelzoos_{name}_seed").training, value) for value in names) for name in MODELZOOS
    }
    assert digests["mnist"] == digests["fashion"] == ("tanh", "uniform", "adam", 3e-4, 0.0, 0.0)
    assert digests["svhn"] == ("tanh", "uniform", "adam", 3e-3, 0.0, 0.0)
    assert digests["usps"] == ("tanh", "uniform", "adam", 3e-4, 1e-3, 0.0)
    assert digests["cifar10_small"] == digests["cifar10_large"] == ("gelu", "kaiming_uniform", "adam", 1e-4, 1e-2, 0.0)
    assert digests["stl10_small"] == digests["stl10_large"] == ("tanh", "kaiming_uniform", "adam", 1e-4, 1e-3, 0.0)


def test_modelzoos_sees_as_many_images_as_published():
    expected = {
        "mnist": (50_000, 10_000, 10_000, (1, 28, 28)),
        "fashion": (50_000, 10_000, 10_000, (1, 28, 28)),
        "svhn": (60_000, 13_257, 26_032, (1, 28, 28)),
        "usps": (6_000, 1_291, 2_007, (1, 28, 28)),
        "cifar10_small": (42_000, 8_000, 10_000, (3, 28, 28)),
        "cifar10_large": (42_000, 8_000, 10_000, (3, 32, 32)),
        "stl10_small": (4_200, 800, 8_000, (3, 28, 28)),
        "stl10_large": (4_200, 800, 8_000, (3, 32, 32)),
    }
    for name, sizes in expected.items():
        for kind in ("seed", "hyp_10_fixed", "hyp_10_random"):
            data = shipped(f"modelzoos_{name}_{kind}").data
            assert (data.n_train, data.n_validation, data.n_test, data.input_shape) == sizes


@pytest.mark.parametrize("name", [name for name, row in EXPECTED.items() if row[4] == DRAWN])
def test_the_small_cnn_zoos_are_trained_as_published_on_draws_in_our_ranges(name):
    manifest = shipped(name)
    assert manifest.checkpoint_epochs == (0, 1, 2, 3, 20, 40, 60, 80, 86)
    constant = manifest.training
    assert (constant.epochs, constant.batch_size, constant.drop_last, constant.seed) == (86, 512, True, 42)
    assert (constant.initial_bias, constant.weight_decay) == (0.0, 0.0)
    assert manifest.data.normalize == "symmetric"
    models = grid.table_of_models(manifest).slice(0, 750).to_pydict()
    for axis, low, high in (("learning_rate", 5e-4, 5e-2), ("l2", 1e-8, 1e-2), ("initialization_deviation", 1e-3, 0.5)):
        values = np.log(models[axis])
        assert np.log(low) <= values.min() < values.max() <= np.log(high)
        # Log-uniform: the median is the geometric mean of the ends, within four deviations of a median.
        assert abs(np.median(values) - np.log(low * high) / 2) < 4 * np.log(high / low) / np.sqrt(4 * len(values))
    assert 0 <= min(models["dropout"]) < 0.05
    assert 0.65 < max(models["dropout"]) <= 0.7
    assert set(models["activation"]) == {"relu", "tanh"}
    assert set(models["optimizer"]) == {"sgd", "adam", "rmsprop"}
    assert set(models["momentum"]) == {0.0}
    assert set(models["train_fraction"]) == {0.1, 0.25, 0.5, 1.0}
    schemes = {"glorot_normal", "he_normal", "orthogonal", "normal", "truncated_normal"}
    assert set(models["initialization"]) == schemes


def test_a_small_cnn_sees_so_many_whole_batches_of_its_share():
    manifest = shipped("small_cnn_zoo_svhn")
    fractions = Counter(grid.table_of_models(manifest)["train_fraction"].to_pylist())
    steps = {0.1: 14, 0.25: 35, 0.5: 71, 1.0: 143}  # of 512 out of 7,326, 18,314, 36,628 and 73,257 images
    assert cost.plan(manifest).steps == 86 * sum(count * steps[fraction] for fraction, count in fractions.items())


def test_the_zoos_of_both_kernels_have_the_same_draws():
    for data in ("mnist", "cifar10", "svhn"):
        wide, narrow = (grid.table_of_models(shipped(f"sne_{data}{kind}")) for kind in ("", "_kernel3"))
        assert wide.equals(narrow)
        assert Counter(wide["split"].to_pylist()) == {"train": 600, "validation": 75, "test": 75}


def test_a_seed_zoo_of_2021_is_the_first_half_of_its_successor():
    for data in ("mnist", "fashion"):
        first, second = shipped(f"hyperreps_{data}_seed"), shipped(f"modelzoos_{data}_seed")
        assert (first.data, first.architecture, first.axes) == (second.data, second.architecture, second.axes)
        assert first.training.model_copy(update={"epochs": 50}) == second.training


def test_the_sine_zoo_is_fitted_as_published():
    manifest = shipped("sne_sine_inr")
    models = grid.table_of_models(manifest).to_pydict()
    frequencies = np.array(models["frequency"])
    assert 0.5 <= frequencies.min() < 0.51
    assert 9.99 < frequencies.max() <= 10
    assert abs(frequencies.var() - 9.5**2 / 12) < 0.4  # what a constant predictor's squared error is: 7.52
    assert len(set(frequencies)) == len(set(models["seed"])) == 4000
    assert set(models["amplitude"]) == {1.0}
    training = manifest.training
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 1e-3, 1e-4)
    assert (training.initialization, training.initial_bias) == ("siren_dwsnets", 0.0)
    assert (training.epochs, training.stop_loss, training.batch_size) == (1500, 1e-4, manifest.data.points)
    assert Counter(models["split"]) == {"train": 2000, "validation": 1000, "test": 1000}


@pytest.mark.parametrize("name", ["mnist_inr", "fashion_inr"])
def test_sets_of_fitted_images_are_split_as_the_images(name):
    manifest = shipped(name)
    models = grid.table_of_models(manifest).to_pydict()
    assert Counter(models["split"]) == {"train": 7500, "validation": 500, "test": 2000}
    assert models["image"] == models["seed"] == list(range(manifest.data.n_images))
    assert models["split"][-1] == "test"
    assert (manifest.layout.size, manifest.training.batch_size) == (1185, manifest.data.n_train)


def test_the_small_zoos_on_real_images_need_no_more_than_is_there():
    for name in (name for name in shipped_manifests() if name.startswith("mini_")):
        manifest = shipped(name)
        if manifest.data.source == "image_fields":  # of many networks, each of which sees a few dozen pixels
            assert cost.plan(manifest).steps * 64 <= 2e7
            continue
        assert manifest.data.n_train <= (8_000 if manifest.data.source == "idx" else 60_000)
        assert manifest.data.n_test <= 2_000
        assert cost.plan(manifest).models <= 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("mini_fashion_cnn_small", "seed = { range = [1, 1] }"),
        ("mini_fashion_small_cnn_gap", "count = 12"),
        ("mini_mnist_small_cnn_gap", "count = 12"),
        ("mini_mnist_cnn3_fc2", "count = 12"),
        ("mini_mnist_cnn", "count = 12"),
        ("mini_fashion_cnn", "count = 12"),
        ("mini_digits_cnn", "count = 12"),
    ],
)
def test_a_dozen_models_of_a_small_zoo_learn_real_images_unequally_well(name, cut, tmp_path, data_root):
    text = find_manifest(name).read_text()
    pattern = rf"^{cut.split(' =')[0]} = .*$"
    assert len(re.findall(pattern, text.split("[axes", 1)[1], re.MULTILINE)) >= 1
    head, axes = text.split("[axes", 1)
    (tmp_path / "cut.toml").write_text(f"{head}[axes{re.sub(pattern, cut, axes, count=1, flags=re.MULTILINE)}")
    engine.run(tmp_path / "cut.toml", tmp_path / "zoo", workers=2, data_root=data_root)
    accuracies = open_zoo(tmp_path / "zoo").metric("test_accuracy")[:]  # (model, checkpoint)
    assert accuracies.shape[0] == 12
    assert np.median(accuracies[:, 0]) < 0.2
    assert np.median(accuracies[:, -1]) > 0.5
    low, high = np.quantile(accuracies[:, -1], [0.25, 0.75])
    assert high - low > 0.01


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        pytest.param(
            "small_cnn_zoo_mnist",
            ("models       30,000 in 80 shards", "checkpoints  9 a model", "parameters   4,970 a model"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "modelzoos_svhn_hyp_10_random",
            ("models       4,320 in", "checkpoints  51 a model", "parameters   2,464 a", "steps        1,296,000,000"),
            marks=pytest.mark.thorough,
        ),
        ("sne_sine_inr", ("models       4,000 in 40 shards of 100", "parameters   1,153", "steps        6,000,000")),
    ],
)
def test_the_plan_of_a_shipped_zoo_needs_no_data(name, lines, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path / "empty"))
    result = CliRunner().invoke(main, ["plan", name, "--workers", "1"])
    assert result.exit_code == 0, result.output
    for line in lines:
        assert line in result.output
    assert re.search(r"seconds +[\d,]+ with 1 worker", result.output)
    assert not (tmp_path / "empty").exists()


def test_the_list_fits_a_terminal():
    lines = CliRunner().invoke(main, ["list"]).output.splitlines()
    assert len(lines) == 2 + len(shipped_manifests())
    assert max(map(len, lines)) <= 120
    assert re.search(r"modelzoos_svhn_seed +1,000 +51 +2,464 +SVHN +seed$", "\n".join(lines), re.MULTILINE)
