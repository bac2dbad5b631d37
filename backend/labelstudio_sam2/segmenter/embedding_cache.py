"""The device tier: embeddings in the device's memory, bounded by bytes."""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Embedding(Protocol):
    """An image's embedding, as far as a cache cares."""

    @property
    def nbytes(self) -> int:
        """Memory it holds on the device."""
        ...


class DamagedEmbeddingError(ValueError):
    """What was kept is not the embedding that was put there. Never gets as far as a request: it is embedded again."""


logger = logging.getLogger(__name__)

E = TypeVar("E", bound=Embedding)


@dataclass(frozen=True)
class CacheStats:
    """A moment's figures of one tier.

    Attributes:
        entries: Embeddings that are kept now.
        nbytes: What they take.
        max_bytes: What they may take.
        hits: Times that one was asked for and was there.
        misses: Times that it was not.
        evictions: Embeddings that had to go.
        skipped: Embeddings that were not kept: too large for the tier, or the disk was full, read-only or too slow.
    """

    entries: int
    nbytes: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int
    skipped: int = 0


class EmbeddingCache(Generic[E]):
    """The most recently used embeddings, up to a number of bytes. Thread-safe.

    Embeddings are immutable values, so one that is evicted while a request computes with it stays valid for that
    request.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, E] = OrderedDict()
        self._nbytes = 0
        self._hits = self._misses = self._evictions = self._skipped = 0
        self._has_warned = False

    def get(self, key: str) -> E | None:
        """Return the embedding and mark it as just used, or None."""
        with self._lock:
            embedding = self._entries.get(key)
            if embedding is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
            return embedding

    def peek(self, key: str) -> E | None:
        """Return the embedding or None, leaving order and figures alone."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: str, embedding: E) -> None:
        """Keep an embedding; the least recently used ones go to make room.

        One larger than everything is not kept; the first such is warned of.
        """
        with self._lock:
            previous = self._entries.pop(key, None)
            if previous is not None:
                self._nbytes -= previous.nbytes
            if embedding.nbytes > self._max_bytes:
                self._skipped += 1
                self._warn(embedding.nbytes)
                return
            self._entries[key] = embedding
            self._nbytes += embedding.nbytes
            while self._nbytes > self._max_bytes:
                _, evicted = self._entries.popitem(last=False)
                self._nbytes -= evicted.nbytes
                self._evictions += 1

    def drop(self, prefix: str) -> None:
        """Forget every embedding whose key starts so."""
        with self._lock:
            for key in [key for key in self._entries if key.startswith(prefix)]:
                self._nbytes -= self._entries.pop(key).nbytes
                self._evictions += 1

    def clear(self) -> None:
        """Forget everything, to give the device's memory back."""
        with self._lock:
            self._evictions += len(self._entries)
            self._entries.clear()
            self._nbytes = 0

    def stats(self) -> CacheStats:
        """Return the figures of this moment."""
        with self._lock:
            return CacheStats(
                entries=len(self._entries),
                nbytes=self._nbytes,
                max_bytes=self._max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                skipped=self._skipped,
            )

    def _warn(self, nbytes: int) -> None:
        if not self._has_warned:
            logger.warning(
                "an embedding takes %.1f MiB and EMBEDDING_CACHE_MB allows %.1f: none is kept, every click embeds anew",
                nbytes / 2**20,
                self._max_bytes / 2**20,
            )
        self._has_warned = True
