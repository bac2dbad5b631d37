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
        prefetched: Of the entries, those that nobody has asked for yet.
        prefetched_hits: Of the hits, the first ones on what was prefetched.
    """

    entries: int
    nbytes: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int
    skipped: int = 0
    prefetched: int = 0
    prefetched_hits: int = 0


class EmbeddingCache(Generic[E]):
    """The most recently used embeddings, up to a number of bytes. Thread-safe.

    What was prefetched has a part of it until somebody asks for it. It may take the place of what was unused for
    longest, but never more than its part: at least half is left to what was asked for.

    Embeddings are immutable values, so one that is evicted while a request computes with it stays valid for that
    request.

    Args:
        max_bytes: What all may take.
        prefetch_max_bytes: What those may take that nobody has asked for yet; never more than half of `max_bytes`.
    """

    def __init__(self, max_bytes: int, prefetch_max_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._used: _Entries[E] = _Entries(max_bytes)
        self._prefetched: _Entries[E] = _Entries(min(prefetch_max_bytes, max_bytes // 2))
        self._hits = self._misses = self._evictions = self._skipped = self._prefetched_hits = 0
        self._has_warned = False

    def get(self, key: str) -> E | None:
        """Return the embedding and mark it as just used, or None."""
        with self._lock:
            embedding = self._used.pop(key)
            if embedding is None:
                embedding = self._prefetched.pop(key)
                self._prefetched_hits += embedding is not None
            if embedding is None:
                self._misses += 1
                return None
            self._hits += 1
            self._used.add(key, embedding)
            return embedding

    def peek(self, key: str) -> E | None:
        """Return the embedding or None, leaving order and figures alone."""
        with self._lock:
            embedding = self._used.get(key)
            return self._prefetched.get(key) if embedding is None else embedding

    def put(self, key: str, embedding: E, *, prefetched: bool = False) -> None:
        """Keep an embedding; the least recently used ones go to make room.

        One that is larger than all it may take is not kept; the first such is warned of.

        Args:
            key: Names it.
            embedding: What to keep.
            prefetched: Nobody has asked for it yet.
        """
        with self._lock:
            was_used = self._used.pop(key) is not None
            self._prefetched.pop(key)
            entries = self._prefetched if prefetched and not was_used else self._used
            if embedding.nbytes > entries.max_bytes:
                self._skipped += 1
                self._warn(embedding.nbytes, entries)
                return
            entries.add(key, embedding)
            while entries.nbytes > entries.max_bytes:
                entries.pop_oldest()
                self._evictions += 1
            while self._used.nbytes + self._prefetched.nbytes > self._max_bytes:
                (self._used if len(self._used) > 1 else self._prefetched).pop_oldest()
                self._evictions += 1

    def drop(self, prefix: str) -> None:
        """Forget every embedding whose key starts so."""
        with self._lock:
            for entries in (self._used, self._prefetched):
                for key in entries.keys_with(prefix):
                    entries.pop(key)
                    self._evictions += 1

    def clear(self) -> None:
        """Forget everything, to give the device's memory back."""
        self.drop("")

    def stats(self) -> CacheStats:
        """Return the figures of this moment."""
        with self._lock:
            return CacheStats(
                entries=len(self._used) + len(self._prefetched),
                nbytes=self._used.nbytes + self._prefetched.nbytes,
                max_bytes=self._max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                skipped=self._skipped,
                prefetched=len(self._prefetched),
                prefetched_hits=self._prefetched_hits,
            )

    def _warn(self, nbytes: int, entries: "_Entries[E]") -> None:
        if not self._has_warned:
            logger.warning(
                "an embedding takes %.1f MiB and %s %.1f: %s",
                nbytes / 2**20,
                "EMBEDDING_CACHE_MB allows" if entries is self._used else "PREFETCH_MB (or half of the cache) allows",
                entries.max_bytes / 2**20,
                "none is kept, every click embeds anew" if entries is self._used else "what is embedded ahead is lost",
            )
        self._has_warned = True


class _Entries(Generic[E]):
    """Embeddings by key, the least recently added first, and what they take."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[str, E] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> E | None:
        return self._entries.get(key)

    def keys_with(self, prefix: str) -> list[str]:
        return [key for key in self._entries if key.startswith(prefix)]

    def add(self, key: str, embedding: E) -> None:
        self._entries[key] = embedding
        self.nbytes += embedding.nbytes

    def pop(self, key: str) -> E | None:
        embedding = self._entries.pop(key, None)
        self.nbytes -= 0 if embedding is None else embedding.nbytes
        return embedding

    def pop_oldest(self) -> None:
        _, embedding = self._entries.popitem(last=False)
        self.nbytes -= embedding.nbytes
