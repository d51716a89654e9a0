"""The one training loop of every neural encoder, supervised or self-supervised: a CPU, a GPU, or several.

All that is random in an epoch (the order of samples, augmentation, dropout) is seeded from (seed, purpose, epoch), so
a checkpoint at the end of an epoch holds no state of a generator, and a training that was interrupted and resumed
takes exactly the steps of an undisturbed one.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from itertools import islice
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from zoo_bench.encoders.training.progress import History, checkpoint_folder, read_checkpoint, write_checkpoint
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.encoders.training.steps import Loss, compile_whole, graphed, make_step, processes
from zoo_gen.errors import ZooError
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.machine.progress import progress_bar

logger = logging.getLogger(__name__)

# The validation score, the higher the better; called in evaluation mode without gradients, and deterministic.
Score = Callable[[], float]


MOST_PASSES = 300  # over the samples, of a training whose steps are given


class Purpose(IntEnum):
    """What random numbers are for; each purpose has streams of its own."""

    INITIALIZATION = 1
    ORDER = 2
    AUGMENTATION = 3
    DROPOUT = 4
    VALIDATION = 5


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What determines a training, beside the module, its loss and the seed.

    Attributes:
        epochs: at most so many.
        steps: of all epochs together, whatever the number of samples: an epoch is then an equal part of them, and
            samples come in new orders until it is full. No sample comes more than 300 times. Without it, an epoch
            passes over all samples once.
        most_numbers: numbers that all those steps together read at most; of longer samples there are fewer steps.
        batch_size: samples a step, of all processes together. Samples that do not fill a last batch wait for the next
            epoch, whose order is another; if there are fewer samples than this, all are one batch.
        learning_rate: the highest one.
        optimizer: Adam (decay added to the gradient) or AdamW (decay apart).
        weight_decay: of every parameter.
        schedule: "constant"; "plateau" (times 0.3 after 10 epochs in which the training loss did not fall by 1e-4 of
            itself); "cosine" (to 0 at the last step).
        warm_up_steps: steps over which the rate rises linearly, on any schedule.
        clip: the norm to which a longer gradient is cut; None cuts none.
        evaluate_every: epochs between two validations; the last epoch is always validated.
        patience: validations without a better score after which training stops; None never stops early.
        keep: the state with the best validation score, or the last one.
        bfloat16: whether matrix products on a GPU run in bfloat16 (autocast); a CPU computes in float32, unless the
            runtime says that it may do the same.
        graph: whether a GPU replays whole steps as one CUDA graph, after torch.compile of the module; the loss may
            then not look at values on the host.
        threads: of a CPU, that share the products of a step; None takes all that torch has. Where products are small,
            two threads wait for each other longer than they compute, and far longer on a machine with other work.
    """

    epochs: int
    steps: int | None = None
    most_numbers: int | None = None
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: float = 0.0
    schedule: Literal["constant", "plateau", "cosine"] = "constant"
    warm_up_steps: int = 0
    clip: float | None = None
    evaluate_every: int = 1
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    bfloat16: bool = True
    graph: bool = False
    threads: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)

    def of_samples(self, numbers: float) -> Self:
        """Return the settings for samples of so many numbers each, with fewer steps where these would be too many."""
        if self.steps is None or self.most_numbers is None:
            return self
        return replace(self, steps=max(1, min(self.steps, int(self.most_numbers / (self.batch_size * numbers)))))

    def epoch_steps(self, n_samples: int, n_processes: int = 1) -> int:
        """Return the steps of an epoch."""
        local = min(self.batch_size, n_samples) // n_processes
        a_pass = n_samples // (local * n_processes)
        if self.steps is None:
            return a_pass
        return max(1, round(min(self.steps, MOST_PASSES * a_pass) / self.epochs))


