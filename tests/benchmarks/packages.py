"""Times named ways of training many models at once: torch.func.vmap, ModelBatch, JAX's vmap, and TurbaNet.

Run it for a CPU: python -m tests.benchmarks.packages [--models 64] [--works 1,3] [--seconds 2]

Where a package is not installed, its row says so. `population_gpu` prints the same rows for a GPU, beside ours. Every
way takes Adam steps on random batches of its own a model; samples a second are summed over the models. On a CPU they
are those of a second that a core gives, whatever else the machine does. Neither ModelBatch nor TurbaNet draws batches:
both are given them.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from zoo_gen.architecture.layers import Activate, Convolution, Flatten, GlobalPooling, Layer, Linear, Pooling
from zoo_gen.architecture.registry import MLP, Architecture, CNNSmall, SmallCNNGap, network
from zoo_gen.image_data import ImageData

RATE = 1e-3
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time


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

    @property
    def layers(self) -> tuple[Layer, ...]:
        return network(self.architecture, self.shape, self.n_classes).layers

    def module(self) -> torch.nn.Module:
        return network(self.architecture, self.shape, self.n_classes).module(activation=self.activation)


GAP = SmallCNNGap(name="small_cnn_gap")
WORKS = (
    Work("small_cnn_gap, batch 128", GAP, (1, 28, 28), 10, 128, "relu", (64, 256, 1024, 4096), 12_800),
    Work("cnn_small, batch 10", CNNSmall(name="cnn_small"), (1, 28, 28), 10, 10, "tanh",
         (64, 1024, 2048, 4096, 8192), 2_000),
    Work("cnn_small, batch 128", CNNSmall(name="cnn_small"), (1, 28, 28), 10, 128, "tanh", (64, 1024), 12_800),
    Work("Tetris MLP, batch 32", MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4, 32, "tanh",
         (64, 1024, 8192), 2_000),
    Work("the first, tanh, dropout", GAP, (1, 28, 28), 10, 128, "tanh", (1024,), 12_800, 0.2),
    Work("MLP 64-24-10, batch 32", MLP(name="mlp", widths=(64, 24, 10)), (1, 8, 8), 10, 32, "tanh",
         (1024, 8192), 2_000),
    Work("MLP 196-32-10, batch 32", MLP(name="mlp", widths=(196, 32, 10)), (1, 14, 14), 10, 32, "tanh",
         (1024, 8192), 2_000),
    Work("4, batch 512", GAP, (1, 28, 28), 10, 512, "tanh", (1024,), 12_800, 0.2),
    Work("4, batch 512, 32 x 32", GAP, (1, 32, 32), 10, 512, "tanh", (1024,), 12_800, 0.2),
    Work("4, batch 512, 32, gelu", GAP, (1, 32, 32), 10, 512, "gelu", (1024,), 12_800, 0.2),
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


def timed(step: Callable[[], object], samples: int, *, wait: Callable[[], object], seconds: float = 0.7) -> float:
    """Return the samples a second of a step, after some that are not timed; `wait` returns when all are done."""
    for _ in range(3):
        step()
    wait()
    began, steps = CLOCK(), 0
    while CLOCK() - began < seconds:
        for _ in range(5):
            step()
        wait()
        steps += 5
    return samples * steps / (CLOCK() - began)


def waiting(device: str) -> Callable[[], object]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def vmapped(work: Work, n_models: int, dtype: torch.dtype, device: str, seconds: float = 0.7) -> float:
    """torch.func.vmap of the gradient, Adam on the stacked parameters."""
    inputs, labels = images_of(work).tensors("train", device=device)
    inputs = inputs.to(dtype)
    modules = [work.module().to(device) for _ in range(min(n_models, 64))]
    parameters, _ = stack_module_state(modules)
    repeat = -(-n_models // len(modules))
    parameters = {
        name: values.detach().repeat(repeat, *[1] * (values.dim() - 1))[:n_models]
        for name, values in parameters.items()
    }
    module = modules[0]

    def loss(parameters: dict[str, torch.Tensor], batch: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = functional_call(module, {name: values.to(dtype) for name, values in parameters.items()}, (batch,))
        return functional.cross_entropy(logits.float(), targets)

    gradients = vmap(grad(loss))
    leaves = [values.requires_grad_() for values in parameters.values()]
    optimizer = torch.optim.Adam(leaves, lr=RATE, fused=True)
    choice = torch.randint(len(labels), (n_models, work.batch_size), device=device)

    def step() -> None:
        derivatives = gradients(
            {name: values.detach() for name, values in parameters.items()}, inputs[choice], labels[choice]
        )
        for leaf, its_gradient in zip(leaves, derivatives.values(), strict=True):
            leaf.grad = its_gradient
        optimizer.step()

    return timed(step, n_models * work.batch_size, wait=waiting(device), seconds=seconds)


def modelbatch(work: Work, n_models: int, device: str, seconds: float = 0.7) -> float:
    """ModelBatch of its documentation, one Adam over its stacked parameters, which is its fastest way."""
    from modelbatch import ModelBatch

    inputs, labels = images_of(work).tensors("train", device=device)
    batch = ModelBatch([work.module() for _ in range(n_models)], shared_input=False).to(device)
    optimizer = torch.optim.Adam(list(batch.stacked_params.values()), lr=RATE, fused=True)
    choice = torch.randint(len(labels), (n_models, work.batch_size), device=device)

    def step() -> None:
        optimizer.zero_grad()
        batch.compute_loss(batch(inputs[choice]), labels[choice], functional.cross_entropy, reduction="sum").backward()
        optimizer.step()

    return timed(step, n_models * work.batch_size, wait=waiting(device), seconds=seconds)


def turbanet(work: Work, n_models: int, seconds: float = 0.7) -> float:
    """TurbaNet of its documentation: a swarm of flax modules, optax's Adam."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen
    from turbanet import TurbaTrainState, softmax_cross_entropy

    plain, function = work.layers, getattr(jax.nn if work.activation != "tanh" else jnp, work.activation)

    class Network(linen.Module):
        @linen.compact
        def __call__(self, hidden: Any) -> Any:  # (image, height, width, channel)
            for layer in plain:
                if isinstance(layer, Convolution):
                    size = (layer.kernel,) * 2
                    hidden = linen.Conv(layer.outputs, size, (layer.stride,) * 2, padding=layer.padding)(hidden)
                elif isinstance(layer, Pooling):
                    hidden = linen.max_pool(hidden, (layer.size,) * 2, (layer.stride,) * 2)
                elif isinstance(layer, GlobalPooling):
                    hidden = hidden.mean(axis=(1, 2))
                elif isinstance(layer, Flatten):
                    hidden = hidden.reshape(hidden.shape[0], -1)
                elif isinstance(layer, Linear):
                    hidden = linen.Dense(layer.outputs, use_bias=layer.bias)(hidden)
                elif isinstance(layer, Activate):
                    hidden = function(hidden)
            return hidden

    data = images_of(work)
    images = jnp.asarray(data.train_images.transpose(0, 2, 3, 1), dtype=jnp.float32) / 255
    targets = jax.nn.one_hot(jnp.asarray(data.train_labels), work.n_classes)
    choice = jax.random.randint(jax.random.PRNGKey(0), (n_models, work.batch_size), 0, len(targets))
    swarm = TurbaTrainState.swarm(Network(), optax.adam(RATE), n_models, images[:1])

    def step() -> None:
        nonlocal swarm
        swarm, _, _ = swarm.train(images[choice], targets[choice], softmax_cross_entropy)

    def wait() -> None:
        jax.block_until_ready(swarm.params)

    return timed(step, n_models * work.batch_size, wait=wait, seconds=seconds)


