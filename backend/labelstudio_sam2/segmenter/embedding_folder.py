"""A folder of files, bounded by bytes, that several processes read and write at the same time."""

import errno
import heapq
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from labelstudio_sam2.segmenter.embedding_cache import DamagedEmbeddingError

MAX_FILE_BYTES = 2**28
"""No embedding is larger: an official model's takes 8 MiB, one of four times their input size 128."""
REFRESH_SECONDS = 10.0
"""How often the folder is read again, at most, where other processes write into it too."""
RESERVED_SHARE = 0.05
MAX_RESERVED_BYTES = 2**30
"""What stays free on the disk for others: this share of it, but no more than so many bytes."""

_SUFFIX = ".safetensors"
_FILE = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_UNFINISHED = re.compile(r"\.[0-9a-z_]+\.unfinished")
_UNFINISHED_SECONDS = 3600
"""A write that began so long ago has crashed."""


class EmbeddingFolder:
    """Files by name, up to a number of bytes; the one that no process has used for longest goes first. Thread-safe.

    When a file was last used is its modification time, so all processes agree on it. It only ever grows: where the
    machine's clock is set back, it goes on from the newest one. What is in the folder is known
    from one look at the start; it is looked through again, every `REFRESH_SECONDS` at most, when another process has
    changed it. So writing costs the same with ten files and with ten thousand, and several processes may be over the
    bound together by what they wrote since.

    Only files that are named like its own are ever touched. A file is there whole or not at all, as long as the machine
    keeps running; after a power cut it may hold anything, so its reader must check it.

    Args:
        path: The folder; made when first written to, for this user alone.
        max_bytes: What its files may take together. Less where the disk would otherwise come near its end.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.evictions = 0
        self._lock = threading.Lock()
        self._index: _Index | None = None
        self._scanned_at = 0.0
        self._seen_ns = 0
        self._newest_ns = 0
        self._is_stale = False

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes and mark it as just used, or None if there is no such file.

        Args:
            name: 64 lower-case hex digits.

        Raises:
            DamagedEmbeddingError: What bears this name is no plain file, or far too large.
            OSError: It is there and cannot be read.
        """
        try:
            descriptor = os.open(self._file(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DamagedEmbeddingError("it is a link") from None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            os.close(descriptor)
            raise DamagedEmbeddingError("it is no plain file of a few megabytes")
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            data = file.read()
            with suppress(OSError):  # a disk that may only be read from
                os.utime(descriptor, ns=(status.st_atime_ns, self._now_ns(status.st_mtime_ns)))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it; those unused for longest are removed to make room.

        Args:
            name: As `read`.
            data: What it shall hold.

        Raises:
            OSError: The disk is full or read-only, the bound too small, or the folder cannot be made.
        """
        if len(data) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"an embedding of {len(data)} bytes is too large to be kept")
        with self._lock:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            index = self._refreshed()
            self._make_room(index, len(data))
            index.add(name, len(data), self._put_in_place(name, data))
            self._seen_ns = self.path.stat().st_mtime_ns

    def remove(self, name: str) -> None:
        """Remove a file, if it is there and may be removed."""
        with suppress(OSError):
            self._file(name).unlink(missing_ok=True)
        if self._index is not None:
            with self._lock:
                self._index.forget(name)

    def known_usage(self) -> tuple[int, int] | None:
        """Return as `usage`, or None if the folder has not been looked at yet. Never waits for the disk."""
        index = self._index
        return None if index is None else (len(index), index.nbytes)

    def usage(self) -> tuple[int, int]:
        """Return the number of files and their bytes together, as far as this process knows.

        Raises:
            OSError: The folder cannot be read.
        """
        index = self._index
        if index is None:
            with self._lock:
                index = self._refreshed()
        return len(index), index.nbytes

    def room_bytes(self) -> int:
        """Return what the files may take together: `max_bytes`, or less where the disk has no room for so much.

        Raises:
            OSError: The folder is not there and cannot be made, or not be read.
        """
        with self._lock:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return max(0, self._allowed(self._refreshed()))

    def _file(self, name: str) -> Path:
        return self.path / f"{name}{_SUFFIX}"

    def _refreshed(self) -> "_Index":
        """The index, made anew if another process has changed the folder and the last look was not just now."""
        with suppress(FileNotFoundError):
            self._is_stale |= self.path.stat().st_mtime_ns != self._seen_ns
        is_due = self._is_stale and time.monotonic() - self._scanned_at >= REFRESH_SECONDS
        if self._index is None or is_due:
            self._index = self._scan()
        return self._index

    def _scan(self) -> "_Index":
        self._scanned_at, self._is_stale = time.monotonic(), False
        try:
            self._seen_ns = self.path.stat().st_mtime_ns  # before the look: what changes meanwhile asks for another
            with os.scandir(self.path) as entries:
                files = list(_files_among(entries))
            self._newest_ns = max([self._newest_ns, *(used_ns for _, _, used_ns in files)])
            return _Index(files)
        except FileNotFoundError:
            return _Index(())

    def _make_room(self, index: "_Index", nbytes: int) -> None:
        allowed = self._allowed(index)
        if nbytes > allowed:
            raise OSError(errno.ENOSPC, f"{nbytes} bytes are to be written, and there is room for {max(allowed, 0)}")
        while index.nbytes + nbytes > allowed:
            name = index.longest_unused(self._used_ns)
            if name is None:
                return
            with suppress(FileNotFoundError):  # another process was faster
                self._file(name).unlink()
                self.evictions += 1
            index.forget(name)

    def _allowed(self, index: "_Index") -> int:
        """Bytes for all files together; below 0 where others have used up what is reserved."""
        disk = shutil.disk_usage(self.path)
        reserved = min(int(RESERVED_SHARE * disk.total), MAX_RESERVED_BYTES)
        return min(self.max_bytes, index.nbytes + disk.free - reserved)

    def _now_ns(self, used_ns: int = 0) -> int:
        """Return the time of a use that is newer than all that are known, and than this one."""
        self._newest_ns = now_ns = max(time.time_ns(), self._newest_ns + 1, used_ns + 1)
        return now_ns

    def _used_ns(self, name: str) -> int | None:
        try:
            return self._file(name).lstat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _put_in_place(self, name: str, data: bytes) -> int:
        """Write beside the place and move there; return the time of it in nanoseconds."""
        descriptor, unfinished = tempfile.mkstemp(prefix=".", suffix=".unfinished", dir=self.path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                now_ns = self._now_ns()
                os.utime(descriptor, ns=(now_ns, now_ns))
            Path(unfinished).replace(self._file(name))
        except BaseException:
            with suppress(OSError):
                Path(unfinished).unlink()
            raise
        return now_ns


def _files_among(entries: Iterable["os.DirEntry[str]"]) -> Iterator[tuple[str, int, int]]:
    """Yield name, bytes and time of use of each file; what a crash left unfinished is removed on the way."""
    for entry in entries:
        with suppress(FileNotFoundError):  # another process was faster
            status = entry.stat(follow_symlinks=False)
            if _FILE.fullmatch(entry.name):
                yield entry.name.removesuffix(_SUFFIX), status.st_size, status.st_mtime_ns
            elif _UNFINISHED.fullmatch(entry.name) and time.time() - status.st_mtime > _UNFINISHED_SECONDS:
                Path(entry.path).unlink()


class _Index:
    """The files of a folder as far as this process knows: their sizes, and when each was used, at the least.

    Not thread-safe.
    """

    def __init__(self, files: Iterable[tuple[str, int, int]]) -> None:
        self.nbytes = 0
        self._sizes: dict[str, int] = {}
        self._by_use: list[tuple[int, str]] = []
        for name, nbytes, used_ns in files:
            self.add(name, nbytes, used_ns)

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, name: str, nbytes: int, used_ns: int) -> None:
        known = self._sizes.get(name)
        self._sizes[name] = nbytes
        self.nbytes += nbytes - (known or 0)
        if known is None:
            heapq.heappush(self._by_use, (used_ns, name))

    def forget(self, name: str) -> None:
        self.nbytes -= self._sizes.pop(name, 0)

    def longest_unused(self, used_ns: Callable[[str], int | None]) -> str | None:
        """The file that was used longest ago, or None if there is none left.

        A file is used more often than this is asked, by other processes too: so the times are corrected here, for the
        files that come first, until the first one's is right.

        Args:
            used_ns: Returns when a file was really used last, or None if it is gone.
        """
        while self._by_use:
            known_ns, name = self._by_use[0]
            if name not in self._sizes:
                heapq.heappop(self._by_use)
                continue
            now_ns = used_ns(name)
            if now_ns is None or now_ns <= known_ns:
                return name
            heapq.heapreplace(self._by_use, (now_ns, name))
        return None
