"""Whether a region covers a pixel: to the pixel what its mask says, which these tests make each time."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstudio_sam2.errors import BadPromptError
from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle
from labelstudio_sam2.labelstudio.coverage import region_covers
from labelstudio_sam2.labelstudio.extent import Extent
from labelstudio_sam2.labelstudio.regions import DrawnRegion, area_mask
from labelstudio_sam2.labelstudio.wire import Region, RegionValue, Touch
from labelstudio_sam2.segmenter.prompt import Mask

SMALL_HW, LARGE_HW = (13, 21), (350, 530)
percent = st.floats(-40, 140, width=32) | st.sampled_from([0.0, 50.0, 100.0])
far = percent | st.sampled_from([-1e5, 1e5, 1e308])


def drawn(kind: str, **value: Any) -> DrawnRegion:
    return DrawnRegion(Region("a", kind, "tag", "image", RegionValue(**value)), kind, (), "tag")


def rle_of(mask: Mask) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(encode_brush_rle(mask).tolist()))


def covered(region: DrawnRegion, size_hw: tuple[int, int], pixels: list[tuple[int, int]]) -> list[bool]:
    return [region_covers(region, np.array([x, y], np.float32), size_hw) for x, y in pixels]


def assert_each_pixel_is_as_in_the_mask(region: DrawnRegion, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    mask = area_mask(region, size_hw)
    at_edges = np.argwhere(mask[1:, 1:] != mask[:-1, :-1])
    pixels = [(int(x), int(y)) for y, x in at_edges[:: 1 + len(at_edges) // 30]]
    pixels += [divmod(index, width)[::-1] for index in range(0, height * width, 1 + height * width // 40)]

    assert covered(region, size_hw, pixels) == [mask[y, x] for x, y in pixels]


corners = st.lists(st.tuples(far, far) | st.tuples(percent, percent), max_size=7)
touches = st.lists(
    st.builds(
        Touch,
        type=st.sampled_from(["add", "add", "eraser"]),
        relative_points=st.lists(percent, max_size=12) | st.lists(far, max_size=8),
        relative_stroke_width=st.floats(0, 3, width=32) | st.floats(0, 90, width=32) | st.just(1e300),
    ),
    max_size=4,
)
sizes = st.sampled_from([SMALL_HW, LARGE_HW])


@settings(max_examples=150, deadline=None)
@given(points=corners, size_hw=sizes)
def test_a_polygon_covers_what_its_mask_covers(points: list[tuple[float, float]], size_hw: tuple[int, int]) -> None:
    assert_each_pixel_is_as_in_the_mask(drawn("polygon", points=points), size_hw)


@settings(max_examples=100, deadline=None)
@given(x=far, y=far, width=percent, height=percent, rotation=st.floats(-360, 360) | st.just(0.0), size_hw=sizes)
def test_a_rectangle_covers_what_its_mask_covers(size_hw: tuple[int, int], **value: float) -> None:
    assert_each_pixel_is_as_in_the_mask(drawn("rectangle", **value), size_hw)


@settings(max_examples=150, deadline=None)
@given(touches=touches, size_hw=sizes)
def test_strokes_cover_what_their_mask_covers(touches: list[Touch], size_hw: tuple[int, int]) -> None:
    assert_each_pixel_is_as_in_the_mask(drawn("brush", touches=touches), size_hw)


@settings(max_examples=100, deadline=None)
@given(touches=touches, seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_strokes_over_a_finished_mask_cover_what_their_mask_covers(
    touches: list[Touch], seed: int, share: float
) -> None:
    finished = rle_of(np.random.default_rng(seed).random(SMALL_HW) < share)

    assert_each_pixel_is_as_in_the_mask(drawn("brush", touches=touches, rle=finished), SMALL_HW)


def test_a_click_on_the_right_and_lower_edge_lies_on_the_last_pixel() -> None:
    last = np.zeros((6, 8), bool)
    last[5, 7] = True

    assert region_covers(drawn("brush", rle=rle_of(last)), np.array([8, 6], np.float32), (6, 8))


def test_a_region_of_nothing_covers_nothing() -> None:
    for region in (drawn("brush"), drawn("brush", touches=[]), drawn("polygon"), drawn("polygon", points=[])):
        assert not region_covers(region, np.array([3, 3], np.float32), (6, 8))


@pytest.mark.parametrize("rle", [b"[]", b"[1, 2, 3]", b'"AAEC"', b"[256]", b"[0.5]", b"{}"])
def test_a_broken_rle_is_a_bad_prompt(rle: bytes) -> None:
    with pytest.raises(BadPromptError):
        region_covers(drawn("brush", rle=msgspec.Raw(rle)), np.array([3, 3], np.float32), (6, 8))


@dataclass(frozen=True)
class Known:
    """Knows one extent, whatever it is asked for."""

    extent: Extent | None

    def find(self, _region: Region, _size_hw: tuple[int, int]) -> Extent | None:
        return self.extent


def test_an_rle_is_not_read_where_its_extent_rules_the_point_out() -> None:
    unreadable = drawn("brush", rle=msgspec.Raw(b'["not", "read"]'))
    beside, around = Known((slice(0, 6), slice(0, 3))), Known((slice(3, 4), slice(3, 4)))
    point = np.array([3, 3], np.float32)

    assert not region_covers(unreadable, point, (6, 8), beside)
    for extents in (around, Known(None)):
        with pytest.raises(BadPromptError):
            region_covers(unreadable, point, (6, 8), extents)


def test_strokes_reach_beyond_the_extent_of_the_mask_they_were_painted_on() -> None:
    touch = Touch("add", [0.0, 50.0, 100.0, 50.0], 5.0)
    painted = drawn("brush", rle=rle_of(np.zeros((6, 8), bool)), touches=[touch])
    nowhere = Known((slice(0, 0), slice(0, 0)))

    assert region_covers(painted, np.array([3, 3], np.float32), (6, 8), nowhere)
