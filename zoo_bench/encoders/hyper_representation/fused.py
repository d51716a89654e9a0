"""Fused bias, dropout, residual sum, norm and ReLU of a transformer block, for GPUs that train in 16 bits.

A block's time beside its products is that of moving tokens through memory. Here the bias of a product, its dropout,
the residual sum and the norm after it are one pass over the tokens, and so are bias, ReLU and dropout.
"""

from typing import Any

import torch
from torch import Tensor

from zoo_bench.encoders.hyper_representation.kernel_support import draw_seed

PROGRAMS = 8  # of a backward pass, a processor of the GPU
CHANCES = 2**16  # of dropout: its probability is rounded to a multiple of 1 / CHANCES


def add_and_normalize(
    tokens: Tensor, product: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, *, dropout: float
) -> tuple[Tensor, Tensor]:
    """Return tokens + dropout(product + bias), and that normalised: weight * (sum - mean) / deviation + shift.

    Args:
        tokens: (row, token, width).
        product: what is added to them, of the same shape, without its bias (width,).
        bias: (width,).
        weight: of the norm, (width,).
        shift: its bias, (width,).
        dropout: the probability that an entry of product + bias becomes 0; the others are scaled by 1 / (1 - dropout).
    """
    seed = draw_seed(dropout, product.device)
    total, normed, _, _ = _add_and_normalize(tokens, product, bias, weight, shift, seed, dropout)
    return total, normed


def activate(product: Tensor, bias: Tensor, *, dropout: float) -> Tensor:
    """Return dropout(relu(product + bias)) of a product (row, token, width) and its bias (width,)."""
    return _activate(product, bias, draw_seed(dropout, product.device), dropout)


