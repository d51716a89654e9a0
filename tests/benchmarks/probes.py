"""Times what a cell computes after its encoder has encoded, phase by phase, on one thread.

Run it with: python -m tests.benchmarks.probes [--rows 25800] [--features 1200] [--compare]

Eight numbers and three names (of 5, 3 and 2) are predicted of a zoo whose models have nine checkpoints each.
`--compare` times a logistic probe of five names beside scikit-learn's Newton steps, both through the same penalties,
each from the solution before. Seconds are those of a core.

Embeddings are made up: directions whose sizes fall by a factor of a million, behind a tanh, as they do in those of an
autoencoder of real networks. Numbers and names follow from all of these directions, and checkpoints of a model lie near
each other.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from zoo_bench.results import records, scoring
from zoo_bench.results.records import TargetPrediction
from zoo_bench.scores import standard_probes
from zoo_bench.scores.logistic import Logistic

PENALTIES = (1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0, 0.1)
CHECKPOINTS, N_NUMBERS, N_NAMES = 9, 8, (5, 3, 2)
_DIRECTIONS = 1200


def embeddings(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return embeddings (row, feature), numbers (row, target), and for each target of names a name a row."""
    random = np.random.default_rng(0)
    of_models = np.repeat(random.standard_normal((-(-n_rows // CHECKPOINTS), _DIRECTIONS)), CHECKPOINTS, axis=0)[
        :n_rows
    ]
    hidden = (0.95 * of_models + 0.3 * random.standard_normal(of_models.shape)).astype(np.float32)
    sizes = 10 ** (-6 * np.sqrt(np.arange(_DIRECTIONS) / _DIRECTIONS))
    mixing = (sizes[:, None] * random.standard_normal((_DIRECTIONS, n_features)) / 3).astype(np.float32)
    rows = np.tanh(hidden @ mixing)
    signals = of_models @ (random.standard_normal((_DIRECTIONS, 10)) * np.exp(-np.arange(_DIRECTIONS) / 120)[:, None])
    signals /= signals.std(axis=0)
    numbers = signals[:, :N_NUMBERS] + random.standard_normal((n_rows, N_NUMBERS))
    names = []
    for start, count in zip((0, 5, 8), N_NAMES, strict=True):
        names.append(signals[:, start : start + count].argmax(axis=1).astype(str))
    return rows, numbers, names


class Phases:
    """Seconds of a core that each phase takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add what runs inside to a phase."""
        began = time.process_time()
        yield
        self.seconds[phase] += time.process_time() - began


def phases(n_rows: int, n_features: int) -> None:
    """Print the seconds of each phase of a cell with so many training rows."""
    n_others = n_rows // 42 * CHECKPOINTS  # 15 % of the models select and 15 % test, where 70 % train
    rows, numbers, names = embeddings(n_rows + 2 * n_others, n_features)
    train, validation = slice(n_rows), slice(n_rows, n_rows + n_others)
    test = slice(n_rows + n_others, len(rows))
    timed = Phases()
    with threadpool_limits(limits=1, user_api="blas"):
        alternatives = standard_probes.alternatives(rows[train], rows[validation], rows[test])
        for _ in standard_probes.CUTS:
            with timed.timed("cut and standardise, twice"):
                parts = next(alternatives)
            with timed.timed("principal axes, twice"):
                _ = parts.along_axes
            with timed.timed(f"ridge regressions, {N_NUMBERS} numbers"):
                regressed = standard_probes.regress(parts, numbers[train], numbers[validation])
            classified = []
            for of_target, count in zip(names, N_NAMES, strict=True):
                with timed.timed(f"logistic regressions, {count} names"):
                    classified.append(standard_probes.classify(parts, of_target[train], of_target[validation]))
        predicted = [
            *((True, numbers[test, column], regressed.predicted[:, column]) for column in range(N_NUMBERS)),
            *((False, of_target[test], each.predicted) for of_target, each in zip(names, classified, strict=True)),
        ]
        with timed.timed("scores and intervals"):
            of_targets = [
                TargetPrediction(
                    cell="cell",
                    target=f"target {number}",
                    by="probe",
                    penalty=1.0,
                    models=np.arange(n_others) // CHECKPOINTS,
                    epochs=np.arange(n_others) % CHECKPOINTS,
                    truth=truth,
                    predicted=values.astype(np.float64 if is_number else str),
                )
                for number, (is_number, truth, values) in enumerate(predicted)
            ]
            scored = scoring.score_cell(of_targets, rank_by="r2", chance=0.1, reading="probe")
        with timed.timed("writing"), TemporaryDirectory() as folder:
            path = Path(folder, "cell.json")
            records.write_predictions(of_targets, path)
            records.write_resamples([one.resampled for one in scored], records.resamples_path(path))
    for phase, seconds in timed.seconds.items():
        print(f"{phase:32} {seconds:6.1f} s")
    print(f"{'all':32} {sum(timed.seconds.values()):6.1f} s", flush=True)


def compare(n_rows: int, n_features: int) -> None:
    """Print the seconds of each penalty of a logistic regression of five names, ours and scikit-learn's."""
    rows, _, (names, *_) = embeddings(n_rows, n_features)
    with threadpool_limits(limits=1, user_api="blas"):
        parts = standard_probes.features(rows, rows[:100], rows[:100], cut=10.0)
        along, _, _ = parts.along_axes
        ours = Logistic(along, names)
        theirs = LogisticRegression(solver="newton-cg", warm_start=True)
        totals = [0.0, 0.0]
        print(f"{'penalty':>9} {'ours':>8} {'theirs':>8} {'largest difference of a probability':>36}")
        for penalty in PENALTIES:
            began = time.process_time()
            ours.fit(penalty)
            after = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs.set_params(C=1 / penalty).fit(parts.train, names)
            seconds = (after - began, time.process_time() - after)
            totals = [total + each for total, each in zip(totals, seconds, strict=True)]
            difference = np.abs(ours.shares(along) - theirs.predict_proba(parts.train)).max()
            print(f"{penalty:9.0e} {seconds[0]:7.1f}s {seconds[1]:7.1f}s {difference:36.5f}", flush=True)
    print(f"{'all':>9} {totals[0]:7.1f}s {totals[1]:7.1f}s   theirs takes {totals[1] / totals[0]:.1f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_800)
    parser.add_argument("--features", type=int, default=1_200)
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    run = compare if arguments.compare else phases
    run(arguments.rows, arguments.features)


if __name__ == "__main__":
    main()
