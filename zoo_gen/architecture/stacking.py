"""Stacked: the forward pass of many models of one torch.nn.Module at once, by torch.func's functional_call and vmap.

It is slower than layers that this package knows, and computes what the module itself computes. A `torch.nn.Dropout`
draws its own numbers for each model; running statistics of batch normalisation are a model's own; everything else that
is random or changes while the module is called is refused. On a CPU a lone model is stacked with itself: torch
multiplies and convolves one by other kernels than several, which round otherwise.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _NormBase

from zoo_gen.architecture.own_module import OwnModule
from zoo_gen.errors import ZooError, one_line

# dropped(values (image, ...), rate, seed (), start) -> values of the same shape, for the model of that seed
Dropped = Callable[[Tensor, float, Tensor, int], Tensor]
_TOLERANCE = 1e-9  # of a stacked output in float64, relative to 1 + the output


class Stacked:
    """The forward pass of models of one module.

    Args:
        definition: the module.
        dtype: of weights and inputs.
        device: where they lie.
    """

    def __init__(self, definition: OwnModule, *, dtype: torch.dtype, device: str | torch.device) -> None:
        self._where = f"module {definition.reference!r}"
        self._one_number = definition.n_outputs == 1
        self._evaluated = definition.build().to(device, dtype).eval()
        self._trained = copy.deepcopy(self._evaluated).train()
        self._dropouts = _replaced(self._trained)

    def train(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        seeds: Tensor,
        drop: Dropped,
    ) -> Tensor:
        """Return the outputs (model, output, image) in training mode; buffers are changed in place.

        Args:
            parameters: name -> (model, *shape).
            buffers: running statistics, name -> (model, *shape).
            inputs: (image, model, *shape).
            seeds: int64 (model,), for dropout.
            drop: what dropout does.
        """

        def one(weights: dict[str, Tensor], statistics: dict[str, Tensor], images: Tensor, seed: Tensor) -> Tensor:
            for dropout in self._dropouts:
                dropout.drop, dropout.seed, dropout.seen = drop, seed, seen
            return self._shaped(functional_call(self._trained, (weights, statistics), (images,)))

        seen = [0]
        return self._run(one, (0, 0, 1, 0), dict(parameters), dict(buffers), inputs, seeds)

    def evaluate(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return the outputs (model, output, image) in evaluation mode for inputs (image, *shape) that all share."""

        def one(weights: dict[str, Tensor], statistics: dict[str, Tensor]) -> Tensor:
            return self._shaped(functional_call(self._evaluated, (weights, statistics), (inputs,)))

        return self._run(one, (0, 0), dict(parameters), dict(buffers))

    def _run(self, one: Callable[..., Tensor], axes: tuple[int, ...], *arguments: Any) -> Tensor:
        try:
            if not _is_lone(arguments[0]):
                return vmap(one, in_dims=axes)(*arguments).transpose(1, 2)
            twice = [_twice(each, axis) for each, axis in zip(arguments, axes, strict=True)]
            outputs = vmap(one, in_dims=axes)(*twice).transpose(1, 2)[:1]
            for buffer, changed in zip(arguments[1].values(), twice[1].values(), strict=True):
                buffer.copy_(changed[:1])
            return outputs
        except torch.OutOfMemoryError:
            raise
        # What vmap cannot stack it refuses in many ways.
        except (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise ZooError(f"{self._where}: cannot be stacked by torch.func ({one_line(error)})") from None

    def _shaped(self, outputs: Any) -> Tensor:
        if not isinstance(outputs, Tensor):
            raise ZooError(f"{self._where}: gives {type(outputs).__name__}; expected one tensor (image, output)")
        return outputs.unsqueeze(1) if self._one_number and outputs.dim() == 1 else outputs


class _Dropout(nn.Module):
    """Dropout whose masks follow from the seed of a model."""

    drop: Dropped
    seed: Tensor
    seen: list[int]  # how many values of this step the dropout layers have seen, one number for all of them

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        if not self.rate:
            return values
        start = self.seen[0]
        self.seen[0] += -(-values.numel() // 2) * 2
        return self.drop(values, self.rate, self.seed, start)


def _is_lone(parameters: Mapping[str, Tensor]) -> bool:
    return all(len(each) == 1 and not each.is_cuda for each in parameters.values())


def _twice(values: Any, axis: int) -> Any:
    """Return values (..., 1, ...), or those of each name, twice along an axis, in memory of their own."""
    if isinstance(values, Tensor):
        return torch.cat([values, values], dim=axis)
    return {name: torch.cat([each, each], dim=axis) for name, each in values.items()}


def _replaced(module: nn.Module) -> list[_Dropout]:
    """Replace the dropout layers of a module by ours, and return these; one that stands in two places stays one."""
    ours: dict[int, _Dropout] = {}
    for part in list(module.modules()):
        for name, child in list(part._modules.items()):
            if type(child) is nn.Dropout:
                setattr(part, name, ours.setdefault(id(child), _Dropout(child.p)))
    return list(ours.values())


def check(definition: OwnModule, input_shape: tuple[int, ...]) -> None:
    """Refuse a module that does not give the outputs of its data, or whose stacked models compute something else.

    Two models are stacked, on random inputs in float64, in training and in evaluation mode.

    Raises:
        ZooError: they do not agree with the modules themselves, or a parameter has no part in the outputs.
    """
    where = f"module {definition.reference!r}"
    images = torch.rand((3, *input_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    modules = [definition.build(seed=seed).double() for seed in (0, 1)]
    stacked = Stacked(definition, dtype=torch.float64, device="cpu")
    for training in (False, True):
        plain = [_alone(module.train(training), images, where) for module in modules]
        expected_shape = (len(images), definition.n_outputs)
        if tuple(plain[0].shape) not in (expected_shape, *([expected_shape[:1]] if definition.n_outputs == 1 else [])):
            raise ZooError(
                f"{where}: gives {list(plain[0].shape)} for inputs {list(images.shape)}; expected "
                f"{list(expected_shape)}, as the data has it"
            )
        fresh = [definition.build(seed=seed).double() for seed in (0, 1)]
        for name in sorted(_changed(modules[0], fresh[0]).difference(name for name, _ in definition.buffers)):
            raise ZooError(
                f"{where}: buffer {name} changes while the module is called, and no zoo would keep it; "
                "expected buffers that stay, or torch's batch normalisation"
            )
        parameters = _stack(fresh, [name for name, _ in definition.parameters], gradient=training)
        buffers = _stack(fresh, [name for name, _ in definition.buffers])
        if training:
            each = images.unsqueeze(1).expand(-1, 2, *input_shape)
            outputs = stacked.train(parameters, buffers, each, torch.tensor([0, 1]), lambda values, *_: values)
            gradients = torch.autograd.grad(outputs.sum(), list(parameters.values()), allow_unused=True)
            for name, values in buffers.items():
                changed = torch.stack([dict(module.named_buffers())[name] for module in modules])
                if not torch.allclose(values, changed, rtol=_TOLERANCE, atol=_TOLERANCE):
                    raise ZooError(f"{where}: buffer {name} of stacked models is another than of each alone")
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is None:
                    raise ZooError(f"{where}: parameter {name} has no part in its outputs; expected it to be left out")
        else:
            outputs = stacked.evaluate(parameters, buffers, images)
        differences = (outputs.transpose(1, 2).flatten() - torch.stack(plain).flatten()).abs()
        if not bool((differences <= _TOLERANCE * (1 + torch.stack(plain).flatten().abs())).all()):
            raise ZooError(f"{where}: its stacked models give other outputs than each alone; expected the same")


def count_values(definition: OwnModule, input_shape: tuple[int, ...]) -> int:
    """Return how many numbers the parts of a module give for one image, which is what training keeps of it."""
    counts: list[int] = []

    def count(_: nn.Module, __: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            counts.append(outputs.numel())

    module = definition.build().eval()
    for part in module.modules():
        if not list(part.children()):
            part.register_forward_hook(count)
    with torch.no_grad():
        module(torch.zeros((1, *input_shape)))
    return sum(counts)


def _alone(module: nn.Module, images: Tensor, where: str) -> Tensor:
    """Return the outputs of a plain module, without dropout."""
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.eval()
    try:
        outputs = module(images)
    # What a module raises on its data is its own affair.
    except Exception as error:
        raise ZooError(f"{where}: does not take inputs {list(images.shape)} ({one_line(error)})") from None
    if not isinstance(outputs, Tensor):
        raise ZooError(f"{where}: gives {type(outputs).__name__}; expected one tensor (image, output)")
    return outputs.detach()


def _changed(module: nn.Module, fresh: nn.Module) -> set[str]:
    """Return the names of buffers that differ between a module and a fresh one, without what batch norms count."""
    counters = {
        f"{path}.num_batches_tracked".removeprefix(".")
        for path, part in module.named_modules()
        if isinstance(part, _NormBase)
    }
    before = dict(fresh.named_buffers())
    return {
        name
        for name, buffer in module.named_buffers()
        if name not in counters and not torch.equal(buffer, before[name])
    }


def _stack(modules: list[nn.Module], names: list[str], *, gradient: bool = False) -> dict[str, Tensor]:
    tensors = [dict(module.named_parameters()) | dict(module.named_buffers()) for module in modules]
    return {name: torch.stack([each[name].detach() for each in tensors]).requires_grad_(gradient) for name in names}
