"""One point in time by which everything must have ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

from labelstudio_sam2.errors import ImageTimeoutError

Clock: TypeAlias = Callable[[], float]
"""Seconds on a clock that never goes back, as `time.monotonic`."""


@dataclass(frozen=True)
class Deadline:
    """A total deadline: unlike a read timeout it ends a server that sends one byte a second.

    Attributes:
        at: On `clock`, in seconds.
        what: What must have ended by then, for the error: "the download took longer than 15 s".
        clock: The clock `at` is read from.
    """

    at: float
    what: str
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, what: str, clock: Clock = time.monotonic) -> Self:
        """Return the deadline that many seconds from now."""
        return cls(clock() + seconds, f"{what} took longer than {seconds:g} s", clock)

    def within(self, seconds: float, what: str) -> "Deadline":
        """Return a deadline that many seconds from now, or this one if it comes first."""
        inner = Deadline.after(seconds, what, self.clock)
        return inner if inner.at < self.at else self

    def left(self) -> float:
        """Return the seconds that are left, more than 0.

        Raises:
            ImageTimeoutError: None are left.
        """
        seconds = self.at - self.clock()
        if seconds <= 0:
            raise self.missed()
        return seconds

    def missed(self) -> ImageTimeoutError:
        """Return the error that says what took too long."""
        return ImageTimeoutError(self.what)
