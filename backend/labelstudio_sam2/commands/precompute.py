"""The `precompute` command: whole projects embedded ahead, from a shell."""

import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from labelstudio_sam2.app import build_segmenter
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.labelstudio.precompute import Failure, Precompute, Project, Tally, find_project
from labelstudio_sam2.ops.logging import RedactionFilter
from labelstudio_sam2.settings import Settings, SettingsError

LISTING_SECONDS = 60.0
"""How long Label Studio may take to list tasks: nobody waits for it."""
SHOWN_TASKS = 20
"""Failed tasks that are named for each reason."""
LINE_SECONDS = 30.0
"""How often a line says how far it is, where there is no terminal for a bar."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        tally: What was done.
        total: Tasks that were wanted.
        seconds: What it took, without loading the model.
        is_interrupted: Somebody stopped it.
    """

    tally: Tally
    total: int
    seconds: float
    is_interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 if every picture is on disk, 130 if somebody stopped it, else 1."""
        if self.is_interrupted:
            return 130
        return int(self.tally.error is not None or self.tally.is_full or bool(self.tally.failures))

    def summary(self) -> str:
        """Return what was done, in some lines for people."""
        tally, left = self.tally, max(0, self.total - self.tally.tasks)
        rate = tally.pictures / max(self.seconds, 1e-3)
        lines = [
            f"embedded       {tally.embedded:,} pictures, {rate:.2f} looked at a second",
            f"already there  {tally.there:,}",
            f"failed         {len(tally.failures):,}",
            *_failure_lines(tally.failures),
        ]
        if tally.without_picture:
            lines.append(f"no picture     {tally.without_picture:,} tasks")
        if tally.is_full:
            lines.append(f"left out       {left:,} tasks: EMBEDDING_DISK_DIR has room for no more")
        if tally.error is not None:
            lines.append(f"broken off     {left:,} tasks are left: {_text(tally.error)}")
        if self.is_interrupted:
            lines.append(f"stopped        {left:,} tasks are left; the same command goes on from here")
        return "\n".join(lines)


def precompute_projects(
    project_ids: Sequence[int], settings: Settings, *, unfinished_only: bool, console: Console
) -> Outcome:
    """Embed the pictures of projects onto the disk tier. Slow; Ctrl-C and SIGTERM end it with what is begun.

    Args:
        project_ids: Of Label Studio, in the order they are wanted.
        settings: As the server has them.
        unfinished_only: Whether to leave out tasks that somebody has finished.
        console: Where progress is shown.

    Raises:
        SettingsError: One of the settings that it needs is missing.
        ValueError: The settings name no model that is known.
        BackendError: A project or the model cannot be had; the message says why.
        OSError: `EMBEDDING_DISK_DIR` cannot be made.
        KeyboardInterrupt: Before the first picture was begun, or a second time.
    """
    _check(settings)
    # What goes wrong is raised, and printed once: without a handler Python would print the log's line too.
    logging.getLogger("labelstudio_sam2").addHandler(logging.NullHandler())
    source = ImageSource(settings)
    tasks = LabelStudioTasks(source.token, answer_seconds=LISTING_SECONDS)
    projects = [
        find_project(tasks, str(number), unfinished_only=unfinished_only) for number in dict.fromkeys(project_ids)
    ]
    segmenter = build_segmenter(settings)
    with console.status(f"loading {settings.model}"):
        segmenter.start().join()
    room = segmenter.disk_room()
    _announce(projects, room, segmenter.embedding_nbytes, settings, console)
    run = Precompute(tasks, source, segmenter, room=room, unfinished_only=unfinished_only)
    with _warnings_on(console):
        return _follow(run, projects, console)


def _check(settings: Settings) -> None:
    wanted = {
        "LABEL_STUDIO_URL": (settings.label_studio_url, "where Label Studio is, such as http://localhost:8080"),
        "LABEL_STUDIO_API_KEY": (settings.label_studio_api_key, "a token of Label Studio, from your account page"),
        "EMBEDDING_DISK_DIR": (settings.embedding_disk_dir, "the folder that the server has, too"),
        "EMBEDDING_DISK_MB": (settings.embedding_disk_mb, "more than 0"),
    }
    missing = [f"{name}: must be set: {what}" for name, (value, what) in wanted.items() if not value]
    if missing:
        raise SettingsError("\n".join(missing))


def _announce(projects: Sequence[Project], room: int, nbytes: int, settings: Settings, console: Console) -> None:
    each = nbytes / 2**20
    tasks = sum(project.total for project in projects)
    pictures = sum(project.pictures for project in projects)
    _say(console, f"{tasks:,} tasks with {settings.model}, {each:.1f} MiB a picture")
    if pictures > room:
        _say(
            console,
            f"EMBEDDING_DISK_DIR has room for {room:,} pictures (EMBEDDING_DISK_MB={settings.embedding_disk_mb} and "
            f"what is free on its disk), and there are {pictures:,} or more. What comes last would push out what came "
            "first, so this ends when it is full. For all of them set "
            f"EMBEDDING_DISK_MB={int(pictures * (each + 0.01)) + 1} or more, for the server too.",
            style="yellow",
        )


def _follow(run: Precompute, projects: Sequence[Project], console: Console) -> Outcome:
    total, is_interrupted = sum(project.total for project in projects), False
    with _sigterm_as_ctrl_c(), Display(console, total) as display:
        run.start(projects)
        try:
            _watch(run, display)
        except KeyboardInterrupt:
            is_interrupted = True
            run.stop()
            _say(console, "Finishing the picture that is being embedded. Ctrl-C again leaves it.", style="yellow")
            _watch(run, display)
    return Outcome(tally=run.tally, total=total, seconds=display.seconds, is_interrupted=is_interrupted)


def _watch(run: Precompute, display: "Display") -> None:
    has_ended = False
    while not has_ended:
        has_ended = run.wait(_LOOK_SECONDS)
        display.show(run.tally)


class Display:
    """How far a run is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._progress = Progress(
            BarColumn(6),  # all of it fits in 80 columns
            MofNCompleteColumn(),
            TextColumn("tasks, {task.description}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=total)
        self._began = self._line_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def show(self, tally: Tally) -> None:
        """Show these figures."""
        figures = (
            f"{tally.pictures / max(self.seconds, 1e-3):.1f}/s, {tally.embedded:,} embedded, {tally.there:,} there, "
            f"{len(tally.failures):,} failed"
        )
        self._progress.update(self._bar, completed=tally.tasks, description=figures)
        if not self._console.is_terminal and time.monotonic() - self._line_at >= LINE_SECONDS:
            self._line_at = time.monotonic()
            _say(self._console, f"{tally.tasks:,} of {self._total:,} tasks, {figures}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM, which containers are stopped with, end the block as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warnings_on(console: Console) -> Iterator[None]:
    """Show what the package warns of above the bar, without secrets."""
    handler = RichHandler(logging.WARNING, console, show_time=False, show_path=False)
    handler.addFilter(RedactionFilter())
    package = logging.getLogger("labelstudio_sam2")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def _failure_lines(failures: Sequence[Failure]) -> Iterator[str]:
    """Yield a line for each reason in each project, with its tasks."""

    def cause(failure: Failure) -> tuple[str, str]:
        return failure.reason, failure.project

    for (reason, project), alike in groupby(sorted(failures, key=cause), key=cause):
        numbers = sorted({failure.task or 0 for failure in alike})
        shown = ", ".join(map(str, numbers[:SHOWN_TASKS]))
        more = f" and {len(numbers) - SHOWN_TASKS:,} more" if len(numbers) > SHOWN_TASKS else ""
        yield f"  {reason}: project {project}, task {shown}{more}"


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"embeddings cannot be written to EMBEDDING_DISK_DIR: {error}"
    return str(error) if isinstance(error, BackendError) else f"a bug: {type(error).__name__}"


def _say(console: Console, text: str, *, style: str = "") -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
