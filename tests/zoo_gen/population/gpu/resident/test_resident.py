"""Programs of one thread block a model, on a CPU that emulates the threads and the matrix units."""

import shutil
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zoo_gen.population.gpu.resident.emulation import Emulated
from tests.zoo_gen.population.interruptions import check_interruptions
from tests.zoo_gen.population.test_train import NETWORKS, OPTIMIZERS, models, relative_difference
from zoo_gen import find_manifest, read_manifest
from zoo_gen.architecture import registry
from zoo_gen.architecture.registry import MLP, Layers, Siren, SmallCNNGap, layers
from zoo_gen.image_data import ImageFields, Synthetic, load_image_data
from zoo_gen.image_data.sine import Sine
from zoo_gen.population.gpu.resident import choice, compiling, gathers, program, stages, step_code
from zoo_gen.population.gpu.resident.choice import resident
from zoo_gen.population.gpu.resident.resident import Resident
from zoo_gen.population.gpu.resident.stages import Stage, UnservedError
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import train

CONVOLUTION = {"type": "convolution", "channels": 4, "kernel": 3}
POOLING, ACTIVATION = {"type": "max_pooling", "size": 2}, {"type": "activation"}
DROPOUT, FLATTEN = {"type": "dropout"}, {"type": "flatten"}
MEAN = {"type": "average_pooling", "size": 2}
# Of the weights' change in two steps.
TOLERANCES = {"float32": 2e-5, "tf32": 2e-2, "bfloat16": 1.5e-1}


def network(*some: dict) -> Layers:
    return Layers.model_validate({"name": "layers", "layers": [*some, {"type": "linear", "units": 10}]})


SERVED = {
    "linear layers": (MLP(name="mlp", widths=(16, 20, 10)), (1, 4, 4)),
    "pooling, padding and colours": (
        network(
            *(CONVOLUTION | {"padding": 1}, POOLING, ACTIVATION, DROPOUT),
            *(CONVOLUTION | {"channels": 9, "padding": 1}, POOLING, ACTIVATION, DROPOUT),
            *(FLATTEN, {"type": "linear", "units": 7, "bias": False}, ACTIVATION, DROPOUT),
        ),
        (3, 8, 8),
    ),
    "strides and means": (
        network(
            *(CONVOLUTION | {"channels": 16, "stride": 2}, ACTIVATION, DROPOUT),
            *(CONVOLUTION | {"channels": 6, "stride": 2}, ACTIVATION, {"type": "global_average_pooling"}),
        ),
        (1, 13, 13),
    ),
    "a mean of windows, and a line left over": (
        network(CONVOLUTION | {"kernel": 2}, MEAN, DROPOUT, CONVOLUTION | {"bias": False}, POOLING, FLATTEN),
        (1, 13, 13),
    ),
}


def small(shape: tuple[int, int, int]) -> Synthetic:
    return Synthetic(source="synthetic", image_shape=shape, n_classes=10, train_size=19, test_size=9)


