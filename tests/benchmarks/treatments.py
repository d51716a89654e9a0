"""What becomes of probes under treatments of heavy-tailed features: a table of R2 on the test models, as Markdown.

    zoo-gen run tetris_seed; zoo-gen run digits_hyp; zoo-gen run mini_mnist_cnn
    zoo-gen run tests/benchmarks/heavy_mnist_cnn.toml --out zoos/heavy_mnist_cnn
    python -m tests.benchmarks.treatments zoos/heavy_mnist_cnn zoos/mini_mnist_cnn zoos/digits_hyp zoos/tetris_seed

Every treatment is fitted on training rows alone. A cell of the table is the mean R2 over the targets that are numbers,
and the lowest of them; the last two columns are the accuracy over the targets that are names.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from zoo_bench.encoders import make_encoder
from zoo_bench.evaluation.rows import InThisProcess, encode_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.targets import targets
from zoo_bench.protocol.views import TrainingView
from zoo_bench.scores import standard_probes
from zoo_bench.scores.probes import Embeddings, Labels, probe
from zoo_gen import open_zoo

ENCODERS = ("weights", "weight_statistics", "pooled_layer_statistics", "pca")
NO_CUT = 1e9  # deviations
MOST = 2e7  # numbers to train on that are ranked; more take minutes
TARGETS = ("epoch", "test_accuracy", "generalization_gap", "hyperparameters")
Treatment = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]


def clipped(share: float) -> Treatment:
    """Cut each feature at two quantiles."""

    def fitted(train):
        low, high = np.quantile(train, [share, 1 - share], axis=0)
        return lambda rows: np.clip(rows, low, high)

    return fitted


def arcsinh(train):
    """Take the inverse hyperbolic sine of the distance from the median, in interquartile ranges."""
    low, median, high = np.quantile(train, [0.25, 0.5, 0.75], axis=0)
    scale = np.where(high > low, high - low, 1.0)
    return lambda rows: np.arcsinh((rows - median) / scale)


def ranked(train):
    """Map each feature to the normal quantile of its rank among the training rows."""
    grid = np.linspace(0, 1, 201)
    quantiles = np.quantile(train, grid, axis=0)

    def apply(rows):
        ranks = np.empty(rows.shape)
        for column in range(rows.shape[1]):
            values, places = np.unique(quantiles[:, column], return_inverse=True)
            middle = np.bincount(places, weights=grid) / np.bincount(places)  # of equal values
            ranks[:, column] = np.interp(rows[:, column], values, middle)
        return stats.norm.ppf(np.clip(ranks, 0.005, 0.995))

    return apply


def cut(deviations: float) -> Treatment:
    """Cut each feature at deviations from its median, as the standard probes do."""

    def fitted(train):
        median, scale = standard_probes.middles(train)
        return lambda rows: np.clip(rows, median - deviations * scale, median + deviations * scale)

    return fitted


TREATMENTS: dict[str, Treatment] = {
    "none": lambda train: lambda rows: rows,
    "quantiles .1 %": clipped(0.001),
    "quantiles 1 %": clipped(0.01),
    "arcsinh": arcsinh,
    "normal ranks": ranked,
    "10 deviations": cut(10.0),
    "5 deviations": cut(5.0),
    "3 deviations": cut(3.0),
}


def r2(truth, predicted):
    return 1 - ((truth - predicted) ** 2).mean(axis=0) / truth.var(axis=0)


def main(folders):
    head = ["zoo, embedding", *TREATMENTS, "chosen", "paper", "names: none", "names: chosen"]
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    penalties = []
    for folder in folders:
        zoo = open_zoo(folder)
        cell = protocols.standard_cell(zoo)
        benchmark = BenchmarkManifest(name="probes", protocol="standard", zoos=(zoo.name,), targets=TARGETS)
        parts = {"train": cell.train, "validation": cell.validation, "test": cell.tests[0].views}
        all_targets = targets(benchmark, zoo)
        values = {t.name: {part: t.of_rows(views) for part, views in parts.items()} for t in all_targets}
        numbers, names = ([t.name for t in all_targets if t.is_number == kind] for kind in (True, False))
        truth = {part: np.column_stack([values[name][part] for name in numbers]) for part in parts}
        labels = {name: Labels(each["train"], each["validation"]) for name, each in values.items()}
        median = r2(truth["test"], np.median(truth["train"], axis=0))
        print(f"| {zoo.name}, the median of the training targets | {shown(median)} |{' |' * (len(head) - 2)}")
        for encoder_name in ENCODERS:
            encoder = make_encoder(encoder_name)
            encoder.fit(*([TrainingView.of(view) for view in parts[part]] for part in ("train", "validation")), seed=0)
            ready = InThisProcess(encoder_name, encoder)
            rows = {part: encode_views(ready, views).astype(np.float64) for part, views in parts.items()}
            line = []
            for name, treatment in TREATMENTS.items():
                if name == "normal ranks" and rows["train"].size > MOST:
                    line.append("")
                    continue
                features = standard_probes.features(*map(treatment(rows["train"]), rows.values()), cut=NO_CUT)
                prediction = standard_probes.regress(features, truth["train"], truth["validation"])
                line.append(shown(r2(truth["test"], prediction.predicted)))
            chosen = probe(Embeddings(**rows), labels, kind="standard")
            paper = probe(Embeddings(**rows), {name: labels[name] for name in numbers}, kind="paper")
            for predicted in (chosen, paper):
                line.append(shown(r2(truth["test"], np.column_stack([predicted[name].values for name in numbers]))))
            penalties += [chosen[name].penalty for name in numbers]
            uncut = standard_probes.features(*rows.values(), cut=NO_CUT)
            before = {name: standard_probes.classify(uncut, *vars(labels[name]).values()).predicted for name in names}
            line += [accuracy(values, names, each) for each in (before, {name: chosen[name].values for name in names})]
            print(f"| {zoo.name}, `{encoder_name}` | {' | '.join(line)} |", flush=True)
    inner = sorted(penalty for penalty in penalties if penalty != standard_probes.MEAN_ALONE)
    print(
        f"\nPenalties chosen: {inner[0]:g} to {inner[-1]:g}, and {len(penalties) - len(inner)} of {len(penalties)} "
        f"times the mean alone; the grid goes from {standard_probes.RIDGE_PENALTIES[-1]:g} to "
        f"{standard_probes.RIDGE_PENALTIES[1]:g} and to the mean alone."
    )


def accuracy(values, names, predicted):
    """The mean accuracy over targets that are names; nothing without any."""
    right = [(predicted[name] == values[name]["test"]).mean() for name in names]
    return f"{np.mean(right):.3f}" if right else ""


def shown(scores):
    mean, lowest = scores.mean(), scores.min()
    return f"{mean:.3f} ({lowest:.2f})" if lowest > -99 else f"{mean:.0e} ({lowest:.0e})"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main([Path(folder) for folder in sys.argv[1:]])
