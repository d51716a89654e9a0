import sys
from types import SimpleNamespace

import numpy as np
import pytest

from zoo_bench.evaluation import costs
from zoo_bench.evaluation.costs import measured


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """What the kernel tells of a process, as files: status, and what was written to clear_refs when memory was kept."""
    status, clear = tmp_path / "status", tmp_path / "clear_refs"
    monkeypatch.setattr(costs, "_STATUS", status)
    monkeypatch.setattr(costs, "_CLEAR", clear)
    clear.write_text("")

    def resident(kilobytes: int) -> None:
        status.write_text(f"Name:\tpython\nVmHWM:\t{kilobytes:8} kB\nVmRSS:\t{kilobytes:8} kB\n")

    return SimpleNamespace(resident=resident, clear=clear)


def test_seconds_are_those_between_start_and_end(monkeypatch):
    moments = iter([100.0, 103.5])
    monkeypatch.setattr(costs, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with measured() as cost:
        pass
    assert cost.seconds == 3.5


def test_memory_is_the_peak_over_what_was_there_at_the_start(kernel):
    kernel.resident(1000)
    with measured() as cost:
        kernel.resident(4000)
    assert kernel.clear.read_text() == "5"
    assert cost.memory_bytes == 3000 * 1024


def test_freed_memory_goes_back_before_the_peak_is_reset(kernel, monkeypatch):
    """Otherwise what the allocator keeps would be used again without being seen."""
    kernel.resident(9000)

    def give_back() -> None:
        assert kernel.clear.read_text() == ""
        kernel.resident(1000)

    monkeypatch.setattr(costs.memory, "give_back", give_back)
    with measured() as cost:
        kernel.resident(9000)
    assert cost.memory_bytes == 8000 * 1024


def test_memory_is_unknown_where_the_peak_cannot_be_reset(kernel, monkeypatch):
    kernel.resident(1000)
    monkeypatch.setattr(costs, "_CLEAR", kernel.clear / "nowhere")
    with measured() as cost:
        kernel.resident(2000)
    assert cost.memory_bytes is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_real_kernel_tells_a_large_array_from_none():
    with measured() as nothing:
        pass
    with measured() as large:
        np.ones(20_000_000)
    assert large.memory_bytes is not None
    assert nothing.memory_bytes is not None
    assert large.memory_bytes > nothing.memory_bytes


def test_a_cost_is_known_when_what_ran_has_failed(monkeypatch):
    moments = iter([1.0, 2.0])
    monkeypatch.setattr(costs, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with pytest.raises(ValueError, match="stop"), measured() as cost:
        raise ValueError("stop")
    assert cost.seconds == 1.0
