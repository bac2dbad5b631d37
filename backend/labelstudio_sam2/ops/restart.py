"""An end for a worker that cannot go on, so that its master starts another one."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

SHORTEST_LIFE_SECONDS = 30.0
"""A worker lives at least so long: a GPU that stays dead then costs two starts a minute, and not one after another."""
FAREWELL_SECONDS = 5.0
"""So long requests may take to be answered; a call that hangs on a dead GPU would keep the process for ever."""


class Restart:
    """Ends this process, once, when its device is lost. Until then its requests are refused by name, as is `/ready`.

    Args:
        end: Asks the process to end in good order.
        at_last: Ends it in any case.
        clock: Tells how long the process has lived: what it says now is taken for its birth.
        later: Calls a function after some seconds, in a thread of its own.
    """

    def __init__(
        self,
        end: Callable[[], object] = lambda: os.kill(os.getpid(), signal.SIGTERM),
        *,
        at_last: Callable[[], object] = lambda: os._exit(1),
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], object]], None] | None = None,
    ) -> None:
        self._end = end
        self._at_last = at_last
        self._clock = clock
        self._later = later or _in_a_thread
        self._born = clock()

    def after_losing_the_device(self, why: str) -> None:
        """End the process soon; returns at once.

        Args:
            why: What the device said, for the log.
        """
        pause = max(0.0, self._born + SHORTEST_LIFE_SECONDS - self._clock())
        logger.critical(
            "the GPU failed: this worker ends and a new one is started",
            extra={"reason": why, "in_seconds": round(pause)},
        )
        self._later(pause, self._end)
        self._later(pause + FAREWELL_SECONDS, self._at_last)


def _in_a_thread(seconds: float, call: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
