"""One model call at a time on the device, the most urgent first, and a bounded number of requests that wait for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

from labelstudio_sam2.errors import BusyError, DeviceLostError
from labelstudio_sam2.stages import stage

PATIENCE_SECONDS = 5.0
"""So long an annotator's new picture waits behind other annotators' clicks; then its turn comes as if it were one."""


class Urgency(IntEnum):
    """What a turn on the device is for; the lower goes first."""

    PREDICT = 0
    """A click on a picture that is embedded: milliseconds, and somebody waits."""
    EMBED = 1
    """A picture that somebody has clicked on."""
    PREFETCH = 2
    """A picture that nobody has clicked on yet: prefetch and precompute."""


class DeviceSchedule:
    """Gives the device to one thread at a time, by urgency and then in the order of their coming. Thread-safe.

    Args:
        max_waiting: Threads that may wait; the next one is refused at once. Prefetch does not count, nor is it refused.
        wait_seconds: How long each of them waits before it gives up. Prefetch waits for as long as it takes.
        patience_seconds: See `PATIENCE_SECONDS`.
        clock: What waiting is measured with, in seconds.
        on_lost: Told once why the device is lost, by the thread that noticed.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        wait_seconds: float,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        on_lost: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._on_lost = on_lost
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: list[_Turn] = []

    @property
    def waiting(self) -> int:
        """Threads that wait for the device now."""
        return len(self._waiting)

    def waiting_by_urgency(self) -> dict[Urgency, int]:
        """Return how many threads wait for the device now, for each urgency."""
        with self._lock:
            urgencies = [turn.urgency() for turn in self._waiting]
        return {urgency: urgencies.count(urgency) for urgency in Urgency}

    @property
    def is_lost(self) -> bool:
        """Whether the device has failed for good."""
        return self._lost is not None

    def check(self) -> None:
        """Do nothing if the device can be used.

        Raises:
            DeviceLostError: Never again by this process; the message says why.
        """
        if self._lost is not None:
            raise DeviceLostError(self._lost)

    def lose(self, why: str) -> None:
        """Refuse every turn from now on, also to those who wait: the device has failed for good."""
        with self._lock:
            is_news = self._lost is None
            if is_news:
                self._lost = why
        if is_news:
            self._on_lost(why)

    @contextmanager
    def turn(self, urgency: Callable[[], Urgency], *, by: float = inf) -> Iterator[Callable[[], None]]:
        """Hold the device for the length of the block.

        Args:
            urgency: Asked whenever the device comes free, since it may rise: a picture that is being prefetched is
                clicked on. Must be quick and take no turn itself.
            by: Until when to wait at the most, on the monotonic clock. Prefetch waits for as long as it takes.

        Yields:
            A function for long work to call now and then: it gives the device to whoever is more urgent, and returns
            when it is this thread's again. It raises `BusyError` where that takes too long; the block must end then.

        Raises:
            BusyError: Too many wait already, or the device did not come free in time.
            DeviceLostError: It has failed for good.
        """
        turn = _Turn(urgency, by)
        try:
            with stage("queue"):
                self._take(turn)
            yield lambda: self._step_aside(turn)
        finally:
            if turn.has_device:
                with self._lock:
                    self._hand_over(self._waiting)

    def _take(self, turn: "_Turn") -> None:
        self.check()
        with self._lock:
            if not self._is_taken:
                self._is_taken = turn.has_device = True
                return
            waiting = sum(other.urgency() is not Urgency.PREFETCH for other in self._waiting)
            if waiting >= self._max_waiting and turn.urgency() is not Urgency.PREFETCH:
                raise BusyError(f"{waiting} requests already wait for the device")
            self._line_up(turn, len(self._waiting))
        self._wait(turn)

    def _step_aside(self, turn: "_Turn") -> None:
        with self._lock:
            own = turn.urgency()
            more_urgent = [other for other in self._waiting if other.urgency() < own]  # however long the others waited
            if not more_urgent:
                return
            turn.has_begun = True
            self._line_up(turn, 0)
            self._hand_over(more_urgent)
        with stage("queue"):
            self._wait(turn)

    def _line_up(self, turn: "_Turn", place: int) -> None:
        turn.has_device = False
        turn.called.clear()
        turn.waits_since = self._clock()
        self._waiting.insert(place, turn)

    def _wait(self, turn: "_Turn") -> None:
        try:
            turn.called.wait(None if turn.urgency() is Urgency.PREFETCH else self._longest_wait(turn))
        finally:  # also when the thread is interrupted
            with self._lock:
                turn.has_device = turn.called.is_set()
                if not turn.has_device:
                    self._waiting.remove(turn)
        if not turn.has_device:
            raise BusyError("the device did not come free in time")
        self.check()

    def _longest_wait(self, turn: "_Turn") -> float:
        return min(self._wait_seconds, max(0.0, turn.by - time.monotonic()))

    def _hand_over(self, candidates: Sequence["_Turn"]) -> None:
        if not candidates:
            self._is_taken = False
            return
        following = min(candidates, key=self._rank)  # of equals the one who came first
        self._waiting.remove(following)
        following.called.set()

    def _rank(self, turn: "_Turn") -> Urgency:
        """Return how urgent a turn is that waits: a picture that was begun or has waited for long is as a click is."""
        urgency = turn.urgency()
        is_patient = self._clock() - turn.waits_since < self._patience_seconds and not turn.has_begun
        return urgency if is_patient or urgency is Urgency.PREFETCH else Urgency.PREDICT


@dataclass(eq=False)
class _Turn:
    """One thread's wish for the device.

    Attributes:
        urgency: See `DeviceSchedule.turn`.
        by: As `urgency`.
        called: Set when the device is handed to it.
        has_device: Whether it is on the device now; its own thread's business.
        has_begun: Whether it has stepped aside: it then lets one click go first, not all of them.
        waits_since: On the schedule's clock, when it last began to wait.
    """

    urgency: Callable[[], Urgency]
    by: float
    called: threading.Event = field(default_factory=threading.Event)
    has_device: bool = False
    has_begun: bool = False
    waits_since: float = 0.0
