"""Zoos on disk (schema 1): how they are laid out, created and filled shard by shard."""

from zoo_gen.store.create import (
    NO_FORMS,
    SCHEMA,
    Extent,
    attributes,
    create,
    extent_of,
    fixed_files,
    make_arrays,
    open_group,
    recorded_forms,
)

__all__ = [
    "NO_FORMS",
    "SCHEMA",
    "Extent",
    "attributes",
    "create",
    "extent_of",
    "fixed_files",
    "make_arrays",
    "open_group",
    "recorded_forms",
]
