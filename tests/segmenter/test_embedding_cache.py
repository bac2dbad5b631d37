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
