"""Triton kernels for attention over sets of at most 64 tokens, forward and backward.

A program works for one head of one row and holds all of its weights at once, so the backward pass computes them again
from queries and keys and nothing but the output is kept. The width of a head is cut into pieces of BLOCK: registers
and shared memory hold few of them, and several programs share a processor. Each matrix (row, token, head, width) lies
inside the product that made it: a token begins `PITCH` elements behind the one before.
"""

import triton
import triton.language as tl
from triton.language import constexpr


@triton.jit
def _piece(first, tokens, start, N: constexpr, PITCH: constexpr, WIDTH: constexpr, BLOCK: constexpr):
    """Return where a piece of a head's width lies for each token, and which of its entries exist, (token, BLOCK)."""
    columns = start + tl.arange(0, BLOCK)
    return first + tokens[:, None] * PITCH + columns[None, :], (tokens < N)[:, None] & (columns < WIDTH)[None, :]


@triton.jit
def _read(first, tokens, start, N: constexpr, PITCH: constexpr, WIDTH: constexpr, BLOCK: constexpr):
    addresses, inside = _piece(first, tokens, start, N, PITCH, WIDTH, BLOCK)
    return tl.load(addresses, mask=inside, other=0.0)


@triton.jit
def _write(first, values, tokens, start, N: constexpr, PITCH: constexpr, WIDTH: constexpr, BLOCK: constexpr):
    addresses, inside = _piece(first, tokens, start, N, PITCH, WIDTH, BLOCK)
    tl.store(addresses, values, mask=inside)


@triton.jit
def _softmax(scores, key, N_KEYS: constexpr):
    """Return the weights of the keys, float32 (query, key), from scaled scores; none goes to padding."""
    scores = tl.where((key < N_KEYS)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    return weights / tl.sum(weights, axis=1)[:, None]


@triton.jit
def _kept(seed, program, probability, QUERIES: constexpr, KEYS: constexpr):
    """Return the factors of dropout, float32 (query, key); four neighbours share a call of Philox."""
    query, quarter = tl.arange(0, QUERIES), tl.arange(0, KEYS // 4)
    call = (program * QUERIES + query[:, None]) * (KEYS // 4) + quarter[None, :]
    first, second, third, fourth = tl.randint4x(tl.load(seed), call)
    words = tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (QUERIES, KEYS))
    drawn = tl.uint_to_uniform_float(words)
    return tl.where(drawn >= probability, 1.0 / (1.0 - probability), 0.0)


@triton.jit
def attention(
    queries, keys, values, mixed, seed, probability,
    N_QUERIES: constexpr, N_KEYS: constexpr, HEADS: constexpr, WIDTH: constexpr,
    QUERY_PITCH: constexpr, KEY_PITCH: constexpr,
    DROP: constexpr, QUERIES: constexpr, KEYS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """mixed (query, width) = drop(softmax(queries keys^T / sqrt(width))) values, for each head of each row.

    Reads (queries + 2 keys) x width elements and writes queries x width; 4 queries x keys x width operations.
    """
    program = tl.program_id(0)
    row, head = (program // HEADS).to(tl.int64), program % HEADS
    query, key = tl.arange(0, QUERIES), tl.arange(0, KEYS)
    queries += row * (N_QUERIES * QUERY_PITCH) + head * WIDTH
    keys += row * (N_KEYS * KEY_PITCH) + head * WIDTH
    values += row * (N_KEYS * KEY_PITCH) + head * WIDTH
    mixed += (row * N_QUERIES * HEADS + head) * WIDTH
    scores = tl.zeros((QUERIES, KEYS), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        left = _read(queries, query, start, N_QUERIES, QUERY_PITCH, WIDTH, BLOCK)
        right = _read(keys, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        scores = tl.dot(left, tl.trans(right), scores, input_precision="ieee")
    weights = _softmax(scores * (WIDTH**-0.5), key, N_KEYS)
    if DROP:
        weights *= _kept(seed, program, probability, QUERIES, KEYS)
    weights = weights.to(values.dtype.element_ty)
    for start in range(0, WIDTH, BLOCK):
        value = _read(values, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        product = tl.dot(weights, value, input_precision="ieee")
        _write(mixed, product, query, start, N_QUERIES, HEADS * WIDTH, WIDTH, BLOCK)


@triton.jit
def attention_gradient(
    queries, keys, values, slopes, to_queries, to_keys, to_values, seed, probability,
    N_QUERIES: constexpr, N_KEYS: constexpr, HEADS: constexpr, WIDTH: constexpr,
    QUERY_PITCH: constexpr, KEY_PITCH: constexpr,
    DROP: constexpr, QUERIES: constexpr, KEYS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """The gradients of queries, keys and values from `slopes`, that of `mixed`; laid out as what they belong to.

    Reads (2 queries + 2 keys) x width elements, all but the values twice (from a cache the second time), and writes
    (queries + 2 keys) x width; 10 queries x keys x width operations.
    """
    program = tl.program_id(0)
    row, head = (program // HEADS).to(tl.int64), program % HEADS
    query, key = tl.arange(0, QUERIES), tl.arange(0, KEYS)
    at_query = row * (N_QUERIES * QUERY_PITCH) + head * WIDTH
    at_key = row * (N_KEYS * KEY_PITCH) + head * WIDTH
    queries, to_queries = queries + at_query, to_queries + at_query
    keys, to_keys = keys + at_key, to_keys + at_key
    values, to_values = values + at_key, to_values + at_key
    slopes += (row * N_QUERIES * HEADS + head) * WIDTH
    scores = tl.zeros((QUERIES, KEYS), tl.float32)
    slope_of_weights = tl.zeros((QUERIES, KEYS), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        left = _read(queries, query, start, N_QUERIES, QUERY_PITCH, WIDTH, BLOCK)
        right = _read(keys, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        scores = tl.dot(left, tl.trans(right), scores, input_precision="ieee")
        slope = _read(slopes, query, start, N_QUERIES, HEADS * WIDTH, WIDTH, BLOCK)
        value = _read(values, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        slope_of_weights = tl.dot(slope, tl.trans(value), slope_of_weights, input_precision="ieee")
    weights = _softmax(scores * (WIDTH**-0.5), key, N_KEYS)
    dropped = weights
    if DROP:
        factors = _kept(seed, program, probability, QUERIES, KEYS)
        dropped = weights * factors
        slope_of_weights *= factors
    mean = tl.sum(slope_of_weights * weights, axis=1)
    slope_of_scores = weights * (slope_of_weights - mean[:, None]) * (WIDTH**-0.5)
    slope_of_scores = slope_of_scores.to(values.dtype.element_ty)
    turned_slope, turned_weights = tl.trans(slope_of_scores), tl.trans(dropped.to(values.dtype.element_ty))
    for start in range(0, WIDTH, BLOCK):
        slope = _read(slopes, query, start, N_QUERIES, HEADS * WIDTH, WIDTH, BLOCK)
        to_value = tl.dot(turned_weights, slope, input_precision="ieee")
        _write(to_values, to_value, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        left = _read(queries, query, start, N_QUERIES, QUERY_PITCH, WIDTH, BLOCK)
        to_key = tl.dot(turned_slope, left, input_precision="ieee")
        _write(to_keys, to_key, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        right = _read(keys, key, start, N_KEYS, KEY_PITCH, WIDTH, BLOCK)
        to_query = tl.dot(slope_of_scores, right, input_precision="ieee")
        _write(to_queries, to_query, query, start, N_QUERIES, QUERY_PITCH, WIDTH, BLOCK)
