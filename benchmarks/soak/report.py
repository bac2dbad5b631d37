"""What a soak found: a table, a verdict, and a page of the documentation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from benchmarks.soak.annotators import Memory, Step

MAX_SLOPE = 2.0
"""MiB for each 1,000 requests by which memory may grow, in the second half of the last step: more people take more."""
LEAST_REQUESTS = 1000
"""That half must have so many for the slope to be judged: before, the server is still warming up."""
_COLUMNS = ("annotators", "requests", "requests/s", "p50", "p95", "refused", "wrong")
_BROKEN = {"internal", "unanswered"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        steps: What annotators got, by their number.
        memory: Samples, in the order of time.
        workers: How many worker processes there were: one, unless it died.
        machine: What it ran on, in words.
        date: Of the run, in ISO form.
        command: That was run.
        think_seconds: The mean pause of an annotator.
    """

    steps: Sequence[Step]
    memory: Sequence[Memory]
    workers: int
    machine: str
    date: str
    command: str
    think_seconds: float

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(step.asked for step in self.steps)

    @property
    def slope(self) -> float:
        """MiB for each 1,000 requests, a straight line through the second half of the last step."""
        late = self._second_half()
        if len({sample.requests for sample in late}) < 2:
            return 0.0
        requests, mib = [sample.requests / 1000 for sample in late], [sample.mib for sample in late]
        return float(np.polyfit(requests, mib, 1)[0])

    @property
    def is_slope_judged(self) -> bool:
        """Whether the run was long enough for it."""
        late = self._second_half()
        return late[-1].requests - late[0].requests >= LEAST_REQUESTS

    def broken_promises(self) -> list[str]:
        """Return what did not hold, a sentence each."""
        broken = []
        wrong: Counter[str] = sum((step.wrong for step in self.steps), Counter())
        if wrong:
            broken.append(f"answers were not the expected ones: {_counts(wrong)}")
        failed = Counter({code: self._errors[code] for code in _BROKEN & self._errors.keys()})
        if failed:
            broken.append(f"requests failed: {_counts(failed)}")
        if self.workers != 1:
            broken.append(f"the worker died {self.workers - 1} times")
        if self.is_slope_judged and self.slope > MAX_SLOPE:
            broken.append(f"memory grew by {self.slope:.1f} MiB for each 1,000 requests, at most {MAX_SLOPE:g} may be")
        return broken

    def memory_text(self) -> str:
        """Return how memory went, as a sentence without a full stop."""
        bound = f"at most {MAX_SLOPE:g} may be" if self.is_slope_judged else "too few requests to judge that"
        return (
            f"Resident memory of the worker: {self.memory[0].mib:.0f} MiB at the start, {self.memory[-1].mib:.0f} at "
            f"the end; {self.slope:+.2f} MiB for each 1,000 requests in the second half of the last step, {bound}"
        )

    def errors_text(self) -> str:
        """Return the errors that were answered, by code, as a sentence without a full stop."""
        return f"Errors that were answered: {_counts(self._errors) or 'none'}"

    def console_table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(*_COLUMNS)
        for row in self._rows():
            table.add_row(*row)
        return table

    def markdown_page(self) -> str:
        """Return the page for the documentation."""
        lines = [" | ".join(row) for row in (_COLUMNS, ["--:"] * len(_COLUMNS), *self._rows())]
        table = "\n".join(f"| {line} |" for line in lines)
        broken = self.broken_promises()
        verdict = "\n".join(f"- Broken: {text}." for text in broken) if broken else "All promises held."
        return f"""# Soak

`make soak` starts the real server with nano beside a stand-in for Label Studio and lets annotators work on it, more of
them in every step, and the most of them for half of the time: they open tasks, click, refine, draw boxes and edit masks
on pictures of several sizes, with a pause of {self.think_seconds:g} s on average; a few requests are bad. Only about
half of the pictures' embeddings fit into the server's memory, so the image encoder has work all the time. Every answer
is checked: masks against those the same model gave in another process before (IoU of at least 0.999), refusals against
the code they must have. It fails if an answer is wrong, a request fails or goes unanswered, the worker dies, or memory
grows by more than {MAX_SLOPE:g} MiB for each 1,000 requests.

`{self.command}` on {self.date}; {self.machine}.

{table}

p50 and p95 are of the good requests, on the wall. {self.errors_text()}; all of them are what bad requests must get,
unless they are counted as refused or wrong. {self.memory_text()}.

{verdict}
"""

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                str(step.annotators),
                f"{step.asked:,}",
                f"{step.asked / step.seconds:.1f}",
                *(f"{1000 * float(np.percentile(step.waits or [0.0], part)):,.0f} ms" for part in (50, 95)),
                str(step.refused),
                str(sum(step.wrong.values())),
            )
            for step in self.steps
        ]

    @property
    def _errors(self) -> Counter[str]:
        return sum((step.errors for step in self.steps), Counter())

    def _second_half(self) -> list[Memory]:
        begins = self.memory[-1].requests - self.steps[-1].asked / 2
        return [sample for sample in self.memory if sample.requests >= begins]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
