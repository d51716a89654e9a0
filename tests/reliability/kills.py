"""SIGKILL at random moments of a real run: of all its processes, of the driver alone, of one worker."""

import io
import random
import time
from pathlib import Path

import numpy as np

from tests import forked, waiting
from tests.reliability import bench
from tests.reliability.bench import Outcome, Zoo

TARGETS = ("group", "driver", "worker")


def kills(zoo: Zoo, place: Path, *, count: int, seed: int, fresh: bool = True) -> dict[str, list[Outcome]]:
    """Kill runs with two workers until `count` kills have met one; return the outcome of the zoo that each met.

    A zoo is killed and resumed until it is complete, then compared, and the next is begun. A run that gives up a shard
    because three workers in a row were killed at it, as it promises, is resumed like one that was killed itself.
    Drivers are `fresh` interpreters, which also die while they import, or forks.
    """
    chance = random.Random(seed)
    met: dict[str, list[Outcome]] = {target: [] for target in TARGETS}
    done = 0
    while done < count:
        folder = place / f"zoo{done}"
        targets: list[str] = []
        code, outlived = None, ""
        while code is None:
            process = bench.start(zoo, folder, workers=2, fresh=fresh)
            while process.poll() is None and done < count:
                _wait_for_a_moment(folder, chance, process)
                target = chance.choice(TARGETS)
                workers = bench.group_of(process)
                if process.poll() is not None or (target == "worker" and not workers):
                    continue
                bench.kill(chance.choice(workers) if target == "worker" else process.pid, group=target == "group")
                targets.append(target)
                done += 1
                if target != "worker":
                    break
            try:
                code = bench.wait(process)
            except bench.Outlived as error:
                code, outlived = process.wait(), str(error)
            if code < 0 or bench.gave_up(zoo):
                code = None
        after = bench.outcome(zoo, folder, lost=code != 0 or bool(outlived), detail=outlived)
        for target in targets:
            met[target].append(after)
    return met


def kills_inside(zoo: Zoo, place: Path, *, count: int, seed: int, fresh: bool = True) -> list[Outcome]:
    """Kill runs of one worker between two states of one shard, which every epoch saves; return what met each kill.

    A kill waits for a state that the run before had not reached. So a zoo of which nothing were kept inside of a shard
    would never be complete, and one that is complete has gone on from states alone.
    """
    chance = random.Random(seed)
    met: list[Outcome] = []
    while len(met) < count:
        folder, met_here = place / f"inside{len(met)}", 0
        code, epoch = None, -1
        while code is None:
            process = bench.start(zoo, folder, options=("--save-every", "0"), fresh=fresh)
            reached = epoch
            while process.poll() is None and reached <= epoch:
                time.sleep(0.005)
                reached = max(map(_epoch, folder.glob("models/.*.training.tmp")), default=epoch)
            if process.poll() is None and len(met) + met_here < count:
                time.sleep(chance.uniform(0, 0.05))
                bench.kill(process.pid, group=chance.random() < 0.5)
                met_here += 1
            epoch = reached
            code = bench.wait(process)
            code = None if code < 0 else code
        met += [bench.outcome(zoo, folder, lost=code != 0)] * met_here
    return met


def _epoch(path: Path) -> int:
    """Return the epoch of a state; -1 if it has gone."""
    try:
        with np.load(io.BytesIO(path.read_bytes()[32:])) as arrays:
            return int(arrays["epoch"])
    except FileNotFoundError:
        return -1


def _wait_for_a_moment(folder: Path, chance: random.Random, process: forked.Process) -> None:
    """Wait for any moment of a run, of which most are starting up; or for one while shards are written."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 4))
        return
    before = _files(folder)
    waiting.until(lambda: _files(folder) != before or process.poll() is not None)
    time.sleep(chance.uniform(0, 0.2))


def _files(folder: Path) -> int:
    """Return how many shards have been begun or are complete."""
    return sum(len(waiting.paths_below(folder / name)) for name in ("models", "weights.zarr/weights/c"))
