"""Attention inside the sets of a bucket: torch's, or on a CPU our own kernels, which know that the sets are small.

torch's attention computes one set and head after another, in loops too short for a CPU; ours puts the sets of a bucket
side by side into vector registers (tests/benchmarks/encoders_sne.py). Ours need llvmlite, and compute in float32.
"""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from zoo_gen.machine.devices import can_compile

LONGEST = 256  # elements of a set: what a kernel computes with leaves the cache after that, and torch's is as fast
LARGEST = 64  # numbers of a head: they are unrolled code


def in_lanes(elements: Tensor, dim: int) -> bool:
    """Return whether our kernels compute attention of elements (set, element, ...) with so many numbers a head."""
    return (
        elements.device.type == "cpu"
        and elements.dtype == torch.float32
        and elements.shape[1] <= LONGEST
        and dim <= LARGEST
        and can_compile()
    )


def attend(query: Tensor, shared: Tensor, mask: Tensor | None, *, scale: float) -> Tensor:
    """Return attention over elements that are both keys and values and the same for all heads.

    Args:
        query: (set, query, head, feature).
        shared: (set, element, feature).
        mask: bool (set, 1, 1, element), true where an element counts; None where all do.
        scale: of the scores.

    Returns:
        (set, query, head, feature).
    """
    heads = query.shape[2]
    if in_lanes(shared, shared.shape[2]):
        return _AttendToShared.apply(_with_rows(query), _with_rows(shared), mask, scale)
    keys = shared.unsqueeze(1).expand(-1, heads, -1, -1)
    found = functional.scaled_dot_product_attention(query.transpose(1, 2), keys, keys, attn_mask=mask, scale=scale)
    return found.transpose(1, 2)


def attend_to_itself(projected: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention of queries, keys and values that lie side by side.

    Args:
        projected: (set, element, 3, head, number).
        mask: bool (set, 1, 1, element), true where an element counts; None where all do.

    Returns:
        (set, element, head, number).
    """
    dim = projected.shape[-1]
    if in_lanes(projected, dim):
        return _AttendToItself.apply(_with_rows(projected), mask)
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


class _AttendToItself(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = projected.unbind(dim=2)
        found, statistics = _forward(query, key, value, mask, scale=projected.shape[-1] ** -0.5)
        ctx.save_for_backward(projected, found, mask, statistics)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        projected, found, mask, statistics = ctx.saved_tensors
        to_projected = projected.new_empty(projected.shape)
        scale = projected.shape[-1] ** -0.5
        _backward(projected.unbind(dim=2), found, gradient, to_projected.unbind(dim=2), mask, statistics, scale=scale)
        return to_projected, None


class _AttendToShared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, shared: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        keys = shared.unsqueeze(2).expand(-1, -1, query.shape[2], -1)
        found, statistics = _forward(query, keys, None, mask, scale=scale)
        ctx.save_for_backward(query, shared, found, mask, statistics)
        ctx.scale = scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, shared, found, mask, statistics = ctx.saved_tensors
        keys = shared.unsqueeze(2).expand(-1, -1, query.shape[2], -1)
        to_query = query.new_empty(query.shape)
        to_keys = keys.new_empty(keys.shape) if ctx.needs_input_grad[1] else None
        _backward((query, keys, None), found, gradient, (to_query, to_keys, None), mask, statistics, scale=ctx.scale)
        return to_query, None if to_keys is None else to_keys.sum(dim=2), None, None


def _forward(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Return what is found (set, query, head, number), and each query's highest score and sum."""
    from zoo_bench.encoders.sne import attention_code as code
    from zoo_bench.encoders.sne import attention_kernels as kernels

    shape = kernels.Shape(query.shape[-1], scale, is_shared=value is None, is_masked=mask is not None)
    found = query.new_empty(query.shape)
    pairs = -(-len(query) // code.lanes()) * query.shape[2]
    statistics = query.new_empty(pairs, code.padded(query.shape[1]), 2, code.lanes())
    tensors = (query, key, value, found, *_scores_of(mask, query.shape[2]))
    _run(kernels.forward(shape), tensors, statistics, found, room=kernels.forward_room(shape.dim))
    return found, statistics


def _backward(
    inputs: Sequence[Tensor | None],
    found: Tensor,
    gradient: Tensor,
    to_inputs: Sequence[Tensor | None],
    mask: Tensor | None,
    statistics: Tensor,
    *,
    scale: float,
) -> None:
    """Write the gradients of inputs: queries, keys, and values where they are not the keys."""
    from zoo_bench.encoders.sne import attention_kernels as kernels

    shape = kernels.Shape(found.shape[3], scale, is_shared=inputs[2] is None, is_masked=mask is not None)
    tensors = (*inputs, found, _with_rows(gradient), *to_inputs, *_scores_of(mask, found.shape[2]))
    kernel = kernels.backward(shape, back=to_inputs[1] is not None)
    _run(kernel, tensors, statistics, found, room=kernels.backward_room(shape.dim))


def _with_rows(tensor: Tensor) -> Tensor:
    """Return a tensor whose last numbers are neighbours, as kernels read them."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _scores_of(mask: Tensor | None, heads: int) -> tuple[Tensor, ...]:
    """Return what is added to the scores of keys (set, key, head, 1) if there is a mask (set, 1, 1, key)."""
    if mask is None:
        return ()
    from zoo_bench.encoders.sne.attention_code import NEVER

    return (torch.where(mask, 0.0, NEVER).transpose(1, 3).expand(-1, -1, heads, -1),)


def _run(
    kernel: Callable[..., None],
    tensors: Sequence[Tensor | None],
    statistics: Tensor,
    found: Tensor,
    *,
    room: dict[str, list[int]],
) -> None:
    """Run a kernel over all pairs of a group of sets and a head, on as many threads as torch uses.

    Args:
        kernel: of `attention_kernels`.
        tensors: (set, element, head, number), as it takes them; keys second.
        statistics: (pair, query, 2, lane).
        found: (set, query, head, number).
        room: what each thread needs: vectors a query and vectors a key.
    """
    from zoo_bench.encoders.sne import attention_code as code

    sets, n_queries, heads, _ = found.shape
    n_keys = next(each.shape[1] for each in tensors[1:] if each is not None)
    pairs = len(statistics)
    threads = min(torch.get_num_threads(), pairs)
    vectors = code.padded(n_queries) * sum(room["queries"]) + code.padded(n_keys) * sum(room["keys"])
    rooms = statistics.new_empty(threads, vectors, code.lanes())
    strides = [stride for each in tensors for stride in ((0, 0, 0) if each is None else each.stride()[:3])]
    pointers = [0 if each is None else each.data_ptr() for each in tensors]
    bounds = [pairs * thread // threads for thread in range(threads + 1)]

    def part(thread: int) -> None:
        first, last = bounds[thread : thread + 2]
        numbers = (ctypes.c_int64 * (code.COUNTS + len(strides)))(n_queries, n_keys, sets, heads, first, *strides)
        kernel(*pointers, statistics.data_ptr(), rooms[thread].data_ptr(), ctypes.addressof(numbers), last - first)

    if threads == 1:
        part(0)
    else:
        list(_pool(threads).map(part, range(threads)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
