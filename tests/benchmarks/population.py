"""Times training on this machine's cores, ours beside plain torch loops, one a core with one thread each.

Run it with `make benchmark`, or: python tests/benchmarks/population.py [--seconds S] [--works 0,1,...]

Two questions a work. How many training samples a second: steps alone, as many processes as cores, Adam, each model in
an order of its own, by the time that the cores give. And the whole way, by the clock, so on a quiet machine: `zoo-gen
run` from its start to the zoo on the disk, beside loops that train and evaluate what it does. Operations are those of
convolutions and linear layers, forward and both gradients, without the gradient that nobody asks the first layer for;
the peak is torch's own product of matrices of 512 x 512, measured on all cores at once. Loops train a model, or for
some seconds, and are scaled.
"""

import argparse
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch
from torch.nn import functional

from zoo_gen import engine, find_manifest, load_image_data, read_manifest
from zoo_gen.architecture.layers import INPUT, Branch, Convolution, Flatten, Linear
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.engine.settings import choose_forms, training_settings
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.manifest import ZooManifest, grid
from zoo_gen.population.random import data_order
from zoo_gen.population.train import populations, single_threaded

CNN = """
name = "benchmark"
[data]
source = "synthetic"
image_shape = [1, 28, 28]
train_size = {images}
test_size = 1000
[architecture]
name = "{architecture}"
[training]
epochs = {epochs}
batch_size = {batch_size}
optimizer = "adam"
learning_rate = 1e-3
initialization = "kaiming_uniform"
activation = "{activation}"
[checkpoints]
epochs = [0, {epochs}]
train_images = 1000
[axes]
product.seed = {{ range = [1, 64] }}
[storage]
models_per_shard = 32
"""


@dataclass(frozen=True)
class Work:
    name: str
    manifest: str  # text, or the name of one that ships
    whole: bool  # whether the whole way is timed too


def cnn(architecture: str, activation: str, *, batch_size: int, images: int, epochs: int) -> str:
    return CNN.format(
        architecture=architecture, activation=activation, batch_size=batch_size, images=images, epochs=epochs
    )


def residual() -> str:
    """Return a manifest of the residual CNN with batch norm that ships."""
    layers = re.search(r"^layers = \[.*?^\]", find_manifest("mini_mnist_resnet").read_text(), re.DOTALL | re.MULTILINE)
    text = cnn("layers", "relu", batch_size=64, images=640, epochs=4)
    return text.replace('name = "layers"', f'name = "layers"\n{layers[0]}').replace(
        "models_per_shard = 32", "models_per_shard = 16"
    )


WORKS = (
    Work("MLP of tetris_seed, batch 32", "tetris_seed", True),
    Work("cnn_small, batch 10", cnn("cnn_small", "tanh", batch_size=10, images=2000, epochs=4), True),
    Work("cnn_small, batch 64", cnn("cnn_small", "tanh", batch_size=64, images=3200, epochs=4), True),
    Work("cnn_small, batch 128", cnn("cnn_small", "tanh", batch_size=128, images=3200, epochs=4), False),
    Work("small_cnn_gap, batch 128", cnn("small_cnn_gap", "relu", batch_size=128, images=6400, epochs=4), False),
    Work("residual CNN with batch norm, batch 64", residual(), False),
)


class Loop:
    """One model of a manifest, trained by torch.nn and torch.optim."""

    def __init__(self, manifest: ZooManifest, seed: int) -> None:
        data = load_image_data(manifest.data)
        self.settings, self.seed = manifest.training, seed
        self.images, self.labels = data.tensors("train")
        measured = manifest.checkpoints.train_images
        measured = len(self.labels) if measured == "all" else measured
        self.parts = [(self.images[:measured], self.labels[:measured]), data.tensors("test")]
        torch.manual_seed(seed)
        self.model = manifest.network.module(activation=self.settings.activation)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.settings.learning_rate)

    def train_epoch(self, epoch: int) -> None:
        order = data_order(torch.tensor([self.seed]), epoch, len(self.labels))[0]
        for batch in order.split(self.settings.batch_size):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(self.images[batch]), self.labels[batch]).backward()
            self.optimizer.step()

    def evaluate(self) -> None:
        with torch.no_grad():
            for inputs, truth in self.parts:
                logits = self.model(inputs)
                functional.cross_entropy(logits, truth)
                (logits.argmax(dim=1) == truth).float().mean()


def loop_samples(path: str, seconds: float) -> float:
    """Return the samples a second of one plain loop."""
    loop = Loop(read_manifest(find_manifest(path)), 0)
    return rate(loop.train_epoch, len(loop.labels), seconds)


