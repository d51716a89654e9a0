"""A population on a GPU: its steps as a few kernels, captured once and replayed.

Nothing is copied from the host in a step: the order of the images, the step's number and what depends on it lie on the
device. What is computed is what `eager.py` computes with torch's own operations, up to the rounding of `precision`.
"""

from collections.abc import Sequence

import numpy as np
import torch
import triton
from torch import Tensor

from zoo_gen.architecture.layers import Shift
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.population.columns import Members
from zoo_gen.population.gpu import kernels, plan
from zoo_gen.population.gpu.stages import Arrays, Images
from zoo_gen.population.optimizers import BETA1, BETA2
from zoo_gen.population.random import data_order, dropout_keys
from zoo_gen.population.schedules import factor
from zoo_gen.population.tasks import Task

EVALUATED_AT_ONCE = 128  # images, at least; no more memory is taken than training takes where batches are larger
ROWS_A_SPLIT = 8192  # of a stem: more are cut into several sums
SCHEDULES = ("constant", "one_cycle")
_UPDATE_BLOCK = 1024
_ORDERED_AT_ONCE = 2**26  # words that are sorted at once


class Device:
    """Arguments and methods as `population.Arithmetic`; `precision` is how operands of products are rounded."""

    def __init__(
        self,
        network: Network,
        members: Members,
        task: Task,
        weights: Tensor,
        *,
        steps: Sequence[int],
        n_epochs: int,
        precision: str,
    ) -> None:
        device, n_models = weights.device, len(weights)
        self.weights = weights
        self._task, self._sizes, self._n_epochs = task, list(steps), n_epochs
        layers, input_shape, layout = network.layers, network.input_shape, network.layout
        rows = max(steps) * input_shape[-1] ** 2 // 16 if len(input_shape) == 3 else 0
        splits = max(1, rows // ROWS_A_SPLIT)
        arrays = Arrays(
            weights=weights,
            gradient=torch.zeros((splits, *weights.shape), device=device),
            activations=members.activations,
            dropout=members.dropout,
            dropout_keys=dropout_keys(members.seeds),
            layout=layout,
            precision=precision,
        )
        self._arrays = arrays
        self._capacity = max(*steps, EVALUATED_AT_ONCE)
        scale = task.scale.float().cpu()
        self._stages = plan.build(network, arrays, capacity=self._capacity, scale=scale, splits=splits)
        self._shift = sum(layer.value for layer in layers if isinstance(layer, Shift))
        self._set_up_optimizers(members, layout)
        # Models of one seed read the images in one order, which is kept once.
        self._seeds, row_of = members.seeds.unique(return_inverse=True)
        self._order = torch.zeros((len(self._seeds), task.n_train), dtype=torch.int32, device=device)
        self._clock = torch.zeros(3, dtype=torch.int32, device=device)
        pixels, targets = task.examples("training")
        self._training = Images(_padded(pixels), self._order, row_of.int(), self._clock)
        self._targets = _targets(targets)
        self._numbers = torch.arange(n_models, dtype=torch.int32, device=device)
        self._targets_of = self._numbers * (len(targets) > 1)
        self._losses = torch.zeros(n_models, dtype=torch.float64, device=device)
        self._n_counts = max(16, triton.next_power_of_2(task.n_classes or 1))
        self._counts = torch.zeros((n_models, 3, self._n_counts), dtype=torch.int32, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._compiled: set[int] = set()

    def _set_up_optimizers(self, members: Members, layout: ParameterLayout) -> None:
        device = self.weights.device
        codes = [kernels.OPTIMIZERS[name] for name in members.optimizers]
        self._optimizers = torch.tensor(codes, dtype=torch.int32, device=device)
        self._rates = members.learning_rate.clone()
        self._momenta, self._decays, self._l2 = members.momentum, members.weight_decay, members.l2
        schedules = [SCHEDULES.index(name) for name in members.schedules]
        self._schedules = torch.tensor(schedules, dtype=torch.int32, device=device)
        self._has_schedule = any(schedules)
        self._velocities, self._squares = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self._table = torch.ones((4, len(self._sizes)), device=device)
        self._is_kernel = torch.from_numpy(layout.is_kernel).to(device, torch.float32)

    def train_epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Show every model all training images once; return mean loss and accuracy (model,) as it went."""
        n_orders = max(1, _ORDERED_AT_ONCE // self._task.n_train)
        for start in range(0, len(self._seeds), n_orders):
            some = slice(start, start + n_orders)
            self._order[some] = data_order(self._seeds[some], epoch, self._task.n_train)
        first = (epoch - 1) * len(self._sizes)
        self._table.copy_(torch.from_numpy(self._factors(first)))
        self._clock.copy_(torch.tensor([0, first, 0], dtype=torch.int32))
        self._losses.zero_()
        self._counts.zero_()
        for size in self._sizes:
            self._step(size)
        seen = sum(self._sizes)
        loss = (self._losses / seen).to(self.weights.dtype)
        if self._task.n_classes is None:
            return loss, None
        return loss, self._counts[:, 0].sum(dim=1) / seen

    def freeze(self, models: Tensor) -> None:
        """Let some models, bool (model,), keep their weights from now on."""
        self._rates.mul_(~models)

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Measure every model in evaluation mode on a part of the data; name -> (model, ...)."""
        pixels, targets = self._task.examples(part)
        device, n_images = self.weights.device, len(pixels)
        order = torch.arange(n_images, dtype=torch.int32, device=device).unsqueeze(0)
        clock = torch.zeros(3, dtype=torch.int32, device=device)
        images = Images(_padded(pixels), order, torch.zeros_like(self._numbers), clock)
        targets_of = self._numbers * (len(targets) > 1)
        targets, losses, counts = _targets(targets), torch.zeros_like(self._losses), torch.zeros_like(self._counts)
        for start in range(0, n_images, self._capacity):
            size = min(self._capacity, n_images - start)
            for stage in self._stages:
                stage.forward(images, size, training=False)
            self._judge(images, targets, targets_of, losses, counts, size, training=False)
            clock[0] += size
        found = {"loss": (losses / n_images).to(self.weights.dtype)}
        if self._task.n_classes is not None:
            right, predicted, labelled = counts[:, :, : self._task.n_classes].to(self.weights.dtype).unbind(dim=1)
            found["accuracy"] = right.sum(dim=1) / n_images
            found["class_f1"] = 2 * right / (predicted + labelled).clamp(min=1)
        return found

    def _step(self, n_images: int) -> None:
        """Take one step: launch its kernels the first time, capture them the second, then replay them."""
        if not self.weights.is_cuda or n_images not in self._compiled:
            self._launch(n_images)
            self._compiled.add(n_images)
            return
        if n_images not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._launch(n_images)
            self._graphs[n_images] = graph
        self._graphs[n_images].replay()

    def _launch(self, n_images: int) -> None:
        """Launch the kernels of one step."""
        for stage in self._stages:
            stage.forward(self._training, n_images, training=True)
        self._judge(
            self._training, self._targets, self._targets_of, self._losses, self._counts, n_images, training=True
        )
        for stage in reversed(self._stages):
            stage.backward(self._training, n_images)
        n_models, n_parameters = self.weights.shape
        kernels.update[(n_models, -(-n_parameters // _UPDATE_BLOCK))](
            self.weights, self._arrays.gradient, self._velocities, self._squares, self._optimizers, self._rates,
            self._momenta, self._decays, self._l2, self._schedules, self._table, self._clock,
            n_models, n_parameters, len(self._sizes), self._is_kernel,
            SPLITS=len(self._arrays.gradient), BLOCK=_UPDATE_BLOCK,
        )  # fmt: skip
        kernels.tick[(1,)](self._clock, n_images)

    def _judge(
        self, images: Images, targets: Tensor, targets_of: Tensor, losses: Tensor, counts: Tensor, n_images: int,
        *, training: bool,
    ) -> None:  # fmt: skip
        """Add up loss and counts of the outputs; in training, begin the gradient."""
        out, n_models = self._stages[-1].output, len(self.weights)
        arguments = (out.tensor, *images.arguments()[1:], targets)
        block = min(128, max(16, triton.next_power_of_2(n_images)))
        if self._task.n_classes is None:
            kernels.regression[(n_models,)](
                *arguments,
                out.slopes,
                losses,
                n_images,
                out.capacity,
                self._shift,
                PITCH=out.tensor.shape[-1],
                TRAIN=training,
                BM=block,
            )
            return
        kernels.classification[(n_models,)](
            *arguments, targets_of, targets.shape[1], out.slopes, losses, counts, n_images, out.capacity,
            CLASSES=self._task.n_classes, PITCH=out.tensor.shape[-1], TRAIN=training, BM=block, BN=self._n_counts,
        )  # fmt: skip

    def _factors(self, first: int) -> np.ndarray:
        """Return what `kernels.update` multiplies by in each step of an epoch, float32 (4, step)."""
        n_steps = len(self._sizes)
        table = np.ones((4, n_steps))
        numbers = np.arange(first + 1, first + n_steps + 1, dtype=np.float64)
        if self._has_schedule:
            total = self._n_epochs * n_steps
            table[1] = [factor("one_cycle", first + step, total) for step in range(n_steps)]
        table[2], table[3] = 1 - BETA1**numbers, np.sqrt(1 - BETA2**numbers)
        return table.astype(np.float32)


def _padded(pixels: Tensor) -> Tensor:
    """Return the pixels with room behind the last one, where `kernels.stem` reads whole words."""
    room = torch.empty(pixels.numel() + 16, dtype=pixels.dtype, device=pixels.device)
    room[: pixels.numel()] = pixels.reshape(-1)
    room[pixels.numel() :] = 0
    return room[: pixels.numel()].view(pixels.shape)


def _targets(targets: Tensor) -> Tensor:
    """Return labels as int32, or heights as float32."""
    return targets.float().contiguous() if targets.is_floating_point() else targets.int().contiguous()
