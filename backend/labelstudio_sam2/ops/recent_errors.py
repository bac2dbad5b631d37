"""The errors that were answered last, for who looks at the server and not at its log."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_KINDS = 32
"""Kept. There are more in all, but no server has so many troubles at once."""


@dataclass(frozen=True, kw_only=True)
class RecentError:
    """A kind of error that was answered. Of what a client sent nothing is in it, and no address.

    Attributes:
        code: The catalogue's, or what the HTTP status is called.
        reason: The fixed text beside it.
        method: As in the metrics.
        route: As in the metrics.
        status: Answered.
        times: So often since it is kept.
        last_at: When it was answered last, in seconds since the epoch.
        request_id: Of the last one; the log has its lines.
    """

    code: str
    reason: str
    method: str
    route: str
    status: int
    times: int
    last_at: float
    request_id: str


class RecentErrors:
    """Errors by kind, up to `MAX_KINDS`: who is refused again and again pushes nobody else out. Thread-safe.

    Args:
        clock: In seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._errors: OrderedDict[tuple[object, ...], RecentError] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, *, code: str, reason: str, method: str, route: str, status: int, request_id: str) -> None:
        """Take note of an error that is being answered.

        Args:
            code: The catalogue's.
            reason: The fixed text beside it.
            method: One of few.
            route: A rule of the application's, or one name for whatever else is asked for.
            status: Answered.
            request_id: The request's.
        """
        kind = (code, reason, method, route, status)
        with self._lock:
            before = self._errors.pop(kind, None)
            self._errors[kind] = RecentError(
                code=code,
                reason=reason,
                method=method,
                route=route,
                status=status,
                times=1 if before is None else before.times + 1,
                last_at=self._clock(),
                request_id=request_id,
            )
            if len(self._errors) > MAX_KINDS:
                self._errors.popitem(last=False)

    def newest_first(self) -> list[RecentError]:
        """Return those that are kept."""
        with self._lock:
            return list(reversed(self._errors.values()))
