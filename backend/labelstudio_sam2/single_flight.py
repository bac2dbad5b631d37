"""Equal work asked for at the same time is done once."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from labelstudio_sam2.errors import BackendError, BusyError
from labelstudio_sam2.stages import stage

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs a function once for all threads that ask for the same key while it runs.

    The first caller of a key works in its own thread; the others wait and get its value, or its exception. Nothing is
    remembered after the last of them has been answered: keeping values is a cache's work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[V]] = {}

    def do(self, key: K, work: Callable[[], V], *, timeout_seconds: float) -> V:
        """Return `work()`, or what another thread's equal work returns.

        Args:
            key: Names the work.
            work: Called at most once per flight, without any lock held.
            timeout_seconds: How long a follower waits for the first caller.

        Raises:
            BusyError: The first caller has not finished in time.
        """
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not leads:
            try:
                with stage("wait"):
                    return flight.result(timeout=timeout_seconds)
            except TimeoutError:
                if flight.done():
                    raise  # the work itself failed with a TimeoutError
                raise BusyError(f"waited {timeout_seconds:g} s for the same work begun by another request") from None
            except BackendError as error:
                raise type(error)(*error.args) from None  # each thread raises its own
        try:
            value = work()
        except BaseException as error:
            self._land(key)
            flight.set_exception(error)
            raise
        self._land(key)
        flight.set_result(value)
        return value

    def _land(self, key: K) -> None:
        with self._lock:
            del self._flights[key]
