import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.segmenter.file_lock import file_lock

HOLD = """
import sys
from pathlib import Path
from labelstudio_sam2.segmenter.file_lock import file_lock
with file_lock(Path(sys.argv[1]), wait_seconds=0) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_holding(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"True\n"
            yield process
        finally:
            process.kill()


def test_one_at_a_time_holds_it_and_the_next_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with file_lock(path, wait_seconds=0) as first, file_lock(path, wait_seconds=0) as meanwhile:
        pass
    with file_lock(path, wait_seconds=0) as afterwards:
        pass

    assert (first, meanwhile, afterwards) == (True, False, True)


def test_it_leaves_no_file_behind(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock", wait_seconds=0):
        pass

    assert list(tmp_path.iterdir()) == []


def test_another_process_that_holds_it_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    with another_process_holding(tmp_path / "lock"), file_lock(tmp_path / "lock", wait_seconds=0.05) as is_held:
        assert not is_held


def test_who_waits_gets_it_when_the_other_process_ends(tmp_path: Path) -> None:
    with another_process_holding(tmp_path / "lock") as process:
        assert process.stdin is not None
        threading.Timer(0.1, process.stdin.close).start()

        with file_lock(tmp_path / "lock", wait_seconds=300) as is_held:
            assert is_held


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with another_process_holding(tmp_path / "lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

        with file_lock(tmp_path / "lock", wait_seconds=0) as is_held:
            assert is_held


def test_a_child_that_inherited_the_descriptor_does_not_keep_it(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock", wait_seconds=0):
        (descriptor,) = [number for number in range(1024) if _is_open_on(number, tmp_path / "lock")]
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    try:
        with file_lock(tmp_path / "lock", wait_seconds=0) as is_held:
            assert is_held
    finally:
        child.kill()
        child.wait()


def test_many_threads_never_hold_it_together(tmp_path: Path) -> None:
    inside, most, turns = [], [], []

    def work() -> None:
        for _ in range(25):
            with file_lock(tmp_path / "lock", wait_seconds=300) as is_held:
                assert is_held
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()
                turns.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(turns), max(most)) == (100, 1)


def test_a_lock_on_a_file_that_its_last_holder_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, tries = tmp_path / "lock", fcntl.flock, list[int]()

    def flock_late(descriptor: int, operation: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", flock_late)

    with file_lock(path, wait_seconds=300) as first, file_lock(path, wait_seconds=0) as meanwhile:
        pass

    assert (first, meanwhile) == (True, False)


def _no_such_lock(*_: Any) -> None:
    raise OSError(37, "No locks available")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr("labelstudio_sam2.segmenter.file_lock.fcntl", None),
        lambda patch: patch.setattr("fcntl.flock", _no_such_lock),
    ],
    ids=["no fcntl", "a file system without locks"],
)
def test_where_there_are_no_locks_the_block_is_entered_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_it(monkeypatch)

    with file_lock(tmp_path / "lock", wait_seconds=300) as is_held:
        assert not is_held


def test_where_no_file_can_be_made_the_block_is_entered_without_a_lock() -> None:
    with file_lock(Path("/proc/none/lock"), wait_seconds=300) as is_held:
        assert not is_held


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")

    with file_lock(tmp_path / "lock", wait_seconds=300) as is_held:
        assert not is_held
    assert not (tmp_path / "elsewhere").exists()


def _is_open_on(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
