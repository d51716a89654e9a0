"""OwnModule: a torch.nn.Module of the user's own in place of layers, and what of it can be stacked by torch.func.

Names, shapes and the digest of its source stand in the manifest, so that a zoo is opened without its code; its code is
imported where something is computed.
"""

import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.source_code import source_sha256
from zoo_gen.errors import ZooError, needing, one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

Factory = Callable[..., Any]  # a class or function that returns a torch.nn.Module
Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of tensors, in order
_factories: dict[str, Factory] = {}  # what was given in Python in this process, by reference
_trusted: set[str] = set()  # what another process of the same run gave, whose source cannot be read here


@dataclass(frozen=True)
class OwnModule:
    """A module by its reference, "package.module:Class", with what its manifest knows of it."""

    reference: str
    arguments: Mapping[str, Any]
    parameters: Shapes
    buffers: Shapes  # running statistics, which training changes
    sha256: str  # of its source
    n_outputs: int
    _checked: list[bool] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights, in torch's order; which units can be reordered is not known."""
        return _layout(self.parameters)

    @cached_property
    def buffer_layout(self) -> ParameterLayout:
        """Where each running statistic lies in the array of buffers."""
        return _layout(self.buffers)

    @property
    def has_convolution(self) -> bool:
        """Whether a parameter is a kernel, which makes hidden values much larger than inputs."""
        return any(len(shape) > 2 for _, shape in self.parameters)

    def build(self, *, seed: int = 0) -> "nn.Module":
        """Return the module as it is made under `torch.manual_seed(seed)`.

        Raises:
            ZooError: it cannot be imported or made, or is another one than the manifest knows.
        """
        if self._checked:
            factory = resolve(self.reference)
        else:
            factory = resolve_as_of(self.reference, self.sha256, what="module")
            self._checked.append(True)
        module = _constructed(factory, self.reference, self.arguments, seed=seed)
        if _shapes(module.named_parameters()) != self.parameters:
            raise ZooError(f"module {self.reference!r}: has other parameters than its manifest says")
        return module


def give(factory: Factory, *, what: str = "module", trusted: bool = False) -> str:
    """Make a class or function of this process known, and return its reference.

    Args:
        factory: the class or function.
        what: it stands for, for the error message.
        trusted: whether the process that sent it has read its source.

    Raises:
        ZooError: it is an instance, or stands inside of a function, so that nothing could make the next model.
    """
    name = getattr(factory, "__qualname__", None)
    if not callable(factory) or name is None or "<" in name:
        kind = "function that returns a torch.nn.Module" if what == "module" else "function"
        more = "; each model needs a new one" if what == "module" else ""
        raise ZooError(
            f"{what} {name or type(factory).__name__}: expected a class, or a {kind}, at the top level of a file{more}"
        )
    reference = f"{factory.__module__}:{name}"
    _factories[reference] = factory
    if trusted:
        _trusted.add(reference)
    return reference


def resolve(reference: str) -> Factory:
    """Return the class or function that a reference, "package.module:name", names.

    The working folder is searched too, as an own module often lies there.

    Raises:
        ZooError: it cannot be imported.
    """
    if reference in _factories:
        return _factories[reference]
    module, _, name = reference.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        factory: Any = import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
    # What a module raises while it is imported is its own affair.
    except Exception as error:
        expected = "a class in a file, not in a script" if module == "__main__" else "package.module:name"
        raise ZooError(f"{reference!r}: cannot be imported ({one_line(error)}); expected {expected}") from None
    if not callable(factory):
        raise ZooError(f"{reference!r}: is no class or function")
    return factory


def folders_of(references: Iterable[str]) -> tuple[str, ...]:
    """Return the folders from which this process imports what references name, for processes that began elsewhere."""
    folders = []
    for reference in references:
        top = sys.modules.get(reference.partition(":")[0].partition(".")[0])
        if (file := getattr(top, "__file__", None)) is not None:
            path = Path(file).resolve()
            folders.append(str(path.parents[1] if path.name == "__init__.py" else path.parent))
    return tuple(dict.fromkeys(folders))


