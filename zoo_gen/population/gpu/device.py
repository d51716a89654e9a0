"""A population on a GPU: its steps as a few kernels, captured once and replayed.

Nothing is copied from the host in a step: the order of the images, the step's number and what depends on it lie on the
device. What is computed is what `eager.py` computes with torch's own operations, up to the rounding of `precision`.
"""

from collections.abc import Mapping, Sequence

import torch
import triton
from torch import Tensor

from zoo_gen.architecture.layers import Shift
from zoo_gen.architecture.network import Network
from zoo_gen.population.columns import Members
from zoo_gen.population.gpu import kernels, plan, transformer_form
from zoo_gen.population.gpu.stages import Arrays, Images
from zoo_gen.population.gpu.updates import Crops, Orders, Updates
from zoo_gen.population.optimizers import copy_into
from zoo_gen.population.random import dropout_keys
from zoo_gen.population.tasks import Task

EVALUATED_AT_ONCE = 128  # images, at least; no more memory is taken than training takes where batches are larger
ROWS_A_SPLIT = 8192  # of a stem: more are cut into several sums
_UPDATE_BLOCK = 1024


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
        self._task, self._sizes = task, list(steps)
        layers, input_shape, layout = network.layers, network.input_shape, network.layout
        rows = max(steps) * input_shape[-1] ** 2 // 16 if len(input_shape) == 3 else 0
        splits = max(1, rows // ROWS_A_SPLIT)
        if transformer_form.read(layers, input_shape) is not None:
            splits = transformer_form.SPLITS
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
        self._crops = Crops(members)
        self._stages = plan.build(
            network, arrays, capacity=self._capacity, scale=scale, splits=splits, crops=self._crops
        )
        self._shift = sum(layer.value for layer in layers if isinstance(layer, Shift))
        self._updates = Updates(members, layout, weights, n_steps=len(steps), n_epochs=n_epochs)
        self._orders = Orders(members.seeds, task.n_train)
        self._clock = torch.zeros(3, dtype=torch.int32, device=device)
        pixels, targets = task.examples("training")
        self._training = Images(_padded(pixels), self._orders.images, self._orders.rows, self._clock)
        self._targets = _targets(targets)
        self._numbers = torch.arange(n_models, dtype=torch.int32, device=device)
        self._targets_of = self._numbers * (len(targets) > 1)
        self._losses = torch.zeros(n_models, dtype=torch.float64, device=device)
        self._n_counts = max(16, triton.next_power_of_2(task.n_classes or 1))
        self._counts = torch.zeros((n_models, 3, self._n_counts), dtype=torch.int32, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._compiled: set[int] = set()

    def train_epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Show every model all training images once; return mean loss and accuracy (model,) as it went."""
        first = (epoch - 1) * len(self._sizes)
        self._orders.begin(epoch)
        self._updates.begin(first)
        self._crops.begin(epoch)
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

    def state(self) -> dict[str, Tensor]:
        """Return what training changes; all else follows from the number of the epoch."""
        return {"weights": self.weights, **self._updates.state()}

    def restore(self, state: Mapping[str, Tensor], *, epochs: int) -> None:
        """Go on from a state; `epochs` are counted by `train_epoch` itself.

        Raises:
            ValueError: it is of another training.
        """
        copy_into(self.state(), state)

    def freeze(self, models: Tensor) -> None:
        """Let some models, bool (model,), keep their weights from now on."""
        self._updates.rates.mul_(~models)

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
        metrics = self._task.of_loss((losses / n_images).to(self.weights.dtype))
        if self._task.n_classes is not None:
            right, predicted, labelled = counts[:, :, : self._task.n_classes].to(self.weights.dtype).unbind(dim=1)
            metrics["accuracy"] = right.sum(dim=1) / n_images
            metrics["class_f1"] = 2 * right / (predicted + labelled).clamp(min=1)
        return metrics

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
        updates = self._updates
        kernels.update[(n_models, -(-n_parameters // _UPDATE_BLOCK))](
            self.weights, self._arrays.gradient, updates.first, updates.second, updates.optimizers, updates.rates,
            updates.momenta, updates.decays, updates.l2, updates.schedules, updates.factors, self._clock,
            n_models, n_parameters, len(self._sizes), updates.is_kernel,
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


def _padded(pixels: Tensor) -> Tensor:
    """Return the pixels with room behind the last one, where `kernels.stem` reads whole words."""
    room = torch.empty(pixels.numel() + 16, dtype=pixels.dtype, device=pixels.device)
    room[: pixels.numel()] = pixels.reshape(-1)
    room[pixels.numel() :] = 0
    return room[: pixels.numel()].view(pixels.shape)


def _targets(targets: Tensor) -> Tensor:
    """Return labels as int32, or heights as float32."""
    return targets.float().contiguous() if targets.is_floating_point() else targets.int().contiguous()
