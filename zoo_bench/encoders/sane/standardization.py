"""Layers in units of their own spread over the training networks, also where these differ in architecture.

A layer is known by its place: first, second and so on from the input, and the last one. Networks of one architecture
are so standardised layer by layer, as in SANE; layers of several architectures share numbers by place, and a layer
deeper than any that was seen has those of the deepest one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from zoo_bench.encoders.hyper_representation.standardization import ROWS, drawn_in, middle_and_spread, spread_rows
from zoo_gen.architecture.layout import ParameterLayout

LAST = 0  # the place of the last layer; others are counted from 1


@dataclass(frozen=True)
class LayerStandardization:
    """Middle and spread of the layers at each place, which LAST begins."""

    middle: tuple[float, ...]
    spread: tuple[float, ...]  # above 0

    @classmethod
    def of(cls, layouts: Sequence[ParameterLayout], rows: Sequence[np.ndarray]) -> Self:
        """Return that of training rows, an array (row, parameter) a layout; a layout may come several times."""
        deepest = max(len(layout.layers) for layout in layouts) - 1
        most = max(1, ROWS // len(layouts))
        values: list[list[np.ndarray]] = [[] for _ in range(deepest + 1)]
        for layout, of_layout in zip(layouts, rows, strict=True):
            some, places = spread_rows(of_layout, most), _places(layout, deepest)
            for place in np.unique(places):
                values[place].append(some[:, places == place].reshape(-1))
        pairs = [middle_and_spread(np.concatenate(at_place)) for at_place in values]
        return cls(tuple(middle for middle, _ in pairs), tuple(spread for _, spread in pairs))

    def apply(self, layout: ParameterLayout, rows: np.ndarray) -> np.ndarray:
        """Return standardised rows, float32 (row, parameter); far tails count by the logarithm of their distance."""
        places = _places(layout, len(self.middle) - 1)
        middle, spread = (np.array(values, dtype=np.float32)[places] for values in (self.middle, self.spread))
        return drawn_in((rows - middle) / spread)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(tuple(content["middle"]), tuple(content["spread"]))


def _places(layout: ParameterLayout, deepest: int) -> np.ndarray:
    """Return the place of the layer of each number, int64 (parameter,)."""
    count = len(layout.layers)
    place_of = {
        layer: LAST if number == count - 1 else min(number + 1, deepest) for number, layer in enumerate(layout.layers)
    }
    return np.concatenate([np.full(parameter.size, place_of[parameter.layer]) for parameter in layout.parameters])