@torch.library.custom_op(
    "zoo_bench::add_and_normalize",
    mutates_args=(),
    schema="(Tensor tokens, Tensor product, Tensor bias, Tensor weight, Tensor shift, Tensor? seed, float dropout)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _add_and_normalize(
    tokens: Tensor,
    product: Tensor,
    bias: Tensor,
    weight: Tensor,
    shift: Tensor,
    seed: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do what `add_and_normalize` does; also return what the gradient needs, mean and 1 / deviation of each row."""
    from zoo_bench.encoders.hyper_representation import fused_kernels

    tokens, product = tokens.contiguous(), product.contiguous()
    results = _empty_added(tokens, product)
    rows, width = product.numel() // product.shape[-1], product.shape[-1]
    if rows > 0:
        with torch.cuda.device_of(product):
            fused_kernels.add_and_normalize[(rows,)](
                tokens,
                product,
                bias,
                weight,
                shift,
                *results,
                seed,
                *_chances(dropout),
                DROP=dropout > 0,
                **_options(width),
            )
    return results


@torch.library.custom_op(
    "zoo_bench::add_and_normalize_gradient",
    mutates_args=(),
    schema="(Tensor slopes_of_total, Tensor slopes_of_normed, Tensor total, Tensor means, Tensor inverses,"
    " Tensor weight, Tensor? seed, float dropout) -> (Tensor, Tensor, Tensor)",
)
def _add_and_normalize_gradient(
    slopes_of_total: Tensor,
    slopes_of_normed: Tensor,
    total: Tensor,
    means: Tensor,
    inverses: Tensor,
    weight: Tensor,
    seed: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of tokens and product, and those of weight, shift and bias, float32 (3, width)."""
    from zoo_bench.encoders.hyper_representation import fused_kernels

    operands = slopes_of_total.contiguous(), slopes_of_normed.contiguous(), total, means, inverses, weight
    to_tokens, to_product = torch.empty_like(total), torch.empty_like(operands[1])
    rows, width = len(means), total.shape[-1]
    programs = _programs(rows, total.device)
    sums = total.new_zeros(programs, 3, width, dtype=torch.float32)
    if rows > 0:
        with torch.cuda.device_of(total):
            fused_kernels.add_and_normalize_gradient[(programs,)](
                *operands,
                to_tokens,
                to_product,
                sums,
                seed,
                *_chances(dropout),
                rows,
                DROP=dropout > 0,
                **_options(width),
            )
    return to_tokens, to_product, sums.sum(0)


@torch.library.custom_op(
    "zoo_bench::activate",
    mutates_args=(),
    schema="(Tensor product, Tensor bias, Tensor? seed, float dropout) -> Tensor",
)
def _activate(product: Tensor, bias: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    """Do what `activate` does."""
    from zoo_bench.encoders.hyper_representation import fused_kernels

    product = product.contiguous()
    activated = torch.empty_like(product)
    rows, width = product.numel() // product.shape[-1], product.shape[-1]
    if rows > 0:
        with torch.cuda.device_of(product):
            fused_kernels.activate[(rows,)](
                product, bias, activated, seed, *_chances(dropout), DROP=dropout > 0, **_options(width)
            )
    return activated


@torch.library.custom_op(
    "zoo_bench::activate_gradient",
    mutates_args=(),
    schema="(Tensor slopes, Tensor activated, float dropout) -> (Tensor, Tensor)",
)
def _activate_gradient(slopes: Tensor, activated: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """Return the gradient of the product, and that of the bias, float32 (width,)."""
    from zoo_bench.encoders.hyper_representation import fused_kernels

    slopes = slopes.contiguous()
    to_product = torch.empty_like(slopes)
    rows, width = slopes.numel() // slopes.shape[-1], slopes.shape[-1]
    programs = _programs(rows, slopes.device)
    sums = slopes.new_zeros(programs, width, dtype=torch.float32)
    if rows > 0:
        with torch.cuda.device_of(slopes):
            fused_kernels.activate_gradient[(programs,)](
                slopes, activated, to_product, sums, _chances(dropout)[1], rows, **_options(width)
            )
    return to_product, sums.sum(0)


def _chances(dropout: float) -> tuple[int, float]:
    """Return below which of CHANCES numbers an entry is dropped, and what others are scaled by."""
    threshold = round(dropout * CHANCES)
    return threshold, CHANCES / (CHANCES - threshold)


def _options(width: int) -> dict[str, int]:
    """Return what all kernels are compiled for."""
    block = max(16, 1 << (width - 1).bit_length())
    return {"WIDTH": width, "BLOCK": block, "num_warps": max(1, min(8, block // 512))}


def _programs(rows: int, device: torch.device) -> int:
    """Return how many programs share the rows of a backward pass."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return max(1, min(rows, PROGRAMS * processors))


def _empty_added(tokens: Tensor, product: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = product.numel() // product.shape[-1]
    means, inverses = (product.new_empty(rows, dtype=torch.float32) for _ in range(2))
    return _like(tokens), _like(product), means, inverses


def _like(operand: Tensor) -> Tensor:
    return torch.empty_like(operand, memory_format=torch.contiguous_format)


def _empty_gradients(slopes_of_total: Tensor, slopes_of_normed: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(total), _like(slopes_of_normed), total.new_empty(3, total.shape[-1], dtype=torch.float32)


_add_and_normalize.register_fake(lambda tokens, product, *rest: _empty_added(tokens, product))
_add_and_normalize_gradient.register_fake(lambda *operands: _empty_gradients(*operands[:3]))
_activate.register_fake(lambda product, *rest: _like(product))
_activate_gradient.register_fake(
    lambda slopes, *rest: (_like(slopes), slopes.new_empty(slopes.shape[-1], dtype=torch.float32))
)


def _keep_added(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, _, weight, _, seed, ctx.dropout = inputs
    total, _, means, inverses = output
    ctx.save_for_backward(total, means, inverses, weight, seed)
    ctx.mark_non_differentiable(means, inverses)


def _added_backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
    total, means, inverses, weight, seed = ctx.saved_tensors
    operands = slopes[0], slopes[1], total, means, inverses, weight, seed, ctx.dropout
    to_tokens, to_product, sums = _add_and_normalize_gradient(*operands)
    to_weight, to_shift, to_bias = sums.unbind(0)
    return to_tokens, to_product, to_bias, to_weight, to_shift, None, None


def _keep_activated(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.dropout = inputs[3]
    ctx.save_for_backward(output)


def _activated_backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    (activated,) = ctx.saved_tensors
    to_product, to_bias = _activate_gradient(slopes, activated, ctx.dropout)
    return to_product, to_bias, None, None


_add_and_normalize.register_autograd(_added_backward, setup_context=_keep_added)
_activate.register_autograd(_activated_backward, setup_context=_keep_activated)
