import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.segmenter import embedding_disk
from labelstudio_sam2.segmenter.embedding_cache import CacheStats, DamagedEmbeddingError
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.embedding_folder import EmbeddingFolder

TEN = b"0123456789"


def as_it_is(data: bytes) -> bytes:
    return data


def damaged(_: bytes) -> bytes:
    raise DamagedEmbeddingError("made up")


def kept(disk: EmbeddingDisk, key: str, data: bytes = TEN) -> None:
    disk.put(key, lambda: data)
    disk.flush()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class Held:
    """Something to write that is not ready until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def to_bytes(self) -> bytes:
        self.begun.set()
        assert self.release.wait(60)
        return TEN


def test_writing_is_another_threads_work_that_is_done_when_the_file_is_there(tmp_path: Path) -> None:
    disk, held = EmbeddingDisk(tmp_path, 100), Held()

    written = disk.put("a", held.to_bytes)
    before = disk.peek("a", as_it_is)
    was_done = written.done()
    held.release.set()
    written.result(60)

    assert (before, was_done) == (None, False)
    assert disk.peek("a", as_it_is) == TEN


def test_when_too_many_wait_to_be_written_the_next_is_skipped_and_counted(tmp_path: Path) -> None:
    disk, held = EmbeddingDisk(tmp_path, 100, max_unwritten=2), Held()

    disk.put("a", held.to_bytes)
    disk.put("b", held.to_bytes)
    skipped = disk.put("c", held.to_bytes)
    told = skipped.exception(timeout=0)
    held.release.set()
    disk.flush()
    kept(disk, "d")

    assert isinstance(told, OSError)
    assert "too many embeddings wait" in str(told)
    assert [disk.peek(key, as_it_is) for key in "abcd"] == [TEN, TEN, None, TEN]
    assert disk.stats().skipped == 1


def test_a_file_lies_in_the_folder_whatever_its_key_is(tmp_path: Path) -> None:
    disk = EmbeddingDisk(tmp_path / "inside", 10_000)
    keys = ["../../outside", "/etc/passwd", "a" * 5000, "\0", "ümläut", ""]

    for key in keys:
        kept(disk, key, key.encode())

    assert [disk.peek(key, as_it_is) for key in keys] == [key.encode() for key in keys]
    assert len(files_in(tmp_path / "inside")) == len(files_in(tmp_path)) == len(keys)


def test_a_damaged_file_is_a_miss_and_is_removed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = EmbeddingDisk(tmp_path, 100)
    kept(disk, "a")

    assert disk.get("a", damaged) is None

    assert files_in(tmp_path) == []
    assert disk.stats() == CacheStats(entries=0, nbytes=0, max_bytes=100, hits=0, misses=1, evictions=0)
    assert warnings_in(caplog) == ["an embedding on disk was damaged and is removed: made up"]


def test_what_from_bytes_raises_beside_that_is_the_callers(tmp_path: Path) -> None:
    disk = EmbeddingDisk(tmp_path, 100)
    kept(disk, "a")

    def fail(_: bytes) -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        disk.get("a", fail)
    assert disk.peek("a", as_it_is) == TEN


def test_a_bug_in_to_bytes_is_logged_and_the_next_one_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = EmbeddingDisk(tmp_path, 100, max_unwritten=1)

    def fail() -> bytes:
        raise ValueError("a bug")

    failed = disk.put("a", fail)
    disk.flush()
    kept(disk, "b")

    assert isinstance(failed.exception(), ValueError)
    assert (disk.peek("b", as_it_is), disk.stats().skipped) == (TEN, 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Disks that cannot be written to


def a_file_in_its_place(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize(
    "folder_in", [lambda _: Path("/proc/embeddings"), a_file_in_its_place], ids=["read-only", "a file in its place"]
)
def test_without_a_folder_to_write_to_all_goes_on_with_one_warning_a_minute(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    folder_in: Callable[[Path], Path],
) -> None:
    disk = EmbeddingDisk(folder_in(tmp_path), 100)

    for key in "abc":
        assert disk.get(key, as_it_is) is None
        with disk.alone(key):
            kept(disk, key)

    assert disk.stats() == CacheStats(entries=0, nbytes=0, max_bytes=100, hits=0, misses=3, evictions=0, skipped=3)
    assert len(warnings_in(caplog)) == 1
    assert "EMBEDDING_DISK_DIR" in warnings_in(caplog)[0]
    disk._warned_at -= embedding_disk.WARNING_SECONDS  # a minute later
    kept(disk, "d")
    assert len(warnings_in(caplog)) == 2


FULL_DISK = """
import json, logging, resource, sys
from pathlib import Path
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk

logging.basicConfig(stream=sys.stderr)
disk = EmbeddingDisk(Path(sys.argv[1]), 10**9)
answers = []
def keep(key, nbytes):
    disk.put(key, lambda: bytes(nbytes))
    disk.flush()
    answers.append(disk.get(key, len))
