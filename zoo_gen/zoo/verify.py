"""verify: is a zoo still what was written, and do its weights still compute the metrics that stand beside them?

Everything is derived again from the manifest and the arrays and compared, so that a wrong byte is found wherever it
is; the few files that cannot be derived are held against SHA256SUMS. Some checkpoints are also evaluated again as plain
modules on the image data, which no digest could replace.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError, check_number
from zoo_gen.files import git_lfs, location
from zoo_gen.files.location import Folder, locate, on_disk, pinned
from zoo_gen.image_data import FittedImages, load_image_data
from zoo_gen.manifest.split import split_sha256
from zoo_gen.store import Store, checksums, image_labels
from zoo_gen.store.create import described, own_side_files
from zoo_gen.store.shards import part_bytes, part_name, part_table, written_by
from zoo_gen.zoo import Zoo, contents, verify_converted
from zoo_gen.zoo.lost_chunks import lost_chunks
from zoo_gen.zoo.report import IMAGE_TOLERANCE, Report, cells

LOSS_TOLERANCE = 1e-5  # of a loss computed again on another machine or device, relative to 1 + the loss


def verify(zoo: Zoo | str | Folder, *, sample: int = 20, seed: int = 0, data_root: str | Path | None = None) -> Report:
    """Check the bytes of every file of a zoo, and evaluate a sample of its checkpoints on the image data.

    Args:
        zoo: the zoo, or its folder or URL.
        sample: how many checkpoints are evaluated; 0 for none, which then needs no data.
        seed: of the sample.
        data_root: where image data is looked for; see `load_image_data`. Images of a converted zoo are only looked
            for, never downloaded. Where it is not given and images are not there, checkpoints are not evaluated, which
            the report says.

    Raises:
        ZooError: the folder holds no zoo, or the image data is not in `data_root` or not what the zoo was made from.

    >>> import zoo_gen
    >>> report = zoo_gen.verify("zoos/tiny")
    >>> print(report)
    40 models hashed, 20 checkpoints evaluated: sound
    """
    check_number("sample", sample, least=0)
    check_number("seed", seed, least=0)
    data_root = None if data_root is None else on_disk(data_root)
    folder = pinned(zoo.path if isinstance(zoo, Zoo) else locate(zoo))
    if pointers := tuple(_pointers(folder)):
        return Report(0, 0, pointers)
    listed = checksums.read(folder)
    wrong = [(name, what) for name, what in checksums.findings(folder) if name in (*listed, checksums.NAME)]
    findings = [f"{name}: {what}" for name, what in wrong]
    if (folder / checksums.NAME).is_file() and any(name != checksums.CARD for name, _ in wrong):
        return Report(0, 0, tuple(findings))  # arrays are not read by metadata that may say anything
    store = Store.open(folder)
    of_zoo = contents.Contents(store)
    unlisted = [name for name in checksums.files(folder) if name not in listed and of_zoo.has(name)]
    findings += [f"{name}: is not listed in {checksums.NAME}" for name in unlisted]
    zoo, extent, complete = Zoo(store), store.extent, store.complete_shards()
    findings += _attributes(zoo)
    converted = store.manifest.origin is not None
    if converted:
        findings += verify_converted.side_files(zoo)
    damaged = []
    for shard in complete:
        lines = [f"shard {shard}: {line}" for line in _shard(store, shard)]
        findings += lines
        if lines:
            damaged.append(shard)
    if checksums.CARD in listed:  # it was complete
        missing = sorted(set(range(extent.n_shards)).difference(complete))
        findings += [f"models/{part_name(shard)}: is not there any more" for shard in missing]
    evaluated, notes = 0, contents.describe(of_zoo.strange())
    # A checkpoint is looked up in the whole table, which damaged parts may not give.
    if not damaged:
        if converted:
            findings += verify_converted.table(zoo)
        if sample and not (converted and findings):
            evaluate = verify_converted.evaluate if converted else _evaluate
            evaluated, lines, remarks = evaluate(zoo, sample=sample, seed=int(seed), data_root=data_root)
            findings += lines
            notes += remarks
    models = sum(extent.count(shard) for shard in complete)
    return Report(models, evaluated, tuple(findings), tuple(damaged), tuple(notes))


def _pointers(folder: Folder) -> Iterator[str]:
    """Name the files in whose place pointers of Git LFS lie."""
    for name, size in location.files(folder).items() if isinstance(folder, Path) else ():
        if size <= git_lfs.MOST_BYTES and git_lfs.is_pointer((folder / name).read_bytes()):
            yield f"{name}: is a Git LFS pointer; expected the file itself (git lfs install; git lfs pull)"


def _attributes(zoo: Zoo) -> Iterator[str]:
    """Compare what the store says of itself with what the manifest says."""
    manifest, layout = zoo.manifest, None
    if not manifest.ragged:
        layout = next((each.layout for each in zoo.architectures.values()), manifest.layout)
    expected = described(manifest, zoo.extent, layout)
    if (rows := manifest.rows(slice(0, manifest.n_models))) is not None:
        expected["split_sha256"] = split_sha256(rows)
    for name, value in expected.items():
        if zoo.attributes.get(name) != json.loads(json.dumps(value)):
            yield f"weights.zarr: attribute {name} is not what the manifest gives"
    for name, content in own_side_files(manifest).items():
        if not (zoo.path / name).is_file() or (zoo.path / name).read_bytes() != content:
            yield f"{name}: is not what the manifest gives"
    try:
        epochs = np.asarray(zoo.array("epoch")[:])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        yield f"weights.zarr/epoch: cannot be read ({error})"
        return
    if epochs.tolist() != expected["checkpoint_epochs"]:
        yield "weights.zarr/epoch: is not what the manifest gives"


def _shard(store: Store, shard: int) -> Iterator[str]:
    """Derive the Parquet part of a shard again from what is known beforehand and the arrays, and compare."""
    models, name = store.extent.models(shard), f"models/{part_name(shard)}"
    try:
        content = store.part_path(shard).read_bytes()
        part = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        yield f"{name}: cannot be read ({error})"
        return
    rows = store.rows(shard)
    try:
        if rows is None:  # the digest of these columns over all shards is in the manifest
            rows = part.select(part.column_names[: part.column_names.index("status")]).replace_schema_metadata()
        expected = part_table(rows, store.read_shard(shard, rows))
    except (ZooError, ValueError, KeyError, pa.ArrowException) as error:
        yield f"cannot be read ({error})"
        return
    if part.column_names != expected.column_names or len(part) != len(expected):
        yield f"{name}: has other columns or rows than the manifest and the arrays give"
        return
    differences = list(cells(part, expected, first_model=models.start))
    lost = [f"{path}: is not there" for path in lost_chunks(store, shard, part)] if differences else []
    yield from lost or differences  # what a lost chunk is read as differs in every model
    facts = written_by(part)
    created_by = f"parquet-cpp-arrow version {facts.get('pyarrow')}"
    if (
        facts.get("manifest_digest") != store.manifest.digest
        or pq.read_metadata(pa.BufferReader(content)).created_by != created_by
    ):
        yield f"{name}: its metadata do not say which manifest and pyarrow made it"
    elif not differences and facts["pyarrow"] == pa.__version__ and content != part_bytes(expected, facts):
        # Bytes that hold no value differ; the version of pyarrow that wrote them would give them again.
        yield f"{name}: holds the right values, but other bytes than were written"


def _sample(zoo: Zoo, *, sample: int, seed: int) -> list[tuple[int, int]]:
    """Return (model, checkpoint) pairs that did not diverge, from the complete shards."""
    extent = zoo.extent
    rows = zoo.column("model_id").to_pylist()
    n_pairs = len(rows) * extent.n_checkpoints
    drawn = random.Random(seed).sample(range(n_pairs), min(n_pairs, 4 * sample))  # all pairs would be much memory
    chosen = [(rows[pair // extent.n_checkpoints], pair % extent.n_checkpoints) for pair in drawn]
    finite = [(model, c) for model, c in chosen if np.isfinite(zoo.train_loss[model, c])]
    return sorted(finite[:sample])


def _evaluate(zoo: Zoo, *, sample: int, seed: int, data_root: Path | None) -> tuple[int, list[str], list[str]]:
    """Compute the test metrics of a sample of checkpoints again as plain modules.

    Returns:
        How many checkpoints were evaluated, what is wrong with them, and what a reader should know.
    """
    import torch

    source, checkpoints = zoo.manifest.data, _sample(zoo, sample=sample, seed=seed)
    if source is None or not checkpoints:
        return 0, [], []
    try:
        data = load_image_data(source, data_root=data_root)
    except ZooError as error:
        if data_root is not None:
            raise
        return 0, [], [f"no checkpoint was evaluated: {error}"]  # whoever pulled a zoo may have no images
    if data.sha256() != zoo.attributes["data_sha256"]:
        raise ZooError(f"{zoo.path}: the image data found is not what the zoo was made from (data_sha256 differs)")
    findings = []
    if isinstance(data, FittedImages) and zoo.attributes.get(image_labels.IMAGE_LABELS) != image_labels.described(
        data.labels, data.classes
    ):
        findings.append(f"weights.zarr: attribute {image_labels.IMAGE_LABELS} is not what the images give")
    for model, checkpoint in checkpoints:
        with torch.no_grad():
            module = zoo.module(model, int(zoo.epochs[checkpoint]))
            measured = data.measure(module, zoo.models.slice(int(zoo.view([model]).rows[0]), 1).to_pylist()[0])
        for name, value in measured.items():
            stored = float(np.asarray(zoo.metric(name)[model, checkpoint]))
            tolerance = LOSS_TOLERANCE * (1 + abs(stored))
            if name == "test_accuracy":
                tolerance = (IMAGE_TOLERANCE + 1e-3) / source.n_test
            if not abs(value - stored) <= tolerance:
                where = f"model {model}, epoch {zoo.epochs[checkpoint]}"
                findings.append(f"{where}: its weights give {name} {value:.6g}; stored is {stored:.6g}")
    return len(checkpoints), findings, []
