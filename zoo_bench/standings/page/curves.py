"""Curves over epochs as SVG paths: one small picture an encoder, all on the same axes, the others behind in grey."""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo_bench.standings.page.content import Curve

WIDTH, HEIGHT = 150.0, 84.0  # of the drawing area, in SVG units
LOWEST = -0.25  # of the axis of tau-b, unless a curve lies lower


@dataclass(frozen=True)
class Drawn:
    """One encoder's picture."""

    encoder: str
    line: str
    band: str  # from the lowest to the highest seed
    last: str  # the last value, for the label
    end: tuple[float, float]
    sentence: str  # for screen readers


@dataclass(frozen=True)
class Pictures:
    """All pictures of a board, and what they share."""

    drawn: tuple[Drawn, ...]
    every: tuple[str, ...]  # the lines of all encoders
    zero: float  # height of tau-b 0
    ticks: tuple[tuple[float, int], ...]  # place and epoch


def curve_paths(curves: Sequence[Curve]) -> Pictures:
    """Return the pictures of one board; epochs stand at equal distances, as checkpoints are kept unevenly."""
    epochs = sorted({point.epoch for curve in curves for point in curve.points})
    lowest = min([LOWEST, *(point.low for curve in curves for point in curve.points)])
    step = WIDTH / max(1, len(epochs) - 1)

    def x(epoch: int) -> float:
        return epochs.index(epoch) * step

    def y(value: float) -> float:
        return HEIGHT * (1 - (value - lowest) / (1 - lowest))

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up in points) if points else ""

    lines = [path([(x(point.epoch), y(point.value)) for point in curve.points]) for curve in curves]
    drawn = []
    for curve, line in zip(curves, lines, strict=True):
        if not curve.points:
            continue
        upper = [(x(point.epoch), y(point.high)) for point in curve.points]
        lower = [(x(point.epoch), y(point.low)) for point in reversed(curve.points)]
        last = curve.points[-1]
        words = ", ".join(f"epoch {point.epoch}: {point.value:.2f}" for point in curve.points)
        drawn.append(
            Drawn(
                curve.encoder,
                line,
                path(upper + lower) + "Z",
                f"{last.value:.2f}",
                (x(last.epoch), y(last.value)),
                words,
            )
        )
    ticks = tuple((x(epoch), epoch) for epoch in epochs)
    if len(ticks) > 6:
        ticks = tuple(ticks[round(place * (len(ticks) - 1) / 3)] for place in range(4))
    return Pictures(tuple(drawn), tuple(lines), y(0.0), ticks)
