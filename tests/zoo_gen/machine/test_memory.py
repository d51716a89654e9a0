"""Whether a freed block stays in memory is asked of the kernel page by page, so that no neighbour has a say in it."""

import ctypes
import mmap
import platform

import pytest

from zoo_gen.machine.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

SIZE = 2**26  # bytes; glibc's own rule gives blocks of more than half of it to the system at once
PAGES = SIZE // mmap.PAGESIZE


@pytest.fixture
def libc():
    found = ctypes.CDLL(None, use_errno=True)
    found.malloc.restype, found.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    found.free.argtypes = [ctypes.c_void_p]
    found.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    return found


def use_a_block(libc) -> int:
    """Take a block, write to all of it, free it, and return where it was."""
    address = libc.malloc(SIZE)
    ctypes.memset(address, 1, SIZE)
    libc.free(address)
    return address


def pages_in_memory(libc, address: int) -> int:
    """Return how many pages of a block are in memory; each is asked alone, as a range with a hole has no answer."""
    first = -(-address // mmap.PAGESIZE)  # the first one that is the block's alone
    answer = ctypes.create_string_buffer(1)
    count = 0
    for page in range(first, first + PAGES - 2):
        count += libc.mincore(page * mmap.PAGESIZE, 1, answer) == 0 and answer.raw[0] & 1
    return count


def test_a_freed_block_stays_and_is_taken_again(libc):
    with freed_memory_kept():
        address = use_a_block(libc)
        assert pages_in_memory(libc, address) > 0.9 * PAGES
        assert use_a_block(libc) == address


def test_what_was_kept_is_given_back_at_the_end_and_nothing_lasts(libc):
    with freed_memory_kept():
        address = use_a_block(libc)
    assert pages_in_memory(libc, address) < 0.1 * PAGES
    assert pages_in_memory(libc, use_a_block(libc)) < 0.1 * PAGES


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_of_allocation_stands(libc, monkeypatch, name):
    monkeypatch.setenv(name, "65536")
    with freed_memory_kept():
        assert pages_in_memory(libc, use_a_block(libc)) < 0.1 * PAGES
