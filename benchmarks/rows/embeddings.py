"""What a picture's embedding costs: to keep, to find, to read from disk, and not to have when the first click comes."""

from dataclasses import dataclass

import numpy as np

from benchmarks.bench import FULL_HD, NANO, TINY, Bench, short_name
from benchmarks.clicks import click_body, open_body
from benchmarks.pictures import scene_file
from benchmarks.report import Curve, Outcome, Point, Row, at_least, at_most
from benchmarks.timings import NOTHING, Spread, Times, in_turns, ratio, round_text, timed, wait_until
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk

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


def disk_hits(bench: Bench) -> Outcome:
    """Measure reading an embedding from disk beside embedding the picture again."""
    model_id = NANO if bench.is_quick else TINY
    model = bench.contenders(model_id).ours.model
    disk = EmbeddingDisk(bench.folder / "embeddings", 2**30)
    image = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    embedding = model.embed(image)
    disk.put("benchmark", lambda: model.to_bytes(embedding, "benchmark"))
    disk.flush()
    again, read = in_turns(
        lambda _: model.embed(image),
        lambda _: disk.get("benchmark", lambda data: model.from_bytes(data, "benchmark")),
        rounds=bench.rounds(5, 3),
        ours_times=10,
        announce=lambda text: bench.announce(f"embeddings from disk: {text}"),
    )
    row = Row(
        title=f"an embedding from disk, {short_name(model_id)}, 1920 x 1080; plain: embedding again",
        figure=ratio(again, read, bench.basis),
        unit="x",
        gate=None if bench.is_quick else at_least(100),
        plain=Times.of(again),
        ours=Times.of(read),
        note=f"{embedding.nbytes / 2**20:.1f} MiB a picture, the file in the operating system's memory",
    )
    return Outcome(rows=[row])


def after_opening(bench: Bench) -> Outcome:
    """Measure the first click on a picture whose task was opened before, beside the second click."""
    model_id = NANO if bench.is_quick else TINY
    ours = bench.contenders(model_id).ours
    picture = scene_file(bench.folder, FULL_HD)
    first, second = [], []
    rounds = bench.rounds(9, 5)
    for number in range(-1, rounds):
        bench.announce(f"first click after opening: {round_text(number, rounds)}")
        ours.forget()
        task_id, version = 1_000 + number, 1_000 + number  # a task and a picture that were never seen
        ours.click(open_body(picture, version=version, task_id=task_id))
        wait_until(lambda: ours.cache_stats().prefetched > 0)
        body = click_body(picture, (50, 50), version=version, task_id=task_id)
        took = [timed(lambda: ours.click(body))[1] for _ in range(4)]  # noqa: B023  called at once
        if number >= 0:
            first.append(took[0])
            second.append(sum(took[1:], NOTHING) / len(took[1:]))
    row = Row(
        title=f"first click after the task was opened, of a second click, {short_name(model_id)}, 1920 x 1080",
        figure=ratio(first, second, bench.basis),
        unit="x",
        gate=None if bench.is_quick else at_most(1.25),
        ours=Times.of(first),
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
