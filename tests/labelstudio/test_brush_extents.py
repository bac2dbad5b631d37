"""Where brush regions cover anything, remembered: what is known, what is read, and how much is kept."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelstudio_sam2.labelstudio.brush_extents import BrushExtents
from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle
from labelstudio_sam2.labelstudio.coverage import region_covers
from labelstudio_sam2.labelstudio.extent import Extent
from labelstudio_sam2.labelstudio.regions import DrawnRegion
from labelstudio_sam2.labelstudio.wire import Region, RegionValue
from labelstudio_sam2.segmenter.prompt import Mask

SIZE_HW = (6, 8)
NOWHERE = slice(0, 0), slice(0, 0)
EVERYWHERE = slice(0, 6), slice(0, 8)

Until: TypeAlias = Callable[[Callable[[], object]], None]


def text_of(mask: Mask) -> bytes:
    return msgspec.json.encode(encode_brush_rle(mask).tolist())


def written(text: bytes, region_id: str = "a") -> Region:
    return Region(region_id, "brush", "tag", "image", RegionValue(rle=msgspec.Raw(text)))


def pixel(x: int, y: int) -> Region:
    """Return a region of one pixel."""
    mask = np.zeros(SIZE_HW, bool)
    mask[y, x] = True
    return written(text_of(mask))


def learn(extents: BrushExtents, until: Until, regions: Sequence[Region]) -> list[Extent | None]:
    """Ask for regions of 8 x 6 pixels, have those read that are not known, and ask again."""
    for region in regions:
        extents.find(region, SIZE_HW)
    extents.learn()
    until(lambda: not extents.is_learning)
    return [extents.find(region, SIZE_HW) for region in regions]


def test_what_was_asked_for_is_known_once_it_was_learned(until: Until) -> None:
    extents = BrushExtents()

    assert extents.find(pixel(3, 2), SIZE_HW) is None
    assert learn(extents, until, [pixel(3, 2)]) == [(slice(2, 3), slice(3, 4))]


def test_an_empty_region_is_known_to_be_nowhere(until: Until) -> None:
    assert learn(BrushExtents(), until, [written(text_of(np.zeros(SIZE_HW, bool)))]) == [NOWHERE]


@pytest.mark.parametrize("text", [b"[]", b"[1, 2, 3]", b'"AAEC"', text_of(np.ones((8, 6), bool))[:-9] + b"]"])
def test_a_broken_rle_may_be_everywhere_so_that_reading_it_says_what_is_wrong(until: Until, text: bytes) -> None:
    assert learn(BrushExtents(), until, [written(text)]) == [EVERYWHERE]


def test_a_region_is_known_by_its_text_and_its_pictures_size_whatever_else_changes(until: Until) -> None:
    extents = BrushExtents()
    text = text_of(np.arange(48).reshape(6, 8) == 0)
    learn(extents, until, [written(text)])

    assert extents.find(written(text, region_id="b"), SIZE_HW) == (slice(0, 1), slice(0, 1))
    assert extents.find(written(text), (8, 6)) is None
    assert extents.find(written(text.replace(b",", b", ")), SIZE_HW) is None


def test_what_is_known_is_not_read_again(until: Until) -> None:
    extents = BrushExtents()
    reader = HeldRegion(pixel(3, 2))
    reader.let_go.set()

    for _ in range(3):
        learn(extents, until, [reader.region])

    assert reader.times_read == 1


def test_what_is_missed_while_others_are_read_is_let_go_and_can_be_learned_later(until: Until) -> None:
    extents = BrushExtents()
    held, late = HeldRegion(pixel(3, 2)), pixel(5, 1)
    extents.find(held.region, SIZE_HW)
    extents.learn()
    until(lambda: held.times_read)

    extents.find(late, SIZE_HW)
    extents.learn()
    held.let_go.set()
    until(lambda: not extents.is_learning)

    assert extents.find(held.region, SIZE_HW) == (slice(2, 3), slice(3, 4))
    assert extents.find(late, SIZE_HW) is None
    assert learn(extents, until, [late]) == [(slice(1, 2), slice(5, 6))]


def test_no_more_is_remembered_than_was_allowed(until: Until) -> None:
    extents = BrushExtents(max_entries=2)
    one, two, three = pixel(1, 1), pixel(2, 2), pixel(3, 3)
    learn(extents, until, [one, two])
    extents.find(one, SIZE_HW)

    learn(extents, until, [three])

    assert [extents.find(region, SIZE_HW) is None for region in (one, two, three)] == [False, True, False]


def test_many_threads_learn_the_same_regions_and_all_are_told_the_same(until: Until) -> None:
    extents = BrushExtents()
    regions = {(x, y): pixel(x, y) for x in range(8) for y in range(6)}

    def annotate(_: int) -> list[bool]:
        told = []
        for _round in range(20):
            for (x, y), region in regions.items():
                told.append(extents.find(region, SIZE_HW) in (None, (slice(y, y + 1), slice(x, x + 1))))
            extents.learn()
        return told

    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(annotate, range(8))] == [[True] * 20 * 48] * 8
    until(lambda: not extents.is_learning)
    assert None not in learn(extents, until, [*regions.values()])


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda hw: hw[0] != hw[1])
remembered = BrushExtents(max_entries=50)
"""One for all examples below: what one of them left must not mislead the next."""


@given(mask=sizes.flatmap(lambda size_hw: arrays(np.bool_, size_hw)), turned=st.booleans(), cut=st.integers(0, 9))
def test_each_pixel_is_covered_or_not_as_without_the_memory(
    until: Until,
    mask: Mask,
    turned: bool,  # noqa: FBT001  part of a drawn case
    cut: int,
) -> None:
    text = text_of(mask)
    region = DrawnRegion(written(text[: len(text) - cut] + b"]" * (cut > 0)), "brush", (), "tag")
    height, width = mask.shape[::-1] if turned else mask.shape

    def covered(*extents: BrushExtents) -> list[Any]:
        return [outcome(region, (x, y), (height, width), *extents) for x in range(width) for y in range(height)]

    first = covered(remembered)
    remembered.learn()
    until(lambda: not remembered.is_learning)
    assert remembered.find(region.geometry, (height, width)) is not None

    assert first == covered(remembered) == covered()


def outcome(region: DrawnRegion, at: tuple[int, int], size_hw: tuple[int, int], *extents: BrushExtents) -> Any:
    """Return whether the region covers a pixel, or what is wrong with it."""
    try:
        return region_covers(region, np.array(at, np.float32), size_hw, *extents)
    except Exception as error:  # noqa: BLE001  whatever it is, it must be the same
        return repr(error)


class HeldRegion:
    """A region whose RLE is read in another thread only once it is let go.

    Attributes:
        let_go: Set it, and reading goes on.
        times_read: In other threads than the one that made this.
    """

    def __init__(self, region: Region) -> None:
        self.let_go = threading.Event()
        self.times_read = 0
        self._rle = region.value.rle
        self._maker = threading.current_thread()

    @property
    def region(self) -> Any:
        """What stands for the region."""
        return self

    @property
    def value(self) -> Any:
        """What stands for its value."""
        return self

    @property
    def rle(self) -> msgspec.Raw:
        if threading.current_thread() is not self._maker:
            self.times_read += 1
            assert self.let_go.wait(20)
        return self._rle
