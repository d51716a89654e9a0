"""The network of SNE: chunk, layer, separated layer and network encoders, shared by all layers and architectures.

The steps are those of the paper's equations 2 to 9 and appendix J; where each code is added differs from step to step
and is as printed: after the first set function of a chunk, after that of a layer, before that of a network.
"""

import math

import torch
from torch import nn

from zoo_bench.encoders.sne.attention import FirstSetAttention, Mask, Norm, Pooling, SetAttention
from zoo_bench.encoders.sne.batches import ChunkBucket, Plan, SetBucket
from zoo_bench.encoders.sne.settings import Settings
from zoo_bench.encoders.training.networks import last_layer

SET_ATTENTIONS = 2  # in each set function: phi 2, phi 3, that of separated layers, and phi 4
HEAD_LAYERS = 2  # hidden layers between embedding and logit
LOG_SCALE = 0.01  # s of sign(w) log(1 + |w| / s)


def sinusoid(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Return sines and cosines of positions (...) at geometric wave lengths, (..., width) (Vaswani et al., 2017)."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10000.0) / half))
    angles = positions.unsqueeze(-1).float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]


class SetFunction(nn.Module):
    """Several SAB, one after another."""

    def __init__(self, width: int, *, heads: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SetAttention(width, heads=heads, norm=norm) for _ in range(SET_ATTENTIONS))

    def forward(self, elements: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Map elements (set, element, width) to the same shape."""
        for layer in self.layers:
            elements = layer(elements, mask)
        return elements


class SNENetwork(nn.Module):
    """Networks of any architecture to embeddings and a logit each.

    Args:
        settings: of the encoder.
        kernel: where elements are kernels, the longest side of one.
        scale: what weights are divided by.
        outputs: logits of a network.
    """

    def __init__(self, settings: Settings, *, kernel: int, scale: float, outputs: int = 1) -> None:
        super().__init__()
        width, heads, norm = settings.width, settings.heads, settings.norm
        self.settings = settings
        self.register_buffer("scale", torch.tensor(scale))
        self.scale: torch.Tensor
        features = 2 if settings.log_feature else 1
        self.numbers = FirstSetAttention(features, width=width, heads=heads, norm=norm)
        self.numbers_path = nn.Linear(features, width, bias=False) if settings.linear_path else None
        with_kernels = settings.conv_tokens == "kernels" and kernel > 0
        self.kernels = (
            FirstSetAttention(kernel**2 * features, width=width, heads=heads, norm=norm) if with_kernels else None
        )
        self.kernels_path = (
            nn.Linear(kernel**2 * features, width, bias=False) if with_kernels and settings.linear_path else None
        )
        self.chunk_first = SetAttention(width, heads=heads, norm=norm)  # with numbers or kernels before it: phi 1
        self.chunk_second = SetFunction(width, heads=heads, norm=norm)  # phi 2
        self.chunk_pooling = Pooling(width, heads=heads, norm=norm)
        if settings.hierarchy:
            self.layer_sets = SetFunction(width, heads=heads, norm=norm)
            self.layer_pooling = Pooling(width, heads=heads, norm=norm)
            self.separated_sets = SetFunction(width, heads=heads, norm=norm)
            self.separated_pooling = Pooling(width, heads=heads, norm=norm)
        self.network_sets = SetFunction(width, heads=heads, norm=norm)
        self.network_pooling = Pooling(width, heads=heads, norm=norm)
        # What embeddings have in common is far larger than how they differ; this keeps only the latter.
        layers: list[nn.Module] = [nn.BatchNorm1d(width)] if settings.head_norm else []
        inputs = width
        for _ in range(HEAD_LAYERS):
            layers += [nn.Linear(inputs, settings.head_width), nn.ReLU()]
            inputs = settings.head_width
        self.head = nn.Sequential(*layers, last_layer(inputs, outputs))

    def forward(self, plan: Plan, weights: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a batch.

        Args:
            plan: of the batch.
            weights: the weights of many networks, float32 (number,), one network after another.
            offsets: where each network of the batch begins in them, int64 (network,).

        Returns:
            Embeddings (network, width) and logits (network,).
        """
        vectors = torch.cat([self._chunks(bucket, weights, offsets) for bucket in plan.chunks])
        if self.settings.hierarchy:
            vectors = torch.cat([self._tensors(bucket, vectors) for bucket in plan.tensors])
            vectors = torch.cat([self._layers(bucket, vectors) for bucket in plan.layers])
        vectors = torch.cat([self._networks(bucket, vectors) for bucket in plan.networks])
        embeddings = vectors.index_select(0, plan.order)
        return embeddings, self.head(embeddings).squeeze(1).float()

    def settle(self, embeddings: torch.Tensor) -> None:
        """Take mean and variance of the norm before the head from embeddings of training networks (network, width)."""
        norm = self.head[0]
        if isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(embeddings.mean(dim=0))
            norm.running_var.copy_(embeddings.var(dim=0))

    def _chunks(self, bucket: ChunkBucket, weights: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Encode chunks, (chunk, width): PMA(phi 2(phi 1(numbers) + codes)) (equations 2 to 6)."""
        positions = bucket.positions + offsets.index_select(0, bucket.networks)[:, None, None]
        values = weights.index_select(0, positions.view(-1)).view(positions.shape) / self.scale
        if self.training and self.settings.noise > 0:
            values = values * (1 + self.settings.noise * torch.randn_like(values))
        if bucket.padding is not None:
            values = values * bucket.padding
        if self.settings.log_feature:
            values = torch.cat([values, values.sign() * torch.log1p(values.abs() / LOG_SCALE)], dim=2)
        if bucket.kind and self.kernels is not None:
            first, path = self.kernels, self.kernels_path
        else:
            first, path = self.numbers, self.numbers_path
        elements = self.chunk_first(first(values, bucket.mask), bucket.mask)
        codes = self._levels(bucket.levels)
        if self.settings.type_code == "sinusoid":
            codes = codes + sinusoid(bucket.types, self.settings.width)
        elements = elements + codes.unsqueeze(1)
        if path is not None:
            elements = elements + path(values)
        if bucket.codes is not None:
            table = self._position_codes(bucket.combinations)
            elements = elements + table.index_select(0, bucket.codes.view(-1)).view(elements.shape)
        return self.chunk_pooling(self.chunk_second(elements, bucket.mask), bucket.mask)

    def _tensors(self, bucket: SetBucket, vectors: torch.Tensor) -> torch.Tensor:
        """Encode tensors, (tensor, width): PMA(phi 3(chunks) + level) (equation 7)."""
        elements = self.layer_sets(_gather(vectors, bucket.members), bucket.mask)
        return self.layer_pooling(elements + self._levels(bucket.levels), bucket.mask)

    def _layers(self, bucket: SetBucket, vectors: torch.Tensor) -> torch.Tensor:
        """Encode layers, (layer, width): PMA(SAB(weight and bias)) (appendix J)."""
        elements = self.separated_sets(_gather(vectors, bucket.members), bucket.mask)
        return self.separated_pooling(elements, bucket.mask)

    def _networks(self, bucket: SetBucket, vectors: torch.Tensor) -> torch.Tensor:
        """Encode networks, (network, width): PMA(phi 4(layers + level)) (equations 8 and 9)."""
        elements = _gather(vectors, bucket.members) + self._levels(bucket.levels)
        return self.network_pooling(self.network_sets(elements, bucket.mask), bucket.mask)

    def _levels(self, levels: torch.Tensor) -> torch.Tensor:
        """Return the codes of levels (...), (..., width)."""
        width = self.settings.width
        if self.settings.level == "none":
            return levels.new_zeros((*levels.shape, width))
        return sinusoid(levels, width)

    def _position_codes(self, combinations: torch.Tensor) -> torch.Tensor:
        """Return the sums of codes of positions inside a tensor (combination, CODES), (combination, width).

        Each kind of position runs over the channels in another order, so that row 2, column 5 is not row 5, column 2.
        """
        width = self.settings.width
        outputs, inputs, kernels = (sinusoid(combinations, width) * (combinations >= 0).unsqueeze(-1)).unbind(dim=1)
        return outputs + inputs.flip(-1) + kernels.roll(width // 4, dims=-1)


def _gather(vectors: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Return vectors (vector, width) as sets (set, element, width)."""
    return vectors.index_select(0, members.view(-1)).view(*members.shape, -1)
