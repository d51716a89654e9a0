"""Times the training of transformers, ours beside a plain loop over the same network in torch.nn.

Run it with: python -m tests.benchmarks.transformers [--device cuda] [--models N] [--seconds S] [--networks vit,mini]
    [--ways torch,float32,tf32,bfloat16] [--warps KERNEL=N,...] [--profile]

Both see batches of the same images, with Adam. On a CPU both have one thread, and times are of its own time:
on two cores both run twice, at the same ratio; on a busy machine both lose alike. On a GPU the loop is one step in a
CUDA graph, and the clock is the wall's; `--ways` are torch's operations and the precisions of our kernels, and
`--warps` changes how many warps a kernel has. `--profile` shows where our steps spend their time. The share of the peak
is operations a sample (6 for each multiplication of a forward pass) x samples a second / 989.5 TFLOP/s, the dense
bfloat16 peak of an H100 or H200 with SXM; what is computed twice, and padding of tiles, does not count.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.plain import PlainLoop
from zoo_gen import ZooManifest, load_image_data
from zoo_gen.architecture.layers import Attention, Convolution, Linear
from zoo_gen.architecture.shapes import shapes
from zoo_gen.engine.settings import choose_forms, training_settings
from zoo_gen.image_data import Data
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.manifest import grid
from zoo_gen.population.population import Population
from zoo_gen.population.random import data_order
from zoo_gen.population.train import populations, single_threaded

TORCH = "torch"  # the way of torch's operations
PEAK = 989.5e12

NETWORKS = {  # the network of the Small Transformer Zoo, and that of mini_digits_vit
    "vit": ({"name": "vit"}, (1, 28, 28), 128),
    "mini": ({"name": "vit", "patch": 2, "width": 16, "skips": True, "hidden_head": False}, (1, 8, 8), 32),
}


def manifest(network: str, *, models: int, dropout: float, padding: int) -> ZooManifest:
    architecture, shape, batch = NETWORKS[network]
    return ZooManifest(
        name="transformers",
        data={
            "source": "synthetic", "image_shape": shape, "train_size": 8 * batch, "test_size": batch,
        },
        architecture=architecture,
        training={
            "epochs": 1000, "batch_size": batch, "optimizer": "adam", "learning_rate": 1e-3, "activation": "relu",
            "initialization": "normal", "initialization_deviation": 0.1, "dropout": dropout, "crop_padding": padding,
        },
        checkpoints={"epochs": [1000]},
        axes={"product": {"seed": range(models)}},
    )  # fmt: skip


def operations(zoo_manifest: ZooManifest) -> int:
    """Return the operations of training on one sample: three products for each of the forward pass."""
    total, before = 0, zoo_manifest.data.input_shape
    for layer, after in zip(
        zoo_manifest.layers, shapes(zoo_manifest.layers, zoo_manifest.data.input_shape), strict=True
    ):
        if isinstance(layer, Convolution):
            total += layer.kernels[0] * layer.kernels[1] * before[0] * after[0] * after[1] * after[2]
        elif isinstance(layer, Linear):
            total += layer.inputs * layer.outputs * (after[0] if len(after) == 2 else 1)
        elif isinstance(layer, Attention):
            total += after[0] * layer.inner * (4 * layer.features + 2 * after[0])
        before = after
    return 6 * total


def loop_steps(zoo_manifest: ZooManifest, data: Data, *, dropout: float, padding: int) -> Callable[[], None]:
    """Return a function that takes one epoch of one model by torch.nn and torch.optim."""
    images, labels = data.tensors("train")
    batch_size = zoo_manifest.training.batch_size
    torch.manual_seed(0)
    model = zoo_manifest.network.module(activation="relu", dropout=dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    side = images.shape[3]

    def epoch() -> None:
        for batch in data_order(torch.tensor([0]), 1, len(labels))[0].split(batch_size):
            pixels = images[batch]
            if padding:
                padded = functional.pad(pixels, (padding,) * 4)
                corners = torch.randint(0, 2 * padding + 1, (len(batch), 2)).tolist()
                crops = [each[:, d : d + side, r : r + side] for each, (d, r) in zip(padded, corners, strict=True)]
                pixels = torch.stack(crops)
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels), labels[batch]).backward()
            optimizer.step()

    return epoch


def population_of(zoo_manifest: ZooManifest, data: Data, *, device: str, way: str = TORCH) -> Population:
    settings = training_settings(zoo_manifest, device=device, forms=choose_forms(zoo_manifest, device=device))
    settings = replace(settings, kernels=None if way == TORCH else way)
    return next(populations(zoo_manifest.architecture, data, grid.table_of_models(zoo_manifest), settings))[1]


def _next_epoch(population: Population, epochs: Iterator[int]) -> None:
    population.train_epoch(next(epochs))


def rate(epoch: Callable[[], object], samples: int, seconds: float) -> float:
    """Return the samples a second of this thread's time of whole epochs, after one that is not timed."""
    epoch()
    began, count = time.thread_time(), 0
    while time.thread_time() - began < seconds:
        epoch()
        count += 1
    return samples * count / (time.thread_time() - began)


