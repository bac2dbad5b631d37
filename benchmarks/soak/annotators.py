"""Annotators at work: each in a thread, one picture after the other, with pauses to think."""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from benchmarks.soak.server import Server
from benchmarks.soak.traffic import Question, Traffic


@dataclass(kw_only=True)
class Step:
    """What so many annotators got.

    Attributes:
        annotators: How many worked at once.
        seconds: How long that was.
        waits: What each good request took that was answered rightly, in seconds.
        errors: Answers with an error, by its code; those that were asked for included.
        wrong: Answers that were not the expected one, by the kind of their request; refusals for being busy left out.
        refused: Good requests that were answered with `busy`.
        asked: All requests.
    """

    annotators: int
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    asked: int = 0


@dataclass(frozen=True)
class Memory:
    """Resident memory of the server at one moment, after so many requests."""

    requests: int
    mib: float


class Soak:
    """Lets annotators work, more of them in every step.

    Args:
        server: Whom they ask.
        traffic: What they ask.
        bad_share: Which part of the requests is bad, 0..1.
        think_seconds: The mean pause between two requests of one annotator.
        announce: Told the number of annotators and of all requests so far, with every sample.
        sample_seconds: How often the server's memory is looked at.
    """

    def __init__(
        self,
        server: Server,
        traffic: Traffic,
        *,
        bad_share: float,
        think_seconds: float,
        announce: Callable[[int, int], None] = lambda _annotators, _asked: None,
        sample_seconds: float = 1.0,
    ) -> None:
        self.steps: list[Step] = []
        self.memory: list[Memory] = [Memory(0, server.resident_mib())]
        self._server = server
        self._traffic = traffic
        self._bad_every = round(1 / bad_share)
        self._bad = itertools.cycle(traffic.bad)
        self._think_seconds = think_seconds
        self._announce = announce
        self._sample_seconds = sample_seconds
        self._lock = threading.Lock()
        self._asked = 0

    def work(self, annotators: int, seconds: float) -> None:
        """Let so many annotators work for so long."""
        step = Step(annotators=annotators)
        self.steps.append(step)
        started = time.perf_counter()
        ends = time.monotonic() + seconds
        with ThreadPoolExecutor(annotators) as threads:
            working = [threads.submit(self._annotate, step, number, ends) for number in range(annotators)]
            while wait(working, timeout=self._sample_seconds).not_done:
                self.memory.append(Memory(self._asked, self._server.resident_mib()))
                self._announce(annotators, self._asked)
            for each in working:
                each.result()
        step.seconds = time.perf_counter() - started

    def _annotate(self, step: Step, number: int, ends: float) -> None:
        chance = random.Random(number)  # noqa: S311  the same in every run
        for question in self._questions(chance):
            time.sleep(min(chance.uniform(0.5, 1.5) * self._think_seconds, max(0.0, ends - time.monotonic())))
            if time.monotonic() >= ends:
                return
            self._ask(step, question)

    def _questions(self, chance: random.Random) -> Iterator[Question]:
        while True:
            for question in chance.choice(self._traffic.sittings):
                with self._lock:
                    self._asked += 1
                    bad = next(self._bad) if self._asked % self._bad_every == 0 else None
                yield bad or question

    def _ask(self, step: Step, question: Question) -> None:
        started = time.perf_counter()
        try:
            status, answer = self._server.ask(question.body)
        except (OSError, http.client.HTTPException):
            status, answer = 0, b""
        seconds = time.perf_counter() - started
        code = "unanswered" if status == 0 else json.loads(answer)["error"] if status >= 400 else None
        is_refused = code == "busy" and question.code is None
        is_right = status != 0 and question.is_right(status, answer)
        with self._lock:
            step.asked += 1
            step.refused += is_refused
            if code is not None:
                step.errors[code] += 1
            if is_right and question.code is None:
                step.waits.append(seconds)
            if not is_right and code != "busy":
                step.wrong[question.kind] += 1
