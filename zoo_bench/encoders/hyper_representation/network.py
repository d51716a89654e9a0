"""The networks of a hyper-representation: encoder, decoder and projection head.

After Schürholt et al. (NeurIPS 2021, section 3 and public code): their numbers of parameters are reproduced exactly.
Queries, keys and values are one matrix product, the tokens of a layer are embedded by one, and nothing loops over
neurons.
"""

import copy
import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_bench.encoders.hyper_representation import attention, fused, kernel_support
from zoo_bench.encoders.hyper_representation.configurations import Configuration
from zoo_bench.encoders.hyper_representation.dropout import dropout
from zoo_gen.architecture.tokens import Tokens

# Of attention weights: the block's own dropout does not reach them in the public code. Without dropout there is none.
ATTENTION_DROPOUT = 0.1
ALIGNED = 8  # a row of 16-bit numbers whose length is a multiple of it is read in whole by the GPU's fast products


class Update(NamedTuple):
    """What a layer adds to the tokens, once it has gone through dropout."""

    product: Tensor  # (row, token, width)
    bias: Tensor | None  # of the product, (width,), where it has not been added yet
    dropout: float

    def added(self, tokens: Tensor) -> Tensor:
        """Return tokens (row, token, width) with the update."""
        product = self.product if self.bias is None else self.product + self.bias.to(self.product.dtype)
        return tokens + dropout(product, self.dropout)


class FilledLinear(nn.Linear):
    """A linear layer of any size.

    A GPU's tensor copies take no rows but those of whole 16 bytes, so there others are filled up: inputs with zeros,
    outputs with units that are cut off.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., in) to (..., out)."""
        more, longer = -self.out_features % ALIGNED, -self.in_features % ALIGNED
        if inputs.device.type != "cuda" or more == longer == 0:
            return super().forward(inputs)
        weight, bias = functional.pad(self.weight, (0, longer, 0, more)), functional.pad(self.bias, (0, more))
        return functional.linear(functional.pad(inputs, (0, longer)), weight, bias)[..., : self.out_features]