def on_cpu(network: str, *, models: int, seconds: float, profiled: bool) -> None:
    for what, dropout, padding in (("steps alone", 0.0, 0), ("with dropout and crops", 0.1, 2)):
        zoo_manifest = manifest(network, models=models, dropout=dropout, padding=padding)
        data = load_image_data(zoo_manifest.data)
        with single_threaded(), freed_memory_kept():
            loop = rate(loop_steps(zoo_manifest, data, dropout=dropout, padding=padding), data.n_train, seconds)
            population, epochs = population_of(zoo_manifest, data, device="cpu"), iter(range(1, 1001))
            ours = rate(partial(_next_epoch, population, epochs), len(population) * data.n_train, seconds)
            if profiled:
                with profile() as seen:
                    population.train_epoch(1)
                print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))
        print(
            f"{network}, {what}: loop {loop:,.0f} samples/s of a core's time, {len(population)} models {ours:,.0f}: "
            f"{ours / loop:.2f} times, {operations(zoo_manifest) * ours / 1e9:.1f} GFLOP/s"
        )


def on_gpu(network: str, *, models: int, seconds: float, ways: Sequence[str], profiled: bool) -> None:
    """Time each way to train on a GPU beside two loops that draw their batches, and neither crop nor drop."""
    zoo_manifest = manifest(network, models=models, dropout=0.0, padding=0)
    data, batch_size = load_image_data(zoo_manifest.data), zoo_manifest.training.batch_size
    inputs, labels = data.tensors("train", device="cuda")
    loops = {}
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        graph = PlainLoop(
            zoo_manifest.architecture, inputs, labels, batch_size=batch_size, activation="relu"
        ).captured()
        loops[name] = _timed(partial(_replay, graph), 100 * batch_size, seconds)
    torch.set_float32_matmul_precision("highest")
    print(
        f"{network} on {torch.cuda.get_device_name()}, {operations(zoo_manifest) / 1e6:.2f} MFLOP a training sample: "
        f"one model in a CUDA graph {loops['float32']:,.0f} samples/s in float32, {loops['tf32']:,.0f} in tf32"
    )
    for dropout, padding in ((0.0, 0), (0.1, 2)):
        zoo_manifest = manifest(network, models=models, dropout=dropout, padding=padding)
        for way in ways:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            population, epochs = population_of(zoo_manifest, data, device="cuda", way=way), iter(range(1, 10_000))
            population.train_epoch(next(epochs))  # compiles
            population.train_epoch(next(epochs))  # captures
            torch.cuda.synchronize()
            ready = time.perf_counter() - began
            samples = len(population) * data.n_train
            ours = _timed(partial(_next_epoch, population, epochs), samples, seconds)
            done = operations(zoo_manifest) * ours
            print(
                f"  {'dropout and crops' if dropout else 'steps alone'}, {way}: {len(population)} models {ours:,.0f} "
                f"samples/s, {ours / loops['float32']:.1f} times the loop in float32, {ours / loops['tf32']:.1f} in "
                f"tf32; {done / 1e12:.1f} TFLOP/s, {done / PEAK:.1%} of the bf16 peak; "
                f"{torch.cuda.max_memory_allocated() / len(population) / 1e6:.1f} MB a model; ready in {ready:.0f} s",
                flush=True,
            )
            if profiled:
                with profile(activities=[ProfilerActivity.CUDA]) as seen:
                    population.train_epoch(next(epochs))
                    torch.cuda.synchronize()
                print(seen.key_averages().table(sort_by="self_device_time_total", row_limit=25))
            del population


def _timed(step: Callable[[], object], samples: int, seconds: float) -> float:
    """Return the samples a second of a step on a GPU, after one that is not timed."""
    step()
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        torch.cuda.synchronize()
        count += 1
    return samples * count / (time.perf_counter() - began)


def _replay(graph: torch.cuda.CUDAGraph) -> None:
    for _ in range(100):
        graph.replay()


def _set_warps(settings: str) -> None:
    from zoo_gen.population.gpu.transformer import WARPS  # needs Triton

    for each in settings.split(","):
        kernel, warps = each.split("=")
        if kernel not in WARPS:
            raise SystemExit(f"--warps: no kernel {kernel!r}; expected {', '.join(WARPS)}")
        WARPS[kernel] = int(warps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--ways", default=f"{TORCH},float32,tf32,bfloat16")
    parser.add_argument("--warps")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.warps:
        _set_warps(options.warps)
    for network in options.networks.split(","):
        if options.device == "cuda":
            on_gpu(
                network,
                models=options.models,
                seconds=options.seconds,
                ways=options.ways.split(","),
                profiled=options.profile,
            )
        else:
            on_cpu(network, models=options.models, seconds=options.seconds, profiled=options.profile)


if __name__ == "__main__":
    main()
