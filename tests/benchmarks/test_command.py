"""From the command to table and plots, on nano and small work."""

import json
import re
from pathlib import Path

import pytest
from benchmarks.__main__ import app
from benchmarks.rows import ROWS
from typer.testing import CliRunner


def test_a_quick_run_writes_table_plots_and_figures(tmp_path: Path) -> None:
    asked = "brush-rle,wrong-answers,cache-hits"
    output, docs = tmp_path / "bench", tmp_path / "docs"
    arguments = ["--quick", "--rounds", "1", "--rows", asked, "--device", "cpu", "--docs"]

    result = CliRunner().invoke(
        app, [*arguments, "--output", str(output), "--docs-folder", str(docs)], catch_exceptions=False
    )

    assert result.exit_code == 0
    report = json.loads((output / "report.json").read_text())
    titles = [row["title"] for row in report["rows"]]
    table = (output / "table.md").read_text()
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2 : 2 + len(titles)]] == titles
    wrong = next(row for row in report["rows"] if row["title"].startswith("wrong answers"))
    assert wrong["figure"]["median"] == 0
    same = next(row for row in report["rows"] if row["title"].startswith("brush RLE that differs"))
    assert same["figure"]["median"] == 0
    assert sorted(path.name for path in output.glob("*.png")) == ["bench-cache.png"]
    page = (docs / "benchmarks.md").read_text()
    assert report["machine"]["cpu"] in page
    assert report["date"] in page
    assert all((docs / link).exists() for link in re.findall(r"\]\((images/[^)]+)", page))


def test_an_unknown_measurement_is_refused_and_all_are_named() -> None:
    result = CliRunner().invoke(app, ["--rows", "first-clik"])

    assert result.exit_code == 2
    assert "first-clik" in result.output
    assert "first-click" in result.output


@pytest.mark.parametrize("name", ROWS)
def test_help_explains_every_measurement(name: str) -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"})

    assert re.search(rf"{name}\s+(Measure|Count|Read) ", result.output)
