"""The metrics of one moment, to be looked up by name: what the page shows is what Prometheus is told."""

import math
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client import CollectorRegistry

from labelstudio_sam2.ops.metrics import PREFIX


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A histogram of seconds.

    Attributes:
        bounds: Each bucket's upper bound in seconds, the last is infinite.
        counts: How many fell into each bucket.
        total_seconds: All of them together.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total_seconds: float

    @property
    def times(self) -> int:
        """How many there are."""
        return sum(self.counts)

    @property
    def mean_seconds(self) -> float:
        """What one took on average; of none, nothing."""
        return self.total_seconds / max(self.times, 1)

    def within(self, share: float) -> float:
        """Return the lowest bound that at least this share of them kept; infinite where only the last bucket does."""
        kept = 0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            kept += count
            if kept >= share * self.times:
                return bound
        return math.inf


class Figures:
    """All samples of a registry, read once. Names go without the project's prefix.

    Args:
        registry: Asked when this is made.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in registry.collect():
            for sample in metric.samples:
                name = sample.name.removeprefix(f"{PREFIX}_")
                self._samples.setdefault(name, []).append((sample.labels, sample.value))

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample, or None where there is none."""
        return next((value for given, value in self._samples.get(name, ()) if given == labels), None)

    def total(self, name: str, but: str) -> float:
        """Return the sum of a metric's samples, less those whose label of this name is empty."""
        return sum(value for labels, value in self._samples.get(name, ()) if labels[but])

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of a metric with one label, by its value."""
        return {labels[label]: value for labels, value in self._samples.get(name, ())}

    def text(self, name: str, label: str) -> str:
        """Return what a metric tells in one of its labels; nothing where it does not."""
        return next((labels.get(label, "") for labels, _ in self._samples.get(f"{name}_info", ())), "")

    def latency(self, name: str, **labels: str) -> Latency | None:
        """Return a histogram of seconds, or None where nothing was observed."""
        upto = sorted(
            (float(given["le"]), value)
            for given, value in self._samples.get(f"{name}_bucket", ())
            if {**given, "le": ""} == {**labels, "le": ""}
        )
        if not upto or upto[-1][1] == 0:
            return None
        sums = [0.0, *(value for _, value in upto)]
        return Latency(
            bounds=tuple(bound for bound, _ in upto),
            counts=tuple(int(after - before) for before, after in pairwise(sums)),
            total_seconds=self.value(f"{name}_sum", **labels) or 0.0,
        )
