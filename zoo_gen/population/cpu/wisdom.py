"""Which form of each convolution is fastest on this machine: timed once, then remembered in the user's cache folder.

What is remembered decides the last bits of a zoo, so the first answer stays: later runs on the same machine take it,
and give the same zoo, even where a new timing would come out otherwise.
"""

import hashlib
import json
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median_low
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Flatten,
    GlobalPooling,
    Layer,
    Pooling,
    Shape,
    layers_to_json,
    output_shape,
)
from zoo_gen.manifest import ZooManifest, grid
from zoo_gen.population.cpu import lanes
from zoo_gen.population.cpu.convolutions import LANES, MODELS_IN_LANES, forms
from zoo_gen.population.forward import Run, forward

_LITTLE = 2e11  # operations of a zoo: half a minute of a core without our kernels
_FEWEST_IMAGES, _MOST_IMAGES = 4, 32  # of a timing
_WORK = 1e9  # operations of a timed step, at most
_TURNS, _FEWEST_TURNS = 12, 4  # of all forms, each after the other
_ENOUGH = 0.4  # seconds of all turns
_HOPELESS = 3  # times as long as the fastest form
_ENTERING, _LEAVING = "into lanes", "out of lanes"  # beside the forms in what is remembered

_logger = logging.getLogger(__name__)


def forms_of(manifest: ZooManifest, *, models_per_shard: int) -> dict[str, str]:
    """Return the forms that a zoo is begun with; none, which means GROUPED, where a timing would not pay.

    Whether it pays depends on the manifest alone, so that small zoos are the same on every machine of a kind.
    """
    shape, n_train = manifest.data.input_shape, manifest.data.n_train
    n_models = grid.count_models(manifest)
    if n_models * manifest.training.epochs * n_train * operations(manifest.layers, shape) < _LITTLE:
        return {}
    columns = grid.table_of_models(manifest).to_pydict()
    fractions = columns.get("train_fraction", [1.0] * n_models)
    kinds = list(zip(columns["batch_size"], fractions, strict=True))  # only models of one kind train together
    together: list[int] = []  # models of its shard and kind, of each model
    for start in range(0, n_models, models_per_shard):
        counts = Counter(kinds[start : start + models_per_shard])
        together += [counts[kind] for kind in kinds[start : start + models_per_shard]]
    typical = min(median_low(together), MODELS_IN_LANES)
    batch_size = median_low(columns["batch_size"])
    return fastest(manifest.layers, shape, batch_size=batch_size, n_models=2 ** (typical.bit_length() - 1))


def fastest(layers: Sequence[Layer], input_shape: Shape, *, batch_size: int, n_models: int) -> dict[str, str]:
    """Return the form of each convolution, name -> form, that together are fastest, as remembered or else timed now.

    Lanes lie in another order in memory than torch's values, so what it costs to change the order between two
    convolutions, and before and after them all, is timed too and counts.

    Args:
        layers: of every model.
        input_shape: of an image (channel, height, width).
        batch_size: images of a step.
        n_models: how many models train at once at most.
    """
    best: dict[bool, tuple[float, tuple[str, ...]]] = {False: (0.0, ())}  # by whether values lie in lanes now
    leaving = 0.0
    names: list[str] = []
    for stage, shape in _stages(layers, input_shape):
        measure = _Measure(stage, shape, batch_size=batch_size, n_models=n_models, first=not names)
        seconds = remembered(measure.key, measure.seconds)
        names.append(stage[0].name)
        ways = [
            (before + (leaving if was else 0.0) + seconds[form], (*chosen, form))
            if form != LANES
            else (before + (0.0 if was else seconds[_ENTERING]) + seconds[form], (*chosen, form))
            for was, (before, chosen) in best.items()
            for form in forms()
        ]
        leaving = seconds.get(_LEAVING, 0.0)
        best = {}
        for cost, chosen in sorted(ways):
            best.setdefault(chosen[-1] == LANES, (cost, chosen))
    _, chosen = min((cost + (leaving if lies else 0.0), chosen) for lies, (cost, chosen) in best.items())
    return dict(zip(names, chosen, strict=True))


def _stages(layers: Sequence[Layer], input_shape: Shape) -> Iterator[tuple[tuple[Layer, ...], Shape]]:
    """Yield each convolution with the activation and pooling after it, and the shape of an image that comes in."""
    stage: list[Layer] = []
    entering = shape = input_shape
    for layer in layers:
        if isinstance(layer, Convolution | Flatten | GlobalPooling):
            if stage:
                yield tuple(stage), entering
            stage, entering = [], shape
        if isinstance(layer, Convolution) or (stage and isinstance(layer, Pooling | Activate)):
            stage.append(layer)
        shape = output_shape(layer, shape)


def operations(layers: Sequence[Layer], input_shape: Shape) -> int:
    """Return the floating-point operations of the convolutions in training on one image, forward and both gradients."""
    total, shape = 0, input_shape
    for layer in layers:
        inputs, shape = shape, output_shape(layer, shape)
        if isinstance(layer, Convolution):
            total += 6 * inputs[0] * layer.kernel**2 * shape[0] * shape[1] * shape[2]
    return total


