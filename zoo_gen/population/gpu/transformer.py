"""Small transformers of images on a GPU: the stages that train them.

A block is two stages, attention and two linear layers, each with its normalisation, dropout and skip in one kernel:
between stages lie the tokens alone, and a step reads or writes them some 25 times instead of some hundred.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo_gen.architecture.layers import Activate, Attention, LayerNorm, Linear, Shape
from zoo_gen.architecture.modules import position_codes
from zoo_gen.population.gpu import kernels
from zoo_gen.population.gpu.stages import OPERANDS, Arrays, Behind, Images, Value
from zoo_gen.population.gpu.transformer_form import SPLITS, Embedding, Form, Gathering, Mixing
from zoo_gen.population.gpu.updates import Crops

# By what the compiler says for sm_90, not by a clock: in bfloat16 the gradients then take 246 and 255 registers a
# thread, so that two programs share a processor; with 8 warps it is one. Gradients take twice the warps for heads of
# more than 32 units together, where some 3 kB a thread would be spilled, and in float32, whose products are no matrix
# units' work: linear layers would spill 15 kB a thread with 4 warps, and spill nothing with 8.
WARPS = {"embed": 4, "attention": 4, "attention_gradient": 4, "perceptron": 4, "perceptron_gradient": 4, "gather": 4}
_ROWS = 64  # of tokens that the linear layers take at once


class _Part:
    """What the stages of a transformer share.

    Args:
        source: the tokens that it reads; None: images.
        output: what it gives.
        arrays: of the network.
        behind: its dropout.
    """

    def __init__(self, source: Value | None, output: Value, arrays: Arrays, behind: Behind) -> None:
        self.output = output
        self._source, self._arrays, self._behind = source, arrays, behind

    def _grid(self) -> tuple[int, int]:
        return self.output.n_models, SPLITS

    def _norm(self, norm: LayerNorm | None) -> dict[str, Any]:
        if norm is None:
            return {"NORM": -1, "EPSILON": -1.0}
        return {"NORM": self._arrays.start(f"{norm.name}.weight"), "EPSILON": norm.epsilon}

    def _randomness(self, images: Images) -> tuple[Tensor, ...]:
        return images.clock, self._arrays.dropout, self._arrays.dropout_keys

    def _sizes(self, n_images: int) -> tuple[int, int]:
        return n_images, self.output.capacity


class Embed(_Part):
    """Patches of images to tokens."""

    def __init__(
        self, part: Embedding, output: Value, arrays: Arrays, behind: Behind,
        *, shape: Shape, scale: Tensor, crops: Crops,
    ) -> None:  # fmt: skip
        super().__init__(None, output, arrays, behind)
        features, steps, _ = output.shape
        convolution, positions = part.convolution, part.positions
        channels, height, width = shape
        device = arrays.weights.device
        codes = torch.zeros(steps, features) if positions is None else position_codes(steps, features)
        self._positions = codes.to(device, torch.float32).contiguous()
        self._scales = scale.float().contiguous().to(device)
        self._crops = crops
        self._options = {
            "WEIGHT": arrays.start(f"{convolution.name}.weight"),
            "BIAS": arrays.start(f"{convolution.name}.bias"),
            "TOKEN": -1 if part.token is None else arrays.start(f"{part.token.name}.weight"),
            "CODES": -1 if positions is None else arrays.start(f"{positions.name}.weight"),
            "CHANNELS": channels,
            "HEIGHT": height,
            "WIDTH": width,
            "SIDE": convolution.kernel,
            "ACROSS": width // convolution.kernel,
            "PATCHES": steps - (part.token is not None),
            "STEPS": steps,
            "FEATURES": features,
            "PITCH": output.tensor.shape[-1],
            "SPLITS": SPLITS,
            "PRECISION": arrays.precision,
            "BT": _tile(steps),
            "BC": _tile(features),
            "BK": _tile(channels * convolution.kernel**2),
            "num_warps": WARPS["embed"],
        }

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the tokens."""
        arrays, crops = self._arrays, self._crops
        kernels.embed[self._grid()](
            *images.arguments(), arrays.weights, self._scales, self._positions, self.output.tensor,
            *self._randomness(images)[1:], crops.keys, crops.paddings, crops.thresholds,
            *self._sizes(n_images), arrays.weights.shape[1], self._behind.first_place(n_images),
            CROP=training, DROP=training and self._behind.drops, **self._options,
        )  # fmt: skip

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the weights."""
        arrays, crops = self._arrays, self._crops
        kernels.embed_gradient[self._grid()](
            *images.arguments(), self.output.slopes, self._scales, arrays.gradient,
            *self._randomness(images)[1:], crops.keys, crops.paddings, crops.thresholds,
            *self._sizes(n_images), *arrays.weights.shape, self._behind.first_place(n_images),
            CROP=True, DROP=self._behind.drops, **self._options,
        )  # fmt: skip


class Mix(_Part):
    """Attention, or two linear layers."""

    def __init__(self, part: Mixing, source: Value, output: Value, arrays: Arrays, behind: Behind) -> None:
        super().__init__(source, output, arrays, behind)
        features, steps, _ = output.shape
        options = {
            "STEPS": steps,
            "FEATURES": features,
            "PITCH": output.tensor.shape[-1],
            "SKIP": part.skip,
            "SPLITS": SPLITS,
            "PRECISION": arrays.precision,
            "BC": _tile(features),
            **self._norm(part.norm),
        }
        self._codes: tuple[Tensor, ...] = ()
        in_float32 = arrays.precision == "float32"
        if isinstance(part.layers[0], Attention):
            attention = part.layers[0]
            self._times_warps = 2 if in_float32 or attention.inner > 32 else 1  # of the gradient
            starts = {
                each.upper(): arrays.start(f"{attention.name}.{each}.weight")
                for each in ("query", "key", "value", "output")
            }
            shape = {"HEADS": attention.heads, "UNITS": attention.units, "BIAS": attention.bias}
            self._kernel, self._gradient, self._name = kernels.attention, kernels.attention_gradient, "attention"
            self._options = options | starts | shape | {"BT": _tile(steps), "BI": _tile(attention.inner)}
            return
        first, second = part.layers[0], part.layers[-1]
        assert isinstance(first, Linear)
        starts = {
            f"{which}{suffix}": arrays.start(f"{layer.name}.{role}")
            for which, layer in (("FIRST", first), ("SECOND", second))
            for suffix, role in (("", "weight"), ("_BIAS", "bias"))
        }
        self._kernel, self._gradient, self._name = kernels.perceptron, kernels.perceptron_gradient, "perceptron"
        self._times_warps = 2 if in_float32 else 1
        codes = behind.codes
        if codes is None:  # nothing between the two
            codes = torch.zeros(output.n_models, dtype=torch.int32, device=output.device)
        self._codes = (codes,)
        shape = {"HIDDEN": first.outputs, "BH": _tile(first.outputs), "KINDS": arrays.kinds(codes)}
        self._options = options | starts | shape | {"BM": _ROWS}

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the tokens."""
        arrays, source, behind = self._arrays, self._source, self._behind
        assert source is not None
        clock, *randomness = self._randomness(images)
        self._kernel[self._grid()](
            source.tensor, self.output.tensor, arrays.weights, clock, *self._codes, *randomness,
            *self._sizes(n_images), arrays.weights.shape[1], behind.first_place(n_images),
            DROP=training and behind.drops, num_warps=WARPS[self._name], **self._options,
        )  # fmt: skip

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the weights, and of the tokens that it read."""
        arrays, source, behind = self._arrays, self._source, self._behind
        assert source is not None
        clock, *randomness = self._randomness(images)
        self._gradient[self._grid()](
            source.tensor, self.output.slopes, source.slopes, arrays.weights, arrays.gradient, clock,
            *self._codes, *randomness,
            *self._sizes(n_images), *arrays.weights.shape, behind.first_place(n_images),
            DROP=behind.drops, num_warps=self._times_warps * WARPS[f"{self._name}_gradient"], **self._options,
        )  # fmt: skip


class Gather(_Part):
    """Tokens to one vector."""

    def __init__(self, part: Gathering, source: Value, output: Value, arrays: Arrays) -> None:
        super().__init__(source, output, arrays, Behind())
        features, steps, _ = source.shape
        self._options = {
            "STEPS": steps,
            "FEATURES": features,
            "PITCH": source.tensor.shape[-1],
            "OUT_PITCH": output.tensor.shape[-1],
            "ONLY_FIRST": part.only_first,
            "SPLITS": SPLITS,
            "BT": _tile(steps),
            "BC": _tile(features),
            "num_warps": WARPS["gather"],
            **self._norm(part.norm),
        }

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the vectors."""
        assert self._source is not None
        weights = self._arrays.weights
        kernels.gather_tokens[self._grid()](
            self._source.tensor, self.output.tensor, weights, *self._sizes(n_images), weights.shape[1], **self._options
        )

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the tokens, and of scale and shift."""
        source, arrays = self._source, self._arrays
        assert source is not None
        kernels.gather_tokens_gradient[self._grid()](
            source.tensor, self.output.slopes, source.slopes, arrays.weights, arrays.gradient,
            *self._sizes(n_images), *arrays.weights.shape, **self._options,
        )  # fmt: skip


def stages(
    form: Form, arrays: Arrays, *, capacity: int, shape: Shape, scale: Tensor, crops: Crops,
    behind_of: Callable[[Shape, bool, Activate | None], Behind],
) -> list[Embed | Mix | Gather]:  # fmt: skip
    """Return the stages of a transformer up to the vector that its classifier reads.

    Args:
        form: of the network.
        arrays: what the stages share.
        capacity: the most images that a model reads at once.
        shape: of an image.
        scale: of its pixels, float32 (2, channel): factor and offset.
        crops: of training images.
        behind_of: gives the dropout, and the codes of an activation, of a part that gives a shape.
    """
    features, n_models = form.embedding.convolution.outputs, len(arrays.weights)
    dtype, device = OPERANDS[arrays.precision], str(arrays.weights.device)
    tokens = (features, form.steps, 1)

    def value(of: Shape) -> Value:
        return Value(of, n_models, capacity, dtype, device).allocate()

    counted = (form.steps, features)
    output = value(tokens)
    behind = behind_of(counted, form.embedding.dropout, None)
    built: list[Embed | Mix | Gather] = [
        Embed(form.embedding, output, arrays, behind, shape=shape, scale=scale, crops=crops)
    ]
    for part in form.mixing:
        source, output = output, value(tokens)
        activation = part.layers[1] if len(part.layers) == 3 else None
        built.append(Mix(part, source, output, arrays, behind_of(counted, part.dropout, activation)))
    built.append(Gather(form.gathering, output, value((features,)), arrays))
    return built


def _tile(count: int) -> int:
    """Return the power of 2 that holds a count, and that a matrix unit takes."""
    return max(16, 1 << (count - 1).bit_length())