def stream_seed(seed: int, purpose: Purpose, *numbers: int) -> int:
    """Return the seed of the stream (seed, purpose, numbers): 63 bits that do not depend on what else was drawn."""
    (word,) = np.random.SeedSequence([seed, int(purpose), *numbers]).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))


@contextlib.contextmanager
def seeded(seed: int, purpose: Purpose, *numbers: int) -> Iterator[None]:
    """Seed torch's own generators inside and leave them outside as they were; modules are initialised in here."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream_seed(seed, purpose, *numbers))
        yield


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch compute on so many threads of a CPU inside; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@freed_memory_kept()
def train(
    module: nn.Module,
    loss: Loss,
    *,
    score: Score,
    n_samples: int,
    settings: TrainingSettings,
    seed: int,
    identity: Mapping[str, Any],
    runtime: Runtime,
    name: str = "training",
    whole: nn.Module | None = None,
) -> History:
    """Train a module in place and leave it in evaluation mode, in its best (or last) state.

    Started by torchrun, every process takes its slice of every batch and the gradients are averaged (torch's
    DistributedDataParallel); a loss that is no mean over samples gathers what it needs itself.

    Args:
        module: on its device, with its initial weights; a parameter that the loss leaves out requires no gradient.
        loss: the loss of a batch of samples, from their numbers below `n_samples`.
        score: the validation score.
        n_samples: the number of training samples.
        settings: how to train.
        seed: of all that is random here.
        identity: plain data that tells this training from others (encoder, its settings, data): an interrupted
            training is resumed only by the same one.
        runtime: where to keep checkpoints, and whether to compile.
        name: shown beside the progress bar.
        whole: what of the loss is compiled, where that is more than the module.

    Raises:
        ZooError: there are fewer samples than processes, or the loss stops being finite.
    """
    device = next(module.parameters()).device
    with processes(device) as (rank, n_processes), cpu_threads(settings.threads):
        local = min(settings.batch_size, n_samples) // n_processes  # samples a step of this process
        if local == 0:
            raise ZooError(f"{name}: {n_samples} training samples; expected one or more for each of {n_processes}")
        steps = settings.epoch_steps(n_samples, n_processes)
        one_launch = settings.graph and device.type == "cuda" and n_processes == 1
        compiled = one_launch and runtime.compile
        if compiled:
            compile_whole(whole or module)
        optimizer = _make_optimizer(module, settings, device)
        bfloat16 = settings.bfloat16 and (device.type == "cuda" or runtime.cpu_bfloat16)
        folder = checkpoint_folder(
            runtime.checkpoints,
            {
                "settings": settings.config,
                "seed": seed,
                "samples": n_samples,
                "processes": n_processes,
                "bfloat16": bfloat16,
                **identity,
            },
        )
        history, best = read_checkpoint(folder, module, optimizer)
        finished, written = len(history.epochs), time.monotonic()
        generator = torch.Generator(device)
        total = torch.zeros((), dtype=torch.float64, device=device)  # of the losses of an epoch
        step = make_step(
            module,
            loss,
            optimizer,
            generator=generator,
            total=total,
            clip=settings.clip,
            bfloat16=bfloat16,
            n_processes=n_processes,
        )
        with (
            seeded(seed, Purpose.DROPOUT),
            progress_bar(label=name, unit="epoch", total=settings.epochs, done=finished, shown=rank == 0) as bar,
        ):
            module.train()
            if one_launch and finished < settings.epochs:
                step = graphed(step, module, optimizer, generator=generator, n_samples=local)
            for epoch in range(finished + 1, settings.epochs + 1):
                if settings.patience is not None and history.worse_scores >= settings.patience:
                    break
                module.train()
                generator.manual_seed(stream_seed(seed, Purpose.AUGMENTATION, epoch, rank))
                torch.manual_seed(stream_seed(seed, Purpose.DROPOUT, epoch, rank))
                total.zero_()
                batches = islice(
                    _batches(seed, epoch, n_samples, local, rank=rank, n_processes=n_processes, device=device), steps
                )
                for number, samples in enumerate(batches):
                    _set_rate(optimizer, settings, history, step=(epoch - 1) * steps + number, steps=steps)
                    step(samples)
                mean_loss = _mean_over_processes(total, n_processes) / steps
                if not math.isfinite(mean_loss):
                    raise ZooError(f"{name}: the loss became {mean_loss} in epoch {epoch}; expected finite losses")
                history.add_loss(mean_loss, learning_rate=settings.learning_rate)
                is_due = epoch % settings.evaluate_every == 0 or epoch == settings.epochs
                if is_due and history.add_score(_validate(module, score, n_processes, device, eager=compiled)):
                    best = {key: value.detach().clone() for key, value in module.state_dict().items()}
                bar.set_postfix({key: f"{value:.4g}" for key, value in history.epochs[-1].items()}, refresh=False)
                bar.update()
                if folder and rank == 0 and time.monotonic() - written >= runtime.checkpoint_seconds:
                    write_checkpoint(folder, module, optimizer, history, best)
                    written = time.monotonic()
        # What follows a training can be interrupted too, so whoever asked for it removes the folder when all is done.
        if folder and rank == 0 and len(history.epochs) > finished:
            write_checkpoint(folder, module, optimizer, history, best)
        if settings.keep == "best" and best is not None:
            module.load_state_dict(best)
    module.eval()
    logger.info("%s: %d epochs, best score in epoch %d", name, len(history.epochs), history.best_epoch)
    return history


def _make_optimizer(module: nn.Module, settings: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    on_gpu = device.type == "cuda"
    # On a GPU the rate is a tensor, which a captured step reads again at each replay.
    rate = torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate
    return kind(parameters, lr=rate, weight_decay=settings.weight_decay, fused=True, capturable=on_gpu)


def _batches(
    seed: int, epoch: int, n_samples: int, local: int, *, rank: int, n_processes: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield this process's part (local,) of every batch of an epoch, of as many orders of the samples as are asked for.

    Orders are drawn on the host, alike for all processes.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, Purpose.ORDER, epoch))
    batch = local * n_processes
    while True:
        order = torch.randperm(n_samples, generator=generator).to(device)
        for start in range(0, n_samples - batch + 1, batch):
            yield order[start + rank * local : start + (rank + 1) * local]


def _set_rate(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, history: History, *, step: int, steps: int
) -> None:
    """Give the optimiser the rate of a step, counted from 0 over all epochs of `steps` each."""
    rate = settings.learning_rate
    if settings.schedule == "plateau":
        rate *= history.rate_factor
    elif settings.schedule == "cosine":
        rest = max(settings.epochs * steps - settings.warm_up_steps, 1)
        rate *= 0.5 * (1 + math.cos(math.pi * max(step - settings.warm_up_steps, 0) / rest))
    if step < settings.warm_up_steps:
        rate *= (step + 1) / settings.warm_up_steps
    (group,) = optimizer.param_groups
    if not isinstance(group["lr"], Tensor):
        group["lr"] = rate
    elif group.get("written_rate") != rate:  # writes to the device only where the rate changes
        group["lr"].fill_(rate)
        group["written_rate"] = rate


def _mean_over_processes(value: Tensor, n_processes: int) -> float:
    if n_processes > 1:
        torch.distributed.all_reduce(value)
    return value.item() / n_processes


def _validate(module: nn.Module, score: Score, n_processes: int, device: torch.device, *, eager: bool) -> float:
    """Return the validation score, the same in every process."""
    module.eval()
    # A compiled module would be compiled once more for evaluation mode, which costs more than it saves.
    stance = torch.compiler.set_stance("force_eager") if eager else contextlib.nullcontext()
    with torch.no_grad(), stance:
        value = torch.tensor(float(score()), dtype=torch.float64, device=device)
    if n_processes > 1:
        torch.distributed.broadcast(value, 0)
    return value.item()
