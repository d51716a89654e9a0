"""Prints the table of docs/reliability.md: faults injected, runs, zoos lost, bytes that differ.

Run it with `make reliability`, or: python -m tests.reliability.report [--kills N] [--runs N]
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import bench
from tests.reliability.bench import Outcome
from tests.reliability.faults import FAULTS, CannotMount
from tests.reliability.kills import kills, kills_inside

OFTENER = {
    "one bit of any file flipped": 20,
    "any file truncated": 10,
    "any file missing": 10,
    "stale temporary files": 5,
}
KILLED = {"group": "SIGKILL to all processes", "driver": "SIGKILL to the driver", "worker": "SIGKILL to a worker"}
INSIDE = "SIGKILL inside of a shard, after other epochs"


def row(fault: str, outcomes: list[Outcome]) -> str:
    lost, differ = sum(o.lost for o in outcomes), sum(o.bytes_that_differ for o in outcomes)
    for detail in sorted({outcome.detail for outcome in outcomes if outcome.lost}):
        print(f"{fault}: {detail}", file=sys.stderr)
    return f"| {fault} | {len(outcomes):,} | {lost} | {differ:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=10, help="of each fault; of cheap ones 5 to 20 times as many")
    arguments = parser.parse_args()
    began = time.monotonic()
    print("| fault injected | runs | zoos lost | bytes that differ |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        met = kills(bench.make(place / "many", bench.MANY_SHARDS), place / "kills", count=arguments.kills, seed=0)
        for target, outcomes in met.items() if arguments.kills else ():
            print(row(KILLED[target], outcomes), flush=True)
        if arguments.kills:
            one = bench.make(place / "one", bench.ONE_SHARD)
            print(row(INSIDE, kills_inside(one, place / "inside", count=arguments.kills, seed=0)), flush=True)
        tiny = bench.make(place / "tiny")
        for number, (fault, inject) in enumerate(FAULTS.items() if arguments.runs else ()):
            outcomes = []
            for seed in range(arguments.runs * OFTENER.get(fault, 1)):
                try:
                    outcomes.append(inject(tiny, place / f"{number}-{seed}", random.Random(seed)))
                except CannotMount:
                    break
            unable = f"| {fault} | not run: no rights to mount | | |"
            print(row(fault, outcomes) if outcomes else unable, flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
