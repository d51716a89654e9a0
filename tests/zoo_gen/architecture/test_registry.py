import numpy as np
import pytest
import torch

from tests.plain_loop import ACTIVATIONS
from zoo_gen.architecture import layers as L
from zoo_gen.architecture.registry import (
    CNN3FC2,
    MLP,
    CNNLarge,
    CNNSmall,
    Layers,
    Siren,
    SmallCNNGap,
    ViT,
    layers,
    network,
)

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
OWN = {
    "name": "layers",
    "layers": [
        {"type": "convolution", "channels": 3, "kernel": 3, "bias": False},
        {"type": "dropout"},
        {"type": "max_pooling", "size": 2},
        {"type": "activation"},
        {"type": "convolution", "channels": 4, "kernel": 2},
        {"type": "average_pooling", "size": 3, "stride": 1},
        {"type": "activation", "function": "relu"},
        {"type": "flatten"},
        {"type": "linear", "units": 6},
        {"type": "activation"},
        {"type": "dropout"},
        {"type": "linear", "units": 10},
    ],
}
REGISTRY = {
    "tetris": (MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4, 100),
    "digits": (MLP(name="mlp", widths=(64, 24, 10)), (1, 8, 8), 10, 1810),
    "cnn_small grey": (CNNSmall(name="cnn_small"), GREY, 10, 2464),
    "cnn_small colour": (CNNSmall(name="cnn_small"), (3, 28, 28), 10, 2864),
    "cnn_large": (CNNLarge(name="cnn_large"), COLOUR, 10, 10853),
    "small_cnn_gap": (SmallCNNGap(name="small_cnn_gap"), GREY, 10, 4970),
    "small_cnn_gap of 32x32": (SmallCNNGap(name="small_cnn_gap"), (1, 32, 32), 10, 4970),
    "cnn3_fc2 grey": (CNN3FC2(name="cnn3_fc2"), GREY, 10, 29242),
    "cnn3_fc2 colour": (CNN3FC2(name="cnn3_fc2"), COLOUR, 10, 37210),
    "siren": (Siren(name="siren"), (1,), 1, 1153),
    "own": (Layers.model_validate(OWN), (1, 12, 12), 10, 27 + 52 + 4 * 2 * 2 * 6 + 6 + 70),
}


@pytest.mark.parametrize("name", REGISTRY)
def test_parameter_counts_are_the_known_ones_and_torchs(name):
    architecture, shape, n_outputs, parameters = REGISTRY[name]
    module = network(architecture, shape, n_outputs).module(activation="relu")
    layout = network(architecture, shape, n_outputs).layout
    assert layout.size == parameters == sum(p.numel() for p in module.parameters())
    assert {p.name: p.shape for p in layout.parameters} == {n: tuple(t.shape) for n, t in module.state_dict().items()}
    assert [p.name for p in layout.parameters] == list(module.state_dict())
    assert module(torch.rand(3, *shape)).shape == (3, n_outputs)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reordered_hidden_units_compute_the_same_and_the_inverse_restores_every_bit(name, activation):
    architecture, shape, n_outputs, _ = REGISTRY[name]
    layout = network(architecture, shape, n_outputs).layout
    module = network(architecture, shape, n_outputs).module(activation=activation).eval()
    weights = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    random = np.random.RandomState(0)
    orders = {symmetry.layer: random.permutation(symmetry.size) for symmetry in layout.symmetries}
    assert list(orders) == list(layout.layers[:-1])
    index = layout.permutation(orders)
    assert (index != np.arange(layout.size)).mean() > 0.5
    inputs = torch.rand(20, *shape)
    with torch.no_grad():
        before = module(inputs)
        torch.nn.utils.vector_to_parameters(torch.from_numpy(weights[index]), module.parameters())
        after = module(inputs)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    back = layout.permutation({layer: np.argsort(order) for layer, order in orders.items()})
    np.testing.assert_array_equal(weights[index][back], weights)


def test_a_wrong_order_of_a_flattened_image_would_be_noticed():
    """The test above can fail: blocks of one instead of four move other weights."""
    architecture, shape, n_outputs, _ = REGISTRY["own"]
    (block,) = {move.block for s in network(architecture, shape, n_outputs).layout.symmetries for move in s.moves} - {1}
    assert block == 4


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_module_computes_what_its_activation_says(activation):
    module = network(MLP(name="mlp", widths=(4, 3, 2)), (1, 2, 2), 2).module(activation=activation)
    images = torch.randn(5, 1, 2, 2)
    first, second = module.linear1, module.linear2
    expected = second(ACTIVATIONS[activation]()(first(images.flatten(1))))
    assert torch.equal(module(images), expected)


