"""Triton kernels: whether this GPU runs them, for which operands, and the seed of their dropout."""

import importlib.util
from functools import cache

import torch
from torch import Tensor

_SEEDS = 2**31 - 1


@cache
def has_kernels() -> bool:
    """Whether our kernels can run on the GPU here: Triton is installed, and it has the matrix units asked for.

    To be asked outside of what is compiled.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability() >= (8, 0)


def fits(operand: Tensor) -> bool:
    """Whether the kernels are for such an operand; float32, in which networks are only evaluated, is left alone."""
    return operand.device.type == "cuda" and operand.dtype in (torch.bfloat16, torch.float16)


def draw_seed(dropout: float, device: torch.device) -> Tensor | None:
    """Draw what decides which entries are dropped, int64 (1,), from torch's generator; None if none are."""
    return torch.randint(_SEEDS, (1,), device=device) if dropout > 0 else None
