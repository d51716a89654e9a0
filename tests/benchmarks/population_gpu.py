"""Times training on a GPU, ours beside loops, CUDA graphs, and the packages of `packages.py` that are installed.

Run it on a machine with a GPU: python -m tests.benchmarks.population_gpu [--quick] [--works 0,3] [--ways "ours, bf"]

Every way takes Adam steps on random batches of its own a model, from images on the device. Samples a second are summed
over the models. Operations are those of the convolutions and linear layers, forward and back; the memory roof is what a
copy on this device reaches, over the bytes of activations written and read once a layer in bfloat16. With JAX, set
XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from tests.benchmarks import packages
from tests.benchmarks.packages import WORKS, Work, images_of
from tests.benchmarks.plain import PlainLoop
from zoo_gen.architecture.layers import Convolution, Flatten, Linear
from zoo_gen.architecture.registry import MLP, layers
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import populations


def ours(work: Work, n_models: int, precision: str, *, evaluate: bool = False) -> float:
    """Return the samples a second of whole epochs, the order of the images included; or of evaluations."""
    from tests.zoo_gen.population.test_train import models

    table = models(
        seed=list(range(n_models)),
        activation=[work.activation],
        batch_size=[work.batch_size],
        learning_rate=[1e-3],
        dropout=[work.dropout],
    )
    settings = TrainingSettings(epochs=100, device="cuda", kernels=precision)
    (rows, population), *_ = populations(work.architecture, images_of(work), table, settings)
    if evaluate:
        return timed(partial(population.evaluate, "train"), len(rows) * work.images)
    population.train_epoch(1)
    population.train_epoch(2)  # the first one compiles, the second captures what is left
    torch.cuda.synchronize()
    began, epochs = time.perf_counter(), 0
    while time.perf_counter() - began < 0.7:
        population.train_epoch(3 + epochs)
        torch.cuda.synchronize()
        epochs += 1
    return len(rows) * work.images * epochs / (time.perf_counter() - began)


def layer_by_layer(work: Work, n_models: int, precision: str, *, evaluate: bool = False) -> float:
    """Return what `ours` does where no model lives in one multiprocessor."""
    from zoo_gen.population.gpu.resident import compiling

    hindrance = compiling.hindrance
    compiling.hindrance = lambda device: "this way goes layer by layer"
    try:
        return ours(work, n_models, precision, evaluate=evaluate)
    finally:
        compiling.hindrance = hindrance


def timed(step: Callable[[], object], samples: int) -> float:
    return packages.timed(step, samples, wait=torch.cuda.synchronize)


def loop(work: Work, *, graphed: bool) -> float:
    inputs, labels = images_of(work).tensors("train", device="cuda")
    plain = PlainLoop(work.architecture, inputs, labels, batch_size=work.batch_size, activation=work.activation)
    if not graphed:
        return timed(plain.step, work.batch_size)
    return timed(plain.captured().replay, work.batch_size)


def cost_of_a_sample(work: Work) -> tuple[float, float]:
    """Return the operations of a training sample, and the bytes of its activations in bfloat16."""
    shape, operations, activations = work.shape, 0.0, float(np.prod(work.shape)) / 2
    for position, layer in enumerate(layers(work.architecture, work.shape, work.n_classes)):
        if isinstance(layer, Flatten) and isinstance(work.architecture, MLP):
            shape = output_shape(layer, shape)
            continue
        shape = output_shape(layer, shape)
        if isinstance(layer, Convolution):
            count = 2 * layer.inputs * layer.kernel**2 * float(np.prod(shape))
        elif isinstance(layer, Linear):
            count = 2.0 * layer.inputs * layer.outputs
        else:
            continue
        operations += count * (2 if position == 0 else 3)
        # Written and read forward, read for the weights and the activation back; its gradient written and read twice.
        activations += 7 * float(np.prod(shape))
    return operations, 2 * activations


def copy_rate() -> float:
    """Return the bytes a second, read and written, of a large copy."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return timed(lambda: target.copy_(source), 2 * len(source))


COLUMNS = ("work", "way", "models", "M samples/s", "TFLOP/s", "of memory", "x loop", "x graph")
WIDTHS = (25, 22, 7, 12, 8, 10, 9, 8)


def row(*cells: str) -> str:
    placed = [cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=False)]  # a message ends a row early
    return " ".join([cells[0].ljust(WIDTHS[0]), cells[1].ljust(WIDTHS[1]), *placed[2:]])


def ways(work: Work, *, quick: bool) -> Iterator[tuple[str, int, Callable[[], float]]]:
    """Yield what is measured: a name, the number of models, and the measurement, which returns samples a second."""
    middle = min(1024, work.n_models[-1])
    yield "loop", 1, partial(loop, work, graphed=False)
    yield "loop, CUDA graph", 1, partial(loop, work, graphed=True)
    named = list(packages.ways(work, middle, "cuda"))
    for way, measure in named[:2] if quick else named:
        yield way, middle, measure
    for precision in ("float32", "tf32", "bfloat16"):
        counts = work.n_models if precision == "bfloat16" else (middle,)
        for n_models in counts[-2:] if quick else counts:
            yield f"ours, {precision}", n_models, partial(ours, work, n_models, precision)
    yield "layer by layer, bf16", middle, partial(layer_by_layer, work, middle, "bfloat16")
    yield "the same, evaluation", middle, partial(layer_by_layer, work, middle, "bfloat16", evaluate=True)
    yield "ours, evaluation, bf16", middle, partial(ours, work, middle, "bfloat16", evaluate=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer ways and counts")
    parser.add_argument("--works", default="0,1,2,3,4,5,6", help="numbers of the works, from 0")
    parser.add_argument("--ways", nargs="+", default=[""], help="only those whose names begin so")
    arguments = parser.parse_args()
    bandwidth = copy_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; a copy moves {bandwidth / 1e12:.2f} TB/s\n")
    print(row(*COLUMNS))
    for work in (WORKS[int(number)] for number in arguments.works.split(",")):
        operations, size = cost_of_a_sample(work)
        rates: dict[str, float] = {}
        for way, n_models, measure in ways(work, quick=arguments.quick):
            if not way.startswith(tuple(arguments.ways)):
                continue
            try:
                rate = measure()
            except (RuntimeError, ImportError) as error:  # out of memory, or no such package
                print(row(work.name, way, str(n_models), str(error).splitlines()[0][:60]), flush=True)
                continue
            rates.setdefault(way, rate)
            print(
                row(
                    *(work.name, way, str(n_models), f"{rate / 1e6:.3f}", f"{rate * operations / 1e12:.2f}"),
                    *(f"{rate * size / bandwidth:.1%}", f"{rate / rates.get('loop', math.nan):.1f}"),
                    f"{rate / rates.get('loop, CUDA graph', rate):.1f}",
                ),
                flush=True,
            )
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
