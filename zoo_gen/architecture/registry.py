"""The registry of architectures: each name in a manifest stands for a short sequence of layers.

`layers` is the open one: a manifest writes the sequence itself, so that a small network of one's own needs no code.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, Strict, model_validator

from zoo_gen.architecture import layers as L
from zoo_gen.architecture import own_module
from zoo_gen.architecture.layers import Layer, Shape
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.own_module import OwnModule
from zoo_gen.architecture.sequencer import Sequencer
from zoo_gen.architecture.specs import (
    ActivationSpec,
    AttentionSpec,
    ConvolutionSpec,
    Flag,
    LayerNormSpec,
    LayerSpec,
    LinearSpec,
    PatchEmbeddingSpec,
    PlainSpec,
    PoolingSpec,
    PositionEmbeddingSpec,
    ResidualSpec,
    Size,
)
from zoo_gen.files.schema import Schema


class MLP(Schema):
    """Fully connected layers with the model's activation between them; the last one gives the logits.

    `widths` counts the units from the flattened image to the classes: [16, 5, 4] is the 100-parameter network of
    the Tetris zoos when `bias` is false (Schürholt et al., NeurIPS 2021).
    """

    name: Literal["mlp"]
    widths: tuple[Size, ...] = Field(min_length=2)
    bias: Flag = True


class CNNSmall(Schema):
    """Three convolutions and two linear layers on 28x28 images: 2,464 parameters in grey, 2,864 in colour.

    The network of the MNIST and Fashion-MNIST zoos of Schürholt et al. (NeurIPS 2021) and of the small zoos of
    ModelZoos (Schürholt et al., NeurIPS 2022).
    """

    name: Literal["cnn_small"]


class CNNLarge(Schema):
    """Three wider convolutions and two linear layers on 32x32 colour images: 10,853 parameters (ModelZoos, 2022)."""

    name: Literal["cnn_large"]


class SmallCNNGap(Schema):
    """Three stride-2 convolutions of 16 channels, global average pooling, one linear layer: 4,970 parameters in grey.

    The network of the Small CNN Zoo (Unterthiner et al., 2020).
    """

    name: Literal["small_cnn_gap"]


class CNN3FC2(Schema):
    """Three padded convolutions with pooling and two linear layers: 29,242 parameters in grey, 37,210 in 32x32 colour.

    Our definition of the network that SNE (Andreis et al., NeurIPS 2024, section 4.2) generates zoos of; its sizes are
    not published. `kernel` 3 separates the change of kernel size from that of the head.
    """

    name: Literal["cnn3_fc2"]
    kernel: Literal[3, 5] = 5


class Siren(Schema):
    """A network of coordinates with sine activations and two hidden layers of 32 units.

    The implicit representations of DWSNets (Navon et al., ICML 2023): sin(30 x), and 0.5 added at the end. Of sine
    waves it is 1-32-32-1 and has 1,153 parameters, of images in grey 2-32-32-1 and 1,185.
    """

    name: Literal["siren"]


class ViT(Schema):
    """A vision transformer: patches as tokens, blocks of attention and two linear layers, a classifier of two layers.

    Its defaults are the network of the Small Transformer Zoo (Tran et al., ICLR 2025) in full: on 28x28 images in grey
    18,506 parameters, without skip connections, affine normalisation, learned positions or biases of attention.

    Args:
        patch: side of the patches.
        width: features of a token.
        heads: of attention.
        head_units: queries, keys and values of a head; the width over the heads if not given.
        blocks: how many.
        mlp_ratio: units of a block's hidden layer over the width.
        skips: residual connections around attention and around the linear layers.
        affine: whether normalisations scale and shift.
        attention_bias: whether the products of attention have biases.
        learned_positions: in place of fixed sines.
        pooling: the mean of all tokens, or a class token in front of them.
        hidden_head: a hidden layer of the width in the classifier.
    """

    name: Literal["vit"]
    patch: Size = 4
    width: Size = 32
    heads: Size = 2
    head_units: Size | None = None
    blocks: Size = 2
    mlp_ratio: Size = 2
    skips: Flag = False
    affine: Flag = False
    attention_bias: Flag = False
    learned_positions: Flag = False
    pooling: Literal["mean", "class_token"] = "mean"
    hidden_head: Flag = True


class Layers(Schema):
    """A sequence of layers written in the manifest."""

    name: Literal["layers"]
    layers: tuple[LayerSpec, ...] = Field(min_length=1)


NamedShape = tuple[str, tuple[Annotated[int, Strict(), Field(ge=0)], ...]]


class Module(Schema):
    """A torch.nn.Module of the user's own, trained through torch.func: slower than layers, and any that it can stack.

    Args:
        module: "package.module:Class", of a class or a function that returns one; the working folder is searched too.
        arguments: of the class.
        parameters: their names and shapes; looked up.
        buffers: the running statistics of batch normalisation; looked up.
        source_sha256: of its source; looked up.
    """

    name: Literal["module"]
    module: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    parameters: tuple[NamedShape, ...] = Field(min_length=1)
    buffers: tuple[NamedShape, ...] = ()
    source_sha256: str
    _is_new: bool = PrivateAttr(default=False)  # whether it was looked up now, and not by who made the manifest

    @model_validator(mode="wrap")
    @classmethod
    def _look_up(cls, document: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        is_new = isinstance(document, dict) and "parameters" not in document
        reference, arguments = (document.get("module"), document.get("arguments", {})) if is_new else (None, {})
        if isinstance(reference, str) and ":" in reference and isinstance(arguments, dict):
            document = own_module.look_up(reference, arguments) | document
        checked = handler(document)
        checked._is_new = is_new
        return checked

    def definition(self, n_outputs: int) -> OwnModule:
        """Return the module of a network of so many outputs."""
        return OwnModule(self.module, self.arguments, self.parameters, self.buffers, self.source_sha256, n_outputs)


One = MLP | CNNSmall | CNNLarge | SmallCNNGap | CNN3FC2 | Siren | ViT | Layers | Module
Architecture = Annotated[One, Field(discriminator="name")]


def layers(architecture: Architecture, input_shape: Shape, n_outputs: int) -> tuple[Layer, ...]:
    """Return the layers of an architecture for inputs of a shape (channel, height, width) and so many outputs.

    Raises:
        ValueError: a layer does not fit the one before it, or the last one does not give the outputs; the message
            begins with its place below `architecture`.
    """
    written = architecture.layers if isinstance(architecture, Layers) else _specs(architecture, input_shape, n_outputs)
    sequencer = Sequencer(input_shape)
    sequencer.add(written, key="layers" if isinstance(architecture, Layers) else None)
    sequence, shape = sequencer.layers, sequencer.shape
    if shape != (n_outputs,) or not isinstance(written[-1], LinearSpec):
        last = "widths" if isinstance(architecture, MLP) else f"layers[{len(written) - 1}]"
        raise ValueError(
            f"{last}: ends with {' x '.join(map(str, shape))}; expected a linear layer of {n_outputs} units"
        )
    if isinstance(architecture, Siren):
        sequence.append(L.Shift("shift1", 0.5))
    return tuple(sequence)


def network(architecture: Architecture, input_shape: Shape, n_outputs: int) -> Network:
    """Return the network of an architecture for inputs of a shape (channel, height, width) and so many outputs.

    Raises:
        ValueError: as `layers`.
    """
    if isinstance(architecture, Module):
        definition = architecture.definition(n_outputs)
        if architecture._is_new:
            from zoo_gen.architecture import stacking

            stacking.check(definition, input_shape)
        return Network((), input_shape, definition)
    return Network(layers(architecture, input_shape, n_outputs), input_shape)


def _specs(architecture: Architecture, input_shape: Shape, n_outputs: int) -> Sequence[LayerSpec]:
    """Return the sequence that a named architecture stands for."""
    convolutions: list[LayerSpec]
    pool = PoolingSpec(type="max_pooling", size=2)
    act = ActivationSpec()
    drop, flatten = PlainSpec(type="dropout"), PlainSpec(type="flatten")
    if isinstance(architecture, MLP):
        if architecture.widths[0] != math.prod(input_shape):
            has = f"the images have {math.prod(input_shape)} pixels"
            if len(input_shape) != 3:
                has = f"an input has {math.prod(input_shape)} numbers"
            raise ValueError(f"widths: begins with {architecture.widths[0]}; {has}")
        linear = [LinearSpec(units=units, bias=architecture.bias) for units in architecture.widths[1:]]
        hidden = [spec for layer in linear[:-1] for spec in (layer, act, drop)]
        return [flatten, *hidden, linear[-1]]
    if isinstance(architecture, CNNSmall):
        _expect(architecture.name, input_shape, sides=28)
        first, second, third = (ConvolutionSpec(channels=c, kernel=k) for c, k in ((8, 5), (6, 5), (4, 2)))
        convolutions = [first, pool, act, drop, second, pool, act, drop, third, act]
        return [*convolutions, flatten, LinearSpec(units=20), act, drop, LinearSpec(units=n_outputs)]
    if isinstance(architecture, CNNLarge):
        _expect(architecture.name, input_shape, sides=32)
        convolutions = [s for c in (16, 32, 15) for s in (ConvolutionSpec(channels=c, kernel=3), pool, act, drop)]
        return [*convolutions, flatten, LinearSpec(units=20), act, drop, LinearSpec(units=n_outputs)]
    if isinstance(architecture, SmallCNNGap):
        convolutions = [s for _ in range(3) for s in (ConvolutionSpec(channels=16, kernel=3, stride=2), act, drop)]
        return [*convolutions, PlainSpec(type="global_average_pooling"), LinearSpec(units=n_outputs)]
    if isinstance(architecture, CNN3FC2):
        kernel = architecture.kernel
        convolutions = [
            s
            for c in (16, 16, 32)
            for s in (ConvolutionSpec(channels=c, kernel=kernel, padding=kernel // 2), act, pool, drop)
        ]
        return [*convolutions, flatten, LinearSpec(units=32), act, LinearSpec(units=n_outputs)]
    if isinstance(architecture, ViT):
        return layers_of(architecture, n_outputs)
    assert isinstance(architecture, Siren)
    sine = ActivationSpec(function="sine")
    return [LinearSpec(units=32), sine, LinearSpec(units=32), sine, LinearSpec(units=n_outputs)]


def layers_of(vit: ViT, n_outputs: int) -> list[LayerSpec]:
    """Return what a manifest would write for a vision transformer of so many outputs, the patch embedding first."""
    act, drop = ActivationSpec(), PlainSpec(type="dropout")
    norm = LayerNormSpec(affine=vit.affine)
    attention: list[LayerSpec] = [
        norm,
        AttentionSpec(heads=vit.heads, units=vit.head_units, bias=vit.attention_bias),
        drop,
    ]
    hidden = LinearSpec(units=vit.mlp_ratio * vit.width)
    perceptron: list[LayerSpec] = [norm, hidden, act, LinearSpec(units=vit.width), drop]
    block: list[LayerSpec] = [*attention, *perceptron]
    if vit.skips:
        block = [ResidualSpec(layers=tuple(part)) for part in (attention, perceptron)]
    head: list[LayerSpec] = [LinearSpec(units=vit.width), act] if vit.hidden_head else []
    has_token = vit.pooling == "class_token"
    return [
        PatchEmbeddingSpec(size=vit.patch, units=vit.width),
        *([PlainSpec(type="class_token")] if has_token else []),
        *(PositionEmbeddingSpec(learned=vit.learned_positions), drop, *block * vit.blocks, norm),
        PlainSpec(type="class_token_pooling" if has_token else "global_average_pooling"),
        *head,
        LinearSpec(units=n_outputs),
    ]


def _expect(name: str, shape: Shape, *, sides: int) -> None:
    if len(shape) != 3:
        raise ValueError(f"name: {name!r} reads images; these inputs are {' x '.join(map(str, shape))} numbers")
    if shape[1:] != (sides, sides):
        raise ValueError(
            f"name: {name!r} reads images of {sides} x {sides}; these have {' x '.join(map(str, shape[1:]))}"
        )
