"""Manifests: what a zoo is, generated or converted, as one checked text file; its axes, hyper-parameters and grid."""

from zoo_gen.manifest.converted import ConvertedManifest
from zoo_gen.manifest.manifest import ZooManifest
from zoo_gen.manifest.protocol import Manifest, read_any
from zoo_gen.manifest.reading import as_manifest, find_manifest, read_manifest, shipped_manifests
from zoo_gen.manifest.split import Split, StoredSplit
from zoo_gen.manifest.training import Checkpoints, CheckpointSchedule, Storage, Training

__all__ = [
    "CheckpointSchedule",
    "Checkpoints",
    "ConvertedManifest",
    "Manifest",
    "Split",
    "Storage",
    "StoredSplit",
    "Training",
    "ZooManifest",
    "as_manifest",
    "find_manifest",
    "read_any",
    "read_manifest",
    "shipped_manifests",
]
