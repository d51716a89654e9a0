"""What `verify` asks of converted zoos alone: their side files, and whether weights compute what the paper reports.

The functional proof needs the images, which are only looked for, never
downloaded. Publications seldom say exactly how they scaled them, so that usual ways are tried after the documented one:
kernels in a wrong order fail under all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.errors import ZooError, argument
from zoo_gen.image_data import ImageData
from zoo_gen.image_data.load import default_data_root
from zoo_gen.image_data.local import test_images
from zoo_gen.image_data.steps import Steps
from zoo_gen.store.side_files import ARCHITECTURES, permutations_sha256, read_split, table_sha256
from zoo_gen.zoo import Zoo
from zoo_gen.zoo.report import IMAGE_TOLERANCE

if TYPE_CHECKING:
    import torch

# Of a loss that another framework computed, relative to 1 + the loss.
LOSS_TOLERANCE = 1e-3
# Mean and deviation of pixels in [0, 1] that networks for grey images are usually given.
_USUAL = ((0.0, 1.0), (0.5, 0.5), (0.1307, 0.3081), (0.2860, 0.3530))


@dataclass(frozen=True)
class Difference:
    """One checkpoint evaluated again."""

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


def side_files(zoo: Zoo) -> Iterator[str]:
    """Compare the files that only a converted zoo has with its manifest."""
    manifest = zoo.manifest
    try:
        indices = [architecture.permutation for architecture in zoo.architectures.values()]
        if permutations_sha256(indices) != manifest.permutation_sha256:
            yield f"{ARCHITECTURES}: does not give the permutation that was applied (digests differ)"
        if not manifest.ragged and not np.array_equal(np.asarray(zoo.array("permutation")[:]), indices[0]):
            yield f"weights.zarr/permutation: is not what {ARCHITECTURES} gives"
        for name in zoo.splits:
            read_split(zoo.path, manifest.splits, name)
    except (ZooError, OSError, ValueError, RuntimeError) as error:
        yield f"{error}"


def table(zoo: Zoo) -> Iterator[str]:
    """Compare what the archive said of all models with the digest of it in the manifest."""
    origin, names = zoo.manifest.origin, zoo.models.column_names
    rows = zoo.models.select(names[: names.index("status")])
    if zoo.complete and origin is not None and table_sha256(rows) != origin.table_sha256:
        yield "models: the table is not the one that was read from the archive (digests differ)"


def evaluate(zoo: Zoo, *, sample: int, seed: int, data_root: Path | None) -> tuple[int, list[str], list[str]]:
    """Compute the test metrics of a sample of checkpoints again on the images, where they are there.

    Returns:
        How many checkpoints were evaluated, what is wrong with them, and what a reader should know.

    Raises:
        ZooError: the images are not in the `data_root` that was given.
    """
    manifest = zoo.manifest
    if "test_accuracy" not in zoo.metrics or not isinstance(manifest.data, Steps):
        return 0, [], ["no checkpoint evaluated: the archive reports no test accuracy on images that are known"]
    if not manifest.recomputable:
        reason = "weights alone do not give this publication's accuracies; see the notes"
        return 0, [], [f"no checkpoint evaluated: {reason}"]
    if any(architecture.network is None for architecture in zoo.architectures.values()):
        return 0, [], ["no checkpoint evaluated: how the models compute is not known"]
    data = test_images(manifest.data, data_root or default_data_root())
    if data is None:
        lacking = f"no images of {manifest.data_name} in {data_root or default_data_root()}"
        if data_root is not None:
            raise ZooError(f"{lacking}; expected them there, or {argument('sample', 0)}")
        return 0, [], [f"no checkpoint evaluated: {lacking}; {argument('data_root')} says where they are"]
    checkpoints = _sample(zoo, sample=sample, seed=seed)
    if not checkpoints:
        return 0, [], ["no checkpoint evaluated: none has finite weights and a test accuracy"]
    n_images = len(data.test_labels)
    if n_images != manifest.data.n_test and not _are_shares(zoo, checkpoints, n_images):
        reason = f"{n_images:,} test images are there, and the accuracies are not shares of so many"
        return 0, [], [f"no checkpoint evaluated: {reason}; expected all {manifest.data.n_test:,}"]
    tried: list[tuple[str, list[Difference]]] = []
    for way, images in _ways(manifest.data, data):
        # A way that fails on the first few is not the way.
        differences = [_evaluated(zoo, *pair, images) for pair in checkpoints[:4]]
        if any(one.agrees for one in differences) or not tried:
            differences += [_evaluated(zoo, *pair, images) for pair in checkpoints[4:]]
            tried.append((way, differences))
            if all(one.agrees for one in differences):
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
    is_listed = np.isin(np.arange(len(accuracy)), zoo.models["model_id"].to_numpy())
    pairs = np.argwhere(np.isfinite(accuracy) & np.isfinite(largest) & is_listed[:, None])
    chosen = np.random.RandomState(seed).permutation(len(pairs))[:sample]
    return [(int(model), int(checkpoint)) for model, checkpoint in pairs[chosen]]


def _are_shares(zoo: Zoo, checkpoints: list[tuple[int, int]], n_images: int) -> bool:
    """Return whether accuracies can have been measured on so many images."""
    counts = np.array([float(np.asarray(zoo.test_accuracy[pair])) for pair in checkpoints]) * n_images
    return bool((np.abs(counts - np.rint(counts)) < 1e-2).all())


def _ways(source: Steps, data: ImageData) -> "Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]":
    """Yield the images as inputs: as documented under the name "", then as other publications scale them."""
    import torch

    yield "", data.tensors("test")
    documented = source.affine[0] * 255, source.affine[1]
    channels = len(data.scale)
    for mean, deviation in _USUAL:
        scale = np.full(channels, 1 / deviation), np.full(channels, -mean / deviation)
        if np.allclose(scale[0], documented[0]) and np.allclose(scale[1], documented[1]):
            continue
        pixels, labels = data.part("test")
        inputs = torch.from_numpy(pixels).float() / 255
        scaled = (inputs - mean) / deviation, torch.from_numpy(np.array(labels))
        yield f"mean {mean}, deviation {deviation}", scaled


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
