"""Times our kernels of a CPU's convolutions, stage by stage, beside torch's product of matrices, on one core.

    python -m tests.benchmarks.convolutions [ARCHITECTURE]    # small_cnn_gap if none is given

A stage is a convolution with the pooling and relu after it, on 64 images of as many models as a register has lanes;
seconds are those of the core, the least of 30. Operations are those of the products that a pass has.
"""

import sys
import time

import torch

from zoo_gen.architecture.layers import Convolution, Pooling
from zoo_gen.architecture.registry import CNNSmall, SmallCNNGap, network
from zoo_gen.architecture.shapes import shapes
from zoo_gen.population.cpu import lanes
from zoo_gen.population.cpu.lanes_kernels import Stage, stage_backward, stage_forward

IMAGES, REPEATS = 64, 30
ARCHITECTURES = {"small_cnn_gap": SmallCNNGap, "cnn_small": CNNSmall}


def seconds(function) -> float:
    """Return the least seconds of this core that a call takes."""
    times = []
    for _ in range(REPEATS):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times)


def report(layer: Convolution, pooling: Pooling | None, side: int, *, first: bool, peak: float) -> None:
    """Print what a stage reaches, forward and backward."""
    count = lanes.register(torch.float32)
    stage = Stage(layer, pooling, side + 2 * layer.padding, side + 2 * layer.padding, relu=True)
    inputs = torch.randn(IMAGES, stage.height, stage.width, layer.inputs, count)
    weight, bias = torch.randn(layer.kernel**2, layer.inputs, layer.outputs, count), torch.randn(layer.outputs, count)
    outputs = torch.empty(IMAGES, *stage.output_size, layer.outputs, count)
    room, before = (torch.empty(*shape, layer.outputs, count) for shape in (stage.convolved, stage.output_size))
    places = torch.empty(outputs.shape, dtype=torch.uint8)
    slopes, gradients = torch.randn_like(outputs), [torch.zeros_like(each) for each in (inputs, weight, bias)]
    pooled, more = ([room, places] if pooling else []), [before, outputs]

    def call(kernel, *tensors):
        return lambda: kernel(*(each.data_ptr() for each in tensors), IMAGES)

    forward = stage_forward(stage, lanes=count, bits=32)
    backward = stage_backward(stage, lanes=count, bits=32, back=not first)
    operations = 2 * weight.numel() * IMAGES * stage.convolved[0] * stage.convolved[1]
    for name, products, function in (
        ("forward", 1, call(forward, inputs, weight, bias, outputs, *pooled)),
        ("backward", 1 if first else 2, call(backward, inputs, weight, slopes, *gradients, *pooled, *more)),
    ):
        function()
        taken = seconds(function)
        speed = products * operations / taken / 1e9
        print(f"{layer.name} {name:9} {1e3 * taken:7.2f} ms {speed:7.0f} GFLOP/s {100 * speed / peak:5.0f} %")


def main() -> None:
    """Read the command line and time an architecture's convolutions on 28 x 28 grey images."""
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "small_cnn_gap"
    layers = network(ARCHITECTURES[name](name=name), (1, 28, 28), 10).layers
    one, other = torch.randn(2, 512, 512)
    peak = 2 * 512**3 / seconds(lambda: one @ other) / 1e9
    print(f"torch {torch.__version__}, one core, {peak:.0f} GFLOP/s in products of matrices")
    sides = [28, *(shape[1] if len(shape) == 3 else 0 for shape in shapes(layers, (1, 28, 28)))]
    for number, layer in enumerate(layers):
        if isinstance(layer, Convolution):
            following = layers[number + 1]
            pooling = following if isinstance(following, Pooling) else None
            report(layer, pooling, sides[number], first=layer.inputs == 1, peak=peak)


if __name__ == "__main__":
    main()
