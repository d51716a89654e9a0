"""Dropout by torch, or on a CPU by a faster generator."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def dropout(inputs: Tensor, probability: float) -> Tensor:
    """Set entries to 0 with a probability, and scale the others so that the mean stays.

    On a CPU torch draws one number an entry, on one core. There, four entries share the bits of one number, the
    probability is rounded to a multiple of 2^-16, and torch's generator gives but the seed of numpy's fastest one.
    """
    if probability == 0 or inputs.device.type != "cpu":
        return functional.dropout(inputs, probability, training=probability > 0)
    random = np.random.Generator(np.random.SFC64(int(torch.empty((), dtype=torch.int64).random_())))
    count = (inputs.numel() + 3) // 4
    words = torch.from_numpy(random.integers(-(2**63), 2**63 - 1, count, dtype=np.int64, endpoint=True))
    threshold = round(probability * 2**16)
    factors = torch.empty(inputs.shape, dtype=inputs.dtype)  # written in place: bits would be copied once more
    torch.ge(words.view(torch.int16)[: inputs.numel()].view(inputs.shape), threshold - 2**15, out=factors)
    return inputs * factors.mul_(2**16 / (2**16 - threshold))
