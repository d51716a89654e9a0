import sys
import time

import numpy as np
import pytest

from zoo_bench.evaluation.costs import measured
from zoo_gen.machine.memory import freed_memory_kept

NUMBERS = 8_000_000
BLOCK = 8 * NUMBERS  # bytes


def test_seconds_are_those_that_pass(monkeypatch):
    moments = iter([100.0, 103.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    with measured() as cost:
        pass
    assert cost.seconds == 3.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_is_the_most_that_was_held_over_what_was_there():
    before = np.ones(NUMBERS)  # is there already
    with measured() as cost:
        for _ in range(3):
            np.ones(NUMBERS)  # given back each time
    with measured() as nothing:
        before.sum()
    assert cost.memory_bytes is not None
    assert nothing.memory_bytes is not None
    assert 0.9 * BLOCK < cost.memory_bytes < 2 * BLOCK  # one block, not three
    assert nothing.memory_bytes < BLOCK / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_that_was_freed_but_kept_counts_again():
    with freed_memory_kept():
        np.ones(NUMBERS)
        with measured() as cost:
            np.ones(NUMBERS)
    assert cost.memory_bytes is not None
    assert 0.9 * BLOCK < cost.memory_bytes < 2 * BLOCK


def test_a_cost_is_known_when_what_ran_has_failed():
    with pytest.raises(ValueError, match="stop"), measured() as cost:
        raise ValueError("stop")
    assert cost.seconds > 0
