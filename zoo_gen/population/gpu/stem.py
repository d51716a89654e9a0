"""Stem: two convolutions of grey images as one stage, whose values in between are never written."""

import torch
from torch import Tensor

from zoo_gen.architecture.layers import Convolution, Layer, Shape
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.population.gpu import kernels
from zoo_gen.population.gpu.stages import Arrays, Behind, Images, Value

# Measured on an H100: the forward pass wants few barriers, and the backward pass two programs a processor where its
# registers allow.
STEM_TILE = {
    "bfloat16": {"BM": 64, "WIDE": 128, "num_warps": 4, "num_stages": 2},
    "tf32": {"BM": 64, "WIDE": 64, "num_warps": 4, "num_stages": 2},
}
STEM_GRADIENT_TILE = {
    "bfloat16": {"BM": 64, "WIDE": 64, "num_warps": 8, "num_stages": 2, "maxnreg": 128},
    "tf32": {"BM": 64, "WIDE": 128, "num_warps": 8, "num_stages": 2},
}
PATCH = 8  # the sides of what `kernels.stem` reads for one pixel


class Stem:
    """Two convolutions of grey images, the second 3 x 3, whose values in between are never written."""

    def __init__(
        self, first: Convolution, second: Convolution, output: Value, arrays: Arrays, between: Behind, behind: Behind,
        *, shape: Shape, scale: Tensor, splits: int,
    ) -> None:  # fmt: skip
        self.output = output
        self._arrays, self._between, self._behind, self._splits = arrays, between, behind, splits
        middle = output_shape(first, shape)
        self._scale, self._offset = (float(number) for number in scale[:, 0])
        none = torch.zeros(output.n_models, dtype=torch.int32, device=output.device)
        self._codes = none if between.codes is None else between.codes
        self._behind_codes = none if behind.codes is None else behind.codes
        self._start = arrays.start(f"{first.name}.weight")
        starts = {
            "FIRST_BIAS": arrays.start(f"{first.name}.bias"),
            "SECOND": arrays.start(f"{second.name}.weight"),
            "SECOND_BIAS": arrays.start(f"{second.name}.bias"),
        }
        step = first.stride * second.stride
        self._options = {
            "SIDE": first.stride * 2 + first.kernel,
            "WIDTH": shape[2],
            "FIRST_KERNEL": first.kernel,
            "FIRST_STEP": first.stride,
            "SECOND_STEP": second.stride,
            "H1": middle[1],
            "W1": middle[2],
            "C1": first.outputs,
            "H2": output.shape[1],
            "W2": output.shape[2],
            "C2": second.outputs,
            "PITCH": output.tensor.shape[-1],
            "ALIGNED": next(n for n in (4, 2, 1) if shape[2] % n == 0 and step % n == 0),
            "DROP": False,
            "KINDS": arrays.kinds(between.codes, behind.codes),
            "SPLITS": splits,
            "PRECISION": arrays.precision,
            **{name: start - self._start if start >= 0 else -1 for name, start in starts.items()},
        }

    @staticmethod
    def fits(first: Layer, second: Layer, shape: Shape) -> bool:
        """Whether two layers after images of a shape are such convolutions."""
        return (
            isinstance(first, Convolution)
            and isinstance(second, Convolution)
            and shape[0] == 1
            and shape[1] == shape[2]
            and first.padding == second.padding == 0
            and second.kernel == 3
            and first.stride * 2 + first.kernel < PATCH
            and first.outputs <= 16
            and first.outputs % 2 == 0
            and second.outputs <= 16
        )

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the output."""
        arrays, out = self._arrays, self.output
        n_models, n_parameters = arrays.weights.shape
        drops = {"DROP": training and self._between.drops, "DROP_SECOND": training and self._behind.drops}
        kernels.stem[(n_models, self._splits)](
            *images.arguments(), arrays.weights[:, self._start :], out.tensor,
            self._codes, self._behind_codes, arrays.dropout, arrays.dropout_keys,
            n_images, out.capacity, n_parameters, self._scale, self._offset,
            self._between.first_place(n_images), self._behind.first_place(n_images),
            **self._options | drops | STEM_TILE[arrays.precision],
        )  # fmt: skip

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the weights of both."""
        arrays, out = self._arrays, self.output
        n_models, n_parameters = arrays.weights.shape
        kernels.stem_gradient[(n_models, self._splits)](
            *images.arguments(), arrays.weights[:, self._start :], out.slopes, arrays.gradient[:, :, self._start :],
            self._codes, arrays.dropout, arrays.dropout_keys,
            n_images, out.capacity, n_models, n_parameters, self._scale, self._offset,
            self._between.first_place(n_images),
            **self._options | {"DROP": self._between.drops} | STEM_GRADIENT_TILE[arrays.precision],
        )  # fmt: skip
