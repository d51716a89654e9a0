"""Self-attention of the tokens of images, from its normalisation to dropout and the skip, forward and backward.

All of it is one kernel: products, scores and weights of an image never leave the processor, and the backward pass
computes them again from the tokens that it read. A head is a mask over the units of all heads, so that every matrix is
a whole tile: a few products more, and no cutting.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import VARYING, dot, operand, step_key
from zoo_gen.population.gpu.kernels.tokens import (
    normalized,
    normalized_gradient,
    scaled,
    share,
    store_vectors,
    tile,
    token_factor,
    turned,
    turned_weight,
    vector,
)


@triton.jit
def _projected(x, weight, bias, PRECISION: constexpr):
    """Return queries, keys or values (token, unit) as operands."""
    start = tl.zeros((x.shape[0], weight.shape[1]), tl.float32)
    return operand(dot(x, weight, start, PRECISION) + bias[None, :], PRECISION)


@triton.jit
def _softmax(query, key, token, STEPS: constexpr, UNITS: constexpr, PRECISION: constexpr):
    """Return the weights of the keys, float32 (query, key); none goes to padding."""
    BT: constexpr = query.shape[0]
    scores = dot(query, tl.trans(key), tl.zeros((BT, BT), tl.float32), PRECISION) * (UNITS**-0.5)
    scores = tl.where((token < STEPS)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    return weights / tl.sum(weights, axis=1)[:, None]


@triton.jit(do_not_specialize=VARYING)
def attention(
    source, out, weights, clock, rates, keys, n_images, capacity, n_parameters, first_place,
    NORM: constexpr, EPSILON: constexpr, QUERY: constexpr, KEY: constexpr, VALUE: constexpr, OUTPUT: constexpr,
    BIAS: constexpr, STEPS: constexpr, FEATURES: constexpr, HEADS: constexpr, UNITS: constexpr, PITCH: constexpr,
    SKIP: constexpr, DROP: constexpr, SPLITS: constexpr, PRECISION: constexpr,
    BT: constexpr, BC: constexpr, BI: constexpr,
):  # fmt: skip
    """out (token, feature) = dropout(attention(norm(source))), with a SKIP source + that.

    Reads and writes each token once; an image is 8 token x feature x unit and 4 token x token x unit operations, units
    being those of all heads.
    """
    model = tl.program_id(0).to(tl.int64)
    INNER: constexpr = HEADS * UNITS
    token, feature, unit = tl.arange(0, BT), tl.arange(0, BC), tl.arange(0, BI)
    parameters = weights + model * n_parameters
    to_query = turned_weight(parameters + QUERY, feature, unit, FEATURES, INNER, PRECISION)
    to_key = turned_weight(parameters + KEY, feature, unit, FEATURES, INNER, PRECISION)
    to_value = turned_weight(parameters + VALUE, feature, unit, FEATURES, INNER, PRECISION)
    to_output = turned_weight(parameters + OUTPUT, unit, feature, INNER, FEATURES, PRECISION)
    query_bias = vector(parameters + QUERY + INNER * FEATURES, unit, INNER, BIAS)
    key_bias = vector(parameters + KEY + INNER * FEATURES, unit, INNER, BIAS)
    value_bias = vector(parameters + VALUE + INNER * FEATURES, unit, INNER, BIAS)
    output_bias = vector(parameters + OUTPUT + INNER * FEATURES, feature, FEATURES, BIAS)
    rate = tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        begin = (model * capacity + image) * (STEPS * PITCH)
        places, inside = tile(source + begin, token, feature, STEPS, FEATURES, PITCH)
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, _ = normalized(x, inside, FEATURES, EPSILON)
        read = operand(scaled(hat, parameters, feature, NORM, FEATURES), PRECISION)
        query = _projected(read, to_query, query_bias, PRECISION)
        key = _projected(read, to_key, key_bias, PRECISION)
        value = _projected(read, to_value, value_bias, PRECISION)
        mixed = tl.zeros((BT, BI), tl.float32)
        for head in range(HEADS):
            of_head = (unit // UNITS == head)[None, :]
            shares = _softmax(tl.where(of_head, query, 0.0), key, token, STEPS, UNITS, PRECISION)
            mixed = dot(shares, tl.where(of_head, value, 0.0), mixed, PRECISION)
        y = dot(mixed, to_output, tl.zeros((BT, BC), tl.float32), PRECISION) + output_bias[None, :]
        if DROP:
            if rate > 0:
                y = y * token_factor(low, high, image, token, feature, first_place, rate, STEPS, FEATURES)
        if SKIP:
            y += x
        places, inside = tile(out + begin, token, feature, STEPS, FEATURES, PITCH)
        tl.store(places, y, mask=inside)


@triton.jit(do_not_specialize=VARYING)
def attention_gradient(
    source, slopes, into, weights, gradient, clock, rates, keys, n_images, capacity, n_models, n_parameters,
    first_place,
    NORM: constexpr, EPSILON: constexpr, QUERY: constexpr, KEY: constexpr, VALUE: constexpr, OUTPUT: constexpr,
    BIAS: constexpr, STEPS: constexpr, FEATURES: constexpr, HEADS: constexpr, UNITS: constexpr, PITCH: constexpr,
    SKIP: constexpr, DROP: constexpr, SPLITS: constexpr, PRECISION: constexpr,
    BT: constexpr, BC: constexpr, BI: constexpr,
):  # fmt: skip
    """The gradients of all weights of `attention`, and of the tokens that it read, from that of what it gave.

    Reads each token and its gradient once and writes one; an image is 22 token x feature x unit and 12 token x token x
    unit operations. One program takes all images of its share, so no sum depends on the order of programs.
    """
    model = tl.program_id(0).to(tl.int64)
    INNER: constexpr = HEADS * UNITS
    token, feature, unit = tl.arange(0, BT), tl.arange(0, BC), tl.arange(0, BI)
    parameters = weights + model * n_parameters
    to_query = turned_weight(parameters + QUERY, feature, unit, FEATURES, INNER, PRECISION)
    to_key = turned_weight(parameters + KEY, feature, unit, FEATURES, INNER, PRECISION)
    to_value = turned_weight(parameters + VALUE, feature, unit, FEATURES, INNER, PRECISION)
    to_output = turned_weight(parameters + OUTPUT, unit, feature, INNER, FEATURES, PRECISION)
    query_bias = vector(parameters + QUERY + INNER * FEATURES, unit, INNER, BIAS)
    key_bias = vector(parameters + KEY + INNER * FEATURES, unit, INNER, BIAS)
    value_bias = vector(parameters + VALUE + INNER * FEATURES, unit, INNER, BIAS)
    rate = tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    query_total, key_total = tl.zeros((BC, BI), tl.float32), tl.zeros((BC, BI), tl.float32)
    value_total, output_total = tl.zeros((BC, BI), tl.float32), tl.zeros((BI, BC), tl.float32)
    query_sum, key_sum = tl.zeros((BI,), tl.float32), tl.zeros((BI,), tl.float32)
    value_sum, output_sum = tl.zeros((BI,), tl.float32), tl.zeros((BC,), tl.float32)
    to_scale, to_shift = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    first, last = share(n_images, SPLITS)
    for image in range(first, last):
        begin = (model * capacity + image) * (STEPS * PITCH)
        places, inside = tile(source + begin, token, feature, STEPS, FEATURES, PITCH)
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, scale = normalized(x, inside, FEATURES, EPSILON)
        read = operand(scaled(hat, parameters, feature, NORM, FEATURES), PRECISION)
        query = _projected(read, to_query, query_bias, PRECISION)
        key = _projected(read, to_key, key_bias, PRECISION)
        value = _projected(read, to_value, value_bias, PRECISION)
        places, inside = tile(slopes + begin, token, feature, STEPS, FEATURES, PITCH)
        behind = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        slope = behind
        if DROP:
            if rate > 0:
                slope = slope * token_factor(low, high, image, token, feature, first_place, rate, STEPS, FEATURES)
        output_sum += tl.sum(slope, axis=0)
        slope = operand(slope, PRECISION)
        start = tl.zeros((BT, BI), tl.float32)
        mixed_slope = operand(dot(slope, tl.trans(to_output), start, PRECISION), PRECISION)
        mixed, query_slope, key_slope, value_slope = start, start, start, start
        for head in range(HEADS):
            of_head = (unit // UNITS == head)[None, :]
            own_query, own_slope = tl.where(of_head, query, 0.0), tl.where(of_head, mixed_slope, 0.0)
            shares = _softmax(own_query, key, token, STEPS, UNITS, PRECISION)
            mixed = dot(shares, tl.where(of_head, value, 0.0), mixed, PRECISION)
            value_slope = dot(tl.trans(operand(shares, PRECISION)), own_slope, value_slope, PRECISION)
            of_shares = dot(own_slope, tl.trans(value), tl.zeros((BT, BT), tl.float32), PRECISION)
            mean = tl.sum(of_shares * shares, axis=1)
            of_scores = operand(shares * (of_shares - mean[:, None]) * (UNITS**-0.5), PRECISION)
            query_slope = dot(of_scores, tl.where(of_head, key, 0.0), query_slope, PRECISION)
            key_slope = dot(tl.trans(of_scores), own_query, key_slope, PRECISION)
        output_total = dot(tl.trans(operand(mixed, PRECISION)), slope, output_total, PRECISION)
        query_sum += tl.sum(query_slope, axis=0)
        key_sum += tl.sum(key_slope, axis=0)
        value_sum += tl.sum(value_slope, axis=0)
        turned_read = tl.trans(read)
        query_total = dot(turned_read, query_slope, query_total, PRECISION)
        key_total = dot(turned_read, key_slope, key_total, PRECISION)
        value_total = dot(turned_read, value_slope, value_total, PRECISION)
        slope = dot(query_slope, tl.trans(to_query), tl.zeros((BT, BC), tl.float32), PRECISION)
        slope = dot(key_slope, tl.trans(to_key), slope, PRECISION)
        slope = dot(value_slope, tl.trans(to_value), slope, PRECISION)
        to_scale += tl.sum(slope * hat, axis=0)
        to_shift += tl.sum(slope, axis=0)
        slope = normalized_gradient(slope, hat, scale, inside, parameters, feature, NORM, FEATURES, EPSILON)
        if SKIP:
            slope += behind
        places, inside = tile(into + begin, token, feature, STEPS, FEATURES, PITCH)
        tl.store(places, slope, mask=inside)
    at = gradient + (tl.program_id(1) * n_models.to(tl.int64) + model) * n_parameters
    places, inside = turned(at + QUERY, feature, unit, FEATURES, INNER)
    tl.store(places, query_total, mask=inside)
    places, inside = turned(at + KEY, feature, unit, FEATURES, INNER)
    tl.store(places, key_total, mask=inside)
    places, inside = turned(at + VALUE, feature, unit, FEATURES, INNER)
    tl.store(places, value_total, mask=inside)
    places, inside = turned(at + OUTPUT, unit, feature, INNER, FEATURES)
    tl.store(places, output_total, mask=inside)
    if BIAS:
        tl.store(at + QUERY + INNER * FEATURES + unit, query_sum, mask=unit < INNER)
        tl.store(at + KEY + INNER * FEATURES + unit, key_sum, mask=unit < INNER)
        tl.store(at + VALUE + INNER * FEATURES + unit, value_sum, mask=unit < INNER)
        tl.store(at + OUTPUT + INNER * FEATURES + feature, output_sum, mask=feature < FEATURES)
    store_vectors(at + NORM, to_scale, to_shift, feature, FEATURES, NORM >= 0)
