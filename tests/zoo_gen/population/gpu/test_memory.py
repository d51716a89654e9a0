import pytest

from tests.zoo_gen.population.test_train import models
from zoo_gen import find_manifest, read_manifest
from zoo_gen.architecture.layers import Convolution
from zoo_gen.errors import ZooError
from zoo_gen.population.gpu import memory
from zoo_gen.population.gpu.resident import choice
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import bytes_on_device, groups

GAP = read_manifest(find_manifest("small_cnn_zoo_fashion"))


def bytes_of(precision: str | None, *, batch_size: int) -> int:
    return memory.bytes_per_model(GAP.network, batch_size=batch_size, n_train=1000, precision=precision)


def test_values_of_every_layer_their_gradients_and_the_optimisers_state_are_counted():
    """By hand: 13 x 13, 6 x 6 and 2 x 2 pixels of 16 channels, then 16 means and 10 logits, which take 16."""
    values = 2 * 256 * 2 * (13 * 13 * 16 + 6 * 6 * 16 + 2 * 2 * 16 + 16 + 16)
    assert bytes_of("bfloat16", batch_size=256) == values + 6 * 4970 * 4 + 1000 * 4


def test_patches_count_where_torch_multiplies_them():
    patches = sum(layer.inputs * layer.kernel**2 for layer in GAP.layers if isinstance(layer, Convolution))
    assert patches == 9 + 144 + 144
    assert bytes_of(None, batch_size=256) > 2 * bytes_of("float32", batch_size=256)


def test_of_a_transformer_the_tokens_between_the_parts_of_its_blocks_are_counted():
    """By hand: tokens of the embedding and of two parts of two blocks, their mean, the classifier's 32 and 10 (16)."""
    vit = read_manifest(find_manifest("medium_mnist_vit")).network
    taken = memory.bytes_per_model(vit, batch_size=128, n_train=1000, precision="bfloat16")
    assert taken == 2 * 128 * 2 * (5 * 49 * 32 + 32 + 32 + 16) + (5 + 4) * 18506 * 4 + 1000 * 4


def test_a_model_in_one_multiprocessor_has_no_values_between_layers_in_memory():
    taken = memory.bytes_per_model(GAP.network, batch_size=512, n_train=1000, precision="bfloat16", resident=True)
    assert taken == 6 * 4970 * 4 + 1000 * 4


def test_what_a_model_in_one_multiprocessor_keeps_outside_of_it_is_counted(monkeypatch):
    """By hand: pixels of three layers of 16 channels, of eight images in bfloat16."""
    monkeypatch.setattr(choice.compiling, "hindrance", lambda device: None)
    zoo = read_manifest(find_manifest("small_cnn_zoo_4096_cifar10_jpeg"))
    settings = TrainingSettings(epochs=1, device="cuda", kernels="bfloat16")
    taken = bytes_on_device(zoo.network, settings, batch_size=512, n_train=1000)
    assert taken == 6 * 4970 * 4 + 1000 * 4 + (15 * 15 + 7 * 7 + 3 * 3) * 16 * 8 * 2


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 8192), (32, 8192), (128, 2048), (4096, 1024)])
def test_no_more_models_than_fill_the_device(batch_size, expected):
    assert memory.enough(batch_size) == expected
    assert memory.enough(batch_size, resident=True) == max(expected, 4096)


def test_as_many_as_fit():
    assert memory.models_that_fit(10**9, 10**7, device="cuda") == 30  # half of six tenths, where there is little
    assert memory.models_that_fit(10**11, 10**7, device="cuda") == 5920


def test_a_model_too_large_for_the_device_is_refused():
    with pytest.raises(ZooError, match=r"device 'cuda': one model needs 20.0 GB, 10.0 GB are free; expected a smaller"):
        memory.models_that_fit(10 * 10**9, 20 * 10**9, device="cuda")


def test_memory_that_others_took_means_fewer_models_at_once_and_a_line(monkeypatch, caplog):
    """Ten models, and room for four: three turns whose sizes differ by one at most."""
    each = bytes_of("bfloat16", batch_size=16)
    monkeypatch.setattr(memory, "room", lambda device: memory.Room(total=10**12, free=round(4.5 * each / 0.3)))
    settings = TrainingSettings(epochs=1, device="cuda:1", kernels="bfloat16")
    monkeypatch.setattr(choice.compiling, "hindrance", lambda device: "no NVRTC here")
    table = models(seed=list(range(10)), batch_size=[16])
    cut = list(groups(GAP.network, table, settings, n_train=1000))
    assert [list(rows) for rows, _ in cut] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert "cuda:1: 0.0 of 1000.0 GB are free; 10 models are trained in 3 turns" in caplog.text
