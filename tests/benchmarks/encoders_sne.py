"""Times SNE against the straightforward way: a loop over the networks of a batch, their layers and their chunks.

Run it with: python tests/benchmarks/encoders_sne.py [--device cuda] [--batch 64] [--threads 1]

Both ways take the same training steps (forward, backward, AdamW with clipping) on random networks at the same width,
chunk and number of set functions. The straightforward way is written here from the paper's equations with torch's own
modules (nn.MultiheadAttention, nn.LayerNorm); it is shown twice: one chunk at a time, and with the chunks of a tensor
stacked. A further figure is encoding alone, without gradients.
One thread of a CPU is timed by the processor's seconds, which do not count those that other processes take.
"""

import argparse
import math
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from zoo_bench.encoders.sne.batches import Planner
from zoo_bench.encoders.sne.encoder import SINE
from zoo_bench.encoders.sne.network import SNENetwork
from zoo_bench.encoders.sne.settings import Settings
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.machine.memory import freed_memory_kept

HEADS = 4


def layout(*shapes: tuple[int, ...]) -> ParameterLayout:
    """Return the layout of layers with biases."""
    parameters: list[Parameter] = []
    for number, shape in enumerate(shapes):
        for role, axes in (("weight", shape), ("bias", shape[:1])):
            start = parameters[-1].stop if parameters else 0
            parameters.append(Parameter(f"layer{number}", role, axes, start))  # type: ignore[arg-type]
    return ParameterLayout(tuple(parameters))


