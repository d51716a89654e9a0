"""Times a logistic probe of wide embeddings, ours beside scikit-learn's Newton steps, on one thread.

Both go through the same penalties, each from the solution before.

Run it with: python -m tests.benchmarks.probes [--rows 25800] [--features 1200]

Embeddings are made up: 60 directions that names follow from, behind a tanh, and noise whose size falls by a factor of
20 along the features, so that they are as correlated as those of autoencoders.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from zoo_bench.scores import standard_probes
from zoo_bench.scores.logistic import Logistic

PENALTIES = (1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0, 0.1)


def embeddings(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (row, feature) and one of five names for each row."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((n_rows, 60))
    sizes = np.exp(-3 * np.arange(n_features) / n_features)
    noise = random.standard_normal((n_rows, n_features)) * sizes
    rows = np.tanh(hidden @ random.standard_normal((60, n_features)) / 8) + 0.3 * noise
    names = (hidden[:, :5] + 1.5 * random.standard_normal((n_rows, 5))).argmax(axis=1).astype(str)
    return rows.astype(np.float32), names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_800)
    parser.add_argument("--features", type=int, default=1_200)
    arguments = parser.parse_args()
    rows, names = embeddings(arguments.rows, arguments.features)
    with threadpool_limits(limits=1, user_api="blas"):
        parts = standard_probes.features(rows, rows[:100], rows[:100], cut=10.0)
        began = time.process_time()
        along, _, _ = parts.along_axes
        print(f"principal axes, which ridge regressions use too: {time.process_time() - began:.1f} s", flush=True)
        ours = Logistic(along, names, squares=parts.axes.squares)
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


if __name__ == "__main__":
    main()
