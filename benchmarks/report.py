"""What a run of the benchmark found, as values."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.machine import Machine
from benchmarks.timings import Basis, Spread, Times


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a figure must reach.

    Attributes:
        limit: In the figure's unit.
        is_least: Whether more is better.
    """

    limit: float
    is_least: bool

    def passes(self, figure: float) -> bool:
        """Return whether a figure reaches it."""
        return figure >= self.limit if self.is_least else figure <= self.limit


def at_least(limit: float) -> Gate:
    """Return a gate for figures of which more is better."""
    return Gate(limit=limit, is_least=True)


def at_most(limit: float) -> Gate:
    """Return a gate for figures of which less is better."""
    return Gate(limit=limit, is_least=False)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        title: What was measured.
        figure: What the gate judges by its median.
        unit: Of the figure, such as `x`, `MiB`, `%`.
        gate: What the figure must reach, or None.
        plain: How long the plain code took, if that is what the figure is made of.
        ours: The same for ours.
        note: What else a reader should know.
    """

    title: str
    figure: Spread
    unit: str
    gate: Gate | None = None
    plain: Times | None = None
    ours: Times | None = None
    note: str = ""

    @property
    def passes(self) -> bool | None:
        """Whether it reaches its gate; None without one."""
        return None if self.gate is None else self.gate.passes(self.figure.median)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a curve."""

    x: float
    y: Spread


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a plot.

    Attributes:
        plot: Which plot it belongs to.
        label: For the legend.
        points: From left to right.
    """

    plot: str
    label: str
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A click cut into stages, in seconds.

    Attributes:
        label: Whose click.
        stages: By name, in their order.
    """

    label: str
    stages: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one measurement adds to the report."""

    rows: Sequence[Row] = ()
    curves: Sequence[Curve] = ()
    bars: Sequence[Bar] = ()


@dataclass(kw_only=True)
class Report:
    """A run of the benchmark.

    Attributes:
        machine: Where it ran.
        date: When, ISO.
        command: How.
        basis: Which clock the ratios are made of.
    """

    machine: Machine
    date: str
    command: str
    basis: Basis
    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in what was measured."""
        self.rows += outcome.rows
        self.curves += outcome.curves
        self.bars += outcome.bars

    def write_json(self, path: Path) -> None:
        """Write every figure down."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
