from contextlib import contextmanager

import pytest
import torch

from tests.zoo_gen.population.test_train import TETRIS, models
from zoo_gen.errors import ZooError
from zoo_gen.image_data import Tetris, load_image_data
from zoo_gen.machine import devices
from zoo_gen.population.population import Population, TrainingSettings
from zoo_gen.population.train import train


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "mps", "cpu:0", "CUDA", "cuda:0,", "cuda:0,,1", "cuda:0, 1"]
)
def test_a_name_of_no_device_is_refused(name):
    with pytest.raises(ZooError, match=r"expected cpu, cuda \(all GPUs\), cuda:N or cuda:N,M"):
        devices.check_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices.check_device("cuda")
    devices.check_device("cuda:1")
    with pytest.raises(ZooError, match=r"'cuda:2'.* sees 2 CUDA devices; there are cuda:0 to cuda:1; expected"):
        devices.check_device("cuda:2")
    with pytest.raises(ZooError, match=r"'cuda:0,5'.* sees 2 CUDA devices"):
        devices.check_device("cuda:0,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ZooError, match="sees 0 CUDA devices; expected one that is there, or device='cpu'"):
        devices.resolve("cuda")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", ("cpu",)),
        ("cuda", ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda:1", ("cuda:1",)),
        ("cuda:2,0", ("cuda:0", "cuda:2")),
        ("cuda:1,1", ("cuda:1",)),
    ],
)
def test_a_name_stands_for_one_gpu_some_or_all(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
    assert devices.resolve(name) == expected


def test_gpus_of_two_kinds_are_refused_together_and_taken_apart(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "an old one" if number == 1 else "a new one")
    with pytest.raises(ZooError, match=r"a new one \(0, 2\) and an old one \(1\), .* such as device='cuda:0,2'$"):
        devices.resolve("cuda")
    assert devices.resolve("cuda:0,2") == ("cuda:0", "cuda:2")
    assert devices.resolve("cuda:1") == ("cuda:1",)


@pytest.fixture
def entered(monkeypatch) -> list[str]:
    """The CUDA devices that are current, the innermost last, on a machine that need not have any."""
    current: list[str] = []

    @contextmanager
    def device(name):
        current.append(str(name))
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    return current


def test_a_numbered_gpu_is_the_current_one_while_models_train(entered, monkeypatch):
    """Triton launches on the current device; elsewhere it cannot read what lies on the numbered one."""
    seen = []
    train_epoch, enter = Population.train_epoch, devices.current

    def recorded(population, epoch):
        seen.append(list(entered))
        train_epoch(population, epoch)

    monkeypatch.setattr(Population, "train_epoch", recorded)
    monkeypatch.setattr(devices, "current", lambda _: enter("cuda:1"))
    data = load_image_data(Tetris(source="tetris", train_size=40, test_size=20))
    train(TETRIS, data, models(batch_size=[20]), TrainingSettings(epochs=2), checkpoint_epochs=[0, 2])
    assert seen == [["cuda:1"], ["cuda:1"]]
    assert entered == []
    with devices.current("cpu"):
        pass


def test_an_old_gpu_and_a_torch_without_triton_have_no_kernels(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "sees no GPU" in str(devices.lacks_for_gpu_kernels("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old one")
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    for capability, expected in (((7, 5), "an old one has compute capability 7.5, kernels need 8.0"), ((9, 0), None)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, answer=capability: answer)
        assert devices.lacks_for_gpu_kernels("cuda") == expected
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert "has no Triton" in str(devices.lacks_for_gpu_kernels("cuda"))
