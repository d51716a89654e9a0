"""Which shards are one task: on a CPU each, on GPUs as many as fill one, so that all GPUs have as much to do.

What is trained together never changes a byte: our kernels compute a model alone as in company, and where torch's own
operations train on a GPU, `train_shards` gives them one shard at a time.
"""

from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise

from zoo_gen.engine.settings import models_on_device
from zoo_gen.manifest import ZooManifest
from zoo_gen.population.gpu.memory import LEAST
from zoo_gen.store import Extent


def of_part(extent: Extent, part: tuple[int, int]) -> list[int]:
    """Return the shards of the i-th of n parts, from 1; they depend on (i, n) alone, and parts differ by one shard."""
    number, parts = part
    return list(range(extent.n_shards))[number - 1 :: parts]


def blocks(
    manifest: ZooManifest,
    extent: Extent,
    shards: Sequence[int],
    *,
    devices: Sequence[str],
    pending: Sequence[int] | None = None,
    begun: Collection[int] = (),
    here: bool = True,
) -> list[list[int]]:
    """Cut shards into blocks that are trained together.

    Args:
        manifest: of the zoo.
        extent: how large it is.
        shards: their numbers.
        devices: that share them, of one kind.
        pending: those of the shards that are to be trained, all if not given.
        begun: first shards of blocks that an interrupted run has trained half-way, which stay blocks.
        here: whether the devices are this machine's, so that their memory is known.
    """
    pending = shards if pending is None else pending
    if not devices[0].startswith("cuda"):
        return [[shard] for shard in pending]
    models = models_on_device(manifest, device=devices[0])[0] if here else LEAST
    cut_for = partial(cut, at_once=max(1, round(models / extent.models_per_shard)), devices=len(devices))
    half_way = [block for block in cut_for(shards) if block[0] in begun and set(block) <= set(pending)] if begun else []
    return half_way + cut_for([shard for shard in pending if not any(shard in block for block in half_way)])


def cut(shards: Sequence[int], *, at_once: int, devices: int) -> list[list[int]]:
    """Cut shards into blocks of at most `at_once`, as many for each device, whose lengths differ by one at most.

    >>> cut(range(16), at_once=100, devices=4)
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    """
    turns = -(-len(shards) // (at_once * devices))
    count = min(len(shards), turns * devices)
    bounds = [len(shards) * number // max(1, count) for number in range(count + 1)]
    return [list(shards[start:stop]) for start, stop in pairwise(bounds)]
