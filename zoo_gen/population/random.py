"""Random numbers from counters: every draw is a pure function of (model seed, purpose, step, position).

No generator is advanced and nothing depends on what was drawn before, so a model draws the same numbers alone, in any
population, in any order of shards and after any interruption. The generator is SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), whose n-th output needs no other.
"""

from enum import IntEnum

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Purpose(IntEnum):
    """What numbers are drawn for; each purpose has streams of its own."""

    WEIGHTS = 1
    DATA_ORDER = 2


def _mix(state: np.ndarray) -> np.ndarray:
    """Return SplitMix64's output for each state (any shape, uint64)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def random_bits(seeds: np.ndarray, purpose: Purpose, step: int, count: int) -> np.ndarray:
    """Return `count` random 64-bit words for each seed, uint64 (model, count).

    The key of a stream is mix(mix(seed + g) + purpose * g) + step * g) mixed once more, g the golden-ratio increment;
    the words are then SplitMix64's outputs from that key on.
    """
    key = _mix(seeds.astype(np.uint64) + _GOLDEN)
    key = _mix(key + np.array([purpose], np.uint64) * _GOLDEN)
    key = _mix(key + np.array([step], np.uint64) * _GOLDEN)
    return _mix(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)


def uniforms(seeds: np.ndarray, purpose: Purpose, step: int, count: int) -> np.ndarray:
    """Return uniform numbers inside (0, 1), never 0 or 1, float64 (model, count)."""
    return ((random_bits(seeds, purpose, step, count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def data_order(seeds: np.ndarray, epoch: int, n_images: int) -> np.ndarray:
    """Return the order in which each model sees the training images in an epoch (from 1 on), int64 (model, image).

    Each image gets a random word whose lowest bits are replaced by the image's number; sorted, they are a random
    permutation. Sorting whole words is several times faster than an argsort.
    """
    width = np.uint64(max(n_images - 1, 1).bit_length())
    words = random_bits(seeds, Purpose.DATA_ORDER, epoch, n_images)
    words = (words >> width << width) | np.arange(n_images, dtype=np.uint64)
    words.sort(axis=1)
    return (words & ((np.uint64(1) << width) - np.uint64(1))).astype(np.int64)