def search(folders: Iterable[str]) -> None:
    """Let this process import from folders too."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def resolve_as_of(reference: str, sha256: str, *, what: str) -> Factory:
    """Return the class or function that a reference names, if its source has this digest.

    Raises:
        ZooError: it cannot be imported, or has another source; the message begins with `what` it is.
    """
    factory = resolve(reference)
    if reference not in _trusted and source_sha256(factory) != sha256:
        raise ZooError(
            f"{what} {reference!r}: its source has changed since the manifest was made (digests differ); "
            "expected the source of then"
        )
    return factory


def look_up(reference: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest keeps of a module, as plain data: parameters, buffers, the digest of its source.

    Raises:
        ZooError: it cannot be imported or made, or holds what cannot be stacked; the message names the part.
    """
    factory, where = resolve(reference), f"module {reference!r}"
    module, again, other = (_constructed(factory, reference, arguments, seed=seed) for seed in (0, 0, 1))
    if not all(np.array_equal(one, two) for one, two in zip(_values(module), _values(again), strict=True)):
        raise ZooError(
            f"{where}: two modules made from one seed differ; expected all random numbers from torch's generator"
        )
    for name, parameter in module.named_parameters():
        if str(parameter.dtype) != "torch.float32":
            raise ZooError(f"{where}: parameter {name} is of {parameter.dtype}; expected torch.float32")
        if not parameter.requires_grad:
            raise ZooError(f"{where}: parameter {name} needs no gradient; expected a buffer")
    if not list(module.parameters()):
        raise ZooError(f"{where}: has no parameters")
    statistics = _statistics(module, where)
    buffers = dict(other.named_buffers())
    for name, buffer in module.named_buffers():
        if not np.array_equal(buffer.numpy(), buffers[name].numpy()):
            raise ZooError(f"{where}: buffer {name} differs from seed to seed; expected a parameter, or one constant")
    for name, part in module.named_modules():
        kind, rate = type(part).__name__, getattr(part, "p", 0)
        if "Dropout" in kind and rate and not (kind == "Dropout" and rate < 1):
            raise ZooError(
                f"{where}: {name} ({kind}, p = {rate}) cannot be stacked; expected torch.nn.Dropout with p below 1"
            )
    return {
        "parameters": _shapes(module.named_parameters()),
        "buffers": tuple((name, tuple(buffers[name].shape)) for name in statistics),
        "source_sha256": source_sha256(factory),
    }


def _statistics(module: "nn.Module", where: str) -> list[str]:
    """Return the names of the buffers that training changes: means and variances of batch normalisation."""
    from torch.nn.modules.batchnorm import _NormBase

    names = []
    for path, part in module.named_modules():
        if isinstance(part, _NormBase) and part.running_mean is not None:
            if part.momentum is None:
                raise ZooError(f"{where}: {path} has momentum None, whose means cannot be stacked; expected a number")
            names += [f"{path}.{name}".removeprefix(".") for name in ("running_mean", "running_var")]
    return names


def _constructed(factory: Factory, reference: str, arguments: Mapping[str, Any], *, seed: int) -> "nn.Module":
    with needing("modules", extra="generate"):
        from torch import nn
    with _seeded(seed):
        try:
            module = factory(**arguments)
        # What a constructor raises is its own affair.
        except Exception as error:
            expected = f"arguments of {inspect.signature(factory)}" if isinstance(error, TypeError) else "a module"
            raise ZooError(f"module {reference!r}: cannot be made ({one_line(error)}); expected {expected}") from None
    if not isinstance(module, nn.Module):
        raise ZooError(f"module {reference!r}: gives {type(module).__name__}; expected a torch.nn.Module")
    return module


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch, numpy and Python draw from a seed inside, and go on outside as if nothing had been drawn."""
    import torch

    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _shapes(tensors: "Iterator[tuple[str, torch.Tensor]]") -> Shapes:
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors)


def _values(module: "nn.Module") -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in module.state_dict().values()]


def _layout(shapes: Shapes) -> ParameterLayout:
    parameters: list[Parameter] = []
    for name, shape in shapes:
        layer, _, role = name.rpartition(".")
        parameters.append(Parameter(layer, role, shape, parameters[-1].stop if parameters else 0))
    return ParameterLayout(tuple(parameters))
