"""Time, measured honestly: two contenders in turns in one run, medians with their spread, ratios by pairs."""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Self, TypeAlias, TypeVar

import torch

T = TypeVar("T")

Basis: TypeAlias = Literal["cpu", "wall"]
"""What a ratio is made of: the process's CPU time, which other programs disturb least, or the clock on the wall."""


@dataclass(frozen=True, kw_only=True)
class Took:
    """What something took, in seconds.

    Attributes:
        cpu: CPU time of the whole process, all threads together.
        wall: What somebody who waits would see.
    """

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        """Read both clocks, once the GPU has done what it was told."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(cpu=time.process_time(), wall=time.perf_counter())

    def __sub__(self, other: "Took") -> "Took":
        return Took(cpu=self.cpu - other.cpu, wall=self.wall - other.wall)

    def __add__(self, other: "Took") -> "Took":
        return Took(cpu=self.cpu + other.cpu, wall=self.wall + other.wall)

    def __truediv__(self, parts: int) -> "Took":
        return Took(cpu=self.cpu / parts, wall=self.wall / parts)

    def by(self, basis: Basis) -> float:
        """Return the time on one of the two clocks."""
        return self.cpu if basis == "cpu" else self.wall


NOTHING = Took(cpu=0.0, wall=0.0)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the least and the greatest of what it is the median of."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Summarize at least one value."""
        ordered = sorted(values)
        return cls(low=ordered[0], median=median(ordered), high=ordered[-1])

    @classmethod
    def exactly(cls, value: float) -> Self:
        """Return a figure that does not vary, such as a count."""
        return cls(low=value, median=value, high=value)

    def times(self, factor: float) -> "Spread":
        """Return the same in another unit."""
        return Spread(low=self.low * factor, median=self.median * factor, high=self.high * factor)


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long one contender took in the rounds that count, in seconds."""

    cpu: Spread
    wall: Spread

    @classmethod
    def of(cls, rounds: Sequence[Took]) -> Self:
        """Summarize at least one round."""
        return cls(cpu=Spread.of(took.cpu for took in rounds), wall=Spread.of(took.wall for took in rounds))


def ratio(plain: Sequence[Took], ours: Sequence[Took], basis: Basis) -> Spread:
    """Return how many times as long the plain code took: the ratio of the medians.

    Its spread is that of the rounds' own ratios: what slows the machine for a while slows both sides of a pair.

    Args:
        plain: A time for each round.
        ours: The same rounds.
        basis: Which clock.
    """
    theirs, mine = [took.by(basis) for took in plain], [took.by(basis) for took in ours]
    pairs = [one / other for one, other in zip(theirs, mine, strict=True)]
    return Spread(low=min(pairs), median=median(theirs) / median(mine), high=max(pairs))


def timed(call: Callable[[], T], *, times: int = 1) -> tuple[T, Took]:
    """Call something, several times where one is too short to be measured; return what it gave and the time of one."""
    gc.collect()  # nobody pays for another's garbage
    started = Took.now()
    for _ in range(times):
        result = call()
    return result, (Took.now() - started) / times


def wait_until(condition: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait for what another thread does.

    Raises:
        TimeoutError: The condition does not hold after so many seconds.
    """
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"what was waited for did not come within {seconds:g} s")
        time.sleep(0.01)


def round_text(number: int, rounds: int) -> str:
    """Return what to call a round; those below 0 warm up."""
    return f"round {number + 1} of {rounds}" if number >= 0 else "warming up"


def in_turns(
    plain: Callable[[int], object],
    ours: Callable[[int], object],
    *,
    rounds: int,
    warm_ups: int = 1,
    ours_times: int = 1,
    announce: Callable[[str], None] = lambda _: None,
) -> tuple[list[Took], list[Took]]:
    """Run two contenders in turns, A B A B; return what each round took, the warm-up left out.

    Args:
        plain: Called with the round's number.
        ours: The same.
        rounds: How many count.
        warm_ups: How many come before and do not.
        ours_times: How often ours runs in a round; a round's time is that of one of them.
        announce: Told of each round.
    """
    times: tuple[list[Took], list[Took]] = [], []
    for number in range(-warm_ups, rounds):
        announce(round_text(number, rounds))
        _, theirs = timed(lambda: plain(number))  # noqa: B023  called at once
        _, mine = timed(lambda: ours(number), times=ours_times)  # noqa: B023  called at once
        if number >= 0:
            times[0].append(theirs)
            times[1].append(mine)
    return times
