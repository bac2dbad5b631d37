"""What Prometheus is told: requests and stages are counted here, the rest is read from the parts when it is asked for.

Every label has few values, whatever is sent: routes as they are registered, codes of the catalogue, names in this code.
docs/monitoring.md has the table.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import Metric

from labelstudio_sam2.stages import Stage

PREFIX = "labelstudio_sam2"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histograms' buckets: from a cached embedding's stages to a request's time limit."""
OTHER = "other"
"""The route of what has none, the method that nobody serves, and the work of a request that never came to one."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST"})
_NEW: frozenset[Stage] = frozenset({"embed", "read", "wait"})
"""Stages that a click on a picture goes through whose embedding is not on the device."""


def known_method(method: str) -> str:
    """Return a request's method, or `OTHER` where it is one that nobody serves: anybody may make one up."""
    return method if method in _METHODS else OTHER


class Metrics:
    """One application's figures. Thread-safe.

    Attributes:
        registry: Holds them; for a page of one's own, `registry.get_sample_value` reads one and `registry.collect()`
            all. Further collectors may be registered.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            f"{PREFIX}_requests",
            "Requests answered. `error` is the catalogue's code, or empty.",
            ("route", "method", "code", "error"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            f"{PREFIX}_request_seconds",
            "From a request's head to its answer, whatever that is.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._click_seconds = Histogram(
            f"{PREFIX}_click_seconds",
            "Label Studio's requests that the model predicted for and that were answered with 200. `embedding` is "
            "`cached` if it was on the device, else `new`.",
            ("embedding",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            f"{PREFIX}_stage_seconds",
            "Time in each stage, per request or prefetched picture that went through it. `work` is `click`, `open` for "
            "a task that is opened, `api` for the SAM 2 API, or `prefetch`.",
            ("stage", "work"),
            buckets=SECONDS,
            registry=self.registry,
        )

    def count_request(
        self,
        *,
        route: str,
        method: str,
        status: int,
        error: str,
        work: str,
        seconds: float,
        stages: Mapping[Stage, float],
    ) -> None:
        """Count an answered request.

        Args:
            route: Its rule, or `OTHER` where none fits.
            method: As `known_method` returns it.
            status: Answered.
            error: The catalogue's code, or empty.
            work: `click`, `open`, `api` or `OTHER`.
            seconds: It took.
            stages: Seconds by stage.
        """
        self._requests.labels(route, method, str(status), error).inc()
        self._request_seconds.labels(route).observe(seconds)
        if work == "click" and status == 200 and "predict" in stages:
            self._click_seconds.labels("new" if _NEW & stages.keys() else "cached").observe(seconds)
        self._count_stages(work, stages)

    def count_prefetch(self, stages: Mapping[Stage, float]) -> None:
        """Count what the prefetch of a picture took: seconds by stage."""
        self._count_stages("prefetch", stages)

    def exposition(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(_WithoutCreated(self.registry))

    def _count_stages(self, work: str, stages: Mapping[Stage, float]) -> None:
        for stage, seconds in stages.items():
            self._stage_seconds.labels(stage, work).observe(seconds)


class _WithoutCreated:
    """A registry less the times when each of its counters was made: a third more series that nobody looks at."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
