"""Attention over the tokens of small sets: our own kernels where a GPU trains in 16 bits, else torch's.

It takes the linear layers' products as they are and returns the heads side by side, so nothing is permuted or copied
before or behind it, and the gradient of a product is written once.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo_bench.encoders.hyper_representation import kernel_support
from zoo_bench.encoders.hyper_representation.dropout import dropout as drop

LARGEST_SET = 64  # tokens


def attend(
    projected: Tensor,
    *,
    heads: int,
    dropout: float,
    has_kernels: bool,
    queries: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Return attention of queries over the tokens of their row, (row, query, width), the heads side by side.

    Args:
        projected: queries, keys and values (row, token, 3 x width); without the queries where those are given.
        heads: their number; each takes an equal part of the width.
        dropout: the probability that a weight becomes 0; the others are scaled by 1 / (1 - dropout).
        has_kernels: whether our kernels may be used where they fit.
        queries: (row, query, width), where not every token asks.
        present: which tokens are there to be read, bool (row, token), at least one of each row; all, if not given.
    """
    if has_kernels and present is None and _fits(projected, queries):
        return attended(projected, queries, kernel_support.draw_seed(dropout, projected.device), heads, dropout)
    if queries is None:
        asking, keys, values = _heads(projected, 3, heads)
    else:
        (asking,), (keys, values) = _heads(queries, 1, heads), _heads(projected, 2, heads)
    if dropout > 0 and present is None and projected.device.type == "cpu":
        mixed = _attend_and_drop(asking, keys, values, dropout)
    else:
        mask = None if present is None else present[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(asking, keys, values, attn_mask=mask, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


def _attend_and_drop(queries: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    """Return what torch's attention does of (row, head, token, width), with a dropout that is faster on a CPU."""
    rows, heads, _, width = queries.shape
    asking, read, mixed = (part.reshape(rows * heads, -1, width) for part in (queries, keys, values))
    scores = torch.baddbmm(asking.new_empty(()), asking, read.transpose(1, 2), beta=0, alpha=width**-0.5)
    return drop(scores.softmax(dim=2), dropout).bmm(mixed).unflatten(0, (rows, heads))


def _heads(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Cut (row, token, parts x width) into parts of (row, head, token, width of a head)."""
    return tuple(part.unflatten(2, (heads, -1)).transpose(1, 2) for part in projected.chunk(parts, dim=2))


def _fits(projected: Tensor, queries: Tensor | None) -> bool:
    """Whether the kernels are for operands like these."""
    asking = projected if queries is None else queries
    return (
        kernel_support.fits(projected)
        and asking.dtype == projected.dtype
        and max(asking.shape[1], projected.shape[1]) <= LARGEST_SET
    )


@torch.library.custom_op(
    "zoo_bench::attended",
    mutates_args=(),
    schema="(Tensor projected, Tensor? queries, Tensor? seed, int heads, float dropout) -> Tensor",
)
def attended(projected: Tensor, queries: Tensor | None, seed: Tensor | None, heads: int, dropout: float) -> Tensor:
    """Do what `attend` does by our kernels; `seed`, int64 (1,), decides what is dropped, and is needed if any is."""
    from zoo_bench.encoders.hyper_representation import attention_kernels

    operands = _operands(projected, queries)
    mixed = _empty_mixed(projected, queries)
    if mixed.numel() > 0:
        with torch.cuda.device_of(projected):
            attention_kernels.attention[(len(mixed) * heads,)](
                *operands, mixed, seed, dropout, **_options(operands, heads, dropout)
            )
    return mixed


@torch.library.custom_op(
    "zoo_bench::attended_gradient",
    mutates_args=(),
    schema="(Tensor slopes, Tensor projected, Tensor? queries, Tensor? seed, int heads, float dropout)"
    " -> (Tensor, Tensor)",
)
def _attended_gradient(
    slopes: Tensor, projected: Tensor, queries: Tensor | None, seed: Tensor | None, heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `projected` and of `queries` (empty without them)."""
    from zoo_bench.encoders.hyper_representation import attention_kernels

    operands = _operands(projected, queries)
    to_projected, to_queries = _empty_gradients(projected, queries)
    results = _operands(to_projected, None if queries is None else to_queries)
    if slopes.numel() > 0:
        with torch.cuda.device_of(projected):
            attention_kernels.attention_gradient[(len(projected) * heads,)](
                *operands, slopes.contiguous(), *results, seed, dropout, **_options(operands, heads, dropout)
            )
    return to_projected, to_queries


def _operands(projected: Tensor, queries: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (row, token, width) as they lie in their products."""
    projected = projected.contiguous()
    if queries is None:
        asking, keys, values = projected.chunk(3, dim=2)
    else:
        asking, (keys, values) = queries.contiguous(), projected.chunk(2, dim=2)
    return asking, keys, values


def _options(operands: tuple[Tensor, Tensor, Tensor], heads: int, dropout: float) -> dict[str, int | bool]:
    """Return what the kernels are compiled for."""
    queries, keys, _ = operands
    width = keys.shape[2] // heads
    tiles = {"QUERIES": _tile(queries.shape[1]), "KEYS": _tile(keys.shape[1])}
    return {
        "N_QUERIES": queries.shape[1],
        "N_KEYS": keys.shape[1],
        "HEADS": heads,
        "WIDTH": width,
        "QUERY_PITCH": queries.stride(1),
        "KEY_PITCH": keys.stride(1),
        "DROP": dropout > 0,
        **tiles,
        "BLOCK": min(64, _tile(width)),
        "num_warps": 4 if max(tiles.values()) > 16 else 1,
        "num_stages": 2,  # few of the loads run ahead, so more programs fit into shared memory
    }


def _tile(count: int) -> int:
    """Return the power of 2 that holds a count, and that a matrix unit takes."""
    return max(16, 1 << (count - 1).bit_length())


def _empty_mixed(projected: Tensor, queries: Tensor | None) -> Tensor:
    if queries is not None:
        return torch.empty_like(queries, memory_format=torch.contiguous_format)
    rows, count, width = projected.shape
    return projected.new_empty(rows, count, width // 3)


def _empty_gradients(projected: Tensor, queries: Tensor | None) -> tuple[Tensor, Tensor]:
    to_queries = projected.new_empty(0) if queries is None else _empty_mixed(projected, queries)
    return torch.empty_like(projected, memory_format=torch.contiguous_format), to_queries


@attended.register_fake
def _(projected: Tensor, queries: Tensor | None, seed: Tensor | None, heads: int, dropout: float) -> Tensor:
    return _empty_mixed(projected, queries)


@_attended_gradient.register_fake
def _(
    slopes: Tensor, projected: Tensor, queries: Tensor | None, seed: Tensor | None, heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    return _empty_gradients(projected, queries)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    projected, queries, seed, ctx.heads, ctx.dropout = inputs
    ctx.save_for_backward(projected, queries, seed)


def _backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    projected, queries, seed = ctx.saved_tensors
    to_projected, to_queries = _attended_gradient(slopes, projected, queries, seed, ctx.heads, ctx.dropout)
    return to_projected, None if queries is None else to_queries, None, None, None


attended.register_autograd(_backward, setup_context=_keep)
