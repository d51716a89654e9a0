"""A folder of one's own, as people have them: small state_dicts and a table beside them."""

from itertools import pairwise

import torch
from torch import nn

from tests.zoo_gen.published import ray
from tests.zoo_gen.published.ray import convert
from zoo_gen import open_zoo


def state(seed):
    """Return the state_dict of a layer of three inputs and two outputs, another one for each seed."""
    generator = torch.Generator().manual_seed(seed)
    return {"fc.weight": torch.randn(2, 3, generator=generator), "fc.bias": torch.randn(2, generator=generator)}


def folder(path, table, *, n_files=3, name="models.csv", files=None, states=None):
    """Write `n_files` states c0.pt, c1.pt, ..., a table (text or bytes) and further files, name -> bytes."""
    path.mkdir(parents=True)
    contents = {f"c{number}.pt": ray.saved(state(number)) for number in range(n_files)}
    contents |= {key: ray.saved(value) for key, value in (states or {}).items()}
    contents |= {name: table.encode() if isinstance(table, str) else table}
    for key, content in (contents | (files or {})).items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(content)
    return path


def zoo_of(path, **options):
    """Convert a folder and return the zoo."""
    return open_zoo(convert(path, path.with_name(f"{path.name}_zoo"), format="folder", **options))


def kinds(zoo):
    """Return what each column was taken as, and its name in the zoo."""
    return {column.name: (column.kind, column.stored) for column in zoo.conversion.columns}


def mlp(*widths):
    """Return a network of linear layers with ReLU between them."""
    layers = [layer for inputs, outputs in pairwise(widths) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])
