"""Every measurement there is. A new one is a function from `Bench` to `Outcome` and a line in `ROWS`."""

from collections.abc import Callable
from typing import TypeAlias

from benchmarks.bench import Bench
from benchmarks.report import Outcome
from benchmarks.rows import annotators, brush_rle, clicks, decoder, embeddings, precompute, regions

RowFunction: TypeAlias = Callable[[Bench], Outcome]

ROWS: dict[str, RowFunction] = {
    "second-click": clicks.second_click,
    "after-decoder": clicks.after_decoder,
    "brush-rle": brush_rle.brush_rle,
    "first-click": clicks.first_click,
    "wrong-answers": annotators.wrong_answers,
    "after-opening": embeddings.after_opening,
    "cache-bytes": embeddings.cache_bytes,
    "disk-hits": embeddings.disk_hits,
    "precompute": precompute.precompute,
    "regions": regions.regions,
    "annotators": annotators.annotators,
    "thinking": annotators.thinking_annotators,
    "picture-size": clicks.picture_size,
    "cache-hits": embeddings.cache_hits,
    "decoder": decoder.decoder,
    "gpu-clicks": clicks.gpu_clicks,
}
"""By the name that `--rows` takes, in the table's order."""


def explain(name: str) -> str:
    """Return what a measurement does, in a line."""
    return (ROWS[name].__doc__ or "").partition("\n")[0].rstrip(".")
