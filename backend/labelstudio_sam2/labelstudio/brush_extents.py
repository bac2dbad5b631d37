"""Where finished brush regions cover anything at all, remembered: most of them need no reading at a click."""

import logging
import threading
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.labelstudio.brush_rle import brush_rle_extent
from labelstudio_sam2.labelstudio.extent import Extent
from labelstudio_sam2.labelstudio.wire import Region, decode_rle, rle_digest
from labelstudio_sam2.recently_used import RecentlyUsed

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 16_384
"""RLEs, at 0.6 kB each."""

Key: TypeAlias = tuple[bytes, tuple[int, int]]
"""An RLE's digest and the (H, W) of its picture."""


class BrushExtents:
    """Knows the extents of the brush RLEs that were asked for before. Thread-safe.

    An extent follows from the text of an RLE and the picture's size, and these are its key: whatever becomes of a
    region, what is remembered never turns wrong. To read all of an RLE takes about twice as long as up to a click, so
    nobody waits for that: it is left to `learn`.

    Args:
        max_entries: How many are remembered; the one unused for longest goes to make room.
    """

    def __init__(self, max_entries: int = MAX_REMEMBERED) -> None:
        self._known: RecentlyUsed[Key, Extent] = RecentlyUsed(max_entries)
        self._lock = threading.Lock()
        self._missed: dict[Key, Region] = {}
        self._is_learning = False

    @property
    def is_learning(self) -> bool:
        """Whether RLEs are being read now."""
        return self._is_learning

    def find(self, region: Region, size_hw: tuple[int, int]) -> Extent | None:
        """Return the part of the picture beyond which a brush RLE covers nothing, or None where that is not known yet.

        Args:
            region: One that `has_rle`.
            size_hw: (H, W) of the picture it was drawn on.
        """
        key = rle_digest(region), size_hw
        extent = self._known.get(key)
        if extent is None:
            with self._lock:
                self._missed[key] = region
        return extent

    def learn(self) -> None:
        """Have all that `find` missed read in a thread; returns at once.

        What was missed while that is at work is let go, for it keeps a whole request in memory, and is missed again at
        the next click.
        """
        with self._lock:
            missed, self._missed = self._missed, {}
            if not missed or self._is_learning:
                return
            self._is_learning = True
        threading.Thread(target=self._read, args=(missed,), name="brush-extents", daemon=True).start()

    def _read(self, missed: Mapping[Key, Region]) -> None:
        try:
            for key, region in missed.items():
                self._known.put(key, _extent(region, key[1]))
        except Exception:
            logger.exception("a bug: a brush region could not be remembered")
        finally:
            self._is_learning = False


def _extent(region: Region, size_hw: tuple[int, int]) -> Extent:
    """Return what a brush RLE covers; of a broken one all of the picture: reading it says what is wrong."""
    height, width = size_hw
    try:
        extent = brush_rle_extent(np.concatenate([*decode_rle(region)]), size_hw)
    except BackendError:
        return slice(0, height), slice(0, width)
    return extent or (slice(0, 0), slice(0, 0))
