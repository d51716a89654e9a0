"""Compares the results of two folders, a line an encoder: bit for bit, or score for score with their intervals.

    python -m tests.benchmarks.compared results-a results-b            # two runs of one command: are they equal?
    python -m tests.benchmarks.compared --scores results-old results   # of two versions: are they within intervals?

Results are read as plain JSON, so that they may be of another version. Only targets and metrics that rank are compared.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path


def results(folder):
    """Return the results below a folder by their names."""
    paths = [path for path in Path(folder).rglob("seed-*.json") if ".cells" not in path.parts]
    return {str(path.relative_to(folder)): path for path in sorted(paths)}


def content(path):
    """Return what two runs must share: all scores as they are written, and the digests of both tables."""
    result = json.loads(path.read_text())
    scores = [[cell["source"]["zoo"], cell["test"]["zoo"], cell["scores"]] for cell in result["cells"]]
    tables = [path.with_suffix(f".{name}.parquet").read_bytes() for name in ("predictions", "resamples")]
    return json.dumps(scores, sort_keys=True), [hashlib.sha256(table).hexdigest() for table in tables]


def scores(path):
    """Return the scores that may rank: (cell, target, metric, by) -> (value, low, high)."""
    return {
        (cell["source"]["zoo"], cell["test"]["zoo"], score["target"], score["metric"], score["by"]): (
            score["value"],
            score["low"],
            score["high"],
        )
        for cell in json.loads(path.read_text())["cells"]
        for score in cell["scores"]
        if score["metric"] in ("r2", "accuracy", "kendall_tau")
        and None not in (score["value"], score["low"], score["high"])
    }


def shown(score):
    """A value with its interval."""
    return f"{score[0]:+.3f} [{score[1]:+.3f}, {score[2]:+.3f}]"


def main():
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--scores", action="store_true", help="compare scores with their intervals, not bits")
    arguments = parser.parse_args()
    first, second = results(arguments.first), results(arguments.second)
    changes = defaultdict(list)  # by encoder and metric
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            print(f"{name} | only in {arguments.first if name in first else arguments.second}")
        elif not arguments.scores:
            print(f"{name} | {'equal to the last bit' if content(first[name]) == content(second[name]) else 'DIFFERS'}")
        else:
            before, after = scores(first[name]), scores(second[name])
            for key in sorted(before.keys() & after.keys()):
                changes[name.split("/")[1], *key[3:]].append(after[key][0] - before[key][0])
                apart = before[key][2] < after[key][1] or after[key][2] < before[key][1]
                both = f"{shown(before[key])} -> {shown(after[key])}"
                print(f"{name} | {' '.join(key)} | {both} | {'APART' if apart else 'within'}")
    for (encoder, metric, by), values in sorted(changes.items()):
        print(f"{encoder} | {metric} by {by} | mean change of {len(values)}: {sum(values) / len(values):+.3f}")
    return 0 if first.keys() | second.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
