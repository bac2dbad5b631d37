"""Puts an official checkpoint into the weights folder: whole and verified, or not at all."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self

from labelstudio_sam2.segmenter.checkpoint import Condition, fetch_command, inspect
from labelstudio_sam2.segmenter.file_lock import file_lock
from labelstudio_sam2.segmenter.zoo import ModelSpec, file_sha256
from labelstudio_sam2.weights.download import Part, download
from labelstudio_sam2.weights.errors import WeightsError
from labelstudio_sam2.weights.progress import Report, megabytes

_COPY_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A checkpoint that can be had: what it must be, and where it belongs.

    Attributes:
        spec: The model it is of.
        path: Where it belongs.
        url: Its address, at the mirror if there is one.
        size_bytes: The size it must have.
        sha256: The SHA-256 it must have.
    """

    spec: ModelSpec
    path: Path
    url: str
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, spec: ModelSpec, weights_dir: Path, mirror: str | None = None) -> Self | None:
        """Return what is to be fetched for a model; None for `nano`, which ships, and for a checkpoint of one's own.

        Args:
            spec: The model.
            weights_dir: The folder that the checkpoint belongs into.
            mirror: A folder on the web that holds the files, under their names, instead of the official address.
        """
        if spec.url is None or spec.size_bytes is None or spec.sha256 is None:
            return None
        path = (weights_dir / spec.checkpoint).absolute()
        url = spec.url if mirror is None else f"{mirror.rstrip('/')}/{path.name}"
        return cls(spec=spec, path=path, url=url, size_bytes=spec.size_bytes, sha256=spec.sha256)

    @property
    def part(self) -> Part:
        """What is there of it while it is downloaded."""
        return Part(self.path.with_name(f"{self.path.name}.part"))

    def is_there(self) -> bool:
        """Whether it is there and verified. Slow: reads all of it.

        Raises:
            OSError: It is there and cannot be read.
        """
        return inspect(self.spec, self.path.parent).condition is Condition.OK

    def description(self) -> str:
        """Say in some lines what the file is and how it gets to its place, for a person who brings it by hand."""
        command = fetch_command(self.spec, self.path.parent)
        return (
            f"{self.path.name}, for the model {self.spec.model_id}\n"
            f"  size     {self.size_bytes} bytes\n"
            f"  SHA-256  {self.sha256}\n"
            f"  address  {self.url}\n"
            f"  belongs  {self.path}\n"
            f"  put it there with: {command} --file PATH"
        )


def fetch(wanted: Wanted, report: Report) -> bool:
    """Download a checkpoint, unless it is there and verified. Slow.

    Of several processes that ask for the same file on one machine, one downloads it and the others wait for that. In a
    folder without locks (some network file systems) each downloads; the result is verified all the same.

    Args:
        wanted: The checkpoint.
        report: Told how far it is.

    Returns:
        Whether anything was downloaded, by this process.

    Raises:
        WeightsError: It cannot be had; the message says what to do. What came is kept, unless its bytes are wrong.
    """
    part = wanted.part
    with _saying_what_to_do(wanted, "the same command goes on from what came"):
        if wanted.is_there():
            return False
        with _alone(wanted, report):
            if wanted.is_there():  # it may have come since it was looked for
                return False
            if wanted.path.exists():
                report.say("is there, but it is not the right file: it is replaced once the right one came")
            _check_space(wanted, part.size_bytes)
            download(wanted.url, part, wanted.size_bytes, report)
            found = file_sha256(part.path)
            if found != wanted.sha256:
                part.remove()
                raise WeightsError(
                    f"What {wanted.url} sent is not {wanted.path.name}: SHA-256 {wanted.sha256} is wanted, {found} was "
                    "found. It was removed: try again, and if it comes again, that server has another file; get it "
                    "elsewhere and use --file."
                )
            _put_in_place(part.path, wanted.path)
            part.remove()
    return True


def take(wanted: Wanted, file: Path, report: Report) -> None:
    """Copy a checkpoint that was brought by hand to its place, if it is the right one. Slow: reads all of it.

    Args:
        wanted: The checkpoint.
        file: The file; it stays where it is.
        report: Told how far it is.

    Raises:
        WeightsError: It is not the right file, or cannot be copied; the message says what to do.
    """
    try:
        size = file.stat().st_size
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.") from error
    if size != wanted.size_bytes:
        raise WeightsError(f"{file} has {size} bytes, {wanted.path.name} has {wanted.size_bytes}. {_COPY_AGAIN}")
    copy = wanted.path.with_name(f"{wanted.path.name}.copy")
    with _saying_what_to_do(wanted, "try again"), _alone(wanted, report):
        _check_space(wanted, 0)
        try:
            found = _copy(file, copy, report)
            if found != wanted.sha256:
                raise WeightsError(
                    f"{file} is not {wanted.path.name}: SHA-256 {wanted.sha256} is wanted, {found} was found. "
                    f"{_COPY_AGAIN}"
                )
            _put_in_place(copy, wanted.path)
        finally:
            copy.unlink(missing_ok=True)
        wanted.part.remove()


@contextmanager
def _alone(wanted: Wanted, report: Report) -> Iterator[None]:
    """Keep other processes from the same file for the length of the block."""
    folder = wanted.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    lock = wanted.path.with_name(f".{wanted.path.name}.lock")
    with file_lock(lock, wait_seconds=0) as is_held:
        if is_held:
            yield
            return
    report.say("another process is at it, waiting for that")
    with file_lock(lock, wait_seconds=inf):
        yield


def _check_space(wanted: Wanted, so_far: int) -> None:
    needed = wanted.size_bytes - so_far
    free = shutil.disk_usage(wanted.path.parent).free
    if free < needed:
        raise WeightsError(
            f"{wanted.path.name} needs {megabytes(needed)} more, and {wanted.path.parent} has {megabytes(free)} free. "
            f"{_OTHER_FOLDER}"
        )


def _copy(file: Path, copy: Path, report: Report) -> str:
    """Copy a file and return the SHA-256 of the bytes that were written."""
    sha256 = hashlib.sha256()
    size = 0
    with file.open("rb") as source, copy.open("wb") as target:
        while chunk := source.read(_COPY_BYTES):
            target.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
            report.at(size)
    return sha256.hexdigest()


def _put_in_place(verified: Path, path: Path) -> None:
    """Give a file its name, so that after a power cut there is the whole of it under that name, or none."""
    with verified.open("rb") as file:
        os.fsync(file.fileno())
    verified.replace(path)


@contextmanager
def _saying_what_to_do(wanted: Wanted, afterwards: str) -> Iterator[None]:
    folder = wanted.path.parent
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                raise WeightsError(
                    f"{folder} is full. Free {megabytes(wanted.size_bytes)} there, {afterwards}. {_OTHER_FOLDER}"
                ) from error
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise WeightsError(
                    f"{error.filename or folder} may not be written or read by this user: {error.strerror}. Run this "
                    f"as the folder's owner. {_OTHER_FOLDER}"
                ) from error
        raise WeightsError(f"{error.filename or folder}: {error.strerror}. {_OTHER_FOLDER}") from error


_OTHER_FOLDER = "Or name another folder, in WEIGHTS_DIR or with --weights-dir."
_COPY_AGAIN = "It is another file, or damaged: bring it again. Nothing was changed."