def our_samples(path: str, seconds: float) -> float:
    """Return the samples a second of one population as `zoo-gen run` trains it in one process."""
    manifest = read_manifest(find_manifest(path))
    models = grid.table_of_models(manifest).slice(0, manifest.storage.models_per_shard or 100)
    forms = choose_forms(manifest, device="cpu")
    settings, data = training_settings(manifest, device="cpu", forms=forms), load_image_data(manifest.data)
    _, population = next(populations(manifest.architecture, data, models, settings))
    with freed_memory_kept():
        return rate(population.train_epoch, len(population) * manifest.data.n_train, seconds)


def rate(train_epoch: Callable[[int], None], samples: int, seconds: float) -> float:
    """Return the samples a second of this core's time of whole epochs, after one that is not timed."""
    train_epoch(1)
    began, epochs = time.thread_time(), 0
    while time.thread_time() - began < seconds:
        epochs += 1
        train_epoch(1 + epochs)
    return samples * epochs / (time.thread_time() - began)


def matmul_flops(_: str, seconds: float) -> float:
    """Return the operations a second of torch's product of matrices."""
    one, other = torch.randn(2, 512, 512)
    return rate(lambda _: torch.mm(one, other), 2 * 512**3, seconds)


def looped(path: str, n_models: int) -> float:
    """Train and evaluate models as a run does, one after another; return the seconds."""
    manifest = read_manifest(find_manifest(path))
    began = time.perf_counter()
    for seed in range(n_models):
        loop = Loop(manifest, seed)
        for epoch in range(manifest.training.epochs + 1):
            if epoch:
                loop.train_epoch(epoch)
            if epoch in manifest.checkpoint_epochs:
                loop.evaluate()
    return time.perf_counter() - began


def alone(function: Callable[[str, float], float], path: str, amount: float) -> float:
    with single_threaded():
        return function(path, amount)


def one_a_core(function: Callable[[str, float], float], path: str, amount: float) -> list[float]:
    """Do the same on each core at once, with one thread each."""
    cores = joblib.cpu_count()
    with joblib.Parallel(n_jobs=cores) as parallel:
        parallel(joblib.delayed(time.sleep)(0.2) for _ in range(cores))  # starts the processes, and is not timed
        return parallel(joblib.delayed(alone)(function, path, amount) for _ in range(cores))


def operations(manifest: ZooManifest) -> int:
    """Return the operations of training on one sample."""
    total, shape, first = 0, manifest.data.input_shape, True
    shapes = {INPUT: shape}
    for layer in manifest.layers:
        inputs = shape
        shape = shapes[layer.name] = shapes[layer.source] if isinstance(layer, Branch) else output_shape(layer, shape)
        if isinstance(layer, Convolution | Linear):
            places = shape[1] * shape[2] * layer.kernel**2 if isinstance(layer, Convolution) else 1
            total += (4 if first else 6) * inputs[0] * shape[0] * places
        first = first and isinstance(layer, Flatten)
    return total


def report(work: Work, path: str, *, peak: float, seconds: float) -> None:
    manifest, cores = read_manifest(find_manifest(path)), joblib.cpu_count()
    each, forms = operations(manifest), choose_forms(manifest, device="cpu")
    print(f"\n{work.name}: {each / 1e6:.4f} MFLOP a sample; forms: {', '.join(forms.values()) or 'none'}")
    loops = sum(one_a_core(loop_samples, path, seconds))
    ours = sum(one_a_core(our_samples, path, seconds))
    for way, samples in (("training, loops, one a core", loops), ("training, ours", ours)):
        speed = each * samples
        share = f"{100 * speed / peak:7.1f} %"
        print(f"  {way:34} {samples:12,.0f} samples/s {speed / 1e9:8.2f} GFLOP/s {share} {samples / loops:7.1f} x")
    if not work.whole:
        return
    n_models = 1
    looping = max(one_a_core(looped, path, n_models)) / (n_models * cores)
    with tempfile.TemporaryDirectory() as folder:
        summary = engine.run(find_manifest(path), Path(folder) / "zoo")
    running = summary.seconds / summary.trained_models
    for way, time_each in (("all, loops, one a core", looping), ("all, zoo-gen run", running)):
        print(f"  {way:34} {1 / time_each:12,.2f} models/s {looping / time_each:37.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing of steps")
    parser.add_argument("--works", default=",".join(map(str, range(len(WORKS)))), help="which works, by number")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", "A worker stopped")  # which joblib says where memory has grown between timings
    peaks = one_a_core(matmul_flops, "", 1.0)
    print(
        f"torch {torch.__version__}, {joblib.cpu_count()} cores, {sum(peaks) / 1e9:.0f} GFLOP/s in products of matrices"
    )
    with tempfile.TemporaryDirectory() as folder:
        for number in map(int, settings.works.split(",")):
            path = WORKS[number].manifest
            if path.startswith("\n"):
                path = str(Path(folder) / f"work{number}.toml")
                Path(path).write_text(WORKS[number].manifest)
            report(WORKS[number], path, peak=sum(peaks), seconds=settings.seconds)


if __name__ == "__main__":
    main()