def jaxed(work: Work, n_models: int, dtype: str, *, patches: bool, seconds: float = 0.7) -> float:
    """jax.vmap of the gradient, Adam written out, one jitted step; convolutions as they are, or products of patches."""
    import jax
    import jax.numpy as jnp

    key, plain = jax.random.PRNGKey(0), work.layers
    function = getattr(jax.nn if work.activation != "tanh" else jnp, work.activation)
    shapes: list[tuple[int, ...]] = []
    for layer in plain:
        if isinstance(layer, Convolution):
            shapes += [(layer.outputs, layer.inputs, layer.kernel, layer.kernel), (layer.outputs,)]
        elif isinstance(layer, Linear):
            shapes += [(layer.outputs, layer.inputs), (layer.outputs,)]
    parameters = [0.1 * jax.random.normal(key, (n_models, *shape)) for shape in shapes]
    state = [(jnp.zeros_like(p), jnp.zeros_like(p)) for p in parameters]
    data = images_of(work)
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    choice = jax.random.randint(key, (n_models, work.batch_size), 0, len(labels))

    def convolved(layer: Convolution, hidden: Any, weight: Any) -> Any:
        strides, padding = (layer.stride,) * 2, [(layer.padding,) * 2] * 2
        if not patches:
            return jax.lax.conv_general_dilated(hidden, weight, strides, padding)
        size = (layer.kernel,) * 2
        rows = jax.lax.conv_general_dilated_patches(hidden, size, strides, padding)
        return jnp.einsum("nkhw,ok->nohw", rows, weight.reshape(len(weight), -1))

    def loss(parameters: Any, batch: Any, targets: Any) -> Any:
        hidden, rest = batch.astype(dtype) / 255, [p.astype(dtype) for p in parameters]
        for layer in plain:
            if isinstance(layer, Convolution):
                weight, bias, *rest = rest
                hidden = convolved(layer, hidden, weight) + bias[:, None, None]
            elif isinstance(layer, Pooling):
                window, steps = (1, 1, layer.size, layer.size), (1, 1, layer.stride, layer.stride)
                hidden = jax.lax.reduce_window(hidden, -jnp.inf, jax.lax.max, window, steps, "VALID")
            elif isinstance(layer, GlobalPooling):
                hidden = hidden.mean(axis=(2, 3))
            elif isinstance(layer, Flatten):
                hidden = hidden.reshape(len(hidden), -1)
            elif isinstance(layer, Linear):
                weight, bias, *rest = rest
                hidden = hidden @ weight.T + bias
            elif isinstance(layer, Activate):
                hidden = function(hidden)
        logits = hidden.astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1).mean()

    @jax.jit
    def update(parameters: Any, state: Any, choice: Any) -> Any:  # what is chosen must not be known when it compiles
        gradients = jax.vmap(jax.grad(loss))(parameters, images[choice], labels[choice])
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(state, gradients, strict=True)]
        new = [p - RATE * m / (jnp.sqrt(v) + 1e-8) for p, (m, v) in zip(parameters, moments, strict=True)]
        return new, moments

    def step() -> None:
        nonlocal parameters, state
        parameters, state = update(parameters, state, choice)

    def wait() -> None:
        jax.block_until_ready(parameters)

    return timed(step, n_models * work.batch_size, wait=wait, seconds=seconds)


