"""The disk tier: embeddings as files that survive restarts and that several processes share."""

import errno
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import TypeVar

from labelstudio_sam2.segmenter.embedding_cache import CacheStats, DamagedEmbeddingError
from labelstudio_sam2.segmenter.embedding_folder import EmbeddingFolder
from labelstudio_sam2.segmenter.file_lock import file_lock

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_UNWRITTEN = 8
"""Embeddings that may wait to be written; they stay in the device's memory meanwhile."""
WARNING_SECONDS = 60.0
READ_SECONDS = 5.0
"""So long a file may take to be read: the slowest disk needs less, a hung network disk never ends."""
REST_SECONDS = 60.0
"""So long nobody waits, after somebody waited in vain: for a disk that hangs, or for another process that does."""
_READERS = 4
"""Files that are read at once."""


class EmbeddingDisk:
    """The most recently used embeddings of all processes, up to a number of bytes on disk. Thread-safe.

    It knows bytes and files; what is in them is the model's business. Nothing here ever fails a request: what cannot be
    read is not there, what cannot be written is skipped, and one warning a minute says so. Where the disk or another
    process hangs, one request waits for it; those of the next `REST_SECONDS` do without.

    A file's name is the SHA-256 of its key, so no part of a request is ever a path. Writing takes place in a thread of
    its own, which starts with the first embedding; at the end of the process it finishes what it has begun.

    Args:
        path: The folder, see `EmbeddingFolder`.
        max_bytes: What the files may take.
        lock_seconds: How long to wait for another process that embeds the same picture.
        read_seconds: How long to wait for a file.
        max_unwritten: Embeddings that may wait to be written; the next one is skipped.
        clock: Seconds that never go back, as `time.monotonic`.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        *,
        lock_seconds: float = 30,
        read_seconds: float = READ_SECONDS,
        max_unwritten: int = MAX_UNWRITTEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = EmbeddingFolder(path, max_bytes)
        self._locks = path / "locks"  # a folder of its own: a lock that comes and goes is no change of the files
        self._lock_seconds = lock_seconds
        self._read_seconds = read_seconds
        self._clock = clock
        self._reads_rest_until = self._locks_rest_until = -inf
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read-embeddings")
        self._places = threading.Semaphore(max_unwritten)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write-embeddings")
        self._is_writable = True
        self._has_looked = False
        self._counting = threading.Lock()
        self._hits = self._misses = self._skipped = 0
        self._warned_at = -inf

    def get(self, key: str, from_bytes: Callable[[bytes], T]) -> T | None:
        """Return what was put under a key, by any process, and mark it as just used; or None.

        Args:
            key: Names model, precision and picture.
            from_bytes: Makes the embedding from a file's bytes; raises `DamagedEmbeddingError` if they are none of it,
                and the file is removed.
        """
        found = self.peek(key, from_bytes)
        with self._counting:
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
        return found

    def peek(self, key: str, from_bytes: Callable[[bytes], T]) -> T | None:
        """Do as `get`, but leave the figures alone."""
        name = _name(key)
        if self._clock() < self._reads_rest_until:
            return None
        try:
            data = self._read(name)
            return None if data is None else from_bytes(data)
        except DamagedEmbeddingError as error:
            self._folder.remove(name)
            self._warn("an embedding on disk was damaged and is removed: %s", error)
        except OSError as error:
            self._warn("embeddings cannot be read from EMBEDDING_DISK_DIR: %s", error)
        return None

    def _read(self, name: str) -> bytes | None:
        """Read a file in a thread that can be left behind: nothing else ends a read that hangs.

        Raises:
            OSError: It cannot be read, or not in time.
        """
        try:
            reading = self._readers.submit(self._folder.read, name)
        except RuntimeError:  # the process ends
            return None
        try:
            return reading.result(self._read_seconds)
        except TimeoutError as error:
            if reading.done():
                raise  # the file system's own
            reading.cancel()
            self._reads_rest_until = self._clock() + REST_SECONDS
            raise OSError(errno.ETIMEDOUT, f"no answer within {self._read_seconds:g} s") from error

    def put(self, key: str, to_bytes: Callable[[], bytes]) -> Future[None]:
        """Have an embedding written, soon; returns at once.

        Args:
            key: As `get`.
            to_bytes: Called by the thread that writes.

        Returns:
            What is done when the embedding is written. It fails, with an `OSError` unless that is a bug, where it is
            clear that it will not be; nobody need look.
        """
        if not self._places.acquire(blocking=False):
            return self._skipped_for(errno.EAGAIN, "too many embeddings wait to be written")
        try:
            return self._writer.submit(self._write, key, to_bytes)
        except RuntimeError:
            self._places.release()
            return self._skipped_for(errno.ECANCELED, "the process ends")

    @contextmanager
    def alone(self, key: str, *, by: float = inf) -> Iterator[bool]:
        """Keep other processes from embedding the same picture for the length of the block.

        Whoever had to wait finds the embedding on disk, if this block ends no earlier than what `put` returned. Where
        that cannot be, because nothing can be written or the other process hangs, the block is entered all the same.

        Args:
            key: As `get`.
            by: Until when to wait for another process, on the clock; no longer than `lock_seconds` in any case.

        Yields:
            Whether others are kept from it.
        """
        now = self._clock()
        if not self._is_writable or now < self._locks_rest_until:
            yield False
            return
        with suppress(OSError):
            self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        wait_seconds = max(0.0, min(self._lock_seconds, by - now))
        with file_lock(self._locks / f"{_name(key)}.lock", wait_seconds=wait_seconds) as is_held:
            if not is_held and self._clock() - now >= self._lock_seconds:
                self._locks_rest_until = self._clock() + REST_SECONDS
                self._warn(
                    "another process has been embedding one picture for %g s: it is not waited for", wait_seconds
                )
            yield is_held

    def flush(self, timeout_seconds: float | None = None) -> None:
        """Wait until everything that was put so far is written or skipped.

        Raises:
            TimeoutError: It takes longer.
        """
        self._writer.submit(lambda: None).result(timeout_seconds)

    def stats(self) -> CacheStats:
        """Return the figures of this moment: those of the folder, and what this process did with it.

        Never waits for the disk. A folder that was not looked at yet counts as empty; the first call has it looked at.
        """
        usage = self._folder.known_usage()
        if usage is None:
            self._look()
        entries, nbytes = usage or (0, 0)
        with self._counting:
            return CacheStats(
                entries=entries,
                nbytes=nbytes,
                max_bytes=self._folder.max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._folder.evictions,
                skipped=self._skipped,
            )

    def room_bytes(self) -> int:
        """Return what embeddings may take on this disk, together and if all that is there now goes.

        Raises:
            OSError: The folder is not there and cannot be made.
        """
        return self._folder.room_bytes()

    def _look(self) -> None:
        with self._counting:
            if self._has_looked:
                return
            self._has_looked = True
        with suppress(RuntimeError):  # the process ends
            self._writer.submit(self._folder.usage)

    def _write(self, key: str, to_bytes: Callable[[], bytes]) -> None:
        try:
            self._folder.write(_name(key), to_bytes())
            self._is_writable = True
        except OSError as error:
            self._is_writable = False
            self._skip()
            self._warn("embeddings cannot be written to EMBEDDING_DISK_DIR: %s", error)
            raise
        except Exception:
            self._skip()
            logger.exception("an embedding could not be written")
            raise
        finally:
            self._places.release()

    def _skipped_for(self, code: int, reason: str) -> Future[None]:
        self._skip()
        skipped: Future[None] = Future()
        skipped.set_exception(OSError(code, reason))
        return skipped

    def _skip(self) -> None:
        with self._counting:
            self._skipped += 1

    def _warn(self, text: str, reason: object) -> None:
        with self._counting:
            if self._clock() - self._warned_at < WARNING_SECONDS:
                return
            self._warned_at = self._clock()
        logger.warning(text, reason)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
