"""What a cached picture takes, and what finding it costs."""

from dataclasses import dataclass

import numpy as np

from benchmarks.bench import TINY, Bench
from benchmarks.clicks import click_body
from benchmarks.pictures import scene_file
from benchmarks.report import Curve, Outcome, Point, Row, at_most
from benchmarks.timings import Spread, round_text, timed
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache

_CACHED = (10, 100, 1_000, 10_000)
_HITS = 20_000


def cache_bytes(bench: Bench) -> Outcome:
    """Read what the embedding cache says that a picture takes."""
    ours = bench.contenders(TINY).ours
    bench.announce("embedding a picture")
    ours.forget()
    ours.click(click_body(scene_file(bench.folder, (640, 480)), (50, 50)))
    stats = ours.cache_stats()
    row = Row(
        title="embedding cache, bytes per picture, tiny",
        figure=Spread.exactly(stats.nbytes / stats.entries / 2**20),
        unit="MiB",
        gate=at_most(8.5),
    )
    return Outcome(rows=[row])


@dataclass(frozen=True)
class SmallEmbedding:
    """Stands for an embedding: what a hit costs does not depend on what is cached."""

    nbytes: int = 1


def cache_hits(bench: Bench) -> Outcome:
    """Measure a hit in the embedding cache against the number of cached pictures."""
    random = np.random.default_rng(0)
    caches, keys = {}, {}
    for count in _CACHED:
        names = [f"benchmark:{bytes(random.bytes(32)).hex()}" for _ in range(count)]
        caches[count] = EmbeddingCache[SmallEmbedding](max(_CACHED))
        for name in names:
            caches[count].put(name, SmallEmbedding())
        keys[count] = [names[index] for index in random.integers(count, size=_HITS)]
    hits: dict[int, list[float]] = {count: [] for count in _CACHED}
    rounds = bench.rounds(9, 5)
    for number in range(-1, rounds):
        bench.announce(f"cache hits: {round_text(number, rounds)}")
        for count, cache in caches.items():
            _, took = timed(lambda: [cache.get(key) for key in keys[count]])  # noqa: B023  called at once
            if number >= 0:
                hits[count].append(took.cpu / _HITS)
    fewest, most = hits[_CACHED[0]], hits[_CACHED[-1]]
    pairs = [many / few for many, few in zip(most, fewest, strict=True)]
    row = Row(
        title="a cache hit among 10,000 pictures, of one among 10",
        figure=Spread.of(pairs),
        unit="x",
        note=f"{Spread.of(most).median * 1e6:.2f} microseconds of a click's milliseconds",
    )
    points = [Point(x=count, y=Spread.of(hits[count])) for count in _CACHED]
    return Outcome(rows=[row], curves=[Curve(plot="cache", label="one hit", points=points)])
