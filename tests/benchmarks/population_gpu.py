"""Times training on a GPU, ours beside what else there is: loops, CUDA graphs, torch.func.vmap, and JAX if installed.

Run it on a machine with a GPU: python -m tests.benchmarks.population_gpu [--quick] [--works 0,3]

Every way takes Adam steps on random batches of its own a model, from images on the device. Samples a second are summed
over the models. Operations are those of the convolutions and linear layers, forward and back; the memory roof is what a
copy on this device reaches, over the bytes of activations written and read once a layer in bfloat16.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from tests.benchmarks.plain import PlainLoop
from zoo_gen.architecture.layers import Convolution, Flatten, Linear, output_shape
from zoo_gen.architecture.registry import MLP, Architecture, CNNSmall, SmallCNNGap, layers, network
from zoo_gen.image_data import ImageData
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import populations


@dataclass(frozen=True)
class Work:
    name: str
    architecture: Architecture
    shape: tuple[int, int, int]
    n_classes: int
    batch_size: int
    activation: str
    n_models: tuple[int, ...]
    images: int  # of an epoch
    dropout: float = 0.0  # only of ours


GAP = SmallCNNGap(name="small_cnn_gap")
WORKS = (
    Work("small_cnn_gap, batch 128", GAP, (1, 28, 28), 10, 128, "relu", (64, 256, 1024, 4096), 12_800),
    Work("cnn_small, batch 10", CNNSmall(name="cnn_small"), (1, 28, 28), 10, 10, "tanh", (64, 1024, 2560, 8192), 2_000),
    Work("cnn_small, batch 128", CNNSmall(name="cnn_small"), (1, 28, 28), 10, 128, "tanh", (64, 1024), 12_800),
    Work("Tetris MLP, batch 32", MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4, 32, "tanh",
         (64, 1024, 8192), 2_000),
    Work("the first, tanh, dropout", GAP, (1, 28, 28), 10, 128, "tanh", (1024,), 12_800, 0.2),
)  # fmt: skip


def images_of(work: Work) -> ImageData:
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (work.images, *work.shape)).astype(np.uint8)
    labels = random.randint(0, work.n_classes, work.images).astype(np.int64)
    ones = np.ones(work.shape[0])
    none = slice(0, 0)
    return ImageData(
        images, labels, images[none], labels[none], images[:100], labels[:100], work.n_classes, ones / 255, 0 * ones
    )


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


def layer_by_layer(work: Work, n_models: int, precision: str) -> float:
    """Return what `ours` does where no model lives in one multiprocessor."""
    from zoo_gen.population.gpu.resident import compiling

    hindrance = compiling.hindrance
    compiling.hindrance = lambda device: "this way goes layer by layer"
    try:
        return ours(work, n_models, precision)
    finally:
        compiling.hindrance = hindrance


def timed(step: Callable[[], object], samples: int) -> float:
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 0.7:
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        steps += 10
    return samples * steps / (time.perf_counter() - began)


def loop(work: Work, *, graphed: bool) -> float:
    inputs, labels = images_of(work).tensors("train", device="cuda")
    plain = PlainLoop(work.architecture, inputs, labels, batch_size=work.batch_size, activation=work.activation)
    if not graphed:
        return timed(plain.step, work.batch_size)
    return timed(plain.captured().replay, work.batch_size)


def vmapped(work: Work, n_models: int, dtype: torch.dtype) -> float:
    """torch.func.vmap of the gradient, Adam on the stacked parameters."""
    inputs, labels = images_of(work).tensors("train", device="cuda")
    inputs = inputs.to(dtype)
    modules = [
        network(work.architecture, work.shape, work.n_classes).module(activation=work.activation).cuda()
        for _ in range(min(n_models, 64))
    ]
    parameters, _ = stack_module_state(modules)
    repeat = -(-n_models // len(modules))
    parameters = {
        name: values.detach().repeat(repeat, *[1] * (values.dim() - 1)) for name, values in parameters.items()
    }
    module = modules[0]

    def loss(own: dict[str, torch.Tensor], batch: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = functional_call(module, {name: values.to(dtype) for name, values in own.items()}, (batch,))
        return functional.cross_entropy(logits.float(), targets)

    gradients = vmap(grad(loss))
    leaves = [values.requires_grad_() for values in parameters.values()]
    optimizer = torch.optim.Adam(leaves, lr=1e-3, fused=True)
    choice = torch.randint(len(labels), (n_models, work.batch_size), device="cuda")

    def step() -> None:
        found = gradients(
            {name: values.detach() for name, values in parameters.items()}, inputs[choice], labels[choice]
        )
        for leaf, its_gradient in zip(leaves, found.values(), strict=True):
            leaf.grad = its_gradient
        optimizer.step()

    return timed(step, n_models * work.batch_size)


def jaxed(work: Work, n_models: int, dtype: str) -> float:
    """jax.vmap of the gradient of small_cnn_gap, Adam written out, one jitted step."""
    import jax
    import jax.numpy as jnp

    key = jax.random.PRNGKey(0)
    shapes = [(16, 1, 3, 3), (16,), (16, 16, 3, 3), (16,), (16, 16, 3, 3), (16,), (16, 10), (10,)]
    parameters = [0.1 * jax.random.normal(key, (n_models, *shape)) for shape in shapes]
    state = [(jnp.zeros_like(p), jnp.zeros_like(p)) for p in parameters]
    data = images_of(work)
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    choice = jax.random.randint(key, (n_models, work.batch_size), 0, len(labels))

    def loss(own, batch, targets):
        hidden = batch.astype(dtype) / 255
        *convolutions, weight, bias = [p.astype(dtype) for p in own]
        for kernel, offset in zip(convolutions[::2], convolutions[1::2], strict=True):
            hidden = jax.lax.conv_general_dilated(hidden, kernel, (2, 2), "VALID") + offset[:, None, None]
            hidden = jax.nn.relu(hidden)
        logits = (hidden.mean(axis=(2, 3)) @ weight + bias).astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1).mean()

    @jax.jit
    def step(parameters, state):
        gradients = jax.vmap(jax.grad(loss))(parameters, images[choice], labels[choice])
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(state, gradients, strict=True)]
        new = [p - 1e-3 * m / (jnp.sqrt(v) + 1e-8) for p, (m, v) in zip(parameters, moments, strict=True)]
        return new, moments

    for _ in range(2):
        parameters, state = jax.block_until_ready(step(parameters, state))
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 0.7:
        for _ in range(5):
            parameters, state = step(parameters, state)
        jax.block_until_ready(parameters)
        steps += 5
    return n_models * work.batch_size * steps / (time.perf_counter() - began)


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
    for dtype in (torch.float32, torch.bfloat16):
        yield f"vmap, {str(dtype)[6:]}", middle, partial(vmapped, work, middle, dtype)
    if work.architecture is GAP and not quick:
        for name in ("float32", "bfloat16"):
            yield f"jax.vmap, {name}", middle, partial(jaxed, work, middle, name)
    for precision in ("float32", "tf32", "bfloat16"):
        counts = work.n_models if precision == "bfloat16" else (middle,)
        for n_models in counts[-2:] if quick else counts:
            yield f"ours, {precision}", n_models, partial(ours, work, n_models, precision)
    yield "layer by layer, bf16", middle, partial(layer_by_layer, work, middle, "bfloat16")
    yield "ours, evaluation, bf16", middle, partial(ours, work, middle, "bfloat16", evaluate=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer ways and counts")
    parser.add_argument("--works", default="0,1,2,3,4", help="numbers of the works, from 0")
    arguments = parser.parse_args()
    bandwidth = copy_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; a copy moves {bandwidth / 1e12:.2f} TB/s\n")
    print(row(*COLUMNS))
    for work in (WORKS[int(number)] for number in arguments.works.split(",")):
        operations, size = cost_of_a_sample(work)
        rates: dict[str, float] = {}
        for way, n_models, measure in ways(work, quick=arguments.quick):
            try:
                rate = measure()
            except (RuntimeError, ImportError) as error:  # out of memory, or no JAX
                print(row(work.name, way, str(n_models), str(error).splitlines()[0][:60]), flush=True)
                continue
            rates.setdefault(way, rate)
            print(
                row(
                    *(work.name, way, str(n_models), f"{rate / 1e6:.3f}", f"{rate * operations / 1e12:.2f}"),
                    *(f"{rate * size / bandwidth:.1%}", f"{rate / rates['loop']:.1f}"),
                    f"{rate / rates.get('loop, CUDA graph', rate):.1f}",
                ),
                flush=True,
            )
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