class Norm(nn.Module):
    """Layer normalisation by the unbiased deviation: weight * (x - mean) / deviation + bias.

    The public code adds 1e-6 to the deviation; here the fused kernels add its square to the variance, which differs
    by less than 1e-6 of the result wherever the deviation is above 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self._scale = math.sqrt((width - 1) / width)  # torch's kernel divides by the biased deviation

    def forward(self, tokens: Tensor, update: Update | None = None) -> tuple[Tensor, Tensor]:
        """Return tokens (row, token, width) with an update, and that normalised over the last axis."""
        if update is not None and update.bias is not None:
            return fused.add_and_normalize(
                tokens, update.product, update.bias, self.weight, self.bias, dropout=update.dropout
            )
        if update is not None:
            tokens = update.added(tokens)
        normed = functional.layer_norm(tokens, self.weight.shape, self.weight * self._scale, self.bias, eps=1e-12)
        return tokens, normed


class Block(nn.Module):
    """A pre-norm transformer block: attention over the tokens, then two layers with ReLU, each added to its input.

    What the second adds is handed on and not added yet: the norm of the next block does it on its way.
    """

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
        self._has_kernels = kernel_support.has_kernels()

    def forward(
        self,
        tokens: Tensor,
        update: Update | None = None,
        *,
        n_outputs: int | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Update]:
        """Transform tokens (row, token, width) with the update of the block before.

        Where `present`, bool (row, token), is given, the tokens that are not there are read by no other.

        Returns:
            The tokens, and what is still to be added to them; of the first `n_outputs` only, where that is given.
        """
        use_kernels = self._has_kernels and kernel_support.fits(tokens)
        left_out = self.dropout if self.training else 0.0
        tokens, normed = self.norm_attention(tokens, update)
        mixed = self._attention(normed, n_outputs, left_out, present=present, use_kernels=use_kernels)
        update = _update(mixed, self.attended.weight, self.attended.bias, left_out, use_kernels=use_kernels)
        tokens, normed = self.norm_feedforward(tokens[:, :n_outputs], update)
        return tokens, self._feedforward(normed, left_out, use_kernels=use_kernels)

    def _attention(
        self, normed: Tensor, n_outputs: int | None, left_out: float, *, present: Tensor | None, use_kernels: bool
    ) -> Tensor:
        """Return what the first `n_outputs` tokens, or all, find among all tokens (row, token, width)."""
        width = normed.shape[2]
        queries = None
        if n_outputs is None:
            projected = self.queries_keys_values(normed)
        else:
            weight, bias = self.queries_keys_values.weight, self.queries_keys_values.bias
            queries = functional.linear(normed[:, :n_outputs], weight[:width], bias[:width])
            projected = functional.linear(normed, weight[width:], bias[width:])
        share = ATTENTION_DROPOUT if left_out > 0 else 0.0
        return attention.attend(
            projected, queries=queries, heads=self.heads, dropout=share, has_kernels=use_kernels, present=present
        )

    def _feedforward(self, normed: Tensor, left_out: float, *, use_kernels: bool) -> Update:
        """Apply the two layers with ReLU between them to (row, token, width)."""
        # What lies between them is filled up as well: units that give 0 and are read by nobody.
        spare = -self.widen.out_features % ALIGNED
        widen, bias = functional.pad(self.widen.weight, (0, 0, 0, spare)), functional.pad(self.widen.bias, (0, spare))
        if use_kernels:
            inner = fused.activate(functional.linear(normed, widen), bias, dropout=left_out)
        else:
            inner = dropout(functional.linear(normed, widen, bias).relu(), left_out)
        return _update(
            inner, functional.pad(self.narrow.weight, (0, spare)), self.narrow.bias, left_out, use_kernels=use_kernels
        )


class Encoder(nn.Module):
    """Weights to an embedding in (-1, 1): the compression token after all blocks, a linear map and tanh."""

    order: Tensor  # int64 (parameter,), the gather index from weights to tokens

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        width = configuration.width
        self._sizes = [layer.size for layer in tokens.layers]
        self._lengths = [layer.length for layer in tokens.layers]
        self.register_buffer("order", torch.from_numpy(tokens.order), persistent=False)
        self.embeddings = nn.ModuleList(FilledLinear(layer.length, width) for layer in tokens.layers)
        self.compression = nn.Parameter(torch.randn(width))
        self.positions = nn.Parameter(torch.randn(tokens.count + 1, width))
        self.blocks = _blocks(configuration)
        self.bottleneck = nn.Linear(width, configuration.latent)

    def forward(self, weights: Tensor) -> Tensor:
        """Embed weights (row, parameter) as (row, latent)."""
        numbers = weights[:, self.order].split(self._sizes, dim=1)
        parts = [
            embed(part.unflatten(1, (-1, length)))
            for part, length, embed in zip(numbers, self._lengths, self.embeddings, strict=True)
        ]
        # Where products are in 16 bits, what the blocks pass on is too.
        compression, positions = (parameter.to(parts[0].dtype) for parameter in (self.compression, self.positions))
        tokens = torch.cat([compression.expand(len(weights), 1, -1), *parts], dim=1) + positions
        update: Update | None = None
        for block in self.blocks[:-1]:
            tokens, update = block(tokens, update)
        # Of the last block only the compression token is read, so the others need no more than keys and values.
        tokens, update = self.blocks[-1](tokens, update, n_outputs=1)
        return self.bottleneck(update.added(tokens)[:, 0]).float().tanh()


class Decoder(nn.Module):
    """An embedding back to tokens: a linear map to all of them, blocks, and a linear map a layer.

    What comes out is laid out token after token. The loss compares it with views laid out alike, because the gradient
    of a gather would be a scatter.
    """

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        width = configuration.width
        self._counts = [layer.count for layer in tokens.layers]
        self.expand = FilledLinear(configuration.latent, tokens.count * width)
        self.positions = nn.Parameter(torch.randn(tokens.count, width))
        self.blocks = _blocks(configuration)
        self.outputs = nn.ModuleList(FilledLinear(width, layer.length) for layer in tokens.layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Reconstruct the numbers of all tokens (row, parameter) from embeddings (row, latent)."""
        tokens = self.expand(embeddings).unflatten(1, self.positions.shape)
        tokens = tokens + self.positions.to(tokens.dtype)
        tokens, update = self.blocks[0](tokens)
        for block in self.blocks[1:]:
            tokens, update = block(tokens, update)
        parts = update.added(tokens).split(self._counts, dim=1)
        outputs = [output(part).flatten(1) for part, output in zip(parts, self.outputs, strict=True)]
        return torch.cat(outputs, dim=1).float()


class Autoencoder(nn.Module):
    """Encoder and decoder; the head belongs to the contrast alone."""

    def __init__(self, tokens: Tokens, configuration: Configuration) -> None:
        super().__init__()
        self.encoder = Encoder(tokens, configuration)
        self.decoder = Decoder(tokens, configuration)
        self.head = projection_head(
            configuration.latent,
            layers=configuration.head_layers,
            width=configuration.head_width,
            output=configuration.head_output,
        )

    def forward(self, weights: Tensor, *, reconstruct: bool) -> tuple[Tensor, Tensor | None]:
        """Return embeddings (row, latent) of weights (row, parameter), and if asked for their reconstructed tokens."""
        embeddings = self.encoder(weights)
        return embeddings, self.decoder(embeddings) if reconstruct else None


def projection_head(latent: int, *, layers: int, width: int, output: int) -> nn.Sequential:
    """Return the head of the contrast, (row, latent) to (row, output): batch statistics after every linear layer."""
    widths = [latent, *[width] * layers]
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    modules += [nn.Linear(widths[-1], output), nn.BatchNorm1d(output)]
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.constant_(module.bias, 0.01)
    return nn.Sequential(*modules)


def _update(inputs: Tensor, weight: Tensor, bias: Tensor, left_out: float, *, use_kernels: bool) -> Update:
    """Return what a layer adds to the tokens, from inputs (row, token, in); a kernel adds the bias later."""
    if use_kernels:
        return Update(functional.linear(inputs, weight), bias, left_out)
    return Update(functional.linear(inputs, weight, bias), None, left_out)


def _blocks(configuration: Configuration) -> nn.ModuleList:
    """Return the blocks, which all start from the same weights, as in the public code."""
    block = Block(configuration.width, configuration.heads, configuration.feedforward, configuration.dropout)
    return nn.ModuleList([copy.deepcopy(block) for _ in range(configuration.blocks)])
