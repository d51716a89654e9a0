"""Triton kernels for populations: products of gathered values with stacked weights, transformers, losses, optimisers.

A program works for one model, and how much of a model it takes never depends on how many models there are: a model
has the same bits alone and in any population. Values between layers lie as (model, image, height, width, channel).
Bytes and operations in the headers are those of one image. What the kernels compute is stated by `forward.py`,
`optimizers.py` and `metrics.py`, their twins in plain torch.
"""

from zoo_gen.population.gpu.kernels.arithmetic import CODES, ROUNDED
from zoo_gen.population.gpu.kernels.attention import attention, attention_gradient
from zoo_gen.population.gpu.kernels.joined import stem, stem_gradient
from zoo_gen.population.gpu.kernels.losses import classification, regression
from zoo_gen.population.gpu.kernels.perceptrons import perceptron, perceptron_gradient
from zoo_gen.population.gpu.kernels.pooling import pool, pool_gradient
from zoo_gen.population.gpu.kernels.products import product, weight_gradient
from zoo_gen.population.gpu.kernels.steps import tick, update
from zoo_gen.population.gpu.kernels.tokens import embed, embed_gradient, gather_tokens, gather_tokens_gradient

__all__ = [
    "CODES",
    "ROUNDED",
    "attention",
    "attention_gradient",
    "classification",
    "embed",
    "embed_gradient",
    "gather_tokens",
    "gather_tokens_gradient",
    "perceptron",
    "perceptron_gradient",
    "pool",
    "pool_gradient",
    "product",
    "regression",
    "stem",
    "stem_gradient",
    "tick",
    "update",
    "weight_gradient",
]
