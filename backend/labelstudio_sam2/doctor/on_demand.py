"""Examinations in the background, one at a time, when somebody asks for one."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from labelstudio_sam2.doctor.advice import SEE_LOG, sentence
from labelstudio_sam2.doctor.findings import Finding, problem
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.ops.logging import request_id

logger = logging.getLogger(__name__)

MAX_SECONDS = 60.0
"""After so long no further check is begun. One that is under way has a deadline of its own."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found so far.

    Attributes:
        began_at: In seconds since the epoch.
        findings: In their order.
        is_running: Whether more may come.
        is_cut: Whether it was ended before its last check.
    """

    began_at: float
    findings: tuple[Finding, ...] = ()
    is_running: bool = True
    is_cut: bool = False


class Examinations:
    """Begins examinations and keeps the last one. Thread-safe; nobody waits for one.

    Args:
        examine: Returns the findings of one, made as they are asked for.
        seconds: After so long no further check is begun.
        clock: What those seconds are measured with.
        now: In seconds since the epoch.
    """

    def __init__(
        self,
        examine: Callable[[], Iterator[Finding]],
        *,
        seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._examine = examine
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._last: Examination | None = None

    @property
    def last(self) -> Examination | None:
        """The one that is running, else the one that ended last, if any."""
        return self._last

    def begin(self) -> None:
        """Begin one, unless one is running; returns at once."""
        with self._lock:
            if self._last is not None and self._last.is_running:
                return
            begun = self._last = Examination(began_at=self._now())
        threading.Thread(target=self._run, args=(begun, request_id.get()), name="doctor", daemon=True).start()

    def _run(self, examination: Examination, asked_by: str) -> None:
        request_id.set(asked_by)
        deadline = self._clock() + self._seconds
        try:
            for finding in self._examine():
                examination = self._last = replace(examination, findings=(*examination.findings, finding))
                if self._clock() >= deadline:
                    examination = replace(examination, is_cut=True)
                    break
        except (BackendError, ValueError) as error:
            examination = _ended_by(examination, problem("settings", sentence(error), "Mend it, then start again."))
        except Exception:
            logger.exception("a bug: an examination ended")
            examination = _ended_by(examination, problem("doctor", "It ended with a bug.", SEE_LOG))
        self._last = replace(examination, is_running=False)


def _ended_by(examination: Examination, finding: Finding) -> Examination:
    return replace(examination, findings=(*examination.findings, finding))