def test_dropout_never_shifts_names():
    without = [layer for layer in OWN["layers"] if layer["type"] != "dropout"]
    names = [p.name for p in network(Layers.model_validate(OWN), (1, 12, 12), 10).layout.parameters]
    assert names == [p.name for p in network(Layers(name="layers", layers=without), (1, 12, 12), 10).layout.parameters]
    assert names[0] == "convolution1.weight"
    assert names[-1] == "linear2.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {0: {"type": "convolution", "channels": 3, "kernel": 13}},
            r"layers\[0\]: convolution windows of 13 x 13 do not",
        ),
        ({7: {"type": "activation"}}, r"layers\[8\]: linear needs flat values; expected a flatten"),
        ({4: {"type": "flatten"}}, r"layers\[5\]: average_pooling needs an image"),
        ({11: {"type": "linear", "units": 9}}, r"layers\[11\]: ends with 9; expected a linear layer of 10 units"),
        ({11: {"type": "activation"}}, r"layers\[11\]: ends with 6; expected a linear layer of 10 units"),
    ],
)
def test_layers_that_do_not_fit_are_named(change, message):
    written = [change.get(position, layer) for position, layer in enumerate(OWN["layers"])]
    with pytest.raises(ValueError, match=message):
        layers(Layers(name="layers", layers=written), (1, 12, 12), 10)


def test_an_architecture_refuses_images_that_it_does_not_read():
    with pytest.raises(ValueError, match="name: 'cnn_small' reads images of 28 x 28; these have 32 x 32"):
        layers(CNNSmall(name="cnn_small"), COLOUR, 10)
    with pytest.raises(ValueError, match="widths: begins with 5; the images have 4 pixels"):
        layers(MLP(name="mlp", widths=(5, 2)), (1, 2, 2), 2)


def test_layers_are_counted_by_kind():
    sequence = layers(Layers.model_validate(OWN), (1, 12, 12), 10)
    assert [layer.name for layer in sequence if isinstance(layer, L.Dropout | L.Pooling)] == [
        "dropout1",
        "pooling1",
        "pooling2",
        "dropout2",
    ]


def test_the_vit_is_by_default_the_network_of_the_small_transformer_zoo():
    vit = network(ViT(name="vit"), GREY, 10)
    # Patches, two blocks of four products and two linear layers, and a classifier of two layers.
    block = 4 * 32 * 32 + (64 * 32 + 64) + (32 * 64 + 32)
    assert vit.layout.size == 544 + 2 * block + (32 * 32 + 32) + 330 == 18506
    module = vit.module(activation="relu")
    assert [p.name for p in vit.layout.parameters] == list(module.state_dict())
    assert module(torch.rand(3, *GREY)).shape == (3, 10)
    sizes = {symmetry.layer: symmetry.size for symmetry in vit.layout.symmetries}
    assert (sizes["attention1.heads"], sizes["attention2.value[16:32]"], sizes["linear1"]) == (2, 16, 64)
    assert "convolution1" not in sizes  # sines are added to these
    assert sizes["attention1.output"] == sizes["linear2"] == 32  # no skip connections


def test_the_stream_of_a_vit_with_skips_moves_as_one_where_positions_are_learned():
    streams = {}
    for learned in (False, True):
        vit = ViT(
            name="vit", skips=True, affine=True, attention_bias=True, learned_positions=learned, pooling="class_token"
        )
        layout = network(vit, GREY, 10).layout
        streams[learned] = {s.layer for s in layout.symmetries} & {"convolution1", "attention1.output", "linear2"}
        more = 50 * 32 if learned else 0
        assert layout.size == 18506 + 32 + more + 2 * 4 * 32 + 5 * 2 * 32
    assert streams == {False: set(), True: {"convolution1"}}


def test_a_vit_that_does_not_fit_its_images_is_refused():
    with pytest.raises(ValueError, match="patch_embedding cuts images of 28 x 28 into patches of 5 x 5"):
        network(ViT(name="vit", patch=5), GREY, 10)
    with pytest.raises(ValueError, match="attention cuts 32 features into 3 heads; expected a divisor, or units"):
        network(ViT(name="vit", heads=3), GREY, 10)
    assert network(ViT(name="vit", heads=3, head_units=4), GREY, 10).layout.size == 18506 - 2 * 4 * 32 * 20