SINE_INR = layout((32, 1), (32, 32), (1, 32))  # 1,153 parameters
SMALL_CNN = layout((16, 1, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (10, 16))  # 4,970 parameters

CASES = {
    "sine INR, width 32, chunk 32": (SINE_INR, replace(SINE, width=32, chunk=32, pos="none", signs=False)),
    "small CNN, width 64, chunk 16, kernels": (SMALL_CNN, Settings(chunk=16, conv_tokens="kernels")),
    "small CNN, width 32, chunk 16, scalars": (SMALL_CNN, Settings(chunk=16, width=32)),
    "small CNN, width 64, chunk 16, scalars": (SMALL_CNN, Settings(chunk=16)),
}


class PlainMAB(nn.Module):
    """MAB(X, Y) = LN(H + rFF(H)), H = LN(X + MultiHead(X, Y, Y))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x + self.attention(x, y, y, need_weights=False)[0])
        return self.second(hidden + self.feed_forward(hidden))


class PlainPMA(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.seed = nn.Parameter(torch.randn(1, 1, width))
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mab = PlainMAB(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mab(self.seed.expand(len(x), -1, -1), self.feed_forward(x))[:, 0]


class PlainSNE(nn.Module):
    """The published algorithm, a network at a time."""

    def __init__(self, width: int, chunk: int, features: int, *, stacked: bool) -> None:
        super().__init__()
        self.width, self.chunk, self.stacked = width, chunk, stacked
        self.project = nn.Linear(1, width)
        self.project_kernels = nn.Linear(features, width)
        self.sets = nn.ModuleList(PlainMAB(width) for _ in range(10))
        self.pools = nn.ModuleList(PlainPMA(width) for _ in range(4))
        self.head = nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))

    def code(self, position: int) -> torch.Tensor:
        rates = torch.exp(torch.arange(0, self.width, 2) * (-math.log(10000.0) / self.width))
        return torch.cat([(position * rates).sin(), (position * rates).cos()]).to(self.project.weight.device)

    def chunks(self, tensor: torch.Tensor, kernels: bool) -> list[torch.Tensor]:
        entries = tensor.flatten(0, 1).flatten(1) if tensor.dim() == 4 else tensor.reshape(-1, 1)
        return [part if kernels else part.reshape(-1, 1) for part in entries.split(self.chunk)]

    def encode_chunks(self, x: torch.Tensor, kind: int, level: int) -> torch.Tensor:
        x = self.project(x) if x.shape[2] == 1 else self.project_kernels(x)
        for sab in self.sets[:2]:
            x = sab(x, x)
        x = x + self.code(kind) + self.code(level)
        for sab in self.sets[2:4]:
            x = sab(x, x)
        return self.pools[0](x)

    def encode(self, layers: list[list[torch.Tensor]], kernels: bool) -> torch.Tensor:
        vectors = []
        for level, tensors in enumerate(layers):
            parts = []
            for tensor in tensors:
                kind = 0 if tensors[0].dim() == 4 else 1
                pieces = self.chunks(tensor, kernels and tensor.dim() == 4)
                whole = [piece for piece in pieces if len(piece) == len(pieces[0])] if self.stacked else []
                vectors = [self.encode_chunks(torch.stack(whole), kind, level)] if whole else []
                vectors += [self.encode_chunks(piece[None], kind, level) for piece in pieces[len(whole) :]]
                x = torch.cat(vectors)[None]
                for sab in self.sets[4:6]:
                    x = sab(x, x)
                parts.append(self.pools[1](x + self.code(level)))
            x = torch.stack(parts, dim=1)
            for sab in self.sets[6:8]:
                x = sab(x, x)
            vectors.append(self.pools[2](x))
        x = torch.stack(vectors, dim=1) + torch.stack([self.code(level) for level in range(len(vectors))])
        for sab in self.sets[8:10]:
            x = sab(x, x)
        return self.head(self.pools[3](x))[0, 0]


def seconds_of(step, *, device: torch.device, least: float) -> float:
    """Return the least seconds of a step, repeated for at least `least` seconds after a warm-up."""

    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter

    def timed() -> float:
        began = clock()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - began

    timed()
    durations: list[float] = []
    while sum(durations) < least or len(durations) < 3:
        durations.append(timed())
    return min(durations)


def training_step(module: nn.Module, loss, *, device: torch.device):
    """Return a function that takes one step; on a GPU in bfloat16, as training does."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()

    return step


def measure(name: str, *, batch: int, device: torch.device, least: float) -> dict[str, float]:
    """Return samples a second of each way."""
    architecture, settings = CASES[name]
    torch.manual_seed(0)
    kernels = settings.conv_tokens == "kernels"
    weights = torch.randn(batch, architecture.size, device=device) * 0.1
    targets = torch.rand(batch, device=device)
    entropy = nn.functional.binary_cross_entropy_with_logits
    speeds = {}
    plain_batch = min(batch, 4 if device.type == "cpu" else 8)  # its time is proportional to the networks
    layers = [
        [
            [
                weights[i, parameter.start : parameter.stop].view(parameter.shape)
                for parameter in architecture.parameters
                if parameter.layer == layer
            ]
            for layer in architecture.layers
        ]
        for i in range(plain_batch)
    ]
    for way, stacked in (("one chunk at a time", False), ("chunks of a tensor stacked", True)):
        plain = PlainSNE(settings.width, int(settings.chunk), 9, stacked=stacked).to(device)

        def plain_loss(plain: PlainSNE = plain) -> torch.Tensor:
            logits = torch.stack([plain.encode(network, kernels) for network in layers])
            return entropy(logits.float(), targets[:plain_batch])

        speeds[way] = plain_batch / seconds_of(
            training_step(plain, plain_loss, device=device), device=device, least=least
        )
    network = SNENetwork(settings, kernel=3, scale=1.0).to(device)
    planner = Planner([architecture], settings, chunk=settings.chunk, kernel=3, device=device)
    plan = planner.plan(np.zeros(batch, dtype=np.int64))
    numbers, offsets = weights.reshape(-1), torch.arange(batch, device=device) * architecture.size
    step = training_step(network, lambda: entropy(network(plan, numbers, offsets)[1], targets), device=device)

    def encode() -> None:
        with torch.no_grad():
            network(plan, numbers, offsets)

    with freed_memory_kept():  # as `train` does
        speeds["ours"] = batch / seconds_of(step, device=device, least=least)
    speeds["ours, encoding alone"] = batch / seconds_of(encode, device=device, least=least)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of a measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {arguments.threads} threads"
    print(f"torch {torch.__version__}, {where}; batches of {arguments.batch}; networks a second\n")
    for name in CASES:
        speeds = measure(name, batch=arguments.batch, device=device, least=arguments.seconds)
        print(name)
        for way, speed in speeds.items():
            ratios = "".join(f"{speed / speeds[plain]:9.1f} x" for plain in list(speeds)[:2])
            print(f"  {way:40}{speed:10.1f}{ratios if way == 'ours' else ''}", flush=True)


if __name__ == "__main__":
    main()
