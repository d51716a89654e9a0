"""Set attention: SAB on scalars, SAB on vectors, and pooling by attention (PMA), with masks for padding.

The formulas are MAB(X, Y) = LN(H + rFF(H)), H = LN(X + MultiHead(X, Y, Y)); SAB(X) = MAB(X, X); PMA(X) = MAB(S, rFF(X))
with one learned seed S (SNE, section 3.7, after Lee et al., ICML 2019); rFF is one linear layer with ReLU. Two of them
are multiplied out, which changes no output: on scalars, queries, keys and values are affine in a single number, so
attention needs one number a head and not `width / heads`; and a single query folds the keys' and values' maps into
itself, so that no element is projected for it.

Initial weights keep the size of what passes through (Xavier, no biases), and seeds start near zero. Four poolings lie
between a weight and the embedding and none has a residual path; with torch's own initial weights the embeddings of
different networks differ by 1e-4 of their length, and training stands still.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Norm = Literal["post", "pre"]
Mask = torch.Tensor | None  # bool (set, 1, 1, element), true where an element counts; None where all do
SEED_DEVIATION = 0.02


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer that keeps the size of what passes through."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def attend(query: torch.Tensor, shared: torch.Tensor, mask: Mask, *, scale: float) -> torch.Tensor:
    """Return attention over elements that are both keys and values and the same for all heads.

    Args:
        query: (set, query, head, feature).
        shared: (set, element, feature).
        mask: of the elements.
        scale: of the scores.

    Returns:
        (set, query, head, feature).
    """
    keys = shared.unsqueeze(1).expand(-1, query.shape[2], -1, -1)
    attended = functional.scaled_dot_product_attention(query.transpose(1, 2), keys, keys, attn_mask=mask, scale=scale)
    return attended.transpose(1, 2)


class Block(nn.Module):
    """What of a MAB is not attention: two residual sums, two layer norms and rFF.

    With `norm` "post", as printed: LN(H + rFF(H)) of H = LN(X + attended). With "pre": H + rFF(LN(H)) of
    H = X + attended, where attention reads LN(X).
    """

    def __init__(self, width: int, *, norm: Norm) -> None:
        super().__init__()
        self.is_post = norm == "post"
        self.attention_norm = nn.LayerNorm(width)
        self.linear = linear(width, width)
        self.norm = nn.LayerNorm(width)

    def read(self, elements: torch.Tensor) -> torch.Tensor:
        """Return what attention reads of vectors (..., width)."""
        return elements if self.is_post else self.attention_norm(elements)

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """Map X + attended to MAB(X, Y), both (..., width)."""
        if self.is_post:
            hidden = self.attention_norm(residual)
            return self.norm(hidden + functional.relu(self.linear(hidden)))
        return residual + functional.relu(self.linear(self.norm(residual)))


class FirstSetAttention(nn.Module):
    """SAB from a few features an element to `width`: the residual is the projected query (Set Transformer's code).

    A score is (Wq x_i + bq) . (Wk x_j) = (Wk' Wq x_i + Wk' bq) . x_j: attention over the features themselves. What it
    returns is a mean of features, to which the maps of values and output apply afterwards. A bias of the keys would
    add the same to every score of a row, which the softmax ignores; so there is none.
    """

    def __init__(self, features: int, *, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads = heads
        # torch's own initial weights and biases here: after a layer norm, a number times a vector without a bias would
        # be its sign alone.
        self.query = nn.Linear(features, width)
        self.key = nn.Linear(features, width, bias=False)
        self.value = nn.Linear(features, width, bias=False)
        self.output = linear(width, width)
        self.block = Block(width, norm=norm)

    def forward(self, elements: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Map elements (set, element, features) to (set, element, width)."""
        sets, count, features = elements.shape
        width = self.output.in_features
        query, key, value = (map_.weight.view(self.heads, -1, features) for map_ in (self.query, self.key, self.value))
        bilinear = torch.einsum("hdf,hdg->hgf", query, key)  # (head, feature of the key, feature of the query)
        linear = torch.einsum("hd,hdg->hg", self.query.bias.view(self.heads, -1), key)
        queries = functional.linear(elements, bilinear.reshape(-1, features), linear.reshape(-1))
        queries = queries.view(sets, count, self.heads, features)
        attended = attend(queries, elements, mask, scale=(width // self.heads) ** -0.5)
        attended = attended.reshape(sets, count, self.heads * features)
        output = self.output.weight.view(width, self.heads, -1)
        back = torch.einsum("ohd,hdf->ohf", output, value).reshape(width, -1)
        combined = torch.cat([self.query.weight, back], dim=1)
        bias = self.query.bias + self.output.bias
        return self.block(functional.linear(torch.cat([elements, attended], dim=2), combined, bias))


class SetAttention(nn.Module):
    """SAB on vectors, with the residual as printed."""

    def __init__(self, width: int, *, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(width, 3 * width, bias=False)
        for part in self.projection.weight.data.chunk(3):
            nn.init.xavier_uniform_(part)
        self.output = linear(width, width)
        self.block = Block(width, norm=norm)

    def forward(self, elements: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Map elements (set, element, width) to (set, element, width)."""
        sets, count, width = elements.shape
        projected = self.projection(self.block.read(elements)).view(sets, count, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
        return self.block(elements + self.output(attended.reshape(sets, count, width)))


class Pooling(nn.Module):
    """PMA with one seed: a set becomes one vector."""

    def __init__(self, width: int, *, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads = heads
        self.seed = nn.Parameter(torch.randn(1, width) * SEED_DEVIATION)
        self.elements = linear(width, width)
        self.query = linear(width, width)
        self.key = linear(width, width, bias=False)
        self.value = linear(width, width, bias=False)
        self.output = linear(width, width)
        self.block = Block(width, norm=norm)

    def forward(self, elements: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Map elements (set, element, width) to (set, width)."""
        sets, _, width = elements.shape
        members = functional.relu(self.elements(elements))
        members = self.block.read(members)
        query = self.query(self.seed).view(self.heads, -1)
        folded = torch.einsum("hd,hdw->hw", query, self.key.weight.view(self.heads, -1, width))
        folded = folded.to(members.dtype).unsqueeze(1).expand(sets, -1, -1, -1)
        pooled = attend(folded, members, mask, scale=(width // self.heads) ** -0.5)
        pooled = pooled.squeeze(2)  # (set, head, width): each head's mean of the members
        values = torch.einsum("shw,hdw->shd", pooled, self.value.weight.view(self.heads, -1, width))
        return self.block(self.seed + self.output(values.reshape(sets, width)))
