"""The networks of a hyper-representation: encoder, decoder and projection head.

After Schürholt et al. (NeurIPS 2021, section 3 and public code): their numbers of parameters are reproduced exactly.
Queries, keys and values are one matrix product, the tokens of a layer are embedded by one, and nothing loops over
neurons.
"""

import copy
import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_bench.encoders.hyper_representation import attention
from zoo_bench.encoders.hyper_representation.configurations import Configuration
from zoo_bench.tokens import Tokens

# Of attention weights: the block's own dropout does not reach them in the public code. Without dropout there is none.
ATTENTION_DROPOUT = 0.1
ALIGNED = 8  # a row of 16-bit numbers whose length is a multiple of it is read in whole by the GPU's fast products


class Norm(nn.Module):
    """Layer normalisation by the unbiased deviation: weight * (x - mean) / deviation + bias.

    The public code adds 1e-6 to the deviation; here the fused kernel adds its square to the variance, which differs
    by less than 1e-6 of the result wherever the deviation is above 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self._scale = math.sqrt((width - 1) / width)  # the kernel divides by the biased deviation

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise the last axis (..., width)."""
        return functional.layer_norm(inputs, self.weight.shape, self.weight * self._scale, self.bias, eps=1e-12)


class Block(nn.Module):
    """A pre-norm transformer block: attention over the tokens, then two layers with ReLU, each added to its input."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = Norm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.norm_feedforward = Norm(width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.dropout = dropout
        self._has_kernels = attention.has_kernels()

    def forward(self, tokens: Tensor, *, wanted: int | None = None) -> Tensor:
        """Transform tokens (row, token, width); only the first `wanted` come out, where that is given."""
        width = tokens.shape[2]
        normed = self.norm_attention(tokens)
        queries = None
        if wanted is None:
            projected = self.queries_keys_values(normed)
        else:
            tokens = tokens[:, :wanted]
            weight, bias = self.queries_keys_values.weight, self.queries_keys_values.bias
            queries = functional.linear(normed[:, :wanted], weight[:width], bias[:width])
            projected = functional.linear(normed, weight[width:], bias[width:])
        left_out = self.dropout if self.training else 0.0
        mixed = attention.attend(
            projected,
            queries=queries,
            heads=self.heads,
            dropout=ATTENTION_DROPOUT if left_out > 0 else 0.0,
            has_kernels=self._has_kernels,
        )
        tokens = tokens + dropout(self.attended(mixed), left_out)
        return tokens + dropout(self._feedforward(self.norm_feedforward(tokens), left_out), left_out)

    def _feedforward(self, tokens: Tensor, left_out: float) -> Tensor:
        """Apply the two layers with ReLU between them, (row, token, width)."""
        spare = -self.widen.out_features % ALIGNED
        if spare == 0:
            return self.narrow(dropout(self.widen(tokens).relu(), left_out))
        # Units of nothing, which give 0 and are read by nobody: a GPU's tensor copies take no rows of other lengths.
        weight, bias = (functional.pad(its, (0, 0) * (its.ndim - 1) + (0, spare)) for its in self.widen.parameters())
        inner = dropout(functional.linear(tokens, weight, bias).relu(), left_out)
        return functional.linear(inner, functional.pad(self.narrow.weight, (0, spare)), self.narrow.bias)


class Encoder(nn.Module):
    """Weights to an embedding in (-1, 1): the compression token after all blocks, a linear map and tanh."""

    order: Tensor  # int64 (parameter,), the gather index from weights to tokens

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        width = configuration.width
        self._sizes = [layer.size for layer in tokens.layers]
        self._lengths = [layer.length for layer in tokens.layers]
        self.register_buffer("order", torch.from_numpy(tokens.order), persistent=False)
        self.embeddings = nn.ModuleList(nn.Linear(layer.length, width) for layer in tokens.layers)
        self.compression = nn.Parameter(torch.randn(width))
        self.positions = nn.Parameter(torch.randn(tokens.count + 1, width))
        self.blocks = _blocks(configuration)
        self.bottleneck = nn.Linear(width, configuration.latent)

    def forward(self, weights: Tensor) -> Tensor:
        """Embed weights (row, parameter) as (row, latent)."""
        parts = weights[:, self.order].split(self._sizes, dim=1)
        found = [
            embed(part.unflatten(1, (-1, length)))
            for part, length, embed in zip(parts, self._lengths, self.embeddings, strict=True)
        ]
        # Where products are in 16 bits, what the blocks pass on is too.
        compression, positions = (its.to(found[0].dtype) for its in (self.compression, self.positions))
        tokens = torch.cat([compression.expand(len(weights), 1, -1), *found], dim=1) + positions
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        # Of the last block only the compression token is read, so the others need no more than keys and values.
        return self.bottleneck(self.blocks[-1](tokens, wanted=1)[:, 0]).float().tanh()


class Decoder(nn.Module):
    """An embedding back to tokens: a linear map to all of them, blocks, and a linear map a layer.

    What comes out is laid out token after token. The loss compares it with views laid out alike, because the gradient
    of a gather would be a scatter.
    """

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        width = configuration.width
        self._counts = [layer.count for layer in tokens.layers]
        self.expand = nn.Linear(configuration.latent, tokens.count * width)
        self.positions = nn.Parameter(torch.randn(tokens.count, width))
        self.blocks = _blocks(configuration)
        self.outputs = nn.ModuleList(nn.Linear(width, layer.length) for layer in tokens.layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Reconstruct the numbers of all tokens (row, parameter) from embeddings (row, latent)."""
        tokens = self.expand(embeddings).unflatten(1, self.positions.shape)
        tokens = tokens + self.positions.to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        parts = tokens.split(self._counts, dim=1)
        found = [output(part).flatten(1) for part, output in zip(parts, self.outputs, strict=True)]
        return torch.cat(found, dim=1).float()


