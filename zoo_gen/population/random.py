"""Random numbers from counters: every draw is a pure function of (model seed, purpose, step, position).

No generator is advanced and nothing depends on what was drawn before, so a model draws the same numbers alone, in any
population, on any device, in any order of shards and after any interruption. The generator is SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose n-th output needs no other. Its words
are held as int64, whose sums and products wrap as those of unsigned words do.
"""

from enum import IntEnum

import torch
from torch import Tensor


class Purpose(IntEnum):
    """What numbers are drawn for; each purpose has streams of its own."""

    WEIGHTS = 1
    DATA_ORDER = 2
    DROPOUT = 3
    LABEL_NOISE = 4
    AUGMENTATION = 5


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


# Kernels that draw the same numbers take the constants of their words from here.
SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # the golden-ratio increment, two multipliers
DROPOUT_STEP = 0x9E3779B9  # the golden-ratio increment for words of 32 bits
DROPOUT_MIX = (0x7FEB352D, 0x846CA68B)  # the multipliers of such words
_GOLDEN, _FIRST, _SECOND = map(_signed, SPLITMIX)
_WORD = 2**32 - 1


def random_bits(seeds: Tensor, purpose: Purpose, step: int, count: int, *, start: int = 0) -> Tensor:
    """Return `count` random 64-bit words for each seed, from position `start` of its stream on, int64 (model, count).

    Args:
        seeds: int64 (model,).
        purpose: what for.
        step: the epoch or step.
        count: words a seed.
        start: the position of the first word.
    """
    return words_at(stream_keys(seeds, purpose, step), torch.arange(start, start + count, device=seeds.device))


def stream_keys(seeds: Tensor, purpose: Purpose, step: int) -> Tensor:
    """Return the key of each seed's stream, int64 (model,): mix(mix(mix(seed + g) + purpose * g) + step * g).

    g is the golden-ratio increment and mix SplitMix64's output function.
    """
    key = _mix(seeds + _GOLDEN)
    key = _mix(key + _signed(int(purpose) * _GOLDEN % 2**64))
    return _mix(key + _signed(step * _GOLDEN % 2**64))


def words_at(keys: Tensor, positions: Tensor) -> Tensor:
    """Return the words at positions of streams, SplitMix64's outputs from their keys (model,) on, int64 (model, count).

    Positions count from 0, and are (model, count) or, for all models, (count,).
    """
    return _mix(keys.unsqueeze(1) + (positions + 1) * _GOLDEN)


def uniforms(seeds: Tensor, purpose: Purpose, step: int, count: int) -> Tensor:
    """Return uniform numbers inside (0, 1), never 0 or 1, float64 (model, count)."""
    bits = _shifted(random_bits(seeds, purpose, step, count), 12)
    return bits.to(torch.float64).add_(0.5).mul_(2.0**-52)


def data_order(seeds: Tensor, epoch: int, n_images: int) -> Tensor:
    """Return the order in which each model sees the training images in an epoch (from 1 on), int64 (model, image).

    Each image gets a random word whose lowest bits are replaced by the image's number; sorted, they are a random
    permutation. Sorting whole words is several times faster than an argsort.
    """
    width = max(n_images - 1, 1).bit_length()
    words = _shifted(random_bits(seeds, Purpose.DATA_ORDER, epoch, n_images), 1)
    words = (words >> width << width) | torch.arange(n_images, device=seeds.device)
    if words.is_cuda:
        words = words.sort(dim=1).values
    else:
        words.numpy().sort(axis=1)  # in place, and several times faster than torch's sort on a CPU
    return words & ((1 << width) - 1)


def dropout_keys(seeds: Tensor) -> Tensor:
    """Return each model's key of dropout before the step is mixed in, int64 (model,)."""
    return _mix(_mix(seeds + _GOLDEN) + _signed(int(Purpose.DROPOUT) * _GOLDEN % 2**64))


def dropout_words(seeds: Tensor, step: int, *, start: int) -> tuple[Tensor, Tensor]:
    """Return the halves of each model's key of dropout in a step, 32 bits in int64 (model,): low and high.

    A pair's word begins as low + DROPOUT_STEP x the pair's number, counted from the pair of the value `start`.
    """
    key = _mix(dropout_keys(seeds) + _signed(step * _GOLDEN % 2**64))
    return ((key & _WORD) + start // 2 * DROPOUT_STEP) & _WORD, _shifted(key, 32)


def kept_by_dropout(seeds: Tensor, rates: Tensor, step: int, count: int, *, start: int) -> Tensor:
    """Return which hidden values survive dropout in a step, bool (model, count).

    The two halves of a step's key, as in `random_bits`, turn the number of a pair of values into a 32-bit word, by the
    multiplications and shifts of a published 32-bit mixer ("lowbias32", C. Wellons, 2018): on a GPU words of 64 bits
    cost several times as much. Each value of the pair has 16 bits, so a rate is kept to a multiple of 1/65536. Values
    are numbered through all dropout layers of a step; `start` is the number of the first one and must be even.
    """
    low, high = (half.unsqueeze(1) for half in dropout_words(seeds, step, start=start))
    pairs = torch.arange(-(-count // 2), device=seeds.device)
    words = (pairs * DROPOUT_STEP + low) & _WORD
    words = ((words ^ (words >> 16)) * DROPOUT_MIX[0]) & _WORD
    words = (((words ^ (words >> 15)) + high) * DROPOUT_MIX[1]) & _WORD
    words = words ^ (words >> 16)
    halves = torch.stack([words & 0xFFFF, words >> 16], dim=2).flatten(1)[:, :count]
    return halves >= (rates.double() * 65536 + 0.5).floor().unsqueeze(1)


def noisy_labels(seeds: Tensor, noise: Tensor, labels: Tensor, *, n_classes: int) -> Tensor:
    """Return each model's own labels, int64 (model, image): with probability `noise` (model,) another class's."""
    replaced = uniforms(seeds, Purpose.LABEL_NOISE, 0, len(labels)) < noise.unsqueeze(1)
    distance = 1 + (uniforms(seeds, Purpose.LABEL_NOISE, 1, len(labels)) * (n_classes - 1)).long()
    return torch.where(replaced, (labels + distance) % n_classes, labels)


def _mix(state: Tensor) -> Tensor:
    """Return SplitMix64's output for each state (any shape)."""
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shift right as if the words had no sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
