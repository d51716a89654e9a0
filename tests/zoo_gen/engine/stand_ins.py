"""Stand-ins for `engine.train_shards` in worker processes, which import no more than the stand-in needs."""

import os
import shutil
import signal
from pathlib import Path


def copy_but_die_at_shard_2(folder: Path, shards: list[int], *, source: Path, **options: object) -> dict[int, int]:
    """Copy shards of a complete zoo instead of training them; the worker of shard 2 dies in the middle of it."""
    with (folder.parent / "tries").open("a") as tries:
        tries.write(f"{shards[0]}\n")
    for shard in shards:
        _copy(source, folder, shard, dies=shard == 2)
    return dict.fromkeys(shards, 0)


def _copy(source: Path, folder: Path, shard: int, *, dies: bool = False) -> None:
    for chunks in filter(Path.is_dir, source.glob(f"weights.zarr/*/c/{shard}")):
        shutil.copytree(chunks, folder / chunks.relative_to(source), dirs_exist_ok=True)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
    part = f"models/part-{shard:05d}.parquet"
    shutil.copy(source / part, folder / part)


def copy_from_alone(folder: Path, shards: list[int], *, device: str, **options: object) -> dict[int, int]:
    """Copy shards of the complete zoo "alone" beside this one, where `train_on_the_cpu` trains them."""
    for shard in shards:
        _copy(folder.parent / "alone", folder, shard)
    _note_and_fail(folder, shards, device)
    return dict.fromkeys(shards, 0)


def train_on_the_cpu(folder: Path, shards: list[int], *, device: str, **options: object) -> dict[int, int]:
    """Train on a CPU where there are no GPUs: the same models, and a note of who trained them.

    Where there is a file of its name with "fails" behind it, a device fails once, after its work.
    """
    from zoo_gen.engine import train_shards

    diverged = train_shards(folder, shards, device="cpu", **options)
    _note_and_fail(folder, shards, device)
    return diverged


def _note_and_fail(folder: Path, shards: list[int], device: str) -> None:
    (folder.parent / f"{folder.name} {device} {' '.join(map(str, shards))}").touch()
    if (fails := folder.parent / f"{device} fails").exists():
        fails.unlink()
        raise RuntimeError("CUDA error: the GPU has fallen off the bus")


def tell_process(shards: list[int]) -> dict[int, int]:
    """Return who was asked, shard -> the number of its process."""
    return dict.fromkeys(shards, os.getpid())
