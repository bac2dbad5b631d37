"""Shows how far a download is: a bar on a terminal, plain lines where a log is written."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_LINES = 10


class Report(Protocol):
    """Where a download says how far it is. Used by one thread."""

    def at(self, size_bytes: int) -> None:
        """Take note of how much of the file is there; less than before if it was begun anew."""

    def say(self, text: str) -> None:
        """Tell the person something, in a line of its own."""


@contextmanager
def show_progress(name: str, size_bytes: int, *, so_far: int = 0) -> Iterator[Report]:
    """Show on stderr how far the download of a file is, for the length of the block.

    Args:
        name: What to call the file.
        size_bytes: Its whole size.
        so_far: What an earlier try left of it; it does not count as speed.
    """
    if not sys.stderr.isatty():
        yield _Lines(name, size_bytes, so_far)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    with bar:
        yield _Bar(bar, name, size_bytes, so_far)


def megabytes(size_bytes: int) -> str:
    """Return a size in MB with one decimal, such as `184.4 MB`."""
    return f"{size_bytes / 1e6:.1f} MB"


class _Bar:
    def __init__(self, bar: Progress, name: str, size_bytes: int, so_far: int) -> None:
        self._bar = bar
        self._name = name
        self._task = bar.add_task(name, total=size_bytes, completed=so_far)

    def at(self, size_bytes: int) -> None:
        self._bar.update(self._task, completed=size_bytes)

    def say(self, text: str) -> None:
        self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """A line for each tenth of the file, so that the log of a container stays short."""

    def __init__(self, name: str, size_bytes: int, so_far: int) -> None:
        self._name = name
        self._size_bytes = size_bytes
        self._tenths = _LINES * so_far // size_bytes

    def at(self, size_bytes: int) -> None:
        tenths = _LINES * size_bytes // self._size_bytes
        if tenths > self._tenths:
            self.say(f"{100 * tenths // _LINES} %, {megabytes(size_bytes)} of {megabytes(self._size_bytes)}")
        self._tenths = tenths

    def say(self, text: str) -> None:
        sys.stderr.write(f"{self._name}: {text}\n")
        sys.stderr.flush()
