import errno
import os
import shutil
import stat
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.segmenter import embedding_folder
from labelstudio_sam2.segmenter.embedding_cache import DamagedEmbeddingError
from labelstudio_sam2.segmenter.embedding_folder import EmbeddingFolder

A, B, C, D = (f"{index:064x}" for index in (0xA, 0xB, 0xC, 0xD))
TEN = b"0123456789"

DiskUsage = namedtuple("DiskUsage", ["total", "used", "free"])  # noqa: PYI024 - as shutil's


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def use_at(folder: Path, name: str, second: float) -> None:
    os.utime(file_of(folder, name), (second, second))


def names_in(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.safetensors")}


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every look through the whole folder."""
    seen: list[Path] = []
    scandir = os.scandir

    def counted(path: Any) -> Iterator[Any]:
        seen.append(Path(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", counted)
    return seen


@pytest.fixture
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes by another process are looked for at every write."""
    monkeypatch.setattr(embedding_folder, "REFRESH_SECONDS", 0)


def test_what_was_written_is_read_also_after_a_restart(tmp_path: Path) -> None:
    EmbeddingFolder(tmp_path, 100).write(A, TEN)

    folder = EmbeddingFolder(tmp_path, 100)

    assert folder.read(A) == TEN
    assert folder.read(B) is None
    assert folder.usage() == (1, 10)


def test_nothing_is_made_before_the_first_write_and_then_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there"
    folder = EmbeddingFolder(path, 100)
    before = (folder.read(A), folder.usage(), path.exists())

    folder.write(A, TEN)

    assert before == (None, (0, 0), False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(path, A).stat().st_mode) == 0o600


def test_a_folder_that_was_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path / "folder", 100)
    folder.write(A, TEN)
    shutil.rmtree(tmp_path / "folder")

    folder.write(B, TEN)

    assert (folder.read(A), folder.read(B)) == (None, TEN)


# What goes, and when


def test_what_was_used_longest_ago_before_a_restart_goes_first(tmp_path: Path) -> None:
    before = EmbeddingFolder(tmp_path, 30)
    for name, second in ((A, 300), (B, 100), (C, 200)):
        before.write(name, TEN)
        use_at(tmp_path, name, second)

    folder = EmbeddingFolder(tmp_path, 30)
    folder.write(D, TEN + TEN)

    assert names_in(tmp_path) == {A, D}
    assert folder.evictions == 2


def test_reading_a_file_keeps_it(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path, 30)
    for name in (A, B, C):
        folder.write(name, TEN)
    folder.read(A)

    folder.write(D, TEN)

    assert names_in(tmp_path) == {A, C, D}


def test_what_another_process_has_used_is_not_taken_for_unused(tmp_path: Path, scans: list[Path]) -> None:
    folder = EmbeddingFolder(tmp_path, 30)
    for name in (A, B, C):
        folder.write(name, TEN)
    EmbeddingFolder(tmp_path, 30).read(A)

    folder.write(D, TEN)

    assert len(scans) == 1
    assert names_in(tmp_path) == {A, C, D}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_set_back_turns_no_new_file_into_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> None:
    folder = EmbeddingFolder(tmp_path, 30)
    for name in (A, B, C):
        folder.write(name, TEN)
    yesterday = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr("time.time_ns", lambda: yesterday)
    if restarts:
        folder = EmbeddingFolder(tmp_path, 30)
        folder.usage()  # the first look

    folder.read(A)
    folder.write(D, TEN)
    folder.write(f"{0xE:064x}", TEN)

    assert names_in(tmp_path) == {A, D, f"{0xE:064x}"}


def test_replacing_a_file_counts_its_bytes_once(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path, 30)
    folder.write(A, TEN)

    folder.write(A, TEN + TEN)

    assert folder.usage() == (1, 20)


@pytest.mark.usefixtures("_eager")
def test_two_processes_keep_to_one_bound(tmp_path: Path) -> None:
    one, other = EmbeddingFolder(tmp_path, 50), EmbeddingFolder(tmp_path, 50)

    for number in range(20):
        (one, other)[number % 2].write(f"{number:064x}", TEN)

    assert names_in(tmp_path) == {f"{number:064x}" for number in range(15, 20)}


def test_a_folder_that_others_write_into_is_not_looked_through_at_every_write(
    tmp_path: Path, scans: list[Path]
) -> None:
    one, other = EmbeddingFolder(tmp_path, 1000), EmbeddingFolder(tmp_path, 1000)

    for number in range(20):
        (one, other)[number % 2].write(f"{number:064x}", TEN)

    assert len(scans) == 2  # each at its start
    one._scanned_at -= embedding_folder.REFRESH_SECONDS  # ten seconds later
    one.write(A, TEN)
    assert len(scans) == 3
    assert one.usage() == (20, 200)


@pytest.mark.usefixtures("_eager")
def test_a_folder_that_nobody_else_writes_into_is_looked_through_once(tmp_path: Path, scans: list[Path]) -> None:
    folder = EmbeddingFolder(tmp_path, 50)

    for number in range(20):
        folder.write(f"{number:064x}", TEN)

    assert len(scans) == 1


def test_what_another_process_removed_is_no_longer_counted(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path, 20)
    folder.write(A, TEN)
    folder.write(B, TEN)
    file_of(tmp_path, A).unlink()

    folder.write(C, TEN)

    assert names_in(tmp_path) == {B, C}
    assert folder.usage() == (2, 20)


