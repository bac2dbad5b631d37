"""A report as a table: in Markdown, and on the terminal."""

from collections.abc import Sequence

from rich.table import Table

from benchmarks.report import Gate, Report, Row
from benchmarks.timings import Spread, Times

_MILLISECONDS = 1000
_PLOTS = {
    "size": "Waiting for one click against the picture's size",
    "stages": "Where the time of one click goes",
    "annotators": "Waiting for one click when several annotators click without a pause",
    "cache": "Finding a cached embedding against the number of cached pictures",
}

_INTRO = """# How fast it is, measured

Written by `make bench` (`{command}`) on {date}: {machine}.

*Plain* is the obvious code, [benchmarks/plain.py](../benchmarks/plain.py): for every click it opens the picture, calls
`set_image` and `predict` of SAM 2's own `SAM2ImagePredictor`, and writes the mask with label-studio-sdk. *Ours* is the
application that is served, from the request's bytes to the answer's. Both have equal weights (random ones, except for
nano), get equal requests and read the same files of this machine, in turns, A B A B, in one process. No network
is timed.

A ratio is that of the medians of {clock}; behind it the least and the greatest ratio of a round. Times are medians.
Rows without a gate are for information.
"""


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the table and the notes to it."""
    lines = [
        "| | plain, ms CPU | ours, ms CPU | plain, ms wall | ours, ms wall | figure | gate | |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        cells = [row.title, *_four_times(row), _figure(row, bold=True), _gate(row.gate, row.unit), _verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {row.title}: {row.note}." for row in rows if row.note]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def markdown_page(report: Report, plots: Sequence[str], folder: str) -> str:
    """Return the page for the documentation.

    Args:
        report: What was measured.
        plots: The names of those that were drawn.
        folder: Where they are, as the page links to it.
    """
    clock = "process CPU time" if report.basis == "cpu" else "time on the wall"
    pictures = [f"![{_PLOTS[name]}]({folder}/bench-{name}.png)\n" for name in plots]
    intro = _INTRO.format(command=report.command, date=report.date, machine=report.machine.describe(), clock=clock)
    return "\n".join([intro, markdown_table(report.rows), *pictures])


def console_table(report: Report) -> Table:
    """Return the table for the terminal."""
    clock = "CPU" if report.basis == "cpu" else "wall"
    table = Table("", "plain", "ours", "figure", "gate", "", caption=f"plain and ours: median ms, {clock} time")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in report.rows:
        color = {True: "green", False: "red", None: "dim"}[row.passes]
        plain, ours = (_time(times, clock) for times in (row.plain, row.ours))
        table.add_row(
            row.title, plain, ours, _figure(row), _gate(row.gate, row.unit), f"[{color}]{_verdict(row)}[/{color}]"
        )
    return table


def _four_times(row: Row) -> list[str]:
    return [_time(times, clock) for clock in ("CPU", "wall") for times in (row.plain, row.ours)]


def _time(times: Times | None, clock: str) -> str:
    if times is None:
        return ""
    return number_text((times.cpu if clock == "CPU" else times.wall).median * _MILLISECONDS)


def _figure(row: Row, *, bold: bool = False) -> str:
    text = _with_unit(row.figure.median, row.unit)
    text = f"**{text}**" if bold else text
    return (
        text if _is_exact(row.figure) else f"{text} ({number_text(row.figure.low)} to {number_text(row.figure.high)})"
    )


def _gate(gate: Gate | None, unit: str) -> str:
    return "" if gate is None else f"{'≥' if gate.is_least else '≤'} {_with_unit(gate.limit, unit)}"


def _verdict(row: Row) -> str:
    return {True: "passes", False: "misses", None: ""}[row.passes]


def _with_unit(figure: float, unit: str) -> str:
    return f"{number_text(figure)}{unit if unit == 'x' else f' {unit}' if unit else ''}"


def _is_exact(figure: Spread) -> bool:
    return figure.low == figure.high


def number_text(number: float) -> str:
    """Return a number with about three digits: 1,234, 12.3, 1.23, 0.012; whole ones as they are."""
    if number == round(number) or abs(number) >= 100:
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.2g}"
