"""What the device tier promises beyond what every tier does: see test_tiers.py."""

from dataclasses import dataclass

from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class Sized:
    nbytes: int


def test_what_is_got_is_the_very_embedding_that_was_put() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    embedding = Sized(40)

    cache.put("a", embedding)

    assert cache.get("a") is embedding


def test_a_look_without_use_does_not_keep_an_entry() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))
    cache.put("b", Sized(40))
    cache.peek("a")

    cache.put("c", Sized(40))

    assert cache.peek("a") is None


def test_nothing_is_left_when_it_is_cleared() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)
    cache.put("a", Sized(40))
    cache.put("b", Sized(40))

    cache.clear()

    assert (cache.stats().entries, cache.stats().nbytes, cache.stats().evictions) == (0, 0, 2)


def test_what_was_prefetched_evicts_only_its_like_beyond_its_share() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(200, prefetch_max_bytes=80)
    for key in ("clicked on", "clicked on too", "and this"):
        cache.put(key, Sized(40))

    for number in range(10):
        cache.put(f"ahead {number}", Sized(40), prefetched=True)

    assert [cache.peek(key) is not None for key in ("clicked on", "clicked on too", "and this")] == [True] * 3
    assert [number for number in range(10) if cache.peek(f"ahead {number}")] == [8, 9]
    assert (cache.stats().entries, cache.stats().prefetched, cache.stats().nbytes) == (5, 2, 200)


def test_what_was_prefetched_may_take_the_place_of_the_longest_unused() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(120, prefetch_max_bytes=40)
    for key in "abc":
        cache.put(key, Sized(40))

    cache.put("ahead", Sized(40), prefetched=True)

    assert [cache.peek(key) is not None for key in ("a", "b", "c", "ahead")] == [False, True, True, True]


def test_once_asked_for_it_is_like_any_other() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(160, prefetch_max_bytes=40)
    cache.put("ahead", Sized(40), prefetched=True)

    assert cache.get("ahead") is not None
    cache.put("the next", Sized(40), prefetched=True)

    assert cache.peek("ahead") is not None
    assert cache.stats().prefetched == 1


def test_the_first_use_of_what_was_prefetched_is_counted_apart() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(160, prefetch_max_bytes=40)
    cache.put("ahead", Sized(40), prefetched=True)
    cache.put("clicked on", Sized(40))

    for key in ("ahead", "ahead", "clicked on", "neither"):
        cache.get(key)

    stats = cache.stats()
    assert (stats.hits, stats.prefetched_hits, stats.misses) == (3, 1, 1)


def test_prefetching_what_is_in_use_does_not_degrade_it() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(160, prefetch_max_bytes=40)
    cache.put("a", Sized(40))

    cache.put("a", Sized(40), prefetched=True)

    assert (cache.stats().entries, cache.stats().prefetched) == (1, 0)


def test_a_click_on_a_large_picture_takes_the_place_of_what_nobody_asked_for() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100, prefetch_max_bytes=50)
    cache.put("ahead", Sized(40), prefetched=True)

    cache.put("large", Sized(90))

    assert (cache.peek("large") is not None, cache.peek("ahead")) == (True, None)


def test_nothing_is_prefetched_without_a_share_for_it() -> None:
    cache: EmbeddingCache[Sized] = EmbeddingCache(100)

    cache.put("ahead", Sized(40), prefetched=True)

    assert (cache.stats().entries, cache.stats().skipped) == (0, 1)
