"""Masks become regions that Label Studio can show. Decoded by label-studio-sdk and by plain geometry."""

import string
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray

from labelstudio_sam2.labelstudio.label_config import AnswerKind, AnswerTag
from labelstudio_sam2.labelstudio.predictions import answer_regions, clicked_parts, fresh_region_id, mask_outlines
from labelstudio_sam2.segmenter.prompt import Prompt

Mask = NDArray[np.bool_]


def tag(kind: AnswerKind, labels_from: str | None = None, *class_names: str, tolerance: float = 1.0) -> AnswerTag:
    return AnswerTag("tag", "image", kind, labels_from, class_names, tolerance)


def filled(outline: NDArray[np.float32], size_hw: tuple[int, int]) -> Mask:
    """Return the pixels whose centers an outline holds."""
    height, width = size_hw
    fine = np.zeros((8 * height, 8 * width), np.uint8)
    cv2.fillPoly(fine, [np.round(outline * 8).astype(np.int32)], 1)
    return fine[4::8, 4::8].astype(bool)


def farthest_off(corners: NDArray[np.float32], outline: NDArray[np.float32]) -> float:
    """Return how far the farthest of some corners lies off an outline, in pixels."""
    starts = outline.astype(np.float64)
    along = np.roll(starts, -1, axis=0) - starts
    offsets = corners[:, None] - starts
    position = np.clip((offsets * along).sum(axis=2) / np.maximum((along**2).sum(axis=1), 1e-9), 0, 1)
    distance = np.hypot(*(offsets - position[..., None] * along).transpose(2, 0, 1))
    return float(distance.min(axis=1).max())


def blobs(seed: int, smooth: float, size_hw: tuple[int, int] = (60, 90)) -> Mask:
    noise = np.random.default_rng(seed).random(size_hw).astype(np.float32)
    smoothed: Any = cv2.GaussianBlur(noise, (0, 0), smooth)
    return np.asarray(smoothed > np.quantile(smoothed, 0.7), bool)


@st.composite
def placed_masks(draw: st.DrawFn) -> Mask:
    """Draw blobs somewhere in a picture, up to its edges, or no pixel at all."""
    height, width = draw(st.sampled_from([(40, 70), (70, 40), (1, 30), (30, 1)]))
    top, bottom = sorted((draw(st.integers(0, height)), draw(st.integers(0, height))))
    left, right = sorted((draw(st.integers(0, width)), draw(st.integers(0, width))))
    mask = np.zeros((height, width), bool)
    smooth = draw(st.sampled_from([0.5, 1.5, 4.0]))
    mask[top:bottom, left:right] = blobs(draw(st.integers(0, 10_000)), smooth, (80, 80))[: bottom - top, : right - left]
    return mask


def plain_outlines(mask: Mask, tolerance: float) -> list[NDArray[np.float32]]:
    """Return what `mask_outlines` does, over the whole picture."""
    corners = cv2.dilate(np.pad(mask.astype(np.uint8), ((0, 1), (0, 1))), np.ones((2, 2), np.uint8), anchor=(1, 1))
    found, _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    by_area = sorted(((cv2.contourArea(contour), contour) for contour in found), key=lambda part: -part[0])
    kept = [contour for area, contour in by_area if area >= by_area[0][0] * 0.01]
    simple = [(cv2.approxPolyDP(contour, tolerance, closed=True), contour) for contour in kept]
    return [(few if len(few) >= 3 else all_).reshape(-1, 2).astype(np.float32) for few, all_ in simple]


