"""Two linear layers of every token with an activation between, from normalisation to dropout and the skip.

One kernel forward and one backward: what lies between the two layers never leaves the processor, and the backward pass
computes it again. Tokens of different images fill a tile together.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import (
    VARYING,
    activated,
    dot,
    keep_factor,
    operand,
    sloped,
    step_key,
)
from zoo_gen.population.gpu.kernels.tokens import (
    normalized,
    normalized_gradient,
    scaled,
    share,
    store_vectors,
    turned,
    turned_weight,
    vector,
)


@triton.jit
def _rows(values, row, n_rows, feature, FEATURES: constexpr, PITCH: constexpr):
    """Return where rows of tokens lie, (row, feature), and which of these places exist."""
    inside = (row < n_rows)[:, None] & (feature < FEATURES)[None, :]
    return values + row[:, None] * PITCH + feature[None, :], inside


@triton.jit(do_not_specialize=VARYING)
def perceptron(
    source, out, weights, clock, codes, rates, keys, n_images, capacity, n_parameters, first_place,
    NORM: constexpr, EPSILON: constexpr, FIRST: constexpr, FIRST_BIAS: constexpr, SECOND: constexpr,
    SECOND_BIAS: constexpr, STEPS: constexpr, FEATURES: constexpr, HIDDEN: constexpr, PITCH: constexpr,
    SKIP: constexpr, DROP: constexpr, KINDS: constexpr, SPLITS: constexpr, PRECISION: constexpr,
    BM: constexpr, BC: constexpr, BH: constexpr,
):  # fmt: skip
    """out (row, feature) = dropout(second(activated(first(norm(source))))), with a SKIP source + that.

    Reads and writes each token once; 4 feature x hidden operations a token.
    """
    model = tl.program_id(0).to(tl.int64)
    feature, hidden = tl.arange(0, BC), tl.arange(0, BH)
    parameters = weights + model * n_parameters
    first = turned_weight(parameters + FIRST, feature, hidden, FEATURES, HIDDEN, PRECISION)
    second = turned_weight(parameters + SECOND, hidden, feature, HIDDEN, FEATURES, PRECISION)
    first_bias = vector(parameters + FIRST_BIAS, hidden, HIDDEN, FIRST_BIAS >= 0)
    second_bias = vector(parameters + SECOND_BIAS, feature, FEATURES, SECOND_BIAS >= 0)
    code, rate = tl.load(codes + model), tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    begin = model * capacity * (STEPS * PITCH)
    first_image, last_image = share(n_images, SPLITS)
    n_rows = last_image * STEPS
    for start in range(first_image * STEPS, n_rows, BM):
        row = start + tl.arange(0, BM)
        places, inside = _rows(source + begin, row, n_rows, feature, FEATURES, PITCH)
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, _ = normalized(x, inside, FEATURES, EPSILON)
        read = scaled(hat, parameters, feature, NORM, FEATURES)
        z = dot(read, first, tl.zeros((BM, BH), tl.float32), PRECISION) + first_bias[None, :]
        y = dot(activated(z, code, KINDS), second, tl.zeros((BM, BC), tl.float32), PRECISION) + second_bias[None, :]
        if DROP:
            if rate > 0:
                y = y * keep_factor(low, high, row[:, None] * FEATURES + feature[None, :] + first_place, rate)
        if SKIP:
            y += x
        places, inside = _rows(out + begin, row, n_rows, feature, FEATURES, PITCH)
        tl.store(places, y, mask=inside)


@triton.jit(do_not_specialize=VARYING)
def perceptron_gradient(
    source, slopes, into, weights, gradient, clock, codes, rates, keys, n_images, capacity, n_models, n_parameters,
    first_place,
    NORM: constexpr, EPSILON: constexpr, FIRST: constexpr, FIRST_BIAS: constexpr, SECOND: constexpr,
    SECOND_BIAS: constexpr, STEPS: constexpr, FEATURES: constexpr, HIDDEN: constexpr, PITCH: constexpr,
    SKIP: constexpr, DROP: constexpr, KINDS: constexpr, SPLITS: constexpr, PRECISION: constexpr,
    BM: constexpr, BC: constexpr, BH: constexpr,
):  # fmt: skip
    """The gradients of all weights of `perceptron`, and of the tokens that it read, from that of what it gave.

    Reads each token and its gradient once and writes one; 10 feature x hidden operations a token.
    """
    model = tl.program_id(0).to(tl.int64)
    feature, hidden = tl.arange(0, BC), tl.arange(0, BH)
    parameters = weights + model * n_parameters
    first = turned_weight(parameters + FIRST, feature, hidden, FEATURES, HIDDEN, PRECISION)
    second = turned_weight(parameters + SECOND, hidden, feature, HIDDEN, FEATURES, PRECISION)
    first_bias = vector(parameters + FIRST_BIAS, hidden, HIDDEN, FIRST_BIAS >= 0)
    code, rate = tl.load(codes + model), tl.load(rates + model)
    low, high = step_key(keys, model, clock)
    begin = model * capacity * (STEPS * PITCH)
    first_total, second_total = tl.zeros((BC, BH), tl.float32), tl.zeros((BH, BC), tl.float32)
    first_sum, second_sum = tl.zeros((BH,), tl.float32), tl.zeros((BC,), tl.float32)
    to_scale, to_shift = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    first_image, last_image = share(n_images, SPLITS)
    n_rows = last_image * STEPS
    for start in range(first_image * STEPS, n_rows, BM):
        row = start + tl.arange(0, BM)
        places, inside = _rows(source + begin, row, n_rows, feature, FEATURES, PITCH)
        x = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        hat, scale = normalized(x, inside, FEATURES, EPSILON)
        read = operand(scaled(hat, parameters, feature, NORM, FEATURES), PRECISION)
        z = dot(read, first, tl.zeros((BM, BH), tl.float32), PRECISION) + first_bias[None, :]
        a = activated(z, code, KINDS)
        places, inside = _rows(slopes + begin, row, n_rows, feature, FEATURES, PITCH)
        behind = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        slope = behind
        if DROP:
            if rate > 0:
                slope = slope * keep_factor(low, high, row[:, None] * FEATURES + feature[None, :] + first_place, rate)
        second_sum += tl.sum(slope, axis=0)
        slope = operand(slope, PRECISION)
        second_total = dot(tl.trans(operand(a, PRECISION)), slope, second_total, PRECISION)
        of_hidden = dot(slope, tl.trans(second), tl.zeros((BM, BH), tl.float32), PRECISION)
        of_hidden = sloped(of_hidden, z, a, code, KINDS)
        first_sum += tl.sum(of_hidden, axis=0)
        first_total = dot(tl.trans(read), of_hidden, first_total, PRECISION)
        slope = dot(of_hidden, tl.trans(first), tl.zeros((BM, BC), tl.float32), PRECISION)
        to_scale += tl.sum(slope * hat, axis=0)
        to_shift += tl.sum(slope, axis=0)
        slope = normalized_gradient(slope, hat, scale, inside, parameters, feature, NORM, FEATURES, EPSILON)
        if SKIP:
            slope += behind
        places, inside = _rows(into + begin, row, n_rows, feature, FEATURES, PITCH)
        tl.store(places, slope, mask=inside)
    at = gradient + (tl.program_id(1) * n_models.to(tl.int64) + model) * n_parameters
    places, inside = turned(at + FIRST, feature, hidden, FEATURES, HIDDEN)
    tl.store(places, first_total, mask=inside)
    places, inside = turned(at + SECOND, hidden, feature, HIDDEN, FEATURES)
    tl.store(places, second_total, mask=inside)
    if FIRST_BIAS >= 0:
        tl.store(at + FIRST_BIAS + hidden, first_sum, mask=hidden < HIDDEN)
    if SECOND_BIAS >= 0:
        tl.store(at + SECOND_BIAS + feature, second_sum, mask=feature < FEATURES)
    store_vectors(at + NORM, to_scale, to_shift, feature, FEATURES, NORM >= 0)
