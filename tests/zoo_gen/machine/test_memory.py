import platform
import resource
from pathlib import Path

import pytest
import torch

from zoo_gen.machine.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

BLOCK = 2**24  # numbers of 4 bytes


def faults_of_blocks() -> int:
    """Take and free a block five times, and return for how many pages the system had to be asked."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(BLOCK)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_blocks_are_taken_again_without_asking_the_system():
    outside = faults_of_blocks()
    with freed_memory_kept():
        torch.ones(6 * BLOCK)  # room for each, should a small object of Python's come to lie between two
        inside = faults_of_blocks()
    assert inside < outside / 10
    assert faults_of_blocks() > outside / 2  # nothing lasts


def test_what_was_kept_is_given_back_at_the_end():
    with freed_memory_kept():
        torch.ones(BLOCK)
        kept = resident()
    assert resident() < kept - 3 * BLOCK


def test_what_the_environment_says_of_allocation_stands(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    outside = faults_of_blocks()
    with freed_memory_kept():
        torch.ones(6 * BLOCK)
        assert faults_of_blocks() > outside / 2
