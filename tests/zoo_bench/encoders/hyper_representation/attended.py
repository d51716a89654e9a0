"""Attention written out, for the tests of our kernels."""

import torch
from torch import Tensor

from zoo_bench.encoders.hyper_representation import attention


def operands(rows, n_queries, tokens, heads, width, *, device="cpu", dtype=torch.float32):
    """Return random operands of `attend`; no queries of their own where every token asks (0)."""
    generator = torch.Generator().manual_seed(rows + tokens)

    def random(count, parts):
        values = torch.randn(rows, count, parts * heads * width, generator=generator)
        return values.to(device, dtype).requires_grad_()

    return (random(tokens, 2), random(n_queries, 1)) if n_queries else (random(tokens, 3), None)


def formula(projected, queries, heads, factors=1.0):
    """Attention from its definition; `factors` of dropout (row, head, query, key)."""

    def cut(product: Tensor, parts: int) -> list[Tensor]:
        return [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in product.chunk(parts, dim=2)]

    asking, keys, values = cut(projected, 3) if queries is None else [*cut(queries, 1), *cut(projected, 2)]
    weights = (asking @ keys.transpose(2, 3) / asking.shape[3] ** 0.5).softmax(dim=3)
    return ((weights * factors) @ values).transpose(1, 2).flatten(2)


def gradients(act, projected, queries, *, dtype=None):
    """Return what a function gives for operands, and the gradients of these for some gradient behind it."""
    leaves = [part for part in (projected, queries) if part is not None]
    leaves = [part.detach().to(dtype or part.dtype).requires_grad_() for part in leaves]
    actual = act(leaves[0], leaves[1] if queries is not None else None)
    slopes = torch.randn(actual.shape, generator=torch.Generator().manual_seed(9)).to(projected.device, projected.dtype)
    return actual.detach(), *torch.autograd.grad(actual, leaves, slopes.to(actual.dtype))


def dropout_factors(rows, n_queries, tokens, heads, width, *, seed, dropout, device="cpu", dtype=torch.float32):
    """Return the factors of dropout for a seed (row, head, query, key), from equal weights and values one-hot."""
    assert width >= tokens
    nothing = torch.zeros(rows, tokens, heads * width)
    values = torch.eye(tokens, width).repeat(rows, 1, heads)
    if n_queries:
        projected, queries = torch.cat([nothing, values], dim=2), torch.zeros(rows, n_queries, heads * width)
    else:
        projected, queries = torch.cat([nothing, nothing, values], dim=2), None
    queries = None if queries is None else queries.to(device, dtype)
    actual = attention.attended(projected.to(device, dtype), queries, seed, heads, dropout)
    return actual.unflatten(2, (heads, width)).transpose(1, 2)[..., :tokens].float() * tokens