def folder() -> Path:
    """Return ZOO_FORMS_ROOT, or zoo_gen/forms below XDG_CACHE_HOME or ~/.cache."""
    if root := os.environ.get("ZOO_FORMS_ROOT"):
        return Path(root).expanduser()
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "zoo_gen" / "forms").expanduser()


def remembered(key: dict[str, Any], seconds: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the seconds that are remembered under a key; if none are, measure and remember them.

    Args:
        key: what they depend on.
        seconds: measures them, form -> seconds.
    """
    path = folder() / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"
    if found := _read(path):
        return found
    measured = {name: round(value, 7) for name, value in seconds().items()}
    try:
        return _write_first(path, {"seconds": measured, **key}) or measured
    except OSError as error:
        _logger.warning("%s: cannot be written (%s); another run may choose other forms", path, error)
        return measured


def _write_first(path: Path, content: dict[str, Any]) -> dict[str, float] | None:
    """Put a whole file in place unless there is one; return what the one that is there says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".tmp") as file:
        file.write(json.dumps(content, indent=1))
        file.flush()
        if path.exists() and _read(path) is None:
            path.unlink()  # it was damaged
        with suppress(FileExistsError):
            path.hardlink_to(file.name)
    return _read(path)


def _read(path: Path) -> dict[str, float] | None:
    """Return the seconds in a file; None if it is not there or damaged."""
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_text())["seconds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if set(forms()) <= set(found) else None


class _Measure:
    """One training step of a convolution and what follows it: all models, forward and the gradients."""

    def __init__(self, stage: Sequence[Layer], shape: Shape, *, batch_size: int, n_models: int, first: bool) -> None:
        self.stage, self.shape, self.first = stage, shape, first
        self.n_models = n_models
        affordable = int(_WORK / (n_models * operations(stage, shape)))
        self.n_images = min(batch_size, max(_FEWEST_IMAGES, min(_MOST_IMAGES, affordable)))

    @property
    def key(self) -> dict[str, Any]:
        """What the answer depends on."""
        return {
            "cpu": _cpu(),
            "torch": torch.__version__,
            "llvmlite": _llvmlite(),
            "threads": 1,
            "dtype": "float32",
            "layers": [{k: v for k, v in row.items() if k != "name"} for row in layers_to_json(self.stage)],
            "shape": list(self.shape),
            "first": self.first,
            "images": self.n_images,
            "models": self.n_models,
        }

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each form, and of the order of values changed before and after lanes."""
        layer, shape = self.stage[0], self.shape
        assert isinstance(layer, Convolution)
        for each in self.stage:
            shape = output_shape(each, shape)
        random = torch.Generator().manual_seed(0)

        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=random)

        kernel = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        weight, bias = normal(self.n_models, *kernel), normal(self.n_models, layer.outputs)
        parameters = {f"{layer.name}.weight": weight.requires_grad_(), f"{layer.name}.bias": bias.requires_grad_()}
        images = normal(self.n_images, self.n_models, *self.shape).requires_grad_(not self.first)
        gradient = normal(self.n_images, self.n_models, *shape)
        learned = [weight, *([bias] if layer.bias else [])]
        models: list[Run] = [("relu", slice(0, self.n_models))]  # which one costs the same in every form

        def step(form: str, images: Tensor, gradient: Tensor) -> None:
            found = forward(self.stage, parameters, models, images, forms={layer.name: form})
            torch.autograd.grad(found, learned if self.first else [*learned, images], gradient)

        def change(way: Callable[[Tensor], Tensor], values: Tensor, gradient: Tensor) -> None:
            found = way(values)
            if values.requires_grad:
                torch.autograd.grad(found, values, gradient)

        ways: dict[str, Callable[[], None]] = {
            form: partial(step, form, images, gradient) for form in forms() if form != LANES
        }
        if LANES in forms():
            inside = lanes.to_lanes(images.detach()).requires_grad_(not self.first)
            given, after = lanes.to_lanes(gradient), lanes.to_lanes(gradient).requires_grad_()
            leave = partial(lanes.from_lanes, n_models=self.n_models)
            ways[LANES] = partial(step, LANES, inside, given)
            ways[_ENTERING] = partial(change, lanes.to_lanes, images, inside.detach())
            ways[_LEAVING] = partial(change, lambda values: leave(values).contiguous(), after, gradient)
        return _time(ways)


def _time(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the seconds of the fastest run of each way.

    Seconds are those of this thread, and ways take turns, so that other work on the machine favours none. After the
    first turn, in which kernels are compiled, and the second, a way that is hopeless runs no more.
    """
    best: dict[str, float] = {}
    began = time.perf_counter()
    for turn in range(_TURNS):
        for name, way in ways.items():
            if turn > 1 and best[name] > _HOPELESS * min(best[form] for form in forms()):
                continue
            start = time.thread_time()
            way()
            seconds = time.thread_time() - start
            if turn > 0:
                best[name] = min(seconds, best.get(name, seconds))
        if turn >= _FEWEST_TURNS and time.perf_counter() - began > _ENOUGH:
            break
    return best


@cache
def _cpu() -> str:
    """Return the name of this machine's processor, and of the instructions that torch uses."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return f"{name or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


@cache
def _llvmlite() -> str | None:
    try:
        return version("llvmlite")
    except PackageNotFoundError:
        return None