@pytest.fixture
def emulated(monkeypatch):
    """Train by programs on a CPU wherever kernels are asked for."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")

    def emulation(*arguments, batch_size, **settings):
        return Resident(*arguments, **settings, compiled=Emulated)

    monkeypatch.setattr(choice, "resident", emulation)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        # The other networks end with a linear layer too, and train in these; every optimizer trains linear layers.
        pytest.param("linear layers", "float32", marks=pytest.mark.thorough),
        *(pytest.param("linear layers", precision, marks=pytest.mark.slow) for precision in ("tf32", "bfloat16")),
        ("pooling, padding and colours", "bfloat16"),
        pytest.param("pooling, padding and colours", "float32", marks=pytest.mark.thorough),
        ("strides and means", "tf32"),
        pytest.param("strides and means", "bfloat16", marks=pytest.mark.thorough),
        ("a mean of windows, and a line left over", "float32"),
    ],
)
def test_a_program_trains_as_torch_does(emulated, name, precision):
    architecture, shape = SERVED[name]
    data = load_image_data(small(shape))
    table = models(
        activation=["relu", "tanh", "gelu"],
        dropout=[0.0] if name == "linear layers" else [0.3, 0.0, 0.5],
        optimizer=["sgd", "momentum", "sgd"],
        momentum=[0.0, 0.9, 0.0],
        l2=[0.0, 1e-2, 0.0],
        label_noise=[0.0, 0.0, 0.5],
        batch_size=[10],
        initialization=["kaiming_normal"],
    )
    epochs = {"checkpoint_epochs": [0, 1]}
    ours = train(architecture, data, table, TrainingSettings(epochs=1, kernels=precision), **epochs).arrays
    expected = train(architecture, data, table, TrainingSettings(epochs=1), **epochs).arrays
    steps = [arrays["weights"][:, 1].astype(float) - arrays["weights"][:, 0] for arrays in (ours, expected)]
    for row in range(len(table)):
        assert relative_difference(steps[0][row], steps[1][row]) < TOLERANCES[precision], row
    loss = 1e-5 if precision == "float32" else 3e-2
    for metric in ("train_loss", "test_loss", "running_loss"):
        np.testing.assert_allclose(ours[metric], expected[metric], rtol=loss, atol=1e-6, err_msg=metric)
    if precision == "float32":
        for metric in ("train_accuracy", "running_accuracy", "test_class_f1"):
            np.testing.assert_allclose(ours[metric], expected[metric], rtol=1e-6, atol=1e-6, err_msg=metric)


def test_every_optimizer_and_schedule_in_one_population(emulated):
    architecture, shape = SERVED["linear layers"]
    table = models(
        optimizer=[*OPTIMIZERS, "nesterov"],
        momentum=[0.0, 0.9, 0.0, 0.0, 0.0, 0.8],
        weight_decay=[0.0, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2],
        schedule=["constant", "one_cycle", "cosine", "step", "milestones", "step"],
        warm_up_epochs=[0.0, 0.0, 1.0, 0.5, 0.0, 0.0],
        decay_every=[1],
        milestones=["1"],
        decay_factor=[0.5, 0.5, 0.5, 0.1, 0.2, 0.3],
        batch_size=[7],
    )
    data, epochs = load_image_data(small(shape)), {"checkpoint_epochs": [0, 2]}
    ours = train(architecture, data, table, TrainingSettings(epochs=2, kernels="float32"), **epochs).arrays
    expected = train(architecture, data, table, TrainingSettings(epochs=2), **epochs).arrays
    for row in range(len(table)):
        steps = [arrays["weights"][row, 1] - arrays["weights"][row, 0] for arrays in (ours, expected)]
        assert relative_difference(*steps) < 1e-4, table.slice(row, 1).to_pylist()


@pytest.mark.thorough  # images are fitted by the same network, below
def test_waves_are_fitted_as_torch_does(emulated):
    table = models(
        initialization=["siren"], optimizer=["adam"], learning_rate=[1e-4], batch_size=[100], frequency=[0.7, 3.0],
        amplitude=[1.0],
    ).drop_columns(["label_noise", "train_fraction"])  # fmt: skip
    data, epochs = load_image_data(Sine(source="sine", points=300)), {"checkpoint_epochs": [0, 1]}
    ours = train(Siren(name="siren"), data, table, TrainingSettings(epochs=1, kernels="float32"), **epochs).arrays
    expected = train(Siren(name="siren"), data, table, TrainingSettings(epochs=1), **epochs).arrays
    np.testing.assert_allclose(ours["test_loss"], expected["test_loss"], rtol=1e-4)


def test_images_are_fitted_as_torch_does(emulated):
    table = models(
        initialization=["siren"], optimizer=["adam"], learning_rate=[1e-4], batch_size=[20], image=[8, 0, 3],
    ).drop_columns(["label_noise", "train_fraction"])  # fmt: skip
    images = {"source": "synthetic", "image_shape": [1, 7, 6], "train_size": 7, "test_size": 2}
    data = load_image_data(ImageFields.model_validate({"source": "image_fields", "images": images}))
    epochs = {"checkpoint_epochs": [0, 1]}
    ours = train(Siren(name="siren"), data, table, TrainingSettings(epochs=1, kernels="float32"), **epochs).arrays
    expected = train(Siren(name="siren"), data, table, TrainingSettings(epochs=1), **epochs).arrays
    steps = [arrays["weights"][:, 1].astype(float) - arrays["weights"][:, 0] for arrays in (ours, expected)]
    for row in range(len(table)):
        assert relative_difference(steps[0][row], steps[1][row]) < 1e-3, row
    for metric in ("train_loss", "train_mse", "train_psnr", "running_loss"):
        np.testing.assert_allclose(ours[metric], expected[metric], rtol=1e-4, err_msg=metric)


def test_a_model_has_the_same_bytes_alone_and_among_others(emulated):
    """Among models of an activation that keeps more in shared memory."""
    architecture, shape = SERVED["strides and means"]
    data = load_image_data(small(shape))
    table = models(activation=["tanh", "gelu"], dropout=[0.2], batch_size=[10])
    settings = TrainingSettings(epochs=1, kernels="bfloat16")
    among = train(architecture, data, table, settings, checkpoint_epochs=[1]).arrays
    alone = train(architecture, data, table.slice(0, 1), settings, checkpoint_epochs=[1]).arrays
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], among[name][0], err_msg=name)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("strides and means", "bfloat16"),
        pytest.param("pooling, padding and colours", "float32", marks=pytest.mark.thorough),
    ],
)
def test_a_model_has_the_same_bytes_where_inputs_of_activations_lie_outside_of_shared_memory(
    emulated, monkeypatch, name, precision
):
    architecture, shape = SERVED[name]
    data, table = load_image_data(small(shape)), models(activation=["gelu", "tanh"], batch_size=[10])
    settings = TrainingSettings(epochs=1, kernels=precision)
    inside = train(architecture, data, table, settings, checkpoint_epochs=[1]).arrays
    plan = program.plan
    monkeypatch.setattr(
        program, "plan", lambda *arguments, **options: replace(plan(*arguments, **options), outside=True, tables=[])
    )
    outside = train(architecture, data, table, settings, checkpoint_epochs=[1]).arrays
    for metric, values in inside.items():
        np.testing.assert_array_equal(outside[metric], values, err_msg=metric)


def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(emulated):
    architecture, shape = SERVED["linear layers"]
    table = models(
        optimizer=[*OPTIMIZERS, "nesterov"],
        momentum=[0.0, 0.9, 0.0, 0.0, 0.0, 0.8],
        schedule=["constant", "one_cycle", "cosine", "constant", "constant", "constant"],
        batch_size=[7],
    )
    settings = TrainingSettings(epochs=3, kernels="float32", stop_loss=2.25)
    check_interruptions(architecture, load_image_data(small(shape)), table, settings)


def test_a_model_that_stops_keeps_its_weights(emulated):
    architecture, shape = SERVED["linear layers"]
    settings = TrainingSettings(epochs=2, kernels="float32", stop_loss=100.0)
    table = models(batch_size=[4])
    trained = train(architecture, load_image_data(small(shape)), table, settings, checkpoint_epochs=[1, 2])
    assert np.array_equal(trained.arrays["weights"][:, 0], trained.arrays["weights"][:, 1])


@pytest.mark.parametrize("k", [8, 16])
@pytest.mark.parametrize(
    ("inputs", "height", "width", "outputs", "kernel", "stride", "padding"),
    [
        (4, 8, 8, 6, 3, 1, 0),
        (8, 12, 12, 6, 5, 1, 0),
        (16, 13, 13, 16, 3, 2, 0),
        (5, 9, 8, 3, 3, 2, 1),
        (20, 6, 6, 3, 3, 1, 1),
    ],
)
def test_tables_of_a_backward_product_are_those_of_a_convolution(
    inputs, height, width, outputs, kernel, stride, padding, k
):
    after = [(length + 2 * padding - kernel) // stride + 1 for length in (height, width)]
    product = (outputs, *after)
    before = (inputs, height, width)
    stage = Stage("c", "convolution", before, before, product, product, kernel, stride, padding)
    gather, field = gathers.backward(stage, k=k)
    weight = torch.randn(outputs, inputs, kernel, kernel, dtype=torch.float64)
    slopes = torch.randn(1, *product, dtype=torch.float64)
    expected = torch.nn.grad.conv2d_input((1, *before), weight, slopes, stride=stride, padding=padding)[0].numpy()
    rows = np.zeros(field.rows)
    for channel, y, x in np.ndindex(*product):
        rows[(y + field.low) * field.line + (x + field.low) * outputs + channel] = slopes[0, channel, y, x]
    actual = np.full(before, np.nan)
    for down, across, block in np.ndindex(*gather.grid.windows, gather.blocks):
        base = down * gather.grid.steps[0] + across * gather.grid.steps[1]
        for tile in gather.tiles:
            total = np.zeros(16)
            for fragment, octets in tile.steps:
                which = gather.fragments[block * gather.fragments_of_block + fragment]
                values = np.concatenate([rows[base + np.array(gather.octets[octet])] for octet in octets])
                total += np.where(which >= 0, weight.numpy().reshape(-1)[which], 0)[:, : len(values)] @ values
            for half, sums in zip(tile.halves, total.reshape(2, 8), strict=True):
                if half is None:
                    continue
                (y, x), eight = half
                place = (down * gather.grid.sides[0] + y, across * gather.grid.sides[1] + x)
                first = (block * gather.channels + eight) * 8
                for channel in range(first, min(first + 8, inputs)):
                    if place[0] < height and place[1] < width:
                        actual[channel, place[0], place[1]] = sums[channel - first]
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("some", "reason"),
    [
        ([CONVOLUTION, ACTIVATION, POOLING, FLATTEN], "pooling1 follows convolution1"),
        ([CONVOLUTION, POOLING | {"stride": 1}, FLATTEN], "the windows of pooling1 overlap"),
        ([CONVOLUTION, FLATTEN, DROPOUT], "dropout1 follows convolution1"),
    ],
)
def test_what_is_not_served_is_named(some, reason):
    architecture, shape = network(*some), (1, 12, 12)
    with pytest.raises(UnservedError, match=reason):
        stages.read(registry.network(architecture, shape, 10))


def written(name: str, precision: str, kinds: set[str], *, training: bool = True) -> program.Program:
    architecture, _, shape = NETWORKS[name]
    staged = stages.read(registry.network(architecture, shape, 10))
    return program.plan(
        staged, precision=precision, batch_size=10, training=training, kinds=frozenset(kinds), n_classes=10
    )


@pytest.mark.parametrize("precision", TOLERANCES)
def test_cnn_small_fits_and_cnn_large_does_not(precision):
    fits = written("cnn_small", precision, {"tanh"})
    step_code.source(fits)
    program.check_size(fits)
    assert fits.blocks == (2 if precision == "bfloat16" else 1)
    large = written("cnn_large", precision, {"tanh"})
    step_code.source(large)
    with pytest.raises(UnservedError, match="kB of shared memory"):
        program.check_size(large)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_cnn_gap_of_32_pixels_keeps_in_global_memory_what_only_some_activations_want(channels):
    fits, larger = (gap_of(channels, 32, kinds) for kinds in ({"relu", "tanh"}, {"relu", "gelu"}))
    program.check_size(fits)
    assert fits.outside_size == 0
    # By hand: pixels of three layers of 16 channels, of eight images in bfloat16.
    assert larger.outside_size == (15 * 15 + 7 * 7 + 3 * 3) * 16 * 8 * 2
    assert fits.size == larger.size <= program.SHARED_MOST
    # The gradients of a convolution keep all sixteen warps at work, as those of 28 x 28 pixels do.
    smaller = gap_of(1, 28, {"relu"})
    assert not smaller.outside
    for each in (fits, smaller):
        assert [each.sums(number).tasks > each.warps // 2 for number in range(3)] == [True] * 3


def test_only_large_batches_are_trained_with_values_in_global_memory(monkeypatch):
    """Results that ship name the digest of a zoo of 32 x 32 pixels and batches of 128: it keeps its bytes."""
    monkeypatch.setattr(compiling, "hindrance", lambda device: None)
    asked = {"precision": "bfloat16", "device": "cuda"}
    for manifest, served in [
        ("small_cnn_zoo_4096_cifar10_jpeg", True),
        ("medium_cifar10_jpeg_small_cnn_gap", False),
        ("medium_fashion_small_cnn_gap", True),
    ]:
        zoo = read_manifest(find_manifest(manifest))
        (batch_size,) = zoo.values("batch_size")
        assert choice.serves(zoo.network, batch_size=int(batch_size), **asked) == served
    grey = registry.network(SmallCNNGap(name="small_cnn_gap"), (1, 32, 32), 10)
    smaller = registry.network(SmallCNNGap(name="small_cnn_gap"), (1, 28, 28), 10)
    assert choice.bytes_outside(grey, batch_size=512, precision="bfloat16") == (15 * 15 + 7 * 7 + 3 * 3) * 16 * 16
    assert choice.bytes_outside(smaller, batch_size=512, precision="bfloat16") == 0


def gap_of(channels: int, side: int, kinds: set[str]) -> program.Program:
    staged = stages.read(registry.network(SmallCNNGap(name="small_cnn_gap"), (channels, side, side), 10))
    options = {"precision": "bfloat16", "batch_size": 512, "training": True, "n_classes": 10}
    planned = program.plan(staged, kinds=frozenset(kinds), **options)
    step_code.source(planned)  # asks for its tables
    return planned


def test_how_work_is_cut_does_not_depend_on_which_models_there_are():
    for name in ("cnn_small", "small_cnn_gap", "mlp"):
        cuts = [
            (
                planned.warps,
                planned.groups,
                [planned.sums(number) for number, stage in enumerate(planned.stages) if stage.kind != "mean"],
            )
            for planned in (written(name, "bfloat16", kinds) for kinds in ({"tanh"}, {"gelu", "relu"}))
        ]
        assert cuts[0] == cuts[1]


def test_a_cpu_has_no_such_programs():
    assert resident(
        None, None, None, torch.zeros(1, 1), batch_size=1, steps=[1], n_epochs=1, precision="float32"
    ) is None  # fmt: skip


def test_larger_linear_layers_alone_are_left_to_other_kernels():
    small, large = (layers(MLP(name="mlp", widths=(16, width, 10)), (1, 4, 4), 10) for width in (8, 600))
    choice._check_measured(small)
    choice._check_measured(layers(SERVED["strides and means"][0], (1, 13, 13), 10))
    with pytest.raises(UnservedError, match="15600 products"):
        choice._check_measured(large)


def test_without_a_compiler_other_kernels_are_used(monkeypatch, caplog):
    monkeypatch.setattr(choice.compiling, "hindrance", lambda device: "NVRTC is not installed")
    weights = types.SimpleNamespace(is_cuda=True, device="cuda:0")
    assert resident(None, None, None, weights, batch_size=1, steps=[1], n_epochs=1, precision="float32") is None
    assert "NVRTC is not installed: kernels go layer by layer" in caplog.text


@pytest.mark.parametrize(
    "name", ["mlp", "cnn_small", pytest.param("32 pixels, values outside", marks=pytest.mark.thorough)]
)
def test_a_program_is_cuda(name):
    """As an H200 reads it, whether or not there is one."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError:
        pytest.skip("NVRTC is not installed")
    is_outside = name == "32 pixels, values outside"
    planned = gap_of(1, 32, {"gelu"}) if is_outside else written(name, "bfloat16", {"tanh"}, training=False)
    source = step_code.source(planned)
    assert compiling._compiled(source, "sm_90")
