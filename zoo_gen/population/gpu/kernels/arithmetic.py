"""What all kernels share: activations with their derivatives, dropout's random words, and products of rounded operands.

What these functions compute is stated by `forward.py` and `random.py`, their twins in plain torch.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.random import DROPOUT_MIX, DROPOUT_STEP, SPLITMIX

# What stands for an activation function in a table of models.
CODES = {None: 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5, "silu": 6, "sine": 7}
ROUNDED = 1024  # a bit of KINDS beside those of the codes: operands of products are rounded
# Numbers that differ from step to step or population to population: kernels are compiled once for all of them.
VARYING = ["n_images", "n_order", "n_labels", "n_models", "n_steps", "first_place", "second_place"]
# Constants of the words that `random` draws; a kernel reads no globals of another kind.
GOLDEN, FIRST_MIX, SECOND_MIX = map(constexpr, SPLITMIX)
WORD_STEP, FIRST_WORD_MIX, SECOND_WORD_MIX = map(constexpr, (DROPOUT_STEP, *DROPOUT_MIX))


@triton.jit
def _tanh(z, ROUNDED: constexpr):
    """Return tanh; ROUNDED: what reads it is rounded anyway, so the last digits of small results may go."""
    if ROUNDED:
        result = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * z))
    else:
        shrunk = tl.exp(-2.0 * tl.abs(z))
        large = (1.0 - shrunk) / (1.0 + shrunk)
        square = z * z  # the quotient would lose the leading digits of a small result
        small = tl.abs(z) * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
        result = tl.where(z < 0, -1.0, 1.0) * tl.where(tl.abs(z) < 0.2, small, large)
    return result


@triton.jit
def _sigmoid(z):
    return 1.0 / (1.0 + tl.exp(-z))


@triton.jit
def activated(z, code, KINDS: constexpr):
    """Return the activation that `code` names of float32 values of any shape; KINDS: see `Arrays.kinds`."""
    a = z
    if KINDS & 2:
        if code == 1:
            a = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if KINDS & 4:
        if code == 2:
            a = tl.where(z > 0, z, 0.01 * z)
    if KINDS & 8:
        if code == 3:
            a = _tanh(z, (KINDS & 1024) > 0)
    if KINDS & 16:
        if code == 4:
            a = _sigmoid(z)
    if KINDS & 32:
        if code == 5:
            a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    if KINDS & 64:
        if code == 6:
            a = z * _sigmoid(z)
    if KINDS & 128:
        if code == 7:
            a = tl.sin(30.0 * z)
    return a


@triton.jit
def sloped(gradient, z, a, code, KINDS: constexpr):
    """Return a gradient times the derivative of an activation at z, where it is a."""
    if KINDS & 2:
        if code == 1:
            gradient = tl.where(z > 0, gradient, 0.0)
    if KINDS & 4:
        if code == 2:
            gradient = tl.where(z > 0, gradient, 0.01 * gradient)
    if KINDS & 8:
        if code == 3:
            gradient = gradient * (1.0 - a * a)
    if KINDS & 16:
        if code == 4:
            gradient = gradient * (a * (1.0 - a))
    if KINDS & 32:
        if code == 5:
            normal = tl.exp(-0.5 * z * z) * 0.3989422804014327
            gradient = gradient * (0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * normal)
    if KINDS & 64:
        if code == 6:
            sigmoid = _sigmoid(z)
            gradient = gradient * (sigmoid * (1.0 + z * (1.0 - sigmoid)))
    if KINDS & 128:
        if code == 7:
            gradient = gradient * (30.0 * tl.cos(30.0 * z))
    return gradient


@triton.jit
def gate_gradient(gradient, a, code, rate, KINDS: constexpr):
    """Return the gradient before activation and dropout from that behind them and the value a that they left.

    For functions whose derivative follows from their value; a dropped value is +0, see `drop`.
    """
    before = a * (1.0 - rate)
    dropped = tl.where(rate > 0, 0.0, 1.0)  # what +0 means
    factor = tl.where(a.to(tl.int32, bitcast=True) == 0, dropped, 1.0) / (1.0 - rate)
    return sloped(gradient * factor, before, before, code, KINDS)


@triton.jit
def step_key(keys, model, clock):
    """Return both halves of the key of dropout in this step: SplitMix64, as `random.dropout_keys` in torch."""
    golden = tl.full((), GOLDEN, tl.uint64)
    step = tl.load(clock + 1).to(tl.uint64)
    z = tl.load(keys + model).to(tl.uint64) + step * golden
    z = (z ^ (z >> 30)) * tl.full((), FIRST_MIX, tl.uint64)
    z = (z ^ (z >> 27)) * tl.full((), SECOND_MIX, tl.uint64)
    z = z ^ (z >> 31)
    return (z & 0xFFFFFFFF).to(tl.uint32), (z >> 32).to(tl.uint32)


@triton.jit
def random_word(low, high, pair):
    """Return the random word of each pair of values, uint32 (any shape)."""
    word = pair.to(tl.uint32) * tl.full((), WORD_STEP, tl.uint32) + low
    word = (word ^ (word >> 16)) * tl.full((), FIRST_WORD_MIX, tl.uint32)
    word = ((word ^ (word >> 15)) + high) * tl.full((), SECOND_WORD_MIX, tl.uint32)
    return word ^ (word >> 16)


@triton.jit
def dropout_factor(half, rate):
    """Return the factor of dropout for values by their 16 random bits."""
    threshold = tl.floor(rate * 65536.0 + 0.5).to(tl.uint32)
    return tl.where(half >= threshold, 1.0 / (1.0 - rate), 0.0)


@triton.jit
def keep_factor(low, high, place, rate):
    """Return the factor of dropout for values at these places (int32, any shape); see `random.kept_by_dropout`."""
    return dropout_factor((random_word(low, high, place >> 1) >> ((place & 1) * 16).to(tl.uint32)) & 0xFFFF, rate)


@triton.jit
def drop(a, kept):
    """Return values times their factors of dropout: what is dropped becomes +0, and 0 that is kept becomes -0."""
    minus_zero = tl.full(a.shape, -(2**31), tl.int32).to(tl.float32, bitcast=True)  # of -0.0 Triton makes 0
    return tl.where((a == 0.0) & (kept > 0.0), minus_zero, a * kept + 0.0)


@triton.jit
def operand(values, PRECISION: constexpr):
    """Round what goes into products as PRECISION says, once for all of them."""
    if PRECISION == "bfloat16":
        values = values.to(tl.bfloat16)
    return values


@triton.jit
def dot(left, right, total, PRECISION: constexpr):
    """Add left (m, k) x right (k, n) to a float32 total; operands are rounded as PRECISION says."""
    if PRECISION == "bfloat16":
        total = tl.dot(left.to(tl.bfloat16), right.to(tl.bfloat16), total)
    elif PRECISION == "tf32":
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="tf32")
    else:
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    return total


@triton.jit
def places(rows, HEIGHT: constexpr, WIDTH: constexpr):
    """Split row numbers into image, y and x."""
    return rows // (HEIGHT * WIDTH), rows // WIDTH % HEIGHT, rows % WIDTH
