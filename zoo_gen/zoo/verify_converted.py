"""verify, for a converted zoo: is it still what was converted, and do its weights compute what the paper reports?

Bytes are compared as for a generated zoo. The functional proof needs the images, which are only looked for, never
downloaded. Publications seldom say exactly how they scaled them, so that usual ways are tried after the documented one:
kernels in a wrong order fail under all of them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError
from zoo_gen.image_data import ImageData
from zoo_gen.image_data.load import default_data_root
from zoo_gen.image_data.local import test_images
from zoo_gen.image_data.steps import MeanDeviation, Steps
from zoo_gen.manifest import converted
from zoo_gen.manifest.converted import ConvertedManifest
from zoo_gen.store import checksums, shards
from zoo_gen.zoo import Zoo
from zoo_gen.zoo.report import IMAGE_TOLERANCE, Report, cells

if TYPE_CHECKING:
    import torch

# Of a loss that another framework computed, relative to 1 + the loss.
LOSS_TOLERANCE = 1e-3
# Mean and deviation of pixels in [0, 1] that networks for grey images are usually given.
_USUAL = ((0.0, 1.0), (0.5, 0.5), (0.1307, 0.3081), (0.2860, 0.3530))


@dataclass(frozen=True)
class Difference:
    """One checkpoint evaluated anew."""

    model: int
    epoch: int
    accuracy: float
    stored_accuracy: float
    loss: float
    stored_loss: float  # NaN where there is none to compare
    n_images: int

    @property
    def agrees(self) -> bool:
        """Whether the accuracies agree, but for images whose largest logits are equal up to rounding."""
        return abs(self.accuracy - self.stored_accuracy) <= (IMAGE_TOLERANCE + 1e-3) / self.n_images

    @property
    def loss_agrees(self) -> bool:
        """Whether the losses agree; true where there is none to compare."""
        tolerance = LOSS_TOLERANCE * (1 + abs(self.stored_loss))
        return not np.isfinite(self.stored_loss) or abs(self.loss - self.stored_loss) <= tolerance


def verify(
    zoo: Zoo, manifest: ConvertedManifest, findings: list[str], *, sample: int, seed: int, data_root: Path | None
) -> Report:
    """Check the bytes of a converted zoo, and evaluate a sample of its checkpoints on the images where they are there.

    Args:
        zoo: the zoo.
        manifest: its manifest.
        findings: what was found wrong already.
        sample: how many checkpoints are evaluated.
        seed: of the sample.
        data_root: where images are; if it is given, they must be there.

    Raises:
        ZooError: the images are not in `data_root`.
    """
    findings += _fixed(zoo, manifest)
    damaged = []
    descriptions: list[pa.Table] = []
    for shard in zoo.complete_shards:
        found = [f"shard {shard}: {line}" for line in _shard(zoo, shard, descriptions)]
        findings += found
        if found:
            damaged.append(shard)
    missing = sorted(set(range(zoo.extent.n_shards)).difference(zoo.complete_shards))
    if checksums.CARD in checksums.read(zoo.path):
        findings += [f"models/{shards.part_path(zoo.path, shard).name}: is not there any more" for shard in missing]
    if not damaged and not missing:
        whole = pa.concat_tables(descriptions)
        if converted.table_sha256(whole) != manifest.origin.table_sha256:
            findings.append("models: the table is not the one that was read from the archive (digests differ)")
    notes: list[str] = []
    evaluated = 0
    if sample and not findings:
        evaluated, wrong, notes = _evaluations(zoo, manifest, sample=sample, seed=seed, data_root=data_root)
        findings += wrong
    models = sum(len(table) for table in descriptions)
    return Report(models, evaluated, tuple(findings), tuple(damaged), tuple(notes))


def _fixed(zoo: Zoo, manifest: ConvertedManifest) -> Iterator[str]:
    """Compare what stands beside the shards with the manifest."""
    expected = {"name": manifest.name, "checkpoint_epochs": list(manifest.epochs), "n_models": manifest.models}
    for name, value in expected.items():
        if zoo.attributes.get(name) != value:
            yield f"weights.zarr: attribute {name} is not what the manifest gives"
    try:
        if np.asarray(zoo.array("epoch")[:]).tolist() != list(manifest.epochs):
            yield "weights.zarr/epoch: is not what the manifest gives"
        indices = [_permutation(architecture) for architecture in zoo.architectures.values()]
        if converted.permutations_sha256(indices) != manifest.permutation_sha256:
            yield f"{converted.ARCHITECTURES}: does not give the permutation that was applied (digests differ)"
        if not manifest.ragged and not np.array_equal(np.asarray(zoo.array("permutation")[:]), indices[0]):
            yield f"weights.zarr/permutation: is not what {converted.ARCHITECTURES} gives"
        for name in manifest.splits:
            converted.split_table(zoo.path, manifest, name)
    except (ZooError, OSError, ValueError, RuntimeError) as error:
        yield f"{error}"


def _permutation(architecture: converted.Architecture) -> np.ndarray:
    """Return the index (parameter,) that puts a source vector in the stored order."""
    index = np.zeros(architecture.layout.size, dtype=np.int64)
    places = {parameter.name: parameter for parameter in architecture.layout.parameters}
    for row in architecture.sources:
        place = places[row["parameter"]]
        numbers = np.arange(row["start"], row["start"] + int(np.prod(row["shape"], dtype=np.int64)))
        index[place.start : place.stop] = numbers.reshape(row["shape"]).transpose(row["axes"]).reshape(-1)
    return index


def _shard(zoo: Zoo, shard: int, descriptions: list[pa.Table]) -> Iterator[str]:
    """Derive what a part says of its arrays again, and compare; its descriptive columns go to `descriptions`."""
    extent = zoo.extent
    models = range(*extent.models(shard).indices(extent.n_models))
    path = shards.part_path(zoo.path, shard)
    try:
        part = pq.read_table(path, page_checksum_verification=True)
        description = part.select(part.column_names[: part.column_names.index("status")])
        arrays = _arrays(zoo, shard, models, description)
    except (OSError, ValueError, KeyError, RuntimeError, pa.ArrowException) as error:
        yield f"cannot be read ({error})"
        return
    descriptions.append(description.replace_schema_metadata())
    expected = shards.converted_part_table(description, range(len(models)), arrays)
    if part.column_names != expected.column_names or len(part) != len(expected):
        yield f"models/{path.name}: has other columns or rows than the arrays give"
        return
    differences = list(cells(part, expected, first_model=models.start))
    yield from differences
    origin = json.loads((part.schema.metadata or {}).get(b"zoo", b"{}"))
    if origin.get("manifest_digest") != zoo.digest:
        yield f"models/{path.name}: its metadata do not say which manifest made it"
        return
    same = (
        differences or origin["pyarrow"] != pa.__version__ or path.read_bytes() == shards.part_bytes(expected, origin)
    )
    if not same:
        yield f"models/{path.name}: holds the right values, but other bytes than were written"


def _arrays(zoo: Zoo, shard: int, models: range, description: pa.Table) -> dict[str, Any]:
    """Return the arrays of a shard as they were written."""
    names = [name for name in zoo.extent.arrays() if name != "weights"]
    arrays: dict[str, Any] = {n: np.asarray(zoo.array(n)[models.start : models.stop]) for n in names}
    weights = zoo.array("weights")
    if not zoo.manifest.ragged:
        arrays["weights"] = np.asarray(weights[models.start : models.stop])
        return arrays
    sizes = [len(row) for row in description["checkpoints"].to_pylist()]
    widths, starts = description["n_parameters"].to_pylist(), description["weights_start"].to_pylist()
    row = np.asarray(weights[shard])
    shapes = zip(starts, sizes, widths, strict=True)
    arrays["weights"] = [row[start : start + size * width].reshape(size, width) for start, size, width in shapes]
    return arrays


def _evaluations(
    zoo: Zoo, manifest: ConvertedManifest, *, sample: int, seed: int, data_root: Path | None
) -> tuple[int, list[str], list[str]]:
    """Return how many checkpoints were evaluated, what is wrong with them, and what a reader should know."""
    if "test_accuracy" not in zoo.metrics or not isinstance(manifest.data, Steps):
        return 0, [], ["no checkpoint evaluated: the archive reports no test accuracy on images that are known"]
    if not manifest.recomputable:
        return (
            0,
            [],
            ["no checkpoint evaluated: weights alone do not give this publication's accuracies; see the notes"],
        )
    if any(architecture.layers is None for architecture in zoo.architectures.values()):
        return 0, [], ["no checkpoint evaluated: how the models compute is not known"]
    data = test_images(manifest.data, data_root or default_data_root())
    if data is None:
        lacking = f"no images of {manifest.data_name} in {data_root or default_data_root()}"
        if data_root is not None:
            raise ZooError(f"{lacking}; expected them there, or --sample 0")
        return 0, [], [f"no checkpoint evaluated: {lacking}; --data-root says where they are"]
    checkpoints = _sample(zoo, sample=sample, seed=seed)
    if not checkpoints:
        return 0, [], ["no checkpoint evaluated: none has finite weights and a test accuracy"]
    n_images = len(data.test_labels)
    if n_images != manifest.data.n_test and not _are_shares(zoo, checkpoints, n_images):
        there = f"{n_images:,} test images are there, and the accuracies are not shares of so many"
        return 0, [], [f"no checkpoint evaluated: {there}; expected all {manifest.data.n_test:,}"]
    tried: list[tuple[str, list[Difference]]] = []
    for way, images in _ways(manifest.data, data):
        # A way that fails on the first few is not the way.
        found = [_evaluated(zoo, *place, images) for place in checkpoints[:4]]
        if any(one.agrees for one in found) or not tried:
            found += [_evaluated(zoo, *place, images) for place in checkpoints[4:]]
            tried.append((way, found))
            if all(one.agrees for one in found):
                break
    way, best = max(tried, key=lambda pair: sum(one.agrees for one in pair[1]))
    wrong = [
        f"model {one.model}, epoch {one.epoch}: its weights give test_accuracy {one.accuracy:.6g}; the archive says "
        f"{one.stored_accuracy:.6g}"
        for one in best
        if not one.agrees
    ]
    notes = [f"the accuracies are those of images scaled as {way}, not as documented"] if way and not wrong else []
    losses = [one for one in best if not one.loss_agrees]
    if 2 * len(losses) > len(best):
        notes.append("the losses are computed otherwise than as mean cross-entropy; only accuracies were compared")
    else:
        wrong += [
            f"model {one.model}, epoch {one.epoch}: its weights give test_loss {one.loss:.6g}; the archive says "
            f"{one.stored_loss:.6g}"
            for one in losses
            if one.agrees
        ]
    return len(best), wrong, notes


def _sample(zoo: Zoo, *, sample: int, seed: int) -> list[tuple[int, int]]:
    """Return (model, checkpoint) pairs with finite weights and a test accuracy, from all over the zoo."""
    accuracy, largest = np.asarray(zoo.test_accuracy[:]), np.asarray(zoo.metric("max_abs")[:])
    there = np.isin(np.arange(len(accuracy)), zoo.models["model_id"].to_numpy())
    pairs = np.argwhere(np.isfinite(accuracy) & np.isfinite(largest) & there[:, None])
    chosen = np.random.RandomState(seed).permutation(len(pairs))[:sample]
    return [(int(model), int(checkpoint)) for model, checkpoint in pairs[chosen]]


def _are_shares(zoo: Zoo, checkpoints: list[tuple[int, int]], n_images: int) -> bool:
    """Return whether accuracies can have been measured on so many images."""
    counts = np.array([float(np.asarray(zoo.test_accuracy[place])) for place in checkpoints]) * n_images
    return bool((np.abs(counts - np.rint(counts)) < 1e-2).all())


def _ways(source: Steps, data: ImageData) -> "Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]":
    """Yield the images as inputs: as documented under the name "", then as other publications scale them."""
    import torch

    yield "", data.tensors("test")
    documented = source.affine[0] * 255, source.affine[1]
    channels = len(data.scale)
    for mean, deviation in _USUAL:
        usual = MeanDeviation(mean=(mean,) * channels, deviation=(deviation,) * channels)
        scale = np.full(channels, 1 / deviation), np.full(channels, -mean / deviation)
        if np.allclose(scale[0], documented[0]) and np.allclose(scale[1], documented[1]):
            continue
        pixels, labels = data.part("test")
        inputs = torch.from_numpy(pixels).float() / 255
        yield (
            f"mean {usual.mean[0]}, deviation {usual.deviation[0]}",
            (
                (inputs - mean) / deviation,
                torch.from_numpy(np.array(labels)),
            ),
        )


def _evaluated(zoo: Zoo, model: int, checkpoint: int, images: "tuple[torch.Tensor, torch.Tensor]") -> Difference:
    """Evaluate one checkpoint as a plain module."""
    import torch

    inputs, labels = images
    epoch = int(zoo.epochs[checkpoint])
    module = zoo.module(model, epoch)
    with torch.no_grad():
        logits = torch.cat([module(batch) for batch in inputs.split(2000)])
    stored = float(np.asarray(zoo.test_accuracy[model, checkpoint]))
    (row,) = zoo.view([model]).rows.tolist()
    penalised = zoo.models["l2"][row].as_py() if "l2" in zoo.models.column_names else 0.0
    has_loss = "test_loss" in zoo.metrics and not penalised  # else the framework's loss holds the penalty too
    return Difference(
        model=model,
        epoch=epoch,
        accuracy=(logits.argmax(dim=1) == labels).float().mean().item(),
        stored_accuracy=stored,
        loss=torch.nn.functional.cross_entropy(logits, labels).item(),
        stored_loss=float(np.asarray(zoo.test_loss[model, checkpoint])) if has_loss else float("nan"),
        n_images=len(labels),
    )
