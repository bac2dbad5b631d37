"""Real processes on one folder of embeddings: each picture is embedded once, and nobody waits for the dead."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

SCRIPT = Path(__file__).with_name("share_a_folder.py")

Process: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[..., Process]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file whose making lets every encoder finish."""
    return tmp_path / "release"


@pytest.fixture
def start(tmp_path: Path, release: Path) -> Iterator[Start]:
    """Return a function that starts a process which embeds pictures of these grays."""
    with ExitStack() as processes:

        def start_one(*grays: int, lock_seconds: float = 500) -> Process:
            arguments = [str(tmp_path / "embeddings"), str(lock_seconds), str(release), *map(str, grays)]
            process = processes.enter_context(
                subprocess.Popen([sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, text=True)
            )
            processes.callback(process.kill)
            assert next_line(process) == "ready"
            return process

        yield start_one


def next_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def lines_of(process: Process) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().splitlines()


def test_two_processes_asked_for_the_same_picture_embed_it_once(start: Start, release: Path) -> None:
    first = start(40)
    assert next_line(first) == "embeds 40"
    second = start(40)

    release.touch()

    assert lines_of(first) == ["40"]
    assert lines_of(second) == ["40"]


def test_three_processes_share_the_embedding_of_eight_pictures(start: Start, release: Path) -> None:
    release.touch()
    grays = [10, 20, 30, 40, 50, 60, 70, 80]

    processes = [start(*grays[first:], *grays[:first]) for first in (0, 2, 4)]

    lines = [lines_of(process) for process in processes]
    embedded = sorted(line for printed in lines for line in printed if line.startswith("embeds"))
    assert embedded == [f"embeds {gray}" for gray in grays]
    assert [printed[-1] for printed in lines] == [
        "10 20 30 40 50 60 70 80",
        "30 40 50 60 70 80 10 20",
        "50 60 70 80 10 20 30 40",
    ]


def test_a_killed_process_does_not_keep_others_from_its_picture(start: Start, release: Path) -> None:
    killed = start(40)
    assert next_line(killed) == "embeds 40"
    killed.kill()
    killed.wait()
    release.touch()

    assert lines_of(start(40)) == ["embeds 40", "40"]


def test_a_process_that_hangs_is_waited_for_until_the_deadline(start: Start) -> None:
    hung = start(40)
    assert next_line(hung) == "embeds 40"  # and it goes on for ever: nobody releases it

    other = start(40, lock_seconds=0.1)

    assert next_line(other) == "embeds 40"
