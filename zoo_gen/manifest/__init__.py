"""Manifests: what a zoo is, generated or converted, as one checked text file; its axes, hyper-parameters and grid."""

from zoo_gen.manifest.manifest import (
    Checkpoints,
    CheckpointSchedule,
    Split,
    Storage,
    Training,
    ZooManifest,
    find_manifest,
    read_manifest,
    shipped_manifests,
)

__all__ = [
    "CheckpointSchedule",
    "Checkpoints",
    "Split",
    "Storage",
    "Training",
    "ZooManifest",
    "find_manifest",
    "read_manifest",
    "shipped_manifests",
]
