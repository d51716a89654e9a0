import sys
import time

import numpy as np
import pytest

from zoo_bench.evaluation.costs import measured
from zoo_gen.population.cpu.lanes import keep_freed_memory


def test_seconds_are_those_that_pass():
    with measured() as cost:
        time.sleep(0.05)
    assert 0.05 <= cost.seconds < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_is_the_most_that_was_held_over_what_was_there():
    before = np.ones(8_000_000)  # 64 MB that are there already
    with measured() as cost:
        for _ in range(3):
            np.ones(20_000_000)  # 160 MB, given back each time
    with measured() as nothing:
        before.sum()
    assert cost.memory_bytes is not None
    assert nothing.memory_bytes is not None
    assert 150e6 < cost.memory_bytes < 250e6
    assert nothing.memory_bytes < 20e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_that_was_freed_but_kept_counts_again():
    keep_freed_memory()
    np.ones(20_000_000)
    with measured() as cost:
        np.ones(20_000_000)
    assert cost.memory_bytes is not None
    assert 150e6 < cost.memory_bytes < 250e6


def test_a_cost_is_known_when_what_ran_has_failed():
    with pytest.raises(ValueError, match="stop"), measured() as cost:
        raise ValueError("stop")
    assert cost.seconds > 0
