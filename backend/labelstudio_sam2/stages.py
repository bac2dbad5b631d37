"""Where the time of a request goes: the work says which stage it is in, and whoever began it may be listening.

Fetching knows nothing of the segmenter, nor either of them of metrics, and no clock is handed from one to the other:
what one thread does for one request is one context (docs/adr/0013).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["fetch", "decode", "wait", "read", "queue", "embed", "predict", "encode"]
"""In the order a click goes through them.

`fetch` asks the picture's server, places for downloads included. `decode` makes pixels of the file. `wait` is for what
another thread or process does: the same download or embedding, or a model that is being loaded. `read` looks for the
embedding on the disk tier. `queue` is for the device. `embed` and `predict` are the model's. `encode` makes the answer
of what the model said: masks, outlines, RLE, JSON.
"""
STAGES: tuple[Stage, ...] = get_args(Stage)


class StageTimes:
    """Seconds by stage of one piece of work. For the one thread that does it.

    Stages never overlap: one that begins inside another stops the other's clock until it ends. So all of them together
    are at most as long as the work.

    Args:
        clock: In seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[Stage, float] = {}
        self._running: Stage | None = None
        self._since = 0.0

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Of each stage that was entered, so far."""
        return self._seconds

    def change(self, stage: Stage | None) -> Stage | None:
        """Begin a stage, or none; return the one that ends with it."""
        now, before = self._clock(), self._running
        if before is not None:
            self._seconds[before] += now - self._since
        if stage is not None:
            self._seconds.setdefault(stage, 0.0)
        self._running, self._since = stage, now
        return before


_times: ContextVar[StageTimes | None] = ContextVar("stage_times", default=None)
_NOTHING = nullcontext()


@contextmanager
def listening() -> Iterator[StageTimes]:
    """Take the times of the stages this thread goes through in the block; those of a listener outside stand still."""
    times = StageTimes()
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)


def stage(name: Stage) -> AbstractContextManager[None]:
    """Say that the block is a stage of this thread's work; does nothing where nobody listens."""
    times = _times.get()
    return _NOTHING if times is None else _Running(times, name)


class _Running:
    """A block that is a stage."""

    __slots__ = ("_name", "_outer", "_times")

    def __init__(self, times: StageTimes, name: Stage) -> None:
        self._times = times
        self._name = name
        self._outer: Stage | None = None

    def __enter__(self) -> None:
        self._outer = self._times.change(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._times.change(self._outer)
