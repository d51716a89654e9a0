"""A population each of whose models lives in one multiprocessor while it is trained."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from zoo_gen.architecture.network import Network
from zoo_gen.population.columns import Members
from zoo_gen.population.gpu.resident import compiling, program, stages, step_code
from zoo_gen.population.gpu.resident.compiling import Kernel
from zoo_gen.population.gpu.resident.program import CODES, Program
from zoo_gen.population.gpu.updates import Orders, Updates, codes
from zoo_gen.population.optimizers import copy_into
from zoo_gen.population.random import dropout_keys
from zoo_gen.population.tasks import Task

Compile = Callable[[Program, str], Kernel]
_IMAGES_OF_A_PART = 2048  # of an evaluation; how they are cut depends on nothing else


class Resident:
    """Arguments and methods as `population.Arithmetic`; `precision` is how operands of products are rounded.

    `compiled` gives the kernel of a program and its code.

    Raises:
        UnservedError: the network has no such program, or too large a one.
    """

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
        compiled: Compile,
    ) -> None:
        self._network = stages.read(network)
        self.weights = weights
        self._task, self._sizes = task, list(steps)
        kinds = frozenset(members.activations)
        written = partial(
            program.plan,
            self._network,
            precision=precision,
            batch_size=max(steps),
            kinds=kinds,
            n_classes=task.n_classes or 0,
        )
        self._train, self._judge = written(training=True), written(training=False)
        sources = [step_code.source(each) for each in (self._train, self._judge)]
        program.check_size(self._train)
        self._train_kernel, self._judge_kernel = map(compiled, (self._train, self._judge), sources)
        self._updates = Updates(members, network.layout, weights, n_steps=len(steps), n_epochs=n_epochs)
        self._orders = Orders(members.seeds, task.n_train)
        self._set_up(members)

    def _set_up(self, members: Members) -> None:
        device, n_models = self.weights.device, len(self.weights)
        self._activations = codes([CODES[name] for name in members.activations], device)
        self._dropout, self._keys = members.dropout, dropout_keys(members.seeds)
        self._scale = self._task.scale.float().contiguous()
        self._models = torch.arange(n_models, dtype=torch.int32, device=device)
        outside = (n_models, self._train.outside_size)
        self._inputs = torch.empty(outside, dtype=torch.uint8, device=device) if self._train.outside_size else None
        self._places, self._tables = {}, {}
        for each in (self._train, self._judge):
            self._places[each.training] = torch.from_numpy(each.weight_places()).to(device)
            self._tables[each.training] = codes(each.tables or [0], device)

    def train_epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Show every model all training images once; return mean loss and accuracy (model,) as it went."""
        first = (epoch - 1) * len(self._sizes)
        self._orders.begin(epoch)
        self._updates.begin(first)
        seen = sum(self._sizes)
        losses, counts = self._launch(self._train, "training", n_images=seen, first_step=first)
        loss = (losses[0] / seen).to(self.weights.dtype)
        if self._task.n_classes is None:
            return loss, None
        return loss, counts[0, :, 0, 0] / seen

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
        n_images = len(self._task.examples(part)[0])
        losses, counts = self._launch(self._judge, part, n_images=n_images, first_step=0)
        loss = losses[0].clone()
        for other in losses[1:]:  # in one order, whatever else is summed
            loss += other
        measured = self._task.of_loss((loss / n_images).to(self.weights.dtype))
        if self._task.n_classes is not None:
            right, predicted, labelled = counts.sum(dim=0).to(self.weights.dtype).unbind(dim=1)
            measured["accuracy"] = right.sum(dim=1) / n_images
            measured["class_f1"] = 2 * right / (predicted + labelled).clamp(min=1)
        return measured

    def _launch(self, running: Program, part: str, *, n_images: int, first_step: int) -> tuple[Tensor, Tensor]:
        """Run a program; return losses float64 (part, model) and counts int32 (part, model, 3, class)."""
        pixels, targets = self._task.examples(part)
        targets = targets.float() if targets.is_floating_point() else targets.int()
        device, n_models, training = self.weights.device, len(self.weights), running.training
        parts = 1 if training else -(-n_images // _IMAGES_OF_A_PART)
        losses = torch.zeros((parts, n_models), dtype=torch.float64, device=device)
        counts = torch.zeros((parts, n_models, 3, max(1, running.n_classes)), dtype=torch.int32, device=device)
        kernel, updates = self._train_kernel if training else self._judge_kernel, self._updates
        arguments = (
            pixels.contiguous() if running.n_classes else pixels.float().contiguous(),
            targets.contiguous(),
            self._orders.images if training else None,
            self._orders.rows,
            self._models * (len(targets) > 1),
            self.weights,
            updates.first,
            updates.second,
            updates.factors,
            updates.optimizers,
            updates.rates,
            updates.momenta,
            updates.decays,
            updates.l2,
            updates.schedules,
            self._activations,
            self._dropout,
            self._keys,
            updates.is_kernel,
            self._places[training],
            self._tables[training],
            self._scale,
            losses,
            counts,
            self._orders.images.shape[1],
            targets.shape[1],
            n_images,
            first_step,
            len(self._sizes),
            _IMAGES_OF_A_PART,
            n_models,
            float(self._network.shift),
            self._inputs,
        )
        kernel.launch(n_models, parts, arguments)
        return losses, counts


def compiled(program: Program, source: str) -> Kernel:
    """Return the kernel of a program on the GPU that is torch's current one."""
    return compiling.Compiled(source, step_code.ENTRY, threads=program.threads, shared=program.size)
