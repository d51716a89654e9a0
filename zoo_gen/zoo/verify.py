"""verify: is a zoo still what was written, and do its weights still compute the metrics that stand beside them?

Everything is derived again from the manifest and the arrays and compared, so that a wrong byte is found wherever it
is; the few files that cannot be derived are held against SHA256SUMS. Some checkpoints are also evaluated anew as plain
modules on the image data, which no digest could replace.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder, pinned
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest
from zoo_gen.manifest.converted import ConvertedManifest
from zoo_gen.store import checksums, shards
from zoo_gen.store.create import following
from zoo_gen.zoo import Zoo, open_zoo
from zoo_gen.zoo.report import IMAGE_TOLERANCE, Report, cells

LOSS_TOLERANCE = 1e-5  # of a loss computed anew on another machine or device, relative to 1 + the loss


def verify(folder: Folder, *, sample: int = 20, seed: int = 0, data_root: Path | None = None) -> Report:
    """Check the bytes of every file of a zoo, and evaluate a sample of its checkpoints on the image data.

    Args:
        folder: the zoo.
        sample: how many checkpoints are evaluated; 0 for none, which then needs no data.
        seed: of the sample.
        data_root: where image data is looked for; see `load_image_data`.

    Raises:
        ZooError: the folder holds no zoo, or the image data is not there or not what the zoo was made from.
    """
    folder = pinned(folder)
    wrong = checksums.findings(folder)
    findings = [f"{name}: {what}" for name, what in wrong]
    if (folder / checksums.NAME).is_file() and any(name != checksums.CARD for name, _ in wrong):
        return Report(0, 0, tuple(findings))  # arrays are not read by metadata that may say anything
    zoo = open_zoo(folder)
    extent, manifest = zoo.extent, zoo.manifest
    if isinstance(manifest, ConvertedManifest):
        from zoo_gen.zoo import verify_converted

        return verify_converted.verify(zoo, manifest, findings, sample=sample, seed=seed, data_root=data_root)
    findings += _attributes(zoo, manifest)
    damaged = []
    for shard in zoo.complete_shards:
        found = [f"shard {shard}: {line}" for line in _shard(zoo, manifest, shard)]
        findings += found
        if found:
            damaged.append(shard)
    if checksums.CARD in checksums.read(folder):  # it was complete
        missing = sorted(set(range(extent.n_shards)).difference(zoo.complete_shards))
        findings += [f"models/{shards.part_path(folder, shard).name}: is not there any more" for shard in missing]
    # A checkpoint is looked up in the whole table, which damaged parts may not give.
    checkpoints = _sample(zoo, sample=sample, seed=seed) if not damaged else []
    if checkpoints:
        findings += _evaluations(zoo, manifest, checkpoints, data_root=data_root)
    models = sum(len(range(*extent.models(shard).indices(extent.n_models))) for shard in zoo.complete_shards)
    return Report(models, len(checkpoints), tuple(findings), tuple(damaged))


def _attributes(zoo: Zoo, manifest: ZooManifest) -> Iterator[str]:
    """Compare what the store says of itself with what the manifest says."""
    expected = following(manifest, zoo.extent)
    for name, value in expected.items():
        if zoo.attributes.get(name) != json.loads(json.dumps(value)):
            yield f"weights.zarr: attribute {name} is not what the manifest gives"
    try:
        epochs = np.asarray(zoo.array("epoch")[:])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        yield f"weights.zarr/epoch: cannot be read ({error})"
        return
    if epochs.tolist() != expected["checkpoint_epochs"]:
        yield "weights.zarr/epoch: is not what the manifest gives"


def _shard(zoo: Zoo, manifest: ZooManifest, shard: int) -> Iterator[str]:
    """Derive the Parquet part of a shard again from the manifest and the arrays, and compare."""
    extent = zoo.extent
    models = extent.models(shard)
    path = shards.part_path(zoo.path, shard)
    try:
        content = path.read_bytes()
        part = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        yield f"models/{path.name}: cannot be read ({error})"
        return
    arrays: dict[str, np.ndarray] = {}
    for name in extent.arrays():
        try:
            arrays[name] = np.asarray(zoo.array(name)[models])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            yield f"weights.zarr/{name}: cannot be read ({error})"
    if len(arrays) < len(extent.arrays()):
        return
    expected = shards.part_table(manifest, models, arrays, diverged=np.isnan(arrays["weights"]).any(axis=(1, 2)))
    if part.column_names != expected.column_names or len(part) != len(expected):
        yield f"models/{path.name}: has other columns or rows than the manifest gives"
        return
    differences = list(cells(part, expected, first_model=models.start))
    yield from differences
    origin = json.loads((part.schema.metadata or {}).get(b"zoo", b"{}"))
    written_by = f"parquet-cpp-arrow version {origin.get('pyarrow')}"
    if (
        origin.get("manifest_digest") != zoo.digest
        or pq.read_metadata(pa.BufferReader(content)).created_by != written_by
    ):
        yield f"models/{path.name}: its metadata do not say which manifest and pyarrow made it"
    elif not differences and origin["pyarrow"] == pa.__version__ and content != shards.part_bytes(expected, origin):
        # Bytes that hold no value differ; the version of pyarrow that wrote them would give them again.
        yield f"models/{path.name}: holds the right values, but other bytes than were written"


def _sample(zoo: Zoo, *, sample: int, seed: int) -> list[tuple[int, int]]:
    """Return (model, checkpoint) pairs that did not diverge, from the complete shards."""
    extent = zoo.extent
    rows = [model for shard in zoo.complete_shards for model in range(*extent.models(shard).indices(extent.n_models))]
    n_pairs = len(rows) * extent.n_checkpoints
    drawn = random.Random(seed).sample(range(n_pairs), min(n_pairs, 4 * sample))  # all pairs would be much memory
    chosen = [(rows[place // extent.n_checkpoints], place % extent.n_checkpoints) for place in drawn]
    finite = [(model, c) for model, c in chosen if np.isfinite(zoo.train_loss[model, c])]
    return sorted(finite[:sample])


def _evaluations(
    zoo: Zoo, manifest: ZooManifest, checkpoints: list[tuple[int, int]], *, data_root: Path | None
) -> Iterator[str]:
    """Compute the test metrics of checkpoints anew as plain modules."""
    import torch

    data = load_image_data(manifest.data, data_root=data_root)
    if data.sha256() != zoo.attributes["data_sha256"]:
        raise ZooError(f"{zoo.path}: the image data found is not what the zoo was made from (data_sha256 differs)")
    for model, checkpoint in checkpoints:
        with torch.no_grad():
            module = zoo.module(model, int(zoo.epochs[checkpoint]))
            found = data.measure(module, zoo.models.slice(model, 1).to_pylist()[0])
        for name, value in found.items():
            stored = float(np.asarray(zoo.metric(name)[model, checkpoint]))
            tolerance = LOSS_TOLERANCE * (1 + abs(stored))
            if name == "test_accuracy":
                tolerance = (IMAGE_TOLERANCE + 1e-3) / manifest.data.n_test
            if not abs(value - stored) <= tolerance:
                where = f"model {model}, epoch {zoo.epochs[checkpoint]}"
                yield f"{where}: its weights give {name} {value:.6g}; stored is {stored:.6g}"
