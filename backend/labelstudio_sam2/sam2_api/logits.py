"""What was predicted on a picture before, as mask input for the next prediction on it."""

import threading
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from labelstudio_sam2.segmenter.embedding_cache import Embedding
from labelstudio_sam2.segmenter.prompt import FloatArray, Prompt

MAX_LOGITS = 1000
"""Low-res logits remembered, all together: 256 MiB for the official models."""

E = TypeVar("E", bound=Embedding)

Click: TypeAlias = tuple[float, float, int]
"""x, y, label."""


class LogitsMemory(Generic[E]):
    """Low-res logits by the embedding they were predicted from. Thread-safe.

    Embeddings are held weakly: with the last strong reference, which is the cache's, their logits go too. So logits are
    never those of another picture, and never those of another model.

    Args:
        max_logits: Remembered at most; the oldest go first.
    """

    def __init__(self, max_logits: int = MAX_LOGITS) -> None:
        self._max_logits = max_logits
        self._lock = threading.Lock()
        self._clock = count()
        self._by_embedding: WeakKeyDictionary[E, dict[_Asked | None, _Remembered]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return sum(len(remembered) for remembered in list(self._by_embedding.values()))

    def last(self, embedding: E) -> FloatArray | None:
        """Return the logits that `put_last` was given for this embedding, (1, M, M), or None."""
        with self._lock:
            remembered = self._by_embedding.get(embedding, {}).get(None)
        return None if remembered is None else remembered.low_res_logits

    def put_last(self, embedding: E, low_res_logits: FloatArray) -> None:
        """Remember what was predicted last from an embedding, whatever was asked.

        Args:
            embedding: What it was predicted from.
            low_res_logits: (1, M, M) float32; must not change any more.
        """
        self._put(embedding, None, low_res_logits)

    def before(self, embedding: E, prompt: Prompt) -> FloatArray | None:
        """Return the logits of the prompt that this one goes on from, (1, M, M), or None.

        It has the same box and some of the clicks, not all: one click less if there is one such, the newest, else the
        one with the most clicks. A prompt never goes on from itself.
        """
        asked = _Asked.of(prompt)
        with self._lock:
            earlier = [
                (len(other.clicks), remembered)
                for other, remembered in self._by_embedding.get(embedding, {}).items()
                if other is not None and other.box == asked.box and other.clicks < asked.clicks
            ]
        if not earlier:
            return None
        _, newest = max(earlier, key=lambda entry: (entry[0], entry[1].at))
        return newest.low_res_logits

    def put(self, embedding: E, prompt: Prompt, low_res_logits: FloatArray) -> None:
        """Remember what a prompt gave, for `before`.

        Args:
            embedding: What it was predicted from.
            prompt: What was asked.
            low_res_logits: (1, M, M) float32; must not change any more.
        """
        self._put(embedding, _Asked.of(prompt), low_res_logits)

    def _put(self, embedding: E, asked: "_Asked | None", low_res_logits: FloatArray) -> None:
        with self._lock:
            remembered = self._by_embedding.setdefault(embedding, {})
            remembered[asked] = _Remembered(next(self._clock), low_res_logits)
            if len(self) > self._max_logits:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        entries = ((each.at, of, asked) for of in list(self._by_embedding.values()) for asked, each in of.items())
        _, of_embedding, asked = min(entries, key=lambda entry: entry[0])
        del of_embedding[asked]


@dataclass(frozen=True)
class _Remembered:
    """Low-res logits and when they came, by a counter."""

    at: int
    low_res_logits: FloatArray


@dataclass(frozen=True)
class _Asked:
    """A prompt, comparable: the clicks in any order, and the box."""

    clicks: frozenset[Click]
    box: tuple[float, ...] | None

    @classmethod
    def of(cls, prompt: Prompt) -> "_Asked":
        points = zip(prompt.point_coords.tolist(), prompt.point_labels.tolist(), strict=True)
        clicks = frozenset((x, y, label) for (x, y), label in points)
        return cls(clicks, None if prompt.box is None else tuple(prompt.box.tolist()))
