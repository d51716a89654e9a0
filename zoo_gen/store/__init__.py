"""Zoos on disk (schema 1): how they are laid out, created and filled shard by shard."""

from zoo_gen.store.create import SCHEMA, EmptyZoo, untrained
from zoo_gen.store.extent import Extent
from zoo_gen.store.store import Store

__all__ = ["SCHEMA", "EmptyZoo", "Extent", "Store", "untrained"]
