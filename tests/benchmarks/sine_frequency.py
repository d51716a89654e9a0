"""Where the frequency of a sine network lies in its weights: boosting on what an encoder may or may not see.

Run it with: python -m tests.benchmarks.sine_frequency ZOO, the folder of `sne_sine_inr` or `mini_sine_inr`

docs/encoders/sne.md states the result. No view is an encoder: they ask whether sets of numbers hold the frequency, or
only sets whose members are known to belong to the same hidden unit. That depends on how the networks begin. What a
network computes has the frequency in any case: the last line is of the sine wave nearest to it.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from zoo_bench.protocol import protocols
from zoo_gen import open_zoo
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.zoo import Zoo

QUANTILES = (0, 10, 25, 50, 75, 90, 100)
OMEGA = 30.0  # of the first layer's sine


def statistics(weights: np.ndarray, layout: ParameterLayout) -> np.ndarray:
    """Return moments and quantiles of each tensor (network, feature)."""
    features = []
    for parameter in layout.parameters:
        values = weights[:, parameter.start : parameter.stop]
        squares = (values**2).mean(axis=1)
        features += [values.mean(axis=1), values.std(axis=1), np.abs(values).mean(axis=1)]
        features += [(values**4).mean(axis=1) / squares**2, *np.percentile(values, QUANTILES, axis=1)]
    return np.stack(features, axis=1)


def paired(weights: np.ndarray, layout: ParameterLayout) -> np.ndarray:
    """Return the statistics, and for each hidden unit its frequency beside how strongly the next layer reads it."""
    parts = {p.name: weights[:, p.start : p.stop].reshape(-1, *p.shape) for p in layout.parameters}
    first, second, last = (parts[f"linear{number}.weight"] for number in (1, 2, 3))
    frequency = np.abs(OMEGA * first[:, :, 0])
    order = np.argsort(frequency, axis=1)
    reads = np.linalg.norm(second, axis=1), np.abs(np.einsum("no,noi->ni", last[:, 0], second))
    units = [np.take_along_axis(values, order, axis=1) for values in (frequency, *reads)]
    means = [(frequency * read).sum(axis=1, keepdims=True) / read.sum(axis=1, keepdims=True) for read in reads]
    return np.concatenate([statistics(weights, layout), *units, *means], axis=1)


def of_nearest_wave(weights: np.ndarray, layout: ParameterLayout) -> np.ndarray:
    """Return the frequency, to 0.005, of the sine wave nearest to what each network computes (network,)."""
    parts = {p.name: weights[:, p.start : p.stop].reshape(-1, *p.shape) for p in layout.parameters}
    points = np.linspace(-1, 1, 500)
    values = np.broadcast_to(points[None, :, None], (len(weights), 500, 1))
    for number in (1, 2, 3):
        kernel, bias = parts[f"linear{number}.weight"], parts[f"linear{number}.bias"]
        values = values @ kernel.transpose(0, 2, 1) + bias[:, None]
        values = np.sin(OMEGA * values) if number < 3 else values
    frequencies = np.arange(0.5, 10.0025, 0.005)
    waves = np.sin(frequencies[:, None] * points)
    # |value - wave|^2 without the part that is the same for all waves
    distances = (waves**2).sum(axis=1) - 2 * values[..., 0] @ waves.T
    return frequencies[distances.argmin(axis=1)]


def last_networks(zoo: Zoo, models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return final weights (network, number) and frequencies (network,)."""
    view = zoo.view(models)
    return view.weights[:, -1].astype(np.float64), view.hyperparameter("frequency").astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("zoo", type=Path)
    zoo = open_zoo(parser.parse_args().zoo)
    cell = protocols.standard_cell(zoo)
    inputs, targets = last_networks(zoo, cell.train.models)
    test_inputs, test_targets = last_networks(zoo, cell.tests[0].view.models)
    print(f"{len(targets)} networks train, {len(test_targets)} test")
    print(f"{'mean of training':25} squared error {np.mean((targets.mean() - test_targets) ** 2):.2f}")
    views = {"weights": lambda weights, _: weights, "statistics of tensors": statistics, "hidden units paired": paired}
    for name, view in views.items():
        boosting = HistGradientBoostingRegressor(max_iter=500, learning_rate=0.05, random_state=0)
        boosting.fit(view(inputs, zoo.layout), targets)
        error = np.mean((boosting.predict(view(test_inputs, zoo.layout)) - test_targets) ** 2)
        print(f"{name:25} squared error {error:.2f}", flush=True)
    error = np.mean((of_nearest_wave(test_inputs, zoo.layout) - test_targets) ** 2)
    print(f"{'the nearest wave':25} squared error {error:.2g}")


if __name__ == "__main__":
    main()
