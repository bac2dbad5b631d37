"""The command: `python -m benchmarks`."""

import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bench import Bench
from benchmarks.machine import this_machine
from benchmarks.plots import draw_plots
from benchmarks.report import Report
from benchmarks.rows import ROWS, explain
from benchmarks.table import console_table, markdown_page, markdown_table

_HELP = """Measure this backend beside the obvious code, in turns, on this machine.

Both answer the same clicks on the same drawn pictures with the same weights. Ratios are of process CPU time, on a GPU
of time on the wall. Nothing is downloaded. Close other programs first: the table says how busy the machine was.

\b
  make bench                                     everything: about 7 minutes on 2 cores
  make bench ARGS=--quick                        nano and a little of tiny: about 2 minutes
  python -m benchmarks --rows brush-rle          only some measurements
  python -m benchmarks --docs                    also write docs/benchmarks.md and its pictures

Table, plots and every figure go to .bench/. The measurements, for --rows:

\b
"""

app = typer.Typer(add_completion=False)


@app.command(help=_HELP + "\n".join(f"  {name:<15}{explain(name)}" for name in ROWS))
def main(
    rows: Annotated[str, typer.Option(help="Which measurements, comma-separated; all of them otherwise.")] = "",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How many rounds count; each measurement has its own number otherwise.")
    ] = None,
    device: Annotated[
        Literal["auto", "cuda", "cpu"], typer.Option(help="Where the models run; auto takes a GPU if there is one.")
    ] = "auto",
    output: Annotated[Path, typer.Option(help="Where table, plots and figures go.")] = Path(".bench"),
    docs_folder: Annotated[Path, typer.Option(help="What --docs writes to.")] = Path("docs"),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Small models and few rounds.")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="Also write benchmarks.md and images/bench-*.png.")] = False,
) -> None:
    """Measure, print and write."""
    names = _chosen(rows)
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    with Progress(
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        measuring = progress.add_task("", total=len(names))
        bench = Bench(
            folder=output / "pictures",
            device=where,
            is_quick=quick,
            wanted_rounds=rounds,
            announce=lambda text: progress.update(measuring, description=text),
        )
        report = Report(
            machine=this_machine(where),
            date=datetime.now(tz=UTC).date().isoformat(),
            command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            basis=bench.basis,
        )
        for name in names:
            report.add(ROWS[name](bench))
            progress.advance(measuring)
        progress.update(measuring, description="done")
    plots = draw_plots(report, output)
    report.write_json(output / "report.json")
    (output / "table.md").write_text(markdown_table(report.rows), encoding="utf-8")
    console.print(report.machine.describe(), highlight=False)
    console.print(console_table(report))
    for row in report.rows:
        if row.note:
            console.print(f"{row.title}: {row.note}", style="dim", highlight=False)
    console.print(f"table and plots are in {output}")
    if docs:
        _write_docs(report, plots, output, docs_folder)


def _chosen(rows: str) -> list[str]:
    wanted = [name.strip() for name in rows.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"there is no {', '.join(unknown)}; choose among {', '.join(ROWS)}")
    return [name for name in ROWS if not wanted or name in wanted]


def _write_docs(report: Report, plots: list[str], output: Path, docs_folder: Path) -> None:
    images = docs_folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in plots:
        shutil.copy(output / f"bench-{name}.png", images)
    (docs_folder / "benchmarks.md").write_text(markdown_page(report, plots, "images"), encoding="utf-8")


if __name__ == "__main__":
    app()
