"""The independent reference: one model trained by torch.nn and torch.optim alone, one step after another."""

from itertools import pairwise

import numpy as np
import torch

from zoo_gen.image_data import ImageData

ACTIVATIONS = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "sigmoid": torch.nn.Sigmoid,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}


def train_alone(
    widths: tuple[int, ...],
    data: ImageData,
    *,
    bias: bool,
    activation: str,
    optimizer: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    initial: np.ndarray,  # (parameter,)
    orders: np.ndarray,  # (epoch, image)
    batch_size: int,
    dtype: torch.dtype = torch.float64,
) -> np.ndarray:
    """Return the weights (parameter,) after the epochs whose data orders are given."""
    modules: list[torch.nn.Module] = [torch.nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        modules += [torch.nn.Linear(inputs, outputs, bias=bias), ACTIVATIONS[activation]()]
    model = torch.nn.Sequential(*modules[:-1]).to(dtype)
    torch.nn.utils.vector_to_parameters(torch.tensor(initial, dtype=dtype), model.parameters())
    if optimizer == "adam":
        update = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    else:
        update = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    scale, offset = (torch.from_numpy(values).to(dtype).view(-1, 1, 1) for values in (data.scale, data.offset))
    images = torch.from_numpy(data.train_images).to(dtype) * scale + offset
    labels = torch.from_numpy(data.train_labels)
    for order in orders:
        for start in range(0, len(order), batch_size):
            batch = torch.from_numpy(order[start : start + batch_size])
            update.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            update.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
