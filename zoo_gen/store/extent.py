"""Extent: how large a zoo is, and how it is cut into shards."""

from dataclasses import dataclass

from zoo_gen.manifest import Manifest
from zoo_gen.store import places

_SHARD_BYTES = 64 * 2**20  # what a shard chosen by size holds, uncompressed
_MOST_MODELS = 1024
_FEWEST_MODELS = 8
_SHARDS = 16


@dataclass(frozen=True)
class Extent:
    """How large a zoo is, and how it is cut into shards."""

    n_models: int
    n_checkpoints: int
    n_parameters: int
    metrics: tuple[tuple[str, int], ...]  # name and numbers a checkpoint: 1, or one a class
    models_per_shard: int
    row_elements: int | None = None  # of zoos whose models differ in architecture: the weights of the largest shard

    @classmethod
    def of(
        cls, manifest: Manifest, *, models_per_shard: int | None = None, row_elements: int | None = None
    ) -> "Extent":
        """Return the extent of the zoo that a manifest describes; one that exists says its own `models_per_shard`."""
        n_models, n_checkpoints, n_parameters = (
            manifest.n_models,
            len(manifest.checkpoint_epochs),
            manifest.n_parameters,
        )
        sizes = manifest.sizes
        typical = n_parameters if sizes is None else int(sizes.mean())
        fitting = max(1, min(_MOST_MODELS, _SHARD_BYTES // (n_checkpoints * typical * 4)))
        # Small zoos too are cut so that several workers share them.
        fitting = min(fitting, max(_FEWEST_MODELS, -(-n_models // _SHARDS)))
        models_per_shard = min(models_per_shard or manifest.models_per_shard or fitting, n_models)
        if sizes is not None:
            row_elements = places.row_elements(sizes * n_checkpoints, models_per_shard)
        return cls(n_models, n_checkpoints, n_parameters, manifest.metric_widths, models_per_shard, row_elements)

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return -(-self.n_models // self.models_per_shard)

    @property
    def bytes_per_model(self) -> int:
        """What a model's weights and metrics take, uncompressed; where models differ, the mean of the largest shard."""
        weights = self.n_checkpoints * self.n_parameters
        if self.row_elements is not None:
            weights = -(-self.row_elements // self.models_per_shard)
        return 4 * (weights + self.n_checkpoints * sum(width for _, width in self.metrics))

    def models(self, shard: int) -> slice:
        """Return the models of a shard."""
        start = shard * self.models_per_shard
        return slice(start, min(start + self.models_per_shard, self.n_models))

    def count(self, shard: int) -> int:
        """Return the number of models of a shard."""
        return len(range(*self.models(shard).indices(self.n_models)))

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array that a shard fills, name -> (model, checkpoint, ...)."""
        both = (self.n_models, self.n_checkpoints)
        ragged = None if self.row_elements is None else (self.n_shards, self.row_elements)
        return {
            "weights": ragged or (*both, self.n_parameters),
            **{name: both if width == 1 else (*both, width) for name, width in self.metrics},
        }
