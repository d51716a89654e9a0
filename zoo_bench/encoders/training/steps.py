"""One step of a training: loss, gradient, optimiser; in several processes, or replayed as one CUDA graph.

A graph replays on the addresses that it was captured with, so whatever a step reads or writes (weights, moments, the
learning rate, the numbers of the samples) is changed in place and never replaced.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo_bench.encoders.training.runtime import process_count

# Of the numbers of a batch's samples, int64 (sample,) on the device, and a generator there: the loss, a scalar. It
# calls the module that is trained, and draws from the generator or from torch's own, from nothing else.
Loss = Callable[[Tensor, torch.Generator], Tensor]
Step = Callable[[Tensor], None]

WARM_UP_STEPS = 3  # run before a graph is captured, and undone


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started, if it did; give this one's rank and their number."""
    from torch import distributed

    if process_count() == 1:
        yield 0, 1
        return
    joins = not distributed.is_initialized()
    if joins:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield distributed.get_rank(), distributed.get_world_size()
    if joins:
        distributed.barrier()
        distributed.destroy_process_group()


def compile_whole(module: nn.Module) -> None:
    """Compile a module in place, for operands of the same shapes at every step."""
    # Rows that a compiler fills up to whole cache lines would be copied before each operation of our own.
    module.compile(dynamic=False, options={"comprehensive_padding": False})


def make_step(
    module: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    generator: torch.Generator,
    total: Tensor,
    clip: float | None,
    bfloat16: bool,
    n_processes: int,
) -> Step:
    """Return the function that takes one step on a batch, samples (sample,), and adds its loss to `total`."""
    device = total.device
    objective: nn.Module = _Objective(module, loss)
    if n_processes > 1:
        devices = [device] if device.type == "cuda" else None
        objective = nn.parallel.DistributedDataParallel(objective, device_ids=devices)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def step(samples: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        # No cache of casts: a weight is read once a step, and a cached cast would outlive the capture of a graph.
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            value = objective(samples, generator)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        total.add_(value.detach())

    return step


def graphed(
    step: Step,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    generator: torch.Generator,
    n_samples: int,
) -> Step:
    """Return the step on batches of `n_samples` as a CUDA graph: one launch instead of hundreds.

    The steps that warm up are undone; what they leave in the total is the caller's to clear.
    """
    samples = torch.arange(n_samples, device=generator.device)
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    moments = {parameter: {k: v.clone() for k, v in state.items()} for parameter, state in optimizer.state.items()}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), _quiet_compiler():
        for _ in range(WARM_UP_STEPS):
            step(samples)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            value.copy_(weights[key])
        for parameter, state in optimizer.state.items():
            before = moments.get(parameter)
            for key, value in state.items():
                value.copy_(before[key] if before else torch.zeros_like(value))
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step(samples)

    def replay(batch: Tensor) -> None:
        samples.copy_(batch)
        graph.replay()

    return replay


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep from users what Inductor advises those who call it: precision is a setting here, and speed is measured."""
    with warnings.catch_warnings():
        for message in ("TensorFloat32 tensor cores", "\\s*Online softmax is disabled"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def gather(rows: Tensor) -> Tensor:
    """Return the rows (row, ...) of all processes, in their order; gradients flow back to where a row came from."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    return _Gather.apply(rows)


class _Gather(torch.autograd.Function):
    """Each process computes the whole loss, and DistributedDataParallel averages, hence the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        torch.distributed.all_reduce(gradient)
        start = torch.distributed.get_rank() * ctx.count
        return gradient[start : start + ctx.count]


class _Objective(nn.Module):
    """The loss as a module, so that DistributedDataParallel sees the whole of a step."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        return self.loss(samples, generator)
