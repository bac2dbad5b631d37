"""A checkpoint is put into its place whole and verified, or not at all."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labelstudio_sam2.segmenter.file_lock import file_lock
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec, resolve
from labelstudio_sam2.weights.errors import WeightsError
from labelstudio_sam2.weights.fetch import Wanted, fetch, take


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def wanted(spec: ModelSpec, tmp_path: Path) -> Wanted:
    wanted = Wanted.of(spec, tmp_path / "weights")
    assert wanted is not None
    return wanted


@pytest.fixture
def wrong(weights_server: Any) -> bytes:
    """The checkpoint with one byte swapped."""
    content = bytearray(weights_server.content)
    content[70_000] ^= 1
    return bytes(content)


def test_a_checkpoint_is_there_and_nothing_else(wanted: Wanted, weights_server: Any, report: Any) -> None:
    assert fetch(wanted, report)

    assert wanted.path.read_bytes() == weights_server.content
    assert list(wanted.path.parent.iterdir()) == [wanted.path]


def test_what_is_there_and_right_is_not_downloaded_again(wanted: Wanted, weights_server: Any, report: Any) -> None:
    fetch(wanted, report)

    assert not fetch(wanted, report)

    assert len(weights_server.requests) == 1


def test_one_wrong_byte_is_refused_with_both_hashes_and_nothing_is_kept(
    wanted: Wanted, weights_server: Any, report: Any, wrong: bytes
) -> None:
    weights_server.content = wrong

    with pytest.raises(WeightsError) as refusal:
        fetch(wanted, report)

    assert f"is not made_up.pt: SHA-256 {wanted.sha256} is wanted, " in str(refusal.value)
    assert list(wanted.path.parent.iterdir()) == []


def test_a_wrong_byte_that_an_earlier_try_left_is_found_too(
    wanted: Wanted, weights_server: Any, report: Any, wrong: bytes
) -> None:
    wanted.path.parent.mkdir()
    wanted.part.path.write_bytes(wrong[:80_000])

    with pytest.raises(WeightsError, match=r"is not made_up\.pt"):
        fetch(wanted, report)

    assert list(wanted.path.parent.iterdir()) == []


def test_a_damaged_checkpoint_stays_until_the_right_one_came(
    wanted: Wanted, weights_server: Any, report: Any, wrong: bytes
) -> None:
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(wrong)
    weights_server.answers.append("404")

    with pytest.raises(WeightsError, match="404"):
        fetch(wanted, report)
    kept = wanted.path.read_bytes()
    fetch(wanted, report)

    assert kept == wrong
    assert wanted.path.read_bytes() == weights_server.content


def test_a_mirror_is_asked_instead_of_the_official_address(
    spec: ModelSpec, weights_server: Any, tmp_path: Path
) -> None:
    mirror = weights_server.url.replace("made_up.pt", "models/sam2/")

    with_slash = Wanted.of(spec, tmp_path, mirror)
    without = Wanted.of(spec, tmp_path, mirror.rstrip("/"))

    assert with_slash == without
    assert with_slash is not None
    assert with_slash.url == f"{mirror}made_up.pt"


def test_there_is_nothing_to_fetch_for_nano_and_for_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    own = resolve(str(tmp_path / "mine.pt"), Path("sam2.1_hiera_t.yaml"))

    assert Wanted.of(MODELS["nano"], tmp_path) is None
    assert Wanted.of(own, tmp_path) is None


@pytest.mark.parametrize(("so_far", "free", "is_enough"), [(0, 99_999, False), (40_000, 60_000, True)])
def test_space_is_looked_for_before_anything_is_asked_for(
    wanted: Wanted,
    weights_server: Any,
    report: Any,
    monkeypatch: pytest.MonkeyPatch,
    so_far: int,
    free: int,
    is_enough: bool,  # noqa: FBT001
) -> None:
    wanted.path.parent.mkdir()
    wanted.part.path.write_bytes(weights_server.content[:so_far])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - free, free))

    if is_enough:
        assert fetch(wanted, report)
    else:
        with pytest.raises(WeightsError, match=r"made_up\.pt needs 0\.1 MB more, and .*weights has 0\.1 MB free\."):
            fetch(wanted, report)
        assert weights_server.requests == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"weights is full\. Free 0\.1 MB there, the same command goes on from what came\."),
        (errno.EROFS, r"weights may not be written or read by this user: Read-only file system\. Run this as"),
        (errno.EIO, r"weights: Input/output error\."),
    ],
)
def test_a_disk_that_fails_in_the_middle_is_told_and_what_came_is_kept(
    wanted: Wanted, report: Any, number: int, message: str
) -> None:
    report.broken = OSError(number, os.strerror(number))  # as the write before would raise it

    with pytest.raises(WeightsError, match=message):
        fetch(wanted, report)

    assert wanted.part.size_bytes > 0


def test_a_folder_without_write_access_is_told_before_anything_is_asked_for(
    wanted: Wanted, weights_server: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # no permission stops a test that runs as root

    with pytest.raises(WeightsError, match=r"weights may not be written or read by this user: Permission denied"):
        fetch(wanted, report)

    assert (weights_server.requests, report.texts) == ([], [])


def test_a_folder_without_write_access_that_holds_the_right_file_is_good_enough(
    wanted: Wanted, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(wanted, report)
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert not fetch(wanted, report)


def test_a_folder_that_is_a_file_is_told(spec: ModelSpec, report: Any, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file")
    wanted = Wanted.of(spec, tmp_path / "weights")
    assert wanted is not None

    with pytest.raises(WeightsError, match=r"weights: File exists\. Or name another folder"):
        fetch(wanted, report)


def test_a_folder_without_locks_does_not_keep_a_file_from_coming(
    wanted: Wanted, weights_server: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelstudio_sam2.segmenter.file_lock.fcntl", None)

    assert fetch(wanted, report)


def test_a_file_that_was_brought_is_copied_and_stays(
    wanted: Wanted, weights_server: Any, report: Any, tmp_path: Path
) -> None:
    (tmp_path / "brought.pt").write_bytes(weights_server.content)

    take(wanted, tmp_path / "brought.pt", report)

    assert wanted.path.read_bytes() == (tmp_path / "brought.pt").read_bytes() == weights_server.content
    assert list(wanted.path.parent.iterdir()) == [wanted.path]
    assert weights_server.requests == []


def test_a_file_that_was_brought_ends_a_download_that_was_begun(
    wanted: Wanted, weights_server: Any, report: Any, tmp_path: Path
) -> None:
    wanted.path.parent.mkdir()
    wanted.part.path.write_bytes(weights_server.content[:40_000])
    (tmp_path / "brought.pt").write_bytes(weights_server.content)

    take(wanted, tmp_path / "brought.pt", report)

    assert list(wanted.path.parent.iterdir()) == [wanted.path]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1], r"brought\.pt has 99999 bytes, made_up\.pt has 100000\. It is another file"),
        (lambda content: content[::-1], r"brought\.pt is not made_up\.pt: SHA-256 .* is wanted, .* was found\. It is"),
    ],
)
def test_a_wrong_file_that_was_brought_changes_nothing(
    wanted: Wanted,
    weights_server: Any,
    report: Any,
    tmp_path: Path,
    spoil: Callable[[bytes], bytes],
    message: str,
) -> None:
    wanted.path.parent.mkdir()
    wanted.part.path.write_bytes(weights_server.content[:40_000])
    (tmp_path / "brought.pt").write_bytes(spoil(weights_server.content))

    with pytest.raises(WeightsError, match=message):
        take(wanted, tmp_path / "brought.pt", report)

    assert list(wanted.path.parent.iterdir()) == [wanted.part.path]


def test_a_file_that_was_not_brought_is_told(wanted: Wanted, report: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"brought\.pt cannot be read: No such file or directory"):
        take(wanted, tmp_path / "brought.pt", report)


def test_who_waited_for_another_takes_what_that_one_got(
    wanted: Wanted, weights_server: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted.path.parent.mkdir()
    lock = wanted.path.with_name(".made_up.pt.lock")

    with file_lock(lock, wait_seconds=0) as other_one:

        def finish_the_others(text: str) -> None:
            assert other_one
            wanted.path.write_bytes(weights_server.content)
            lock.unlink()  # which ends the other one's lock
            report.texts.append(text)

        monkeypatch.setattr(report, "say", finish_the_others)
        is_new = fetch(wanted, report)

    assert (is_new, report.texts) == (False, ["another process is at it, waiting for that"])
    assert weights_server.requests == []


def test_a_file_that_came_just_before_the_lock_is_not_downloaded_again(
    wanted: Wanted, weights_server: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come(*_: object) -> bool:  # another process ends between this one's first look and its lock
        wanted.path.write_bytes(weights_server.content)
        return True

    monkeypatch.setattr(os, "access", come)

    assert not fetch(wanted, report)

    assert (weights_server.requests, report.texts) == ([], [])
