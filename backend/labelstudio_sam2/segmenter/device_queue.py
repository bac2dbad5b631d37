"""One model call at a time on the device, and a bounded number of requests that wait for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labelstudio_sam2.errors import BusyError


class DeviceQueue:
    """Gives the device to one thread at a time and refuses more waiters than it was told.

    Args:
        max_waiting: Threads that may wait; the next one is refused at once.
        wait_seconds: How long each of them waits before it gives up.
    """

    def __init__(self, *, max_waiting: int, wait_seconds: float) -> None:
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._device = threading.Lock()
        self._counter = threading.Lock()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Threads that wait for the device now."""
        return self._waiting

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the device for the length of the block.

        Raises:
            BusyError: Too many wait already, or the device did not come free in time.
        """
        started = time.monotonic()
        if not self._device.acquire(blocking=False):
            self._wait(started)
        try:
            yield
        finally:
            self._device.release()

    def _wait(self, started: float) -> None:
        with self._counter:
            if self._waiting >= self._max_waiting:
                raise BusyError(f"{self._waiting} requests already wait for the device")
            self._waiting += 1
        try:
            left = max(0.0, started + self._wait_seconds - time.monotonic())
            if not self._device.acquire(timeout=left):
                raise BusyError(f"the device did not come free in {self._wait_seconds:g} s")
        finally:
            with self._counter:
                self._waiting -= 1
