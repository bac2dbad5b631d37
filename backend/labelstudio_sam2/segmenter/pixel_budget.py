"""A bound on the decoded pictures that are in memory at once."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.stages import stage

DEFAULT_PIXELS = 100_000_000
"""300 MB as RGB; while a picture with transparency is converted, up to 18 bytes a pixel, 1.8 GB."""


class PixelBudget:
    """Lets pictures be decoded as long as they have no more pixels together, in the order of their coming. Thread-safe.

    A picture that is larger than all of it is let in alone.

    Args:
        pixels: Height times width of all that are let in, added up.
    """

    def __init__(self, pixels: int = DEFAULT_PIXELS) -> None:
        self._pixels = pixels
        self._used = 0
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @property
    def waiting(self) -> int:
        """Threads that wait for room now."""
        return len(self._line)

    @contextmanager
    def room_for(self, pixels: int, *, by: float = inf) -> Iterator[None]:
        """Hold room for a picture for the length of the block.

        Args:
            pixels: Its height times width.
            by: Until when to wait for it, on the monotonic clock.

        Raises:
            BusyError: There was none in time.
        """
        pixels = min(pixels, self._pixels)
        with stage("queue"):
            self._take(pixels, by)
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()

    def _take(self, pixels: int, by: float) -> None:
        place = object()
        with self._changed:
            self._line.append(place)
            try:
                while self._line[0] is not place or self._used + pixels > self._pixels:
                    left = by - time.monotonic()
                    if left <= 0:
                        raise BusyError("too many large pictures are being opened")
                    self._changed.wait(None if left == inf else left)
                self._used += pixels
            finally:
                self._line.remove(place)
                self._changed.notify_all()
