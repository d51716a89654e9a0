"""How long many networks take on inputs that all share: `view.forward` beside a loop over plain modules.

The third line is the whole of a probing encoder with as many learned inputs: generator, networks, and what reads them.

python -m tests.benchmarks.forward [--networks 1000] [--inputs 128] [--device cpu]
"""

import time

import click
import numpy as np
import torch

from zoo_bench.encoders.probing.encoder import FUNCTIONS, ProbingNetwork
from zoo_gen.architecture.registry import CNNSmall, network
from zoo_gen.zoo.forward import ForwardPass


def seconds(run, device: str, *, repeats: int) -> tuple[float, float]:
    """The least seconds of some runs, and the least seconds of processors."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


@click.command()
@click.option("--networks", default=1000)
@click.option("--inputs", default=128)
@click.option("--device", default="cpu")
def main(networks: int, inputs: int, device: str) -> None:
    """Print seconds of both ways, and how far their outputs differ."""
    net = network(CNNSmall(name="cnn_small"), (1, 28, 28), 10)
    weights = (np.random.default_rng(0).normal(size=(networks, net.layout.size)) * 0.1).astype(np.float32)
    functions = ["relu", "tanh"] * (networks // 2) + ["relu"] * (networks % 2)
    forward, stacked = ForwardPass.of(net, functions), torch.from_numpy(weights).to(device)
    images = torch.rand((inputs, 1, 28, 28), device=device)
    modules = []
    for row, function in zip(weights, functions, strict=True):
        module = net.module(activation=function)
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in net.layout.split(row).items()})
        modules.append(module.to(device).eval())
    places = torch.tensor([[float(FUNCTIONS.index(function))] for function in functions], device=device)
    numbers = torch.cat([places, stacked], dim=1).flatten()
    offsets = torch.arange(networks, device=device) * (net.layout.size + 1)
    probing = ProbingNetwork(net, inputs).to(device).eval()
    with torch.no_grad():
        together = seconds(lambda: forward.run(stacked, images), device, repeats=6)
        encoder = seconds(lambda: probing(None, numbers, offsets), device, repeats=6)
        loop = seconds(lambda: [module(images) for module in modules], device, repeats=1)
        difference = (forward.run(stacked, images) - torch.stack([module(images) for module in modules])).abs().max()
    print(f"{networks} networks cnn_small x {inputs} inputs on {device}, {torch.get_num_threads()} threads")
    print(f"together      {together[0]:.3f} s (processors {together[1]:.3f} s)")
    print(f"probing       {encoder[0]:.3f} s (processors {encoder[1]:.3f} s)")
    print(f"a loop        {loop[0]:.3f} s (processors {loop[1]:.3f} s)")
    print(f"largest difference {difference:.2g}")


if __name__ == "__main__":
    main()
