"""What a check says: one finding, the same for the terminal, for JSON and for a page."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

from labelstudio_sam2.ops.logging import redact

Outcome: TypeAlias = Literal["ok", "warning", "problem", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "skipped", "warning", "problem")
"""From the best to the worst."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check. Nothing secret is in it: what others wrote is redacted as in a log.

    Attributes:
        name: Names the check, the same whatever its outcome.
        outcome: `ok`; `warning`: clicks are answered, but something will be missed; `problem`: they are not, or not
            all; `skipped`: it could not be looked at, the text says why.
        text: What was found, one sentence.
        advice: What to do. Every warning and every problem has some.
        seconds: How long it took to find out.
        project: The project's id, where it is about one.
    """

    name: str
    outcome: Outcome
    text: str
    advice: str = ""
    seconds: float = 0.0
    project: int | None = None

    def __post_init__(self) -> None:
        if self.outcome in ("warning", "problem") and not self.advice:
            raise ValueError(f"{self.name}: a {self.outcome} without advice helps nobody")
        object.__setattr__(self, "text", redact(self.text))
        object.__setattr__(self, "advice", redact(self.advice))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; seconds to the millisecond."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


Check: TypeAlias = Generator[Finding, None, T]
"""Yields findings, and returns what later checks need of it: None or False where they cannot go on."""


def ok(name: str, text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(name=name, outcome="ok", text=text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return that something will be missed."""
    return Finding(name=name, outcome="warning", text=text, advice=advice)


def problem(name: str, text: str, advice: str) -> Finding:
    """Return why clicks are not answered."""
    return Finding(name=name, outcome="problem", text=text, advice=advice)


def skipped(name: str, because: str) -> Finding:
    """Return that something could not be looked at."""
    return Finding(name=name, outcome="skipped", text=because)


def timed(findings: Iterable[Finding], clock: Callable[[], float] = time.perf_counter) -> Iterator[Finding]:
    """Yield findings as they come, each with the seconds that it took.

    Args:
        findings: Made when they are asked for.
        clock: In seconds.
    """
    started = clock()
    for finding in findings:
        yield replace(finding, seconds=clock() - started)
        started = clock()


def of_project(project: int, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings as those of a project."""
    for finding in findings:
        yield replace(finding, project=project)


def worst(findings: Iterable[Finding]) -> Outcome:
    """Return the worst outcome; `ok` where there are no findings."""
    return max((finding.outcome for finding in findings), key=OUTCOMES.index, default="ok")
