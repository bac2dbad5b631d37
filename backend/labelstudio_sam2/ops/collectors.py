"""What is read from the application's parts when Prometheus asks. None of it waits for model, disk or network."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from labelstudio_sam2.ops.metrics import PREFIX
from labelstudio_sam2.segmenter.embedding_cache import CacheStats


class State(Protocol):
    """Tells whether requests should be sent here."""

    @property
    def state(self) -> str:
        """`ready`, or why not."""
        ...


class ModelCollector(Collector):
    """Which model is served, and whether.

    Args:
        state: Of this process.
        versions: By what they are versions of: `version`, `model`.
    """

    def __init__(self, state: State, versions: Mapping[str, str]) -> None:
        self._state = state
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        yield InfoMetricFamily(f"{PREFIX}_build", "What runs here.", value=dict(self._versions))
        yield GaugeMetricFamily(
            f"{PREFIX}_model_ready", "1 if /ready says so, else 0.", value=float(self._state.state == "ready")
        )


class TierCollector(Collector):
    """The tiers that embeddings are kept in.

    Args:
        tiers: Returns each one's figures by its name.
    """

    def __init__(self, tiers: Callable[[], Mapping[str, CacheStats]]) -> None:
        self._tiers = tiers

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        tiers = self._tiers()
        counters: dict[str, tuple[str, Callable[[CacheStats], int]]] = {
            "embedding_hits": ("Embeddings asked for that were there.", lambda stats: stats.hits),
            "embedding_misses": ("Embeddings asked for that were not there.", lambda stats: stats.misses),
            "embedding_evictions": ("Embeddings that had to go.", lambda stats: stats.evictions),
            "embedding_skipped": ("Embeddings that could not be kept.", lambda stats: stats.skipped),
        }
        gauges: dict[str, tuple[str, Callable[[CacheStats], int]]] = {
            "embedding_entries": ("Embeddings kept.", lambda stats: stats.entries),
            "embedding_bytes": ("What the embeddings take.", lambda stats: stats.nbytes),
            "embedding_max_bytes": ("What the embeddings may take.", lambda stats: stats.max_bytes),
        }
        for name, (meaning, read) in counters.items():
            counter = CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=["tier"])
            for tier, stats in tiers.items():
                counter.add_metric([tier], read(stats))
            yield counter
        for name, (meaning, read) in gauges.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=["tier"])
            for tier, stats in tiers.items():
                gauge.add_metric([tier], read(stats))
            yield gauge
        yield GaugeMetricFamily(
            f"{PREFIX}_prefetched_embeddings",
            "Embeddings on the device that nobody has asked for yet.",
            value=tiers["device"].prefetched,
        )
        yield CounterMetricFamily(
            f"{PREFIX}_prefetched_embeddings_used",
            "Prefetched embeddings that somebody asked for.",
            value=tiers["device"].prefetched_hits,
        )


class DeviceCollector(Collector):
    """The device, its queue and its memory.

    Args:
        waiting: Returns the threads that wait for it, by what for.
        memory: Returns bytes by kind; nothing where the device has no memory of its own, or while nothing is loaded.
        names: Returns `device` and `precision`; nothing while nothing is loaded.
    """

    def __init__(
        self,
        waiting: Callable[[], Mapping[str, int]],
        memory: Callable[[], Mapping[str, int]] = dict[str, int],
        names: Callable[[], Mapping[str, str]] = dict[str, str],
    ) -> None:
        self._waiting = waiting
        self._memory = memory
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        device = InfoMetricFamily(f"{PREFIX}_device", "Where the model runs, and how its image encoder computes.")
        if names := self._names():
            device.add_metric([], dict(names))
        yield device
        queue = GaugeMetricFamily(
            f"{PREFIX}_device_waiting", "Threads that wait for the device, by what for.", labels=["urgency"]
        )
        for urgency, count in self._waiting().items():
            queue.add_metric([urgency], count)
        yield queue
        memory = GaugeMetricFamily(
            f"{PREFIX}_device_memory_bytes",
            "Memory of the device. This process's: `allocated` to tensors, and `reserved`, which is more. `total` is "
            "what there is.",
            labels=["kind"],
        )
        for kind, nbytes in self._memory().items():
            memory.add_metric([kind], nbytes)
        yield memory


class Prefetch(Protocol):
    """Counts what became of its steps."""

    @property
    def waiting(self) -> int:
        """Steps that are still to be done."""
        ...

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Steps by what became of them."""
        ...


class PrefetchCollector(Collector):
    """What was done before anyone clicked.

    Args:
        prefetch: Does it.
    """

    def __init__(self, prefetch: Prefetch) -> None:
        self._prefetch = prefetch

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        steps = CounterMetricFamily(
            f"{PREFIX}_prefetch_steps",
            "Pictures to embed and lists of tasks to ask for, by what became of them.",
            labels=["outcome"],
        )
        for outcome, count in self._prefetch.outcomes.items():
            steps.add_metric([outcome], count)
        yield steps
        yield GaugeMetricFamily(
            f"{PREFIX}_prefetch_waiting", "Steps that are still to be done.", value=self._prefetch.waiting
        )
