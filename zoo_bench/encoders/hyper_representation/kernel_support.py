"""Triton kernels: whether this GPU runs them, for which operands, and the seed of their dropout."""

from functools import cache

import torch
from torch import Tensor

from zoo_gen.machine.devices import lacks_for_gpu_kernels

_SEEDS = 2**31 - 1


@cache
def has_kernels() -> bool:
    """Return whether our kernels can run on the GPU here. To be called outside of what torch compiles."""
    return lacks_for_gpu_kernels("cuda") is None


def fits(operand: Tensor) -> bool:
    """Return whether the kernels take such an operand: 16 bits on a GPU. In float32 networks are only evaluated."""
    return operand.device.type == "cuda" and operand.dtype in (torch.bfloat16, torch.float16)


def draw_seed(dropout: float, device: torch.device) -> Tensor | None:
    """Draw what decides which entries are dropped, int64 (1,), from torch's generator; None if none are."""
    return torch.randint(_SEEDS, (1,), device=device) if dropout > 0 else None
