"""Several annotators at once: how long each waits, and whether everybody gets the mask of their own picture."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from benchmarks.clicks import agreement, mask_in
from benchmarks.timings import Spread

_SAME = 0.9
"""Intersection over union from which two masks are of the same object."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A click with a known answer.

    Attributes:
        body: Of the request.
        size_wh: (W, H) of the picture.
        right_answer: What the same backend answers when nobody else asks.
    """

    body: bytes
    size_wh: tuple[int, int]
    right_answer: bytes

    def is_right(self, answer: bytes) -> bool:
        """Return whether an answer shows the object that was clicked."""
        if answer == self.right_answer:
            return True
        return agreement(mask_in(answer, self.size_wh), mask_in(self.right_answer, self.size_wh)) >= _SAME


@dataclass(kw_only=True)
class Crowd:
    """What annotators got.

    Attributes:
        seconds: What each click took, on the wall's clock.
        asked: How many clicks there were.
        wrong: How many were answered with another mask.
        failed: How many were not answered.
    """

    seconds: list[float] = field(default_factory=list)
    asked: int = 0
    wrong: int = 0
    failed: int = 0

    @property
    def share_wrong(self) -> float:
        """Which part got no right answer, 0..1."""
        return (self.wrong + self.failed) / self.asked

    def percentiles(self) -> Spread:
        """Return the 5th, the 50th and the 95th percentile of the seconds, as low, median and high."""
        low, middle, high = map(float, np.percentile(self.seconds, (5, 50, 95)))
        return Spread(low=low, median=middle, high=high)


def pauses(annotators: int, clicks: int, *, mean_seconds: float, seed: int) -> list[list[float]]:
    """Return how long each annotator thinks before each click, in seconds; exponential, as if none knew of the others.

    Args:
        annotators: How many there are.
        clicks: Of each.
        mean_seconds: Over all of them.
        seed: Equal seeds, equal pauses but for their mean.
    """
    drawn: list[list[float]] = np.random.default_rng(seed).exponential(mean_seconds, (annotators, clicks)).tolist()
    return drawn


def ask_together(
    click: Callable[[bytes], bytes],
    questions: Sequence[Sequence[Question]],
    into: Crowd,
    thinking: Sequence[Sequence[float]] | None = None,
) -> None:
    """Let annotators ask at once, each one question after the other.

    Args:
        click: Answers a body; called from as many threads as there are annotators.
        questions: For each annotator.
        into: Where the results are added.
        thinking: How long each annotator pauses before each question, in seconds; not at all without it.
    """
    together = threading.Barrier(len(questions))

    def annotate(own: Sequence[Question], pauses_before: Sequence[float]) -> list[tuple[float, bytes | None]]:
        together.wait(timeout=60)
        answers: list[tuple[float, bytes | None]] = []
        for question, pause in zip(own, pauses_before, strict=True):
            time.sleep(pause)
            started = time.perf_counter()
            try:
                answer = click(question.body)
            except Exception:  # noqa: BLE001  whatever a race does to a predictor
                answer = None
            answers.append((time.perf_counter() - started, answer))
        return answers

    with ThreadPoolExecutor(len(questions)) as threads:
        answered = list(threads.map(annotate, questions, thinking or [[0.0] * len(own) for own in questions]))
    for own, answers in zip(questions, answered, strict=True):
        for question, (seconds, answer) in zip(own, answers, strict=True):
            into.asked += 1
            into.seconds.append(seconds)
            into.failed += answer is None
            into.wrong += answer is not None and not question.is_right(answer)