keep("before", 1_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
keep("first", 1_000_000)
keep("second", 1_000_000)
keep("small", 400_000)
answers.append(disk.get("before", len))
stats = disk.stats()
print(json.dumps([answers, stats.entries, stats.nbytes, stats.skipped]))
"""


def test_a_write_that_the_kernel_cuts_short_is_skipped_and_leaves_no_rest(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    answers, entries, nbytes, skipped = json.loads(done.stdout)
    assert answers == [1_000_000, None, None, 400_000, 1_000_000]
    assert (entries, nbytes, skipped) == (2, 1_400_000, 2)
    assert done.stderr.count("WARNING") == 1
    assert sorted(path.stat().st_size for path in files_in(tmp_path)) == [400_000, 1_000_000]


def test_what_can_no_longer_be_written_can_still_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = EmbeddingDisk(tmp_path, 100)
    kept(disk, "a")

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.utime", read_only)
    monkeypatch.setattr("tempfile.mkstemp", read_only)
    kept(disk, "b")

    assert (disk.get("a", as_it_is), disk.get("b", as_it_is)) == (TEN, None)
    assert warnings_in(caplog) == [
        "embeddings cannot be written to EMBEDDING_DISK_DIR: [Errno 30] Read-only file system"
    ]


def test_a_file_that_may_not_be_read_is_a_miss_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = EmbeddingDisk(tmp_path, 100)
    kept(disk, "a")

    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingFolder, "read", denied)
        assert disk.get("a", as_it_is) is None

    assert disk.get("a", as_it_is) == TEN
    assert warnings_in(caplog) == ["embeddings cannot be read from EMBEDDING_DISK_DIR: [Errno 13] Permission denied"]


# Alone


def test_the_same_picture_is_one_process_at_a_times_and_another_picture_is_not(tmp_path: Path) -> None:
    one, other, third = (EmbeddingDisk(tmp_path, 100, lock_seconds=0) for _ in range(3))

    with one.alone("a") as first, other.alone("a") as same, third.alone("b") as another:
        pass
    with third.alone("a") as afterwards:
        pass

    assert (first, same, another, afterwards) == (True, False, True, True)


def test_while_nothing_can_be_written_nobody_waits_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = EmbeddingDisk(tmp_path, 100), EmbeddingDisk(tmp_path, 100, lock_seconds=300)
    kept(other, "too large", bytes(101))

    with one.alone("a") as holds, other.alone("a") as waited:
        pass
    kept(other, "b")  # there is room again
    with other.alone("a") as holds_again:
        pass

    assert (holds, waited, holds_again) == (True, False, True)


def test_a_process_that_was_waited_for_in_vain_is_not_waited_for_again_for_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = [0.0]
    hung = EmbeddingDisk(tmp_path, 100)
    disk = EmbeddingDisk(tmp_path, 100, lock_seconds=0.05, clock=lambda: time.monotonic() + ahead[0])

    with hung.alone("a"):
        with disk.alone("a") as waited:
            pass
        with disk.alone("free") as rested:  # would be had at once
            pass
        ahead[0] = 61
        with disk.alone("free") as after_a_minute:
            pass

    assert (waited, rested, after_a_minute) == (False, False, True)
    assert warnings_in(caplog) == ["another process has been embedding one picture for 0.05 s: it is not waited for"]


def test_who_has_no_time_left_waits_for_no_other_process_and_blames_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder, disk = EmbeddingDisk(tmp_path, 100), EmbeddingDisk(tmp_path, 100, lock_seconds=300)

    with holder.alone("a"), disk.alone("a", by=time.monotonic() + 0.05) as waited:
        pass
    with disk.alone("a") as afterwards:
        pass

    assert (waited, afterwards) == (False, True)
    assert warnings_in(caplog) == []


def test_a_disk_that_hangs_is_waited_for_once_and_asked_again_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    hangs, asked = threading.Event(), list[str]()
    disk = EmbeddingDisk(tmp_path, 100, read_seconds=0.05, clock=clock)
    kept(disk, "a")
    read = disk._folder.read

    def reads_late(name: str) -> bytes | None:
        asked.append(name)
        assert hangs.wait(60)
        return read(name)

    monkeypatch.setattr(disk._folder, "read", reads_late)
    first, second = disk.get("a", as_it_is), disk.get("a", as_it_is)
    hangs.set()
    clock.now += 61
    third = disk.get("a", as_it_is)

    assert (first, second, third) == (None, None, TEN)
    assert len(asked) == 2
    assert warnings_in(caplog) == [
        "embeddings cannot be read from EMBEDDING_DISK_DIR: [Errno 110] no answer within 0.05 s"
    ]


def test_its_figures_never_wait_for_the_disk_and_are_there_after_the_first_look(tmp_path: Path) -> None:
    kept(EmbeddingDisk(tmp_path, 100), "a")
    disk = EmbeddingDisk(tmp_path, 100)

    with disk._folder._lock:  # as while the disk hangs
        meanwhile = [disk.stats() for _ in range(3)]
    disk.flush()

    assert {(stats.entries, stats.nbytes) for stats in meanwhile} == {(0, 0)}
    assert (disk.stats().entries, disk.stats().nbytes) == (1, 10)


def test_a_folder_that_cannot_be_looked_at_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(TEN)
    disk = EmbeddingDisk(tmp_path / "file", 100)

    disk.stats()
    disk.flush()

    assert (disk.stats().entries, disk.stats().nbytes) == (0, 0)
