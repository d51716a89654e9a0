"""Layers on states that a unit's factor multiplies: some leave the factor alone, some carry it on.

Kalogeropoulos et al., Scale Equivariant Graph Metanetworks (NeurIPS 2024): what a positive factor leaves alone is the
direction of a state; what carries it on is a linear map without bias, times a gate that the factor leaves alone. For -1
the paper symmetrises a network over both signs; here its first layer alone is, which makes it even. Units without a
free factor keep the size of a state, bounded, and give its logarithm too, so nothing of theirs is lost.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST = 1e-18  # norms below are 0, whose square is none in float32
MOST = 1e9  # of a state, or products of states would leave float32


class Invariant(nn.Module):
    """Maps states to what their units' factors leave alone; of two parts, one may be shared by many states."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, width, bias=False)
        self.norm = nn.Parameter(torch.randn(width) / width**0.5)
        self.output = nn.Linear(width, outputs)

    def forward(self, state: Tensor, code: Tensor, factor: Tensor, sign: Tensor) -> Tensor:
        """Map states (..., width) to (..., output); the arguments are those of `hidden`."""
        return self.output(self.hidden(state, code, factor, sign))

    def hidden(
        self,
        state: Tensor,
        code: Tensor,
        factor: Tensor,
        sign: Tensor,
        *,
        shared: Tensor | None = None,
        shared_square: Tensor | float = 0.0,
    ) -> Tensor:
        """Return the hidden layer (..., width) of states (..., width).

        Args:
            state: multiplied by the factor.
            code: not multiplied (..., width).
            factor: 1 where the factor is free, else 0, (..., 1).
            sign: -1 where the sign is free, else 1, (..., 1).
            shared: added to the mapped state; multiplied by the factor too.
            shared_square: the mean square of what `shared` was mapped from (..., 1).
        """
        mapped = self.state(state)
        mapped = mapped if shared is None else mapped + shared
        # Directions of numbers of about 1, for an even function of small numbers is next to constant.
        square = state.square().mean(dim=-1, keepdim=True) + shared_square
        size = square.clamp_min(LEAST**2).sqrt()
        present = size > LEAST
        size = torch.where(present, size, 1.0)
        direction = mapped * (present / torch.where(factor > 0, size, (1 + square).sqrt()))
        known = code + size.log() * (1 - factor) * self.norm
        return functional.silu(direction + known) + functional.silu(sign * direction + known)


class Equivariant(nn.Module):
    """Maps states to states that the same factor multiplies; `around` is what a gate of 0 multiplies them with."""

    def __init__(self, inputs: int, width: int, *, around: float = 1.0) -> None:
        super().__init__()
        self.around = around
        self.linear = nn.Linear(inputs, width, bias=False)
        self.gate = Invariant(width, width)

    def forward(self, state: Tensor, code: Tensor, factor: Tensor, sign: Tensor) -> Tensor:
        """Map states (..., inputs) to (..., width); the other arguments are those of `Invariant`."""
        mapped = self.linear(state)
        return mapped * (self.around + self.gate(mapped, code, factor, sign))
