import ctypes
import platform

import pytest
import torch

from tests.zoo_gen.population.test_train import models
from zoo_gen.architecture.registry import SmallCNNGap
from zoo_gen.image_data import Synthetic, load_image_data
from zoo_gen.machine import memory
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import train

TRIM, MMAP = -1, -3  # of mallopt(3)


class Glibc:
    """A C library that answers as releases of glibc do which refuse thresholds above a limit."""

    def __init__(self, limit: int) -> None:
        self.limit, self.calls = limit, []

    def mallopt(self, name: int, value: int) -> int:
        self.calls.append((name, value))
        return int(name != MMAP or value <= self.limit)

    def malloc_trim(self, _: int) -> None:
        self.calls.append(("trim", 0))


@pytest.fixture
def glibc(monkeypatch):
    def make(limit: int) -> Glibc:
        libc = Glibc(limit)
        monkeypatch.setattr(memory, "_glibc", lambda: libc)
        return libc

    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return make


def test_the_largest_threshold_that_glibc_accepts_is_taken(glibc):
    libc = glibc(2**25)
    with freed_memory_kept():
        accepted = [value for name, value in libc.calls if name == MMAP and value <= libc.limit]
        assert accepted == [2**25]
        assert libc.calls[-1][0] == TRIM
    assert libc.calls[-1] == ("trim", 0)


def test_a_glibc_that_refuses_is_left_as_it_was(glibc):
    libc = glibc(0)
    with freed_memory_kept():
        pass
    assert {name for name, _ in libc.calls} == {MMAP}  # the trim threshold alone would end its own adjustment


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_of_allocation_stands_while_models_train(glibc, monkeypatch, name):
    pytest.importorskip("llvmlite")
    libc = glibc(2**30)
    monkeypatch.setenv(name, "65536")
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *rest: libc if name is None else load(name, *rest))
    data = load_image_data(Synthetic(source="synthetic", train_size=8, test_size=4))
    forms = {f"convolution{number}": "lanes" for number in (1, 2, 3)}
    train(
        SmallCNNGap(name="small_cnn_gap"),
        data,
        models(batch_size=[8]),
        TrainingSettings(epochs=1, forms=forms),
        checkpoint_epochs=[1],
    )
    assert libc.calls == []


class _Counts(ctypes.Structure):
    """What mallinfo2(3) answers; only its fifth number, the bytes of blocks mapped alone, is asked for."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("a", "b", "c", "d", "mapped", "e", "f", "g", "h", "i")]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_blocks_are_taken_from_what_is_kept_and_not_from_the_system(monkeypatch):
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = _Counts
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)

    def mapped_for_a_block() -> int:
        """Return how many bytes glibc has mapped for one block of 64 MB alone."""
        before = libc.mallinfo2().mapped
        block = torch.ones(2**24)
        return libc.mallinfo2().mapped - before + 0 * block.numel()

    assert mapped_for_a_block() >= 2**26
    with freed_memory_kept():
        assert mapped_for_a_block() == 0
    assert mapped_for_a_block() >= 2**26
