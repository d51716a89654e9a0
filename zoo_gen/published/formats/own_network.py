"""The network of a folder of one's own, as its owner describes it: layers of the open grammar, or a registered name.

Tensors go to layers by name: the names of the description, equal names, or shapes that only one layer has. Where
several layers have the same shapes, the numbers in their names order them, or `names` must say which is which.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from zoo_gen.architecture import registry
from zoo_gen.architecture.layers import Function
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import Architecture
from zoo_gen.errors import ZooError, argument
from zoo_gen.files import schema
from zoo_gen.files.schema import Count, Schema
from zoo_gen.image_data import DataSource
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.formats import images
from zoo_gen.published.formats.states import Shapes, signature
from zoo_gen.published.reading import Wiring, in_order


class OwnNetwork(Schema):
    """The description of a network of one's own; a file, or made in Python.

    Args:
        architecture: as in the manifest of a zoo.
        input_shape: of what it reads, [channel, height, width] or [feature]; that of the images if not given.
        activation: of layers that name none, for models whose table has no column `activation`.
        names: layer -> what its parameters are called before the last dot, where shapes do not tell.
    """

    architecture: Architecture
    input_shape: tuple[Count, ...] | None = Field(None, min_length=1, max_length=3)
    activation: Function | None = None
    names: dict[str, str] = Field(default_factory=dict)


class OwnData(Schema):
    """The images of models of one's own, as in the manifest of a zoo."""

    data: DataSource


def described(description: str | Path | Mapping[str, Any]) -> OwnNetwork:
    """Return the description that a caller gives: the path of a TOML file, an architecture's name, or plain data."""
    if isinstance(description, Mapping):
        content = dict(description) if "architecture" in description else {"architecture": dict(description)}
        try:
            return OwnNetwork.model_validate(content)
        except pydantic.ValidationError as error:
            raise ZooError(f"architecture: {schema.one_line(error, content, OwnNetwork)}") from None
    if str(description).endswith(".toml"):
        return schema.read_toml(Path(description), OwnNetwork)
    return schema.parse_toml(
        f'[architecture]\nname = "{description}"', OwnNetwork, where=argument("architecture", description)
    )


def data_of(data: str | None) -> DataSource | None:
    """Return the images that a caller names: a data set, or a TOML file with the [data] of a manifest."""
    if data is None:
        return None
    if data.endswith(".toml"):
        return schema.read_toml(Path(data), OwnData).data
    plain = {"source": "torchvision", "dataset": images.dataset_of(data)}
    return OwnData.model_validate({"data": plain}).data


def network_of(described_network: OwnNetwork, data: DataSource | None, classes: int | None) -> Network:
    """Return the network of a description."""
    shape = described_network.input_shape or (None if data is None else data.input_shape)
    if shape is None:
        raise ZooError(
            f"{argument('architecture')}: needs the shape of its inputs; expected input_shape in it, or "
            f"{argument('data')}"
        )
    if len(shape) == 2:
        raise ZooError(f"{argument('architecture')}: input_shape has two numbers, {list(shape)}; expected one or three")
    outputs = classes or (None if data is None else data.n_outputs)
    if outputs is None:
        outputs = _last_units(described_network.architecture)
    if outputs is None:
        raise ZooError(
            f"{argument('architecture')}: needs the number of its outputs; expected {argument('classes')}, or "
            f"{argument('data')}"
        )
    try:
        return registry.network(described_network.architecture, tuple(shape), outputs)
    except ValueError as error:
        raise ZooError(f"{argument('architecture')}: architecture.{error}") from None


def _last_units(architecture: Architecture) -> int | None:
    if isinstance(architecture, registry.MLP):
        return architecture.widths[-1]
    last = architecture.layers[-1] if isinstance(architecture, registry.Layers) else None
    return last.units if isinstance(last, registry.LinearSpec) else None


def wiring_of(shapes: Shapes, network: Network, names: Mapping[str, str], *, where: str) -> Wiring:
    """Return how the tensors of a state become the parameters of a network."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for parameter in network.layout.parameters:
        layers.setdefault(parameter.layer, {})[parameter.role] = parameter.shape
    tensors: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes:
        prefix, _, role = name.rpartition(".")
        tensors.setdefault(prefix, {})[role] = shape
    layer_of = _matched(layers, tensors, names, where=where)
    parts = ((name, shape, name.rpartition(".")) for name, shape in shapes)
    return Wiring.of(
        network, in_order((name, shape, f"{layer_of[prefix]}.{role}") for name, shape, (prefix, _, role) in parts)
    )


def _matched(
    layers: Mapping[str, Mapping[str, tuple[int, ...]]],
    tensors: Mapping[str, Mapping[str, tuple[int, ...]]],
    names: Mapping[str, str],
    *,
    where: str,
) -> dict[str, str]:
    """Return the layer of each group of tensors, prefix -> layer."""
    unknown = [layer for layer in names if layer not in layers]
    if unknown:
        raise ZooError(
            f"{argument('architecture')}: names.{unknown[0]}: no layer with parameters; expected {', '.join(layers)}"
        )
    layer_of: dict[str, str] = {}
    for layer, roles in layers.items():
        prefix = names.get(layer, layer)
        if layer in names and prefix not in tensors:
            raise ZooError(f"{where}: has no tensors {prefix}.*, which names.{layer} says; it has {', '.join(tensors)}")
        if prefix in tensors and (layer in names or tensors[prefix] == roles):
            layer_of[prefix] = layer
    for layer, roles in layers.items():
        if layer in layer_of.values():
            continue
        free = [prefix for prefix in tensors if prefix not in layer_of and tensors[prefix] == roles]
        alike = [each for each in layers if each not in layer_of.values() and layers[each] == roles]
        if len(free) != len(alike):
            expected = ", ".join(f"{role} {' x '.join(map(str, shape))}" for role, shape in roles.items())
            raise ZooError(
                f"{where}: has {len(free)} layers like {layer} ({expected}); expected {len(alike)}, as "
                f"{argument('architecture')} says"
            )
        if len(alike) > 1 and len({signature(((prefix, ()),)) for prefix in free}) > 1:
            raise ZooError(
                f"{where}: {free[0]} and {free[1]} have the same shapes; expected names in "
                f"{argument('architecture')}, "
                f'such as names = {{ {alike[0]} = "{free[0]}" }}'
            )
        layer_of |= dict(zip(sorted(free, key=natural_order), alike, strict=True))
    more = [prefix for prefix in tensors if prefix not in layer_of]
    if more:
        raise ZooError(f"{where}: has tensors {more[0]}.*, which {argument('architecture')} has no layer for")
    for prefix, layer in layer_of.items():
        if dict(tensors[prefix]) != dict(layers[layer]):
            raise ZooError(
                f"{where}: {prefix} has shapes {dict(tensors[prefix])}; expected those of {layer}, "
                f"{dict(layers[layer])}"
            )
    return layer_of