def plain_clicked_parts(mask: Mask, prompt: Prompt) -> Mask:
    """Return what `clicked_parts` does, over the whole picture."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    height, width = mask.shape
    x, y = np.clip(np.floor(prompt.point_coords[prompt.point_labels == 1]).astype(int), 0, (width - 1, height - 1)).T
    clicked = np.setdiff1d(parts[y, x], [0])
    return np.isin(parts, clicked) if len(clicked) else mask


def test_a_brush_answer_decodes_to_the_mask(square: Mask) -> None:
    (region,) = answer_regions(square, 0.9, tag("brush", None, "Cat"))

    values = region["value"]
    rgba = decode_rle(values["rle"]).reshape(100, 200, 4)
    np.testing.assert_array_equal(rgba[:, :, 3] > 127, square)
    assert values["format"] == "rle"
    assert values["brushlabels"] == ["Cat"]


def test_every_answer_names_its_tag_its_image_and_its_size(square: Mask) -> None:
    (region,) = answer_regions(square, 0.123456, tag("brush", None, "Cat"))

    del region["value"], region["id"]
    assert region == {
        "from_name": "tag",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "score": 0.1235,
    }


def test_a_rectangle_answer_is_the_masks_box_in_percent(square: Mask) -> None:
    (region,) = answer_regions(square, 0.9, tag("rectangle", None, "Cat"))

    assert region["type"] == "rectanglelabels"
    assert region["value"] == {
        "x": 30.0,
        "y": 30.0,
        "width": 10.0,
        "height": 20.0,
        "rotation": 0,
        "rectanglelabels": ["Cat"],
    }


def test_a_polygon_answer_goes_along_the_outermost_pixels_edges(square: Mask) -> None:
    (region,) = answer_regions(square, 0.9, tag("polygon", None, "Cat"))

    assert region["type"] == "polygonlabels"
    assert region["value"]["closed"] is True
    assert region["value"]["polygonlabels"] == ["Cat"]
    corners = {(round(x * 2, 3), round(y, 3)) for x, y in region["value"]["points"]}
    assert corners == {(60, 30), (80, 30), (80, 50), (60, 50)}


@pytest.mark.parametrize("kind", ["brush", "polygon", "rectangle"])
def test_a_plain_tag_with_a_labels_tag_gives_two_results_of_one_id(square: Mask, kind: AnswerKind) -> None:
    geometry, labels = answer_regions(square, 0.9, tag(kind, "lab", "Cat", "Pet"))

    assert geometry["id"] == labels["id"]
    assert (geometry["from_name"], geometry["type"]) == ("tag", kind)
    assert (labels["from_name"], labels["type"]) == ("lab", "labels")
    assert labels["value"]["labels"] == ["Cat", "Pet"]
    assert geometry["to_name"] == labels["to_name"] == "image"
    assert not any(key.endswith("labels") for key in geometry["value"])


@pytest.mark.parametrize("kind", ["brush", "polygon", "rectangle"])
def test_an_unlabelled_answer_is_the_geometry_alone(square: Mask, kind: AnswerKind) -> None:
    (region,) = answer_regions(square, 0.9, tag(kind))

    assert region["type"] == kind
    assert not any(key.endswith("labels") for key in region["value"])


def test_the_image_of_a_list_is_named_only_where_the_prompt_named_it(square: Mask) -> None:
    (named,) = answer_regions(square, 0.9, tag("brush"), item_index=0)
    (unnamed,) = answer_regions(square, 0.9, tag("brush"))

    assert named["item_index"] == 0
    assert "item_index" not in unnamed


@pytest.mark.parametrize("kind", ["brush", "polygon", "rectangle"])
def test_an_empty_mask_gives_no_region(kind: AnswerKind) -> None:
    assert answer_regions(np.zeros((6, 8), bool), 0.9, tag(kind)) == []


def test_ids_are_ten_letters_and_digits_and_never_the_same() -> None:
    ids = {fresh_region_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(len(own) == 10 and set(own) <= set(string.ascii_letters + string.digits) for own in ids)


def test_an_edited_region_keeps_its_id_and_further_parts_get_fresh_ones() -> None:
    parts = np.zeros((40, 60), bool)
    parts[5:10, 5:10] = True
    parts[20:35, 20:50] = True

    large, small = answer_regions(parts, 0.9, tag("polygon", None, "Cat"), region_id="HzjQyJNj1s")

    assert large["id"] == "HzjQyJNj1s"
    assert small["id"] != "HzjQyJNj1s"
    assert max(x for x, _ in small["value"]["points"]) == pytest.approx(10 / 60 * 100)


def test_parts_come_largest_first_and_crumbs_are_left_out() -> None:
    mask = np.zeros((60, 80), bool)
    mask[2:7, 2:7] = True
    mask[20:50, 20:60] = True
    mask[10:13, 70:73] = True  # 9: less than a hundredth of the largest

    outlines = mask_outlines(mask, tolerance=0)

    assert [round(float(cv2.contourArea(outline))) for outline in outlines] == [30 * 40, 5 * 5]


def test_holes_are_filled() -> None:
    ring = np.zeros((40, 60), bool)
    ring[5:35, 5:55] = True
    ring[15:25, 20:40] = False

    (outline,) = mask_outlines(ring, tolerance=0)

    assert filled(outline, (40, 60)).sum() == 30 * 50


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 2), (4, 4), (12, 13)])
def test_a_polygon_has_the_area_of_its_pixels_however_thin(height: int, width: int) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5 : 5 + height, 7 : 7 + width] = True

    (outline,) = mask_outlines(mask, tolerance=0)

    assert cv2.contourArea(outline) == height * width


def test_a_part_does_not_vanish_for_a_large_tolerance() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 7:12] = True

    (outline,) = mask_outlines(mask, tolerance=100)

    np.testing.assert_array_equal(filled(outline, (20, 30)), mask)


def test_a_mask_up_to_the_edge_stays_within_the_image() -> None:
    (region,) = answer_regions(np.ones((6, 8), bool), 0.9, tag("polygon"))
    (box,) = answer_regions(np.ones((6, 8), bool), 0.9, tag("rectangle"))

    points = np.array(region["value"]["points"])
    assert points.min() >= 0
    assert points.max() <= 100
    assert [box["value"][key] for key in ("x", "y", "width", "height")] == [0, 0, 100, 100]


def test_more_tolerance_leaves_more_corners_out() -> None:
    disc = cv2.circle(np.zeros((120, 160), np.uint8), (80, 60), 50, 1, thickness=-1).astype(bool)

    counts = [len(mask_outlines(disc, tolerance=tolerance)[0]) for tolerance in (0, 1, 3)]

    assert counts[0] > 2 * counts[1] > 2 * counts[2]
    assert counts[1] < 40


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    smooth=st.sampled_from([0.8, 2.0, 5.0]),
    tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
)
def test_the_outline_moves_by_no_more_than_the_tolerance_as_opencv_takes_it(
    seed: int, smooth: float, tolerance: float
) -> None:
    mask = blobs(seed, smooth)

    exact, outline = (mask_outlines(mask, tolerance=pixels)[0] for pixels in (0, tolerance))

    assert farthest_off(exact, outline) <= 1.71 * tolerance + 1e-4  # dropped once by 1, once by sqrt(1/2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_percent_lead_back_to_the_same_pixels(seed: int) -> None:
    mask = blobs(seed, 3.0)

    regions = answer_regions(mask, 0.9, tag("polygon", tolerance=0))

    outlines = [np.array(region["value"]["points"]) / 100 * (90, 60) for region in regions]
    again = np.any([filled(outline.astype(np.float32), (60, 90)) for outline in outlines], axis=0)
    expected = np.any([filled(outline, (60, 90)) for outline in mask_outlines(mask, tolerance=0)], axis=0)
    np.testing.assert_array_equal(again, expected)


TWO_PARTS = np.zeros((60, 90), bool)
TWO_PARTS[10:20, 10:30] = True
TWO_PARTS[40:50, 60:80] = True


@pytest.mark.parametrize(
    ("clicks", "labels", "kept"),
    [
        ([[15.5, 15.5]], [1], (slice(10, 20), slice(10, 30))),
        ([[15.5, 15.5], [70.0, 45.0]], [1, 0], (slice(10, 20), slice(10, 30))),
        ([[70.0, 45.0]], [1], (slice(40, 50), slice(60, 80))),
    ],
)
def test_only_the_part_under_a_positive_click_stays(
    clicks: list[list[float]], labels: list[int], kept: tuple[slice, slice]
) -> None:
    prompt = Prompt(point_coords=np.array(clicks, np.float32), point_labels=np.array(labels, np.int32))

    mask = clicked_parts(TWO_PARTS, prompt)

    expected = np.zeros((60, 90), bool)
    expected[kept] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(box=np.array([5, 5, 85, 55], np.float32)),
        Prompt(point_coords=np.array([[45, 30]], np.float32), point_labels=np.array([1], np.int32)),
    ],
)
def test_every_part_stays_where_no_click_lies_on_any(prompt: Prompt) -> None:
    np.testing.assert_array_equal(clicked_parts(TWO_PARTS, prompt), TWO_PARTS)


@settings(max_examples=200, deadline=None)
@given(mask=placed_masks(), tolerance=st.sampled_from([0.0, 1.0, 3.0]))
def test_outlines_are_those_of_the_whole_picture_to_the_last_bit_and_in_the_same_order(
    mask: Mask, tolerance: float
) -> None:
    outlines = mask_outlines(mask, tolerance=tolerance)

    expected = plain_outlines(mask, tolerance)
    assert [outline.tolist() for outline in outlines] == [outline.tolist() for outline in expected]
    assert all(outline.dtype == np.float32 for outline in outlines)


@settings(max_examples=200, deadline=None)
@given(
    mask=placed_masks(),
    clicks=st.lists(st.tuples(st.floats(0, 70, width=32), st.floats(0, 70, width=32), st.booleans()), max_size=6),
)
def test_clicked_parts_are_those_of_the_whole_picture(mask: Mask, clicks: list[tuple[float, float, bool]]) -> None:
    prompt = Prompt(
        point_coords=np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2),
        point_labels=np.array([click[2] for click in clicks], np.int32),
    )
    before = mask.copy()

    np.testing.assert_array_equal(clicked_parts(mask, prompt), plain_clicked_parts(mask, prompt))
    np.testing.assert_array_equal(mask, before)
