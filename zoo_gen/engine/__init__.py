"""Running a manifest: what a zoo still lacks, trained shard by shard; what it will cost."""

from zoo_gen.engine.driver import Summary, run
from zoo_gen.engine.worker import train_shards

__all__ = ["Summary", "run", "train_shards"]
