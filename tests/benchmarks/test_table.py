from pathlib import Path

import pytest
from benchmarks.machine import Machine
from benchmarks.plots import draw_plots
from benchmarks.report import Bar, Curve, Gate, Outcome, Point, Report, Row, at_least, at_most
from benchmarks.table import markdown_page, markdown_table, number_text
from benchmarks.timings import Spread, Times

MACHINE = Machine(cpu="A CPU", cores=2, gpu=None, memory_gib=15.7, torch="2.14.1", python="3.11.7", load=0.25)
TIMES = Times(cpu=Spread(low=1, median=2, high=3), wall=Spread(low=0.5, median=1, high=1.5))


def row(figure: float, gate: Gate | None) -> Row:
    return Row(title="second click", figure=Spread(low=38, median=figure, high=43), unit="x", gate=gate)


@pytest.mark.parametrize(
    ("gate", "figure", "passes"),
    [
        (at_least(30), 30.0, True),
        (at_least(30), 29.9, False),
        (at_most(8.5), 8.5, True),
        (at_most(8.5), 8.6, False),
        (None, 1.0, None),
    ],
)
def test_a_gate_is_passed_by_the_median(gate: Gate | None, figure: float, passes: bool | None) -> None:  # noqa: FBT001
    assert row(figure, gate).passes is passes


def test_a_row_shows_both_clocks_the_spread_and_its_verdict() -> None:
    shown = Row(
        title="second click",
        figure=Spread(low=38.2, median=40.4, high=43.1),
        unit="x",
        gate=at_least(30),
        plain=TIMES,
        ours=Times(cpu=Spread.exactly(0.0495), wall=Spread.exactly(0.03)),
        note="masks agree",
    )

    assert markdown_table([shown]).splitlines()[2:] == [
        "| second click | 2,000 | 49.5 | 1,000 | 30 | **40.4x** (38.2 to 43.1) | ≥ 30x | passes |",
        "",
        "- second click: masks agree.",
    ]


def test_a_miss_is_called_a_miss() -> None:
    assert "| ≥ 50x | misses |" in markdown_table([row(40, at_least(50))])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (3, "3"), (1234.5, "1,234"), (99.96, "100.0"), (12.34, "12.3"), (0.456, "0.46"), (0.0123, "0.012")],
)
def test_numbers_have_about_three_digits(number: float, text: str) -> None:
    assert number_text(number) == text


def test_the_page_names_machine_date_command_and_clock() -> None:
    report = Report(machine=MACHINE, date="2026-11-24", command="python -m benchmarks --docs", basis="wall")

    page = markdown_page(report, [], "images")

    for said in ("A CPU, 2 cores, 16 GiB, no GPU", "load average 0.2", "2026-11-24", "--docs", "time on the wall"):
        assert said in page


def test_every_plot_with_figures_is_drawn(tmp_path: Path) -> None:
    points = [Point(x=x, y=Spread(low=x / 2, median=x, high=2 * x)) for x in (1.0, 10.0)]
    plots = ("size", "annotators", "cache")
    report = Report(machine=MACHINE, date="2026-11-24", command="", basis="cpu")
    report.add(
        Outcome(
            curves=[Curve(plot=plot, label=label, points=points) for plot in plots for label in ("plain", "ours")],
            bars=[
                Bar(label=label, stages={"open": 0.5, "image encoder": 2.0, "mask decoder": 0.1, "answer": 1.0})
                for label in ("plain", "ours")
            ],
        )
    )

    drawn = draw_plots(report, tmp_path)

    assert sorted(drawn) == ["annotators", "cache", "size", "stages"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"bench-{name}.png" for name in sorted(drawn)]


def test_a_plot_without_figures_is_left_out(tmp_path: Path) -> None:
    report = Report(machine=MACHINE, date="2026-11-24", command="", basis="cpu")

    assert draw_plots(report, tmp_path) == []
