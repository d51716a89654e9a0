"""Plain loops on a GPU: one model after another by torch.nn and torch.optim, and the same step in a CUDA graph."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.registry import Architecture, SmallCNNGap, network
from zoo_gen.image_data import ImageData
from zoo_gen.population.initialization import initial_weights

GAP = SmallCNNGap(name="small_cnn_gap")


class PlainLoop:
    """One model, Adam at 1e-3, its batches drawn at random on the device."""

    def __init__(self, architecture: Architecture, inputs: Tensor, labels: Tensor, *, batch_size: int, activation: str):
        n_classes = int(labels.max()) + 1
        self.model = network(architecture, tuple(inputs.shape[1:]), n_classes).module(activation=activation).cuda()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, capturable=True)
        self.inputs, self.labels = inputs, labels
        self.batch = torch.zeros(batch_size, dtype=torch.int64, device="cuda")
        self.batch_size = batch_size

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=False)
        logits = self.model(self.inputs.index_select(0, self.batch))
        functional.cross_entropy(logits, self.labels.index_select(0, self.batch)).backward()
        self.optimizer.step()

    def captured(self) -> torch.cuda.CUDAGraph:
        """Return the step as a CUDA graph; some steps are taken on the way."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph

    def restart(self, weights: Tensor) -> None:
        """Begin anew from flat weights, where the graph's weights lie."""
        with torch.no_grad():
            parameters = list(self.model.parameters())
            for parameter, values in zip(parameters, weights.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(values.view_as(parameter))
            for state in self.optimizer.state.values():
                for values in state.values():
                    values.zero_()


def graphed_accuracies(
    data: ImageData, seeds: list[int], *, epochs: int, architecture: Architecture = GAP
) -> np.ndarray:
    """Train an architecture by graphed float32 loops, batches of 128; return the test accuracy of each seed."""
    inputs, labels = data.tensors("train", device="cuda")
    test_inputs, test_labels = data.tensors("test", device="cuda")
    loop = PlainLoop(architecture, inputs, labels, batch_size=128, activation="relu")
    graph = loop.captured()
    ones = torch.ones(len(seeds))
    initial = initial_weights(
        network(architecture, tuple(inputs.shape[1:]), data.n_classes).layout,
        torch.tensor(seeds),
        ["kaiming_uniform"] * len(seeds),
        deviations=ones,
        scales=ones,
        biases=0.01 * ones,
    ).cuda()
    accuracies = []
    for seed, weights in zip(seeds, initial, strict=True):
        torch.manual_seed(seed)
        loop.restart(weights)
        for _ in range(epochs):
            order = torch.randperm(len(labels), device="cuda")
            for batch in order[: len(labels) // 128 * 128].view(-1, 128):
                loop.batch.copy_(batch)
                graph.replay()
        with torch.no_grad():
            accuracies.append((loop.model(test_inputs).argmax(dim=1) == test_labels).float().mean().item())
    return np.array(accuracies)