def ways(work: Work, n_models: int, device: str, seconds: float = 0.7) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield the named ways: a name, and the measurement, which returns samples a second."""
    for dtype in (torch.float32, torch.bfloat16):
        yield f"vmap, {str(dtype)[6:]}", partial(vmapped, work, n_models, dtype, device, seconds)
    yield "ModelBatch", partial(modelbatch, work, n_models, device, seconds)
    convolves = any(isinstance(layer, Convolution) for layer in work.layers)
    for name in ("float32", "bfloat16"):
        yield f"jax.vmap, {name}", partial(jaxed, work, n_models, name, patches=False, seconds=seconds)
        if convolves:
            yield f"jax, patches, {name}", partial(jaxed, work, n_models, name, patches=True, seconds=seconds)
    yield "TurbaNet", partial(turbanet, work, n_models, seconds)


def ours_on_a_cpu(work: Work, n_models: int, seconds: float) -> float:
    """Return the samples that our populations take in a second of one core."""
    from tests.zoo_gen.population.test_train import models
    from zoo_gen.machine.memory import freed_memory_kept
    from zoo_gen.population.cpu import convolutions
    from zoo_gen.population.population import TrainingSettings
    from zoo_gen.population.train import populations, single_threaded

    columns = {"activation": [work.activation], "batch_size": [work.batch_size], "learning_rate": [RATE]}
    settings = TrainingSettings(epochs=1000, forms=convolutions.choose(work.layers))
    with single_threaded(), freed_memory_kept():
        table = models(seed=list(range(n_models)), **columns)
        _, population = next(populations(work.architecture, images_of(work), table, settings))
        epochs = iter(range(1, 1000))
        samples = len(population) * population.steps_per_epoch * work.batch_size
        return timed(lambda: population.train_epoch(next(epochs)), samples, wait=lambda: None, seconds=seconds)


def versions() -> str:
    """Return what is installed of the packages."""
    lines = []
    for name in ("torch", "jax", "modelbatch", "turbanet"):
        try:
            lines.append(f"{name} {version(name)}")
        except ImportError:
            lines.append(f"no {name}")
    return ", ".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--works", default="3,1", help="numbers of the works, from 0")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{versions()}; samples a second of a core")
    for work in (WORKS[int(number)] for number in arguments.works.split(",")):
        ours = "ours", partial(ours_on_a_cpu, work, arguments.models, arguments.seconds)
        for way, measure in (ours, *ways(work, arguments.models, "cpu", arguments.seconds)):
            try:
                print(f"{work.name:26} {way:24} {arguments.models:7} {measure():14,.0f}", flush=True)
            except ImportError as error:
                print(f"{work.name:26} {way:24} {error}", flush=True)


if __name__ == "__main__":
    main()
