"""The command: `python -m benchmarks.soak`."""

import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bench import NANO
from benchmarks.contenders import build_contenders
from benchmarks.machine import this_machine
from benchmarks.soak.annotators import Soak
from benchmarks.soak.label_studio import serve_uploads
from benchmarks.soak.report import Report
from benchmarks.soak.server import serve
from benchmarks.soak.traffic import draw_pictures, make_traffic

app = typer.Typer(add_completion=False)


@app.command()
def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long annotators work, all steps together.")] = 10,
    annotators: Annotated[
        str, typer.Option(help="How many work at once, a step each; the last step takes half of the time.")
    ] = "1,4,16,32",
    think_seconds: Annotated[float, typer.Option(min=0, help="An annotator's mean pause between two requests.")] = 1.0,
    bad: Annotated[float, typer.Option(min=0.001, max=1, help="Which part of the requests is bad.")] = 0.01,
    docs: Annotated[Path | None, typer.Option(help="Also write a page, such as docs/soak.md.")] = None,
) -> None:
    """Let annotators work on the real server with nano and check every answer; fails if a promise does not hold."""
    counts = [int(count) for count in annotators.split(",")]
    console = Console()
    machine, seconds = this_machine("cpu").describe(), 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with console.status("drawing pictures, and asking the model what is right"):
            pictures = draw_pictures(folder)
            traffic = make_traffic(folder, pictures, build_contenders(NANO, folder, "cpu").ours.click)
        columns = TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn()
        with (
            serve_uploads(folder, [picture.name for picture, _ in pictures]) as label_studio_url,
            serve(folder, label_studio_url) as server,
            Progress(*columns, console=console) as progress,
        ):
            working = progress.add_task("starting", total=seconds)
            soak = Soak(
                server,
                traffic,
                bad_share=bad,
                think_seconds=think_seconds,
                announce=lambda count, asked: progress.update(
                    working, advance=1, description=f"{count} annotators, {asked:,} requests"
                ),
            )
            for count, part in zip(counts, parts_of_time(len(counts)), strict=True):
                soak.work(count, part * seconds)
            workers = len(server.workers())
    report = Report(
        steps=soak.steps,
        memory=soak.memory,
        workers=workers,
        machine=machine,
        date=datetime.now(tz=UTC).date().isoformat(),
        command=shlex.join(["python", "-m", "benchmarks.soak", *sys.argv[1:]]),
        think_seconds=think_seconds,
    )
    console.print(machine, highlight=False)
    console.print(report.console_table())
    console.print(report.errors_text(), highlight=False)
    console.print(report.memory_text(), highlight=False)
    if docs is not None:
        docs.write_text(report.markdown_page(), encoding="utf-8")
    for text in report.broken_promises():
        console.print(f"Broken: {text}", style="red")
    if report.broken_promises():
        raise typer.Exit(1)


def parts_of_time(steps: int) -> list[float]:
    """Return which part of the run each step gets: the last one half of it, since memory is judged there."""
    if steps == 1:
        return [1.0]
    return [0.5 / (steps - 1)] * (steps - 1) + [0.5]


if __name__ == "__main__":
    app()
