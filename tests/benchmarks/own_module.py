"""Times a torch.nn.Module of one's own, as a population and in a plain loop.

Run it with: python -m tests.benchmarks.own_module [--network mlp,cnn] [--models 1,8,256]
On a GPU:    python -m tests.benchmarks.own_module --models 1024 --seconds 20 --device cuda
Anywhere:    python -m tests.benchmarks.own_module --models 1024 --dry

Both see batches of 32 of the same images with Adam, on one thread: on two cores both run twice, at the same ratio.
A CPU's times are what the process spends, which other work on the machine changes little. `--dry` takes an epoch of
each on the CPU and prints no times: it shows that the command works before a GPU is waited for.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from zoo_gen import ZooManifest, load_image_data
from zoo_gen.engine.settings import choose_forms
from zoo_gen.machine.devices import check_device
from zoo_gen.manifest import grid
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.train import populations, single_threaded

BATCH = 32


def clock_of(device: str) -> Callable[[], float]:
    return time.process_time if device == "cpu" else time.perf_counter


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    )  # fmt: skip


NETWORKS = {"mlp": mlp, "cnn": cnn}


def manifest(network: str, models: int) -> ZooManifest:
    return ZooManifest(
        name="own_module",
        data={"source": "digits"},
        architecture={"name": "module", "module": f"tests.benchmarks.own_module:{network}"},
        training={
            "epochs": 1, "batch_size": BATCH, "optimizer": "adam", "learning_rate": 1e-3, "initialization": "module",
        },
        axes={"product": {"seed": range(models)}},
    )  # fmt: skip


def loop_rate(network: str, data, *, seconds: float, device: str) -> float:
    """Return the samples a second of one plain loop."""
    clock = clock_of(device)
    images, labels = (tensor.to(device) for tensor in data.tensors("train"))
    model = NETWORKS[network]().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen, epoch, began = 0, 0, clock()
    while epoch < 1 or clock() - began < seconds:
        epoch += 1
        for batch in data_order(torch.tensor([0]), epoch, len(labels))[0].to(device).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            seen += len(batch)
        if device != "cpu":
            torch.cuda.synchronize()
    return seen / (clock() - began)


def stacked_rate(zoo_manifest: ZooManifest, data, *, seconds: float, device: str) -> float:
    """Return the samples a second of all models of a population together."""
    clock = clock_of(device)
    settings = TrainingSettings(epochs=1000, device=device, forms=choose_forms(zoo_manifest, device=device))
    _, population = next(populations(zoo_manifest.architecture, data, grid.table_of_models(zoo_manifest), settings))
    population.train_epoch(1)
    epoch, began = 1, clock()
    while epoch < 2 or clock() - began < seconds:
        epoch += 1
        population.train_epoch(epoch)
        float(population.running()["running_loss"].sum())
    return (epoch - 1) * len(population) * data.n_train / (clock() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp", help="of mlp and cnn, separated by commas")
    parser.add_argument("--models", default="256", help="numbers of models at once, separated by commas")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    device, seconds = ("cpu", 0.0) if options.dry else (options.device, options.seconds)
    check_device(device)
    for network in options.network.split(","):
        data = load_image_data(manifest(network, 1).data)
        with single_threaded():
            loop = loop_rate(network, data, seconds=seconds, device=device)
        for models in map(int, options.models.split(",")):
            with single_threaded():
                stacked = stacked_rate(manifest(network, models), data, seconds=seconds, device=device)
            if options.dry:
                print(f"{network}: a loop and a population of {models} trained")
                continue
            ratio = stacked / loop
            print(
                f"{network}: loop {loop:,.0f} samples/s, {models} models {stacked:,.0f}: {ratio:.1f} times", flush=True
            )


if __name__ == "__main__":
    main()
