"""What every tier of embeddings promises. Each test runs against the one on the device and the one on disk."""

import pathlib
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pytest

from labelstudio_sam2.segmenter.embedding_cache import CacheStats, EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk


@dataclass(frozen=True)
class Blob:
    data: bytes

    @property
    def nbytes(self) -> int:
        return len(self.data)


class Tier(Protocol):
    """A tier with room for 100 bytes."""

    def get(self, key: str) -> Blob | None: ...

    def put(self, key: str, embedding: Blob) -> None: ...

    def stats(self) -> CacheStats: ...


class DiskTier:
    """The disk tier as if it kept blobs, and as if it wrote at once."""

    def __init__(self, path: pathlib.Path) -> None:
        self._disk = EmbeddingDisk(path, 100)

    def get(self, key: str) -> Blob | None:
        return self._disk.get(key, Blob)

    def put(self, key: str, embedding: Blob) -> None:
        self._disk.put(key, lambda: embedding.data)
        self._disk.flush()

    def stats(self) -> CacheStats:
        return self._disk.stats()


@pytest.fixture(params=["device", "disk"])
def tier(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Tier:
    if request.param == "disk":
        return DiskTier(tmp_path)
    cache: EmbeddingCache[Blob] = EmbeddingCache(100)
    return cache


@pytest.fixture
def traced_bytes() -> Iterator[Callable[[], int]]:
    """Return a function that says how many bytes are in use that were asked for since the test began."""

    def in_use() -> int:
        snapshot = tracemalloc.take_snapshot()
        # pathlib interns the names of files: they go, but the interpreter's table of such texts may have grown
        kept = snapshot.filter_traces([tracemalloc.Filter(inclusive=False, filename_pattern=pathlib.__file__)])
        return sum(trace.size for trace in kept.traces)

    tracemalloc.start()
    yield in_use
    tracemalloc.stop()


def test_what_was_put_is_got(tier: Tier) -> None:
    embedding = Blob(b"a" * 40)

    tier.put("a", embedding)

    assert tier.get("a") == embedding
    assert tier.get("b") is None
    assert tier.stats() == CacheStats(entries=1, nbytes=40, max_bytes=100, hits=1, misses=1, evictions=0)


def test_the_least_recently_used_goes_first(tier: Tier) -> None:
    tier.put("a", Blob(bytes(40)))
    tier.put("b", Blob(bytes(40)))
    tier.get("a")

    tier.put("c", Blob(bytes(40)))

    assert [tier.get(key) is not None for key in "abc"] == [True, False, True]


def test_several_go_for_a_large_one(tier: Tier) -> None:
    for key in "abc":
        tier.put(key, Blob(bytes(30)))

    tier.put("large", Blob(bytes(90)))

    assert tier.stats() == CacheStats(entries=1, nbytes=90, max_bytes=100, hits=0, misses=0, evictions=3)


def test_one_larger_than_everything_is_skipped_and_evicts_nothing(tier: Tier) -> None:
    tier.put("a", Blob(bytes(40)))

    tier.put("huge", Blob(bytes(101)))

    assert tier.get("huge") is None
    assert tier.get("a") == Blob(bytes(40))
    assert (tier.stats().skipped, tier.stats().evictions) == (1, 0)


def test_putting_a_key_again_replaces_it_and_counts_its_bytes_once(tier: Tier) -> None:
    tier.put("a", Blob(bytes(40)))

    tier.put("a", Blob(b"a" * 60))

    assert tier.get("a") == Blob(b"a" * 60)
    assert (tier.stats().nbytes, tier.stats().evictions) == (60, 0)


def test_bytes_never_exceed_the_bound_and_nobody_gets_anothers_under_many_threads(tier: Tier) -> None:
    def work(i: int) -> int:
        key = f"{i % 17}"
        tier.put(key, Blob(key.encode() * (i % 10 + 1)))
        found = tier.get(key)
        assert found is None or set(found.data) == set(key.encode())
        return tier.stats().nbytes

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(work, range(500)))

    assert max(seen) <= 100


def test_memory_stays_flat_over_10000_embeddings(tier: Tier, traced_bytes: Callable[[], int]) -> None:
    def put_and_get(numbers: range) -> None:
        for number in numbers:
            tier.put(f"{number}", Blob(bytes(20)))
            assert tier.get(f"{number}") is not None
            assert tier.get(f"{number - 50}") is None

    put_and_get(range(1000))
    before = traced_bytes()
    put_and_get(range(1000, 10_000))
    after = traced_bytes()

    assert (tier.stats().entries, tier.stats().evictions) == (5, 9995)
    assert after - before < 100_000  # eleven bytes for each would be too much