def test_a_write_among_10000_files_looks_at_one_of_them(
    tmp_path: Path, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10_000):
        file_of(tmp_path, f"{number:064x}").write_bytes(b"1")
    folder = EmbeddingFolder(tmp_path, 10_000)
    looks, used_ns = list[str](), folder._used_ns

    def counted(name: str) -> int | None:
        looks.append(name)
        return used_ns(name)

    monkeypatch.setattr(folder, "_used_ns", counted)

    for number in range(10_000, 10_100):
        folder.write(f"{number:064x}", b"1")

    assert (len(scans), len(looks)) == (1, 100)
    assert folder.usage() == (10_000, 10_000)


# Whose files


def test_files_that_are_not_its_own_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    foreign = ["photo.png", "weights.safetensors", f"{A}.png", f"{A.upper()}.safetensors", ".hidden", "x.unfinished"]
    for name in foreign:
        (tmp_path / name).write_bytes(bytes(500))
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "folder").mkdir()
    folder = EmbeddingFolder(tmp_path, 10)

    for name in (A, B, C):
        folder.write(name, TEN)

    assert names_in(tmp_path) == {C, "weights", A.upper()}
    assert {path.name for path in tmp_path.iterdir()} == {*foreign, "folder", f"{C}.safetensors"}
    assert folder.usage() == (1, 10)


def test_what_a_crash_left_unfinished_is_removed_after_an_hour(tmp_path: Path) -> None:
    for name, age in ((".old_1.unfinished", 3700), (".new_1.unfinished", 3500)):
        (tmp_path / name).write_bytes(TEN)
        os.utime(tmp_path / name, (time.time() - age,) * 2)

    EmbeddingFolder(tmp_path, 100).usage()

    assert [path.name for path in tmp_path.iterdir()] == [".new_1.unfinished"]


def put_link(path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_bytes(TEN)
    path.symlink_to(secret)


def put_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(embedding_folder.MAX_FILE_BYTES + 1)


@pytest.mark.parametrize("put", [put_link, put_large, os.mkfifo, os.mkdir], ids=["link", "large", "pipe", "folder"])
def test_what_is_no_plain_file_of_some_megabytes_is_damaged_and_not_waited_for(tmp_path: Path, put: Any) -> None:
    put(file_of(tmp_path, A))

    with pytest.raises(DamagedEmbeddingError):
        EmbeddingFolder(tmp_path, 100).read(A)


def test_a_removed_file_is_no_longer_there_nor_counted(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path, 100)
    folder.write(A, TEN)

    folder.remove(A)
    folder.remove(B)

    assert folder.read(A) is None
    assert folder.usage() == (0, 0)


# Trouble


def test_who_reads_while_others_write_never_sees_half_a_file(tmp_path: Path) -> None:
    one, other = EmbeddingFolder(tmp_path, 10**7), EmbeddingFolder(tmp_path, 10**7)
    one.write(A, b"0" * 10**5)
    is_over = threading.Event()

    def write(folder: EmbeddingFolder) -> None:
        for digit in cycle(b"123456789"):
            folder.write(A, bytes([digit]) * 10**5)
            if is_over.is_set():
                return

    writers = [threading.Thread(target=write, args=(folder,)) for folder in (one, other)]
    for writer in writers:
        writer.start()
    seen = [one.read(A) or b"" for _ in range(200)]
    is_over.set()
    for writer in writers:
        writer.join()

    assert {(len(data), len(set(data))) for data in seen} == {(10**5, 1)}


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EmbeddingFolder(tmp_path, 100)
    folder.write(A, TEN)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        folder.write(B, TEN)

    assert [path.name for path in tmp_path.iterdir()] == [f"{A}.safetensors"]
    assert folder.usage() == (1, 10)


def test_a_file_that_cannot_be_removed_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EmbeddingFolder(tmp_path, 10)
    folder.write(A, TEN)

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OSError, match="Read-only file system"):
        folder.write(B, TEN)

    assert folder.usage() == (1, 10)
    assert folder.evictions == 0


@pytest.mark.parametrize(
    ("free", "left"),
    [
        (1000, {A, B, C, D}),  # 50 of 1000 bytes are not for us: there is room for all
        (60, {A, B, C, D}),
        (55, {B, C, D}),  # each of ours that goes leaves its ten bytes to the new one
        (41, {C, D}),  # others need room: two go for one
    ],
)
def test_the_last_twentieth_of_the_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, left: set[str]
) -> None:
    folder = EmbeddingFolder(tmp_path, 100)
    for name in (A, B, C):
        folder.write(name, TEN)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(1000, 1000 - free, free))

    folder.write(D, TEN)

    assert names_in(tmp_path) == left


def test_a_disk_that_others_have_filled_costs_no_file_when_it_cannot_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = EmbeddingFolder(tmp_path, 100)
    for name in (A, B, C):
        folder.write(name, TEN)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(1000, 1000, 0))

    with pytest.raises(OSError, match="there is room for 0"):
        folder.write(D, TEN)

    assert names_in(tmp_path) == {A, B, C}


def test_one_larger_than_everything_is_refused_and_costs_no_other(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path, 15)
    folder.write(A, TEN)

    with pytest.raises(OSError, match="there is room for 15"):
        folder.write(B, TEN + TEN)

    assert names_in(tmp_path) == {A}


def test_one_that_would_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_folder, "MAX_FILE_BYTES", 9)

    with pytest.raises(OSError, match="10 bytes is too large"):
        EmbeddingFolder(tmp_path, 100).write(A, TEN)
