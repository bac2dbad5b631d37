"""A lock between processes that dies with its holder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none; the lock is then never held
    fcntl = None  # type: ignore[assignment]

_SHORTEST_SLEEP = 0.005
_LONGEST_SLEEP = 0.1


@contextmanager
def file_lock(path: Path, *, wait_seconds: float) -> Iterator[bool]:
    """Hold a lock that all processes and threads of this machine see, for the length of the block.

    It is the kernel's (`flock`), so whoever crashes or is killed holds nothing any more. The file is made if need be,
    and removed at the end. For work that may be done twice but had better not be: nothing is raised where locking is
    not possible.

    Args:
        path: The lock's file, in a folder that is there.
        wait_seconds: How long to wait for whoever holds it.

    Yields:
        Whether the lock is held: not if its holder kept it too long, the file cannot be made, or this machine or the
        folder's file system has no such locks.
    """
    descriptor = _acquire(path, time.monotonic() + wait_seconds)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()  # while it is held, so that it is ours
            os.close(descriptor)


def _acquire(path: Path, deadline: float) -> int | None:
    if fcntl is None:
        return None
    sleep = _SHORTEST_SLEEP
    while True:
        try:
            descriptor = _try(path)
        except OSError:
            return None
        left = deadline - time.monotonic()
        if descriptor is not None or left <= 0:
            return descriptor
        time.sleep(min(sleep, left))
        sleep = min(2 * sleep, _LONGEST_SLEEP)


def _try(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None if another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # who held it last has removed the file: a lock on that one would keep nobody out
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