class Autoencoder(nn.Module):
    """Encoder and decoder; the head belongs to the contrast alone."""

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        self.encoder = Encoder(tokens, configuration)
        self.decoder = Decoder(tokens, configuration)
        self.head = projection_head(configuration)

    def forward(self, weights: Tensor, *, reconstruct: bool) -> tuple[Tensor, Tensor | None]:
        """Return embeddings (row, latent) of weights (row, parameter); if wanted, also their reconstructed tokens."""
        embeddings = self.encoder(weights)
        return embeddings, self.decoder(embeddings) if reconstruct else None


def dropout(inputs: Tensor, probability: float) -> Tensor:
    """Set entries to 0 with a probability, and scale the others so that the mean stays.

    On a CPU torch draws one number an entry on one core, which takes a quarter of a training step; there, four entries
    share the bits of one number, and the probability is rounded to a multiple of 2^-16.
    """
    if probability == 0 or inputs.device.type != "cpu":
        return functional.dropout(inputs, probability, training=probability > 0)
    words = torch.empty((inputs.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    threshold = round(probability * 2**16)
    kept = words.view(torch.int16)[: inputs.numel()].view(inputs.shape) >= threshold - 2**15
    return inputs * (kept.to(inputs.dtype) * (2**16 / (2**16 - threshold)))


def projection_head(configuration: Configuration) -> nn.Sequential:
    """Return the head of the contrast, (row, latent) to (row, output): batch statistics after every linear layer."""
    widths = [configuration.latent, *[configuration.head_width] * configuration.head_layers]
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    modules += [nn.Linear(widths[-1], configuration.head_output), nn.BatchNorm1d(configuration.head_output)]
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.constant_(module.bias, 0.01)
    return nn.Sequential(*modules)


def _blocks(configuration: Configuration) -> nn.ModuleList:
    """Return the blocks, which all start from the same weights, as in the public code."""
    block = Block(configuration.width, configuration.heads, configuration.feedforward, configuration.dropout)
    return nn.ModuleList([copy.deepcopy(block) for _ in range(configuration.blocks)])
