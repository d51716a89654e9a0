"""Bad disks and bad bytes: each fault is put into a zoo or a run, answered as a user would, and compared."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import files_of
from tests.reliability import bench
from tests.reliability.bench import Outcome, Zoo
from tests.reliability.object_store import FLAKY, READ_TIMEOUT, known, object_store
from zoo_gen import engine
from zoo_gen.files.location import locate
from zoo_gen.store import Store
from zoo_gen.zoo.verify import verify


class CannotMount(Exception):
    """Raised where there are no rights for a file system of one's own."""


@contextmanager
def disk(place: Path, *, kilobytes: int) -> Iterator[Path]:
    """Mount a small disk in memory for the time of a test."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        raise CannotMount
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, option: str) -> None:
    """Change the size of a disk, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


def disk_full(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """The disk is full somewhere in a shard: one line; with more room, the same command goes on."""
    with disk(place / "disk", kilobytes=chance.randint(150, 300)) as mounted:
        folder = mounted / "tiny"
        first = bench.wait(bench.start(zoo, folder))
        output = (zoo.manifest.parent / "said").read_text()
        remount(mounted, "size=64m")
        engine.run(zoo.manifest, folder, workers=1)
        clear = first == 2 and "No space left on device; what is complete is kept" in output and output.count("\n") == 1
        return bench.outcome(zoo, folder, lost=not clear, detail=output)


def read_only(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """The folder cannot be written: one line, nothing changed; once it can, the same command goes on."""
    with disk(place / "disk", kilobytes=65536) as mounted:
        folder = mounted / "tiny"
        shutil.copytree(zoo.folder, folder)
        for shard in chance.sample(range(4), chance.randint(1, 4)):
            Store.open(folder).part_path(shard).unlink()
        before = files_of(folder)
        remount(mounted, "ro")
        first = bench.wait(bench.start(zoo, folder))
        output = (zoo.manifest.parent / "said").read_text()
        unchanged = files_of(folder) == before
        remount(mounted, "rw")
        engine.run(zoo.manifest, folder, workers=1)
        clear = first == 2 and "Read-only file system" in output and output.count("\n") == 1
        return bench.outcome(zoo, folder, lost=not (clear and unchanged), detail=output)


def flipped_bit(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """One bit of any file: found by verify, repaired by `run --repair`."""

    def flip(content: bytearray) -> bytearray:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return content

    return _damaged(zoo, place, chance, flip)


def truncated(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """Any file cut off anywhere."""
    return _damaged(zoo, place, chance, lambda content: content[: chance.randrange(len(content))])


def missing(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """Any file gone."""
    return _damaged(zoo, place, chance, lambda _: None)


def _damaged(zoo: Zoo, place: Path, chance: random.Random, damage: Callable[[bytearray], bytearray | None]) -> Outcome:
    """Damage one file, of any kind with the same chance, and repair; no more than its shard may be trained."""
    folder = shutil.copytree(zoo.folder, place / "tiny")
    kind_of = {name: Path(name).suffix or name.split("/")[0] for name in zoo.files}
    kind = chance.choice(sorted(set(kind_of.values())))
    path = folder / chance.choice([name for name in zoo.files if kind_of[name] == kind])
    content = damage(bytearray(path.read_bytes()))
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    findings = verify(folder, sample=0).findings
    summary = engine.run(zoo.manifest, folder, workers=1, repair=True)
    # The card, the manifest and all metadata are mended without training.
    in_a_shard = path.suffix == ".parquet" or (kind == "weights.zarr" and "epoch" not in path.parts)
    exact = summary.trained_shards == int(in_a_shard)
    return bench.outcome(zoo, folder, lost=not findings or not exact, detail=str(path.relative_to(folder)))


def stale_temporary_files(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """What killed runs leave beside the real files is gone after the next run."""
    folder = shutil.copytree(zoo.folder, place / "tiny")
    shard = chance.randrange(4)
    stale = [f"models/.part-0000{shard}.parquet.99999.tmp", ".README.md.99999.tmp", ".SHA256SUMS.99999.tmp"]
    stale.append(f"weights.zarr/test_loss/c/{shard}/0.0123456789abcdef.partial")
    for name in chance.sample(stale, chance.randint(1, 4)):
        (folder / name).write_bytes(chance.randbytes(100))
    if chance.random() < 0.5:
        (folder / "models" / f"part-0000{shard}.parquet").unlink()
    engine.run(zoo.manifest, folder, workers=1)
    return bench.outcome(zoo, folder)


def two_runs(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """Two runs are started on one folder, shortly after each other."""
    runs = [bench.start(zoo, place / "tiny", workers=chance.randint(1, 2))]
    runs.append(bench.start(zoo, place / "tiny", workers=1))
    codes = [bench.wait(run) for run in runs]
    return bench.outcome(zoo, place / "tiny", lost=codes != [0, 0])


def killed_at_a_flaky_store(zoo: Zoo, place: Path, chance: random.Random) -> Outcome:
    """An object store refuses, delays, cuts off and loses answers, and the run is killed and started again."""
    with object_store(place / "store", read_timeout=READ_TIMEOUT) as store_, known(store_):
        store_.faults, store_.chance = FLAKY, chance
        first = bench.start(zoo, "s3://bucket/tiny")
        store_.wait_for(chance.randint(10, 150), first)
        bench.kill(first.pid, group=True)
        bench.wait(first)
        store_.faults = {}
        # What is complete by its Parquet part is whole; there may be no zoo yet.
        begun = "manifest.toml" in store_.files("tiny")
        findings = verify(locate("s3://bucket/tiny"), sample=0).findings if begun else ()
        store_.faults = FLAKY
        second = bench.wait(bench.start(zoo, "s3://bucket/tiny"))
        output = (zoo.manifest.parent / "said").read_text() + "\n".join(findings)
        return bench.compare(zoo, store_.files("tiny"), lost=bool(findings) or second != 0, detail=output)


FAULTS: dict[str, Callable[[Zoo, Path, random.Random], Outcome]] = {
    "disk full in the middle of a shard": disk_full,
    "folder read-only": read_only,
    "one bit of any file flipped": flipped_bit,
    "any file truncated": truncated,
    "any file missing": missing,
    "stale temporary files": stale_temporary_files,
    "two runs on one folder at once": two_runs,
    "object store refuses, delays, cuts off, loses answers; SIGKILL": killed_at_a_flaky_store,
}
