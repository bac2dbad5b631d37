"""A histogram as a small picture: a bar for each bucket, in SVG, and the same in words for who does not see it."""

import math
from dataclasses import dataclass
from itertools import pairwise

from labelstudio_sam2.status.figures import Latency
from labelstudio_sam2.status.units import bound, count

BAR_WIDTH = 8
HEIGHT = 24
MARKS = (0.01, 0.1, 1.0, 10.0)
"""Seconds at which a chart has a line: equal bars are equal steps in powers of ten, more or less."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bucket that something fell into, in the chart's units from its top left corner."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is to be drawn.

    Attributes:
        width: In the chart's units; so are all others.
        height: As above.
        bars: From the fastest to the slowest.
        lines: Where `MARKS` are.
        words: All of it as a text.
    """

    width: int
    height: int
    bars: tuple[Bar, ...]
    lines: tuple[int, ...]
    words: str


def chart_of(latency: Latency) -> Chart:
    """Draw a histogram; the highest bar is as high as the chart, and none is lower than a sixth of it."""
    most = max(latency.counts)
    bars = []
    for index, times in enumerate(latency.counts):
        if times:
            height = round(max(HEIGHT * times / most, HEIGHT / 6), 1)
            bars.append(Bar(x=index * BAR_WIDTH, y=round(HEIGHT - height, 1), height=height))
    return Chart(
        width=len(latency.counts) * BAR_WIDTH,
        height=HEIGHT,
        bars=tuple(bars),
        lines=tuple((latency.bounds.index(mark) + 1) * BAR_WIDTH for mark in MARKS if mark in latency.bounds),
        words=", ".join(
            f"{count(times)} {_range(lower, upper)}"
            for (lower, upper), times in zip(pairwise([0.0, *latency.bounds]), latency.counts, strict=True)
            if times
        ),
    )


def _range(lower: float, upper: float) -> str:
    if math.isinf(upper):
        return f"over {bound(lower)}"
    return f"from {bound(lower)} to {bound(upper)}" if lower else f"up to {bound(upper)}"
