"""Rows of weights through an encoder, and the checks of what comes back: its shape, its type, and that it is finite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.protocol.views import HiddenRows, WeightsView
from zoo_gen.zoo import ZooView

LARGEST_EMBEDDING = np.float64(1e150)  # whose square is still a number
LARGEST_PREDICTION = np.float64(np.finfo(np.float32).max)  # in whose digits predictions are stored


class Embedder(Protocol):
    """A fitted encoder, in this process or in another."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def encode(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""

    def predict(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""


@dataclass(frozen=True)
class InThisProcess:
    """A fitted encoder in this process."""

    name: str
    encoder: Any

    def encode(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""
        return returned(self.name, self.encoder, "encode", view)

    def predict(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""
        return returned(self.name, self.encoder, "predict", view)


def returned(name: str, encoder: Any, method: str, view: WeightsView) -> np.ndarray:
    """Return what a method of an encoder makes of a view, as an array.

    Raises:
        EncoderError: it failed, or what it returned is no array.
    """
    with named(name, method, encoder=encoder):
        values = getattr(encoder, method)(view)
    with named(name, f"{method} returned a {type(values).__name__} that is no array", encoder=encoder):
        is_masked = isinstance(values, np.ma.MaskedArray)  # whose hidden values numpy would take for the rows' own
        array = np.asarray(values.astype(float).filled(np.nan) if is_masked else values)
    if array.dtype.hasobject:
        if array.ndim == 0:  # None, or what numpy knows nothing of
            raise EncoderError(f"encoder {name!r}: {method} returned a {type(values).__name__}; expected an array")
        if not all(isinstance(value, str) for value in array.flat):
            raise EncoderError(f"encoder {name!r}: {method} returned values of type {array.dtype}; expected numbers")
        array = array.astype(str)
    return array


def encode_views(encoder: Embedder, views: Sequence[ZooView], *, hide_activation: bool = False) -> np.ndarray:
    """Return the embeddings of the rows of views: (row, dimension), view after view, models outermost, all finite.

    Args:
        encoder: that was fitted.
        views: of a zoo.
        hide_activation: whether the activation function is what is asked for, so that rows cannot be run.

    Raises:
        EncoderError: the encoder returned another shape, or numbers that are not finite.
    """
    parts = []
    for view in views:
        rows = HiddenRows.of(view, hide_activation=hide_activation)
        parts.append(rows.in_order(checked_embeddings(encoder.name, encoder.encode(rows.view), len(rows.order))))
    check_dimensions(encoder.name, parts)
    return np.concatenate(parts)


def predict_views(
    encoder: Embedder, views: Sequence[ZooView], *, is_number: bool | None = None, hide_activation: bool = False
) -> np.ndarray:
    """Return what a supervised encoder predicts of the rows of views (row,), view after view, models outermost.

    Args:
        encoder: that was fitted to a target.
        views: of a zoo.
        is_number: whether the target is a number and not a name; None where nobody knows.
        hide_activation: whether the activation function is what is asked for, so that rows cannot be run.

    Raises:
        EncoderError: the encoder returned another shape, or numbers that are not finite.
    """
    parts = []
    for view in views:
        rows = HiddenRows.of(view, hide_activation=hide_activation)
        predicted = encoder.predict(rows.view)
        parts.append(rows.in_order(checked_predictions(encoder.name, predicted, len(rows.order), is_number=is_number)))
    return np.concatenate(parts)


def checked_embeddings(name: str, embeddings: np.ndarray, count: int) -> np.ndarray:
    """Return embeddings of so many rows as they are.

    Raises:
        EncoderError: they are no matrix of finite numbers with a row each.
    """
    what = f"encoder {name!r}: encode returned"
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise EncoderError(f"{what} shape {embeddings.shape}; expected ({count}, dimension), a row a checkpoint")
    if embeddings.dtype.kind not in "biuf":
        raise EncoderError(f"{what} values of type {embeddings.dtype}; expected real numbers")
    finite = np.abs(embeddings) <= LARGEST_EMBEDDING
    if not finite.all():
        wrong, dimension = int((~finite.all(axis=1)).sum()), int(finite.all(axis=0).argmin())
        raise EncoderError(
            f"{what} numbers that are not finite in {wrong} of {count} rows, first in dimension {dimension}; "
            f"expected finite embeddings of finite weights, none beyond {LARGEST_EMBEDDING:g}"
        )
    return embeddings.astype(np.uint8) if embeddings.dtype.kind == "b" else embeddings


def check_dimensions(name: str, parts: Sequence[np.ndarray]) -> None:
    """Refuse embeddings of several parts, (row, dimension) each, that differ in dimension or have none."""
    dimensions = sorted({part.shape[1] for part in parts})
    if len(dimensions) > 1 or dimensions == [0]:
        raise EncoderError(
            f"encoder {name!r}: encode returned embeddings of dimensions {dimensions}; expected one, at least 1"
        )


def checked_predictions(name: str, values: np.ndarray, count: int, *, is_number: bool | None) -> np.ndarray:
    """Return predictions of so many rows (row,), float64 or str.

    Raises:
        EncoderError: they are not as many finite numbers, or names.
    """
    what = f"encoder {name!r}: predict returned"
    kinds = {True: "biuf", False: "U", None: "biufU"}[is_number]
    if values.shape != (count,):
        raise EncoderError(f"{what} shape {values.shape}; expected ({count},), a value a row")
    if values.dtype.kind not in kinds:
        expected = "names, as the target has" if is_number is False else "real numbers"
        raise EncoderError(f"{what} values of type {values.dtype}; expected {expected}")
    if values.dtype.kind == "U":
        return values
    wrong = int((~(np.abs(values) <= LARGEST_PREDICTION)).sum())
    if wrong:
        raise EncoderError(
            f"{what} numbers that are not finite for {wrong} of {count} rows; expected finite predictions of finite "
            f"weights, none beyond {LARGEST_PREDICTION:.1e}"
        )
    return values.astype(np.float64)
