"""A model of a zoo for torch: its parameters as tensors by name, and its network as a module that computes with them.

The functions take a model as its row in the table, so that `Zoo` and what reads a zoo without one can share them.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.network import BUFFERS
from zoo_gen.errors import ZooError
from zoo_gen.store import Store
from zoo_gen.zoo.arrays import Arrays

if TYPE_CHECKING:
    import torch


def state_dict(store: Store, arrays: Arrays, row: pa.Table, *, checkpoint: int | None) -> "dict[str, torch.Tensor]":
    """Return the parameters of a model, name -> tensor; with batch normalisation its statistics too.

    Args:
        store: the zoo.
        arrays: its arrays.
        row: the model's row in the table of models.
        checkpoint: position among the zoo's checkpoints; the last one that was kept of the model, if none is given.

    Raises:
        ZooError: the model diverged before that checkpoint.
    """
    import torch

    epochs = store.attributes["checkpoint_epochs"]
    if checkpoint is None:
        checkpoint = row["checkpoints"][0].as_py()[-1] if "checkpoints" in row.column_names else len(epochs) - 1
    weights = arrays.weights(row, np.array([checkpoint]))[0, 0]
    if np.isnan(weights).any():
        model, state = row["model_id"][0].as_py(), row["status"][0].as_py().replace("complete", "diverged")
        raise ZooError(f"{store.manifest.name}: model {model} has no weights at epoch {epochs[checkpoint]}; it {state}")
    parameters = arrays.layout_of(row).split(weights)
    network = arrays.architecture_of(row.to_pylist()[0]) if BUFFERS in store.extent.arrays() else None
    if network is not None and network.buffer_layout.size:
        values = arrays.read(BUFFERS, row["model_id"].to_numpy(), np.array([checkpoint]))[0, 0]
        parameters |= network.buffer_layout.split(values[: network.buffer_layout.size])
    return {name: torch.from_numpy(array.copy()) for name, array in parameters.items()}


def module(store: Store, arrays: Arrays, row: pa.Table, *, checkpoint: int | None) -> "torch.nn.Module":
    """Return a model as a torch module in evaluation mode; its arguments and errors are those of `state_dict`.

    Raises:
        ZooError: besides, how the model computes is not known.
    """
    values = row.to_pylist()[0]
    activation, dropout = values.get("activation"), values.get("dropout") or 0.0
    network = arrays.network_of(values).module(activation=activation, dropout=dropout)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, stored in state_dict(store, arrays, row, checkpoint=checkpoint).items():
        tensors[name].data.copy_(stored)
    return network.eval()
