from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labelstudio_sam2.segmenter.embedding_cache import CacheStats, EmbeddingCache


@dataclass(frozen=True)
class Sized:
    nbytes: int


def test_what_was_put_is_got() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    embedding = Sized(40)

    cache.put("a", embedding)

    assert cache.get("a") is embedding
    assert cache.get("b") is None
    assert cache.stats() == CacheStats(entries=1, nbytes=40, max_bytes=100, hits=1, misses=1, evictions=0)


def test_the_least_recently_used_goes_first() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))
    cache.put("b", Sized(40))
    cache.get("a")

    cache.put("c", Sized(40))

    assert (cache.peek("a"), cache.peek("b"), cache.peek("c")) == (Sized(40), None, Sized(40))


def test_a_look_without_use_does_not_keep_an_entry() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))
    cache.put("b", Sized(40))
    cache.peek("a")

    cache.put("c", Sized(40))

    assert cache.peek("a") is None


def test_several_go_for_a_large_one() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    for key in "abc":
        cache.put(key, Sized(30))

    cache.put("large", Sized(90))

    assert cache.stats() == CacheStats(entries=1, nbytes=90, max_bytes=100, hits=0, misses=0, evictions=3)


def test_one_larger_than_everything_is_not_kept_and_evicts_nothing() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))

    cache.put("huge", Sized(101))

    assert cache.peek("huge") is None
    assert cache.peek("a") == Sized(40)


def test_putting_a_key_again_counts_its_bytes_once() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))

    cache.put("a", Sized(60))

    assert cache.stats().nbytes == 60


def test_bytes_never_exceed_the_bound_under_many_threads() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)

    def work(i: int) -> int:
        cache.put(f"{i % 17}", Sized(i % 30 + 1))
        return cache.stats().nbytes

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(work, range(2000)))

    assert max(seen) <= 100
    cache.clear()
    assert cache.stats().nbytes == 0
