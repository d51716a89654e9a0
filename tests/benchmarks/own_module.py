"""Times a torch.nn.Module of one's own, stacked by torch.func, beside a plain loop over the same module.

Run it with: python -m tests.benchmarks.own_module [--models N] [--seconds S] [--device cuda]

Both see batches of 32 of the same images with Adam, on one thread: on two cores both run twice, at the same ratio.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional

from zoo_gen import ZooManifest, load_image_data
from zoo_gen.manifest import grid
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.train import populations, single_threaded

BATCH = 32


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 10))


def manifest(models: int) -> ZooManifest:
    return ZooManifest(
        name="own_module",
        data={"source": "digits"},
        architecture={"name": "module", "module": "tests.benchmarks.own_module:mlp"},
        training={
            "epochs": 1, "batch_size": BATCH, "optimizer": "adam", "learning_rate": 1e-3, "initialization": "module",
        },
        axes={"product": {"seed": range(models)}},
    )  # fmt: skip


def loop_rate(data, *, seconds: float, device: str) -> float:
    """Return the samples a second of one plain loop."""
    images, labels = (tensor.to(device) for tensor in data.tensors("train"))
    model = mlp().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen, epoch, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        epoch += 1
        for batch in data_order(torch.tensor([0]), epoch, len(labels))[0].to(device).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            seen += len(batch)
        if device != "cpu":
            torch.cuda.synchronize()
    return seen / (time.perf_counter() - began)


def stacked_rate(own: ZooManifest, data, *, seconds: float, device: str) -> float:
    """Return the samples a second of all models of a population together."""
    settings = TrainingSettings(epochs=1000, device=device)
    _, population = next(populations(own.architecture, data, grid.table_of_models(own), settings))
    population.train_epoch(1)
    epoch, began = 1, time.perf_counter()
    while time.perf_counter() - began < seconds:
        epoch += 1
        population.train_epoch(epoch)
        float(population.running()["running_loss"].sum())
    return (epoch - 1) * len(population) * data.n_train / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    own = manifest(options.models)
    data = load_image_data(own.data)
    with single_threaded():
        loop = loop_rate(data, seconds=options.seconds, device=options.device)
        stacked = stacked_rate(own, data, seconds=options.seconds, device=options.device)
    print(f"loop {loop:,.0f} samples/s, {options.models} stacked {stacked:,.0f}: {stacked / loop:.1f} times")


if __name__ == "__main__":
    main()
