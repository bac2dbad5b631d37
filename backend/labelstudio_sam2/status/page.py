"""What the page says, put together from the parts that know it."""

import base64
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from prometheus_client import CollectorRegistry

from labelstudio_sam2.doctor.advice import advice_for
from labelstudio_sam2.doctor.findings import OUTCOMES, Finding, worst
from labelstudio_sam2.doctor.on_demand import Examination
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.ops.logging import redact
from labelstudio_sam2.ops.recent_errors import RecentErrors
from labelstudio_sam2.stages import STAGES
from labelstudio_sam2.status import units
from labelstudio_sam2.status.charts import Chart, chart_of
from labelstudio_sam2.status.figures import Figures, Latency

REFRESH_SECONDS, SOON_SECONDS = 10, 2
"""After which a browser asks again; the second while something is under way."""
MOST = 0.95
"""The share whose bound is told."""

_WORKS = {
    "click": "Clicks",
    "open": "Tasks that Label Studio opened",
    "api": "Requests to the SAM 2 API",
    "prefetch": "Pictures that were prefetched",
}
_EMBEDDINGS = ("cached", "new")


class Readiness(Protocol):
    """Tells whether requests should be sent here."""

    @property
    def state(self) -> str:
        """`ready`, or why not in a word."""
        ...

    def check_ready(self) -> None:
        """Raise the catalogue's error if not."""
        ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line in a table of latencies."""

    name: str
    times: str
    mean: str
    most: str
    chart: Chart


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why requests should not be sent here, and what to do about it."""

    reason: str
    detail: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """Findings about one project, or about none.

    Attributes:
        project: Its id.
        findings: In their order.
        summary: How many there are of each outcome.
        is_open: Whether they are shown before somebody asks: a project that is well takes one line.
    """

    project: int | None
    findings: tuple[Finding, ...]
    summary: str
    is_open: bool


class StatusPage:
    """Makes the page. Thread-safe; waits for nothing, so it also tells why nothing else works.

    Args:
        readiness: Of this process.
        registry: Has the figures.
        errors: That were answered last.
        clock: In seconds since the epoch.

    Attributes:
        content_security_policy: The page's: it loads nothing, runs nothing, and its form is for this server.
    """

    def __init__(
        self,
        readiness: Readiness,
        registry: CollectorRegistry,
        errors: RecentErrors,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._readiness = readiness
        self._registry = registry
        self._errors = errors
        self._clock = clock
        style = files(__package__).joinpath("templates/status.css").read_text(encoding="utf-8")
        environment = Environment(
            loader=PackageLoader(__package__),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(age=units.age, count=units.count, moment=units.moment)
        environment.globals["write"] = units
        environment.globals["style"] = Markup(style)  # noqa: S704  a file of this package, and nobody else's text
        self._template = environment.get_template("status.html")
        style_sha256 = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
        self.content_security_policy = (
            f"default-src 'none'; style-src 'sha256-{style_sha256}'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )

    def html(
        self, examination: Examination | None, *, page_url: str, doctor_url: str, is_refreshed: bool = True
    ) -> str:
        """Return the page as it is now.

        Args:
            examination: The doctor's last.
            page_url: Where the page is.
            doctor_url: Where to post for another examination.
            is_refreshed: Whether the browser asks again by itself.
        """
        now, figures = self._clock(), Figures(self._registry)
        trouble, state = self._trouble(), self._readiness.state
        is_soon = state == "loading" or (examination is not None and examination.is_running)
        return self._template.render(
            now=now,
            state=state,
            trouble=trouble,
            figures=figures,
            clicks=_rows({name: figures.latency("click_seconds", embedding=name) for name in _EMBEDDINGS}),
            works={title: rows for work, title in _WORKS.items() if (rows := _stages(figures, work))},
            errors=self._errors.newest_first(),
            errors_in_all=figures.total("requests_total", but="error"),
            examination=examination,
            groups=_groups(examination.findings if examination is not None else ()),
            page_url=page_url,
            doctor_url=doctor_url,
            refresh_seconds=(SOON_SECONDS if is_soon else REFRESH_SECONDS) if is_refreshed else None,
        )

    def _trouble(self) -> Trouble | None:
        try:
            self._readiness.check_ready()
        except BackendError as error:
            return Trouble(reason=error.reason, detail=redact(str(error)), advice=advice_for(error.reason))
        return None


def _groups(findings: Iterable[Finding]) -> list[Group]:
    groups = []
    for project, of_one in groupby(findings, key=attrgetter("project")):
        found = tuple(of_one)
        counts = Counter(finding.outcome for finding in found)
        groups.append(
            Group(
                project=project,
                findings=found,
                summary=", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES) if counts[outcome]),
                is_open=worst(found) in {"warning", "problem"},
            )
        )
    return groups


def _stages(figures: Figures, work: str) -> list[Row]:
    return _rows({stage: figures.latency("stage_seconds", stage=stage, work=work) for stage in STAGES})


def _rows(latencies: dict[str, Latency | None]) -> list[Row]:
    return [
        Row(
            name=name,
            times=units.count(latency.times),
            mean=units.duration(latency.mean_seconds),
            most=_most(latency),
            chart=chart_of(latency),
        )
        for name, latency in latencies.items()
        if latency is not None
    ]


def _most(latency: Latency) -> str:
    within = latency.within(MOST)
    return f"over {units.bound(latency.bounds[-2])}" if math.isinf(within) else units.bound(within)
