"""Regions in pixels. The picture is 200 x 100: one percent is 2 pixels to the right and 1 pixel down."""

from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.errors import BadPromptError, RotatedImageError, SizeMismatchError, UnsupportedError
from labelstudio_sam2.labelstudio.regions import (
    area_mask,
    check_size,
    covers,
    point_pixels,
    rectangle_corners,
    strokes,
)

SIZE_HW = (100, 200)


def one(draw: Any, region: dict[str, Any]) -> Any:
    (drawn,) = draw.drawn(region)
    return drawn


def test_percent_become_pixels_by_width_and_by_height(draw: Any) -> None:
    click = one(draw, draw.click(10, 10))

    np.testing.assert_array_equal(point_pixels(click, SIZE_HW), [20, 10])


def test_subpixel_clicks_are_not_rounded(draw: Any) -> None:
    click = one(draw, draw.click(0.125, 0.25))

    np.testing.assert_array_equal(point_pixels(click, SIZE_HW), [0.25, 0.25])


def test_a_click_counts_as_positive_unless_it_says_otherwise(draw: Any) -> None:
    clicks = draw.drawn(*[draw.click(1, 1, is_positive=sign) for sign in (True, False, None)])

    assert [click.is_positive for click in clicks] == [True, False, True]


def test_a_click_that_lost_its_sign_in_a_draft_counts_as_positive(draw: Any) -> None:
    click = draw.click(1, 1)
    del click["is_positive"]

    assert one(draw, click).is_positive is True


def test_plain_tags_two_results_of_one_id_are_one_region(draw: Any) -> None:
    geometry = draw.region("rectangle", {"x": 1, "y": 2, "width": 3, "height": 4}, None, from_name="rect")
    labels = {**geometry, "type": "labels", "from_name": "lab", "value": {**geometry["value"], "labels": ["Cat"]}}

    (drawn,) = draw.drawn(geometry, labels)

    assert (drawn.id, drawn.kind) == (geometry["id"], "rectangle")
    assert (drawn.labels_from, drawn.class_names) == ("lab", ("Cat",))
    assert drawn.geometry.from_name == "rect"


def test_an_unlabelled_region_has_no_classes(draw: Any) -> None:
    click = draw.region("keypoint", {"x": 1, "y": 1, "labels": []}, None, from_name="plain")

    drawn = one(draw, click)

    assert (drawn.kind, drawn.class_names, drawn.labels_from) == ("keypoint", (), "plain")


def test_recorded_plain_rectangles_are_labelled_by_the_labels_tag(draw: Any, recorded: Any) -> None:
    body = recorded("rect_plain_labels")
    body = body.get("predict_request", {}).get("body", body)

    drawn = draw.drawn(*body["params"]["context"]["result"])

    assert [(region.kind, region.class_names, region.labels_from) for region in drawn] == [
        ("rectangle", ("Object",), "lab")
    ]


def test_what_is_said_about_a_region_besides_its_class_is_left_out(draw: Any) -> None:
    click = draw.click(1, 1)
    choice = {**click, "type": "choices", "from_name": "is_hidden", "value": {"choices": ["yes"]}}

    drawn = one(draw, click)

    assert draw.drawn(click, choice) == [drawn]


@pytest.mark.parametrize("kind", ["ellipselabels", "choices", "videorectangle", "", "labelslabels", "x" * 1000])
def test_another_kind_of_region_is_not_supported(draw: Any, kind: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        draw.drawn({**draw.click(1, 1), "type": kind})

    assert len(str(error.value)) < 120


def test_a_region_of_another_size_is_refused_with_both_sizes(draw: Any) -> None:
    turned = one(draw, draw.click(1, 1, original_width=100, original_height=200))

    with pytest.raises(SizeMismatchError, match=r"100 x 200.*200 x 100"):
        check_size(turned, SIZE_HW)


def test_a_region_without_a_size_is_taken_as_it_is(draw: Any) -> None:
    check_size(one(draw, draw.click(1, 1, original_width=None, original_height=None)), SIZE_HW)


@pytest.mark.parametrize("degrees", [90, 180, 270, 0.5, -90])
def test_a_region_on_a_turned_image_is_refused(draw: Any, degrees: float) -> None:
    with pytest.raises(RotatedImageError, match=f"{degrees:g} degrees"):
        check_size(one(draw, draw.click(1, 1, image_rotation=degrees)), SIZE_HW)


@pytest.mark.parametrize("degrees", [0, 0.0, None])
def test_a_region_on_an_upright_image_is_accepted(draw: Any, degrees: float | None) -> None:
    check_size(one(draw, draw.click(1, 1, image_rotation=degrees)), SIZE_HW)


def test_an_upright_rectangles_corners_go_clockwise_from_the_first(draw: Any) -> None:
    rectangle = one(draw, draw.rectangle(50, 20, 10, 30))

    corners = rectangle_corners(rectangle, SIZE_HW)

    np.testing.assert_allclose(corners, [[100, 20], [120, 20], [120, 50], [100, 50]])


def test_a_rectangle_turns_clockwise_around_its_first_corner_in_pixels(draw: Any) -> None:
    rectangle = one(draw, draw.rectangle(50, 20, 10, 30, rotation=90))  # 20 x 30 pixels

    corners = rectangle_corners(rectangle, SIZE_HW)

    # the side that went right goes down, the side that went down goes left
    np.testing.assert_allclose(corners, [[100, 20], [100, 40], [70, 40], [70, 20]], atol=1e-4)


def test_a_rectangle_turned_by_45_degrees(draw: Any) -> None:
    rectangle = one(draw, draw.rectangle(50, 20, 10, 20, rotation=45))  # 20 x 20 pixels
    half_diagonal = 20 / np.sqrt(2)

    corners = rectangle_corners(rectangle, SIZE_HW)

    lowest = [100, 20 + 2 * half_diagonal]
    right, left = [100 + half_diagonal, 20 + half_diagonal], [100 - half_diagonal, 20 + half_diagonal]
    np.testing.assert_allclose(corners, [[100, 20], right, lowest, left], atol=1e-4)


@pytest.mark.parametrize("missing", ["x", "y", "width", "height"])
def test_a_missing_number_is_named(draw: Any, missing: str) -> None:
    rectangle = draw.rectangle(1, 2, 3, 4)
    del rectangle["value"][missing]

    with pytest.raises(BadPromptError, match=f"rectangle region needs value.{missing}$"):
        rectangle_corners(one(draw, rectangle), SIZE_HW)


@pytest.mark.parametrize("far", [1e308, -1e308])
def test_places_far_outside_stay_finite(draw: Any, far: float) -> None:
    point = point_pixels(one(draw, draw.click(far, far)), SIZE_HW)
    corners = rectangle_corners(one(draw, draw.rectangle(far, far, far, far, rotation=30)), SIZE_HW)
    (stroke,) = strokes(one(draw, draw.strokes(draw.stroke(far, far, width=far))), SIZE_HW)

    assert np.isfinite(point).all()
    assert np.isfinite(corners).all()
    assert np.isfinite(stroke.path).all()
    assert np.isfinite(stroke.radius)
    np.testing.assert_array_equal(np.sign(point), np.sign([far, far]))


def test_strokes_keep_their_order_their_sign_and_their_width(draw: Any) -> None:
    region = draw.strokes(draw.stroke(10, 10, 20, 10, width=4), draw.stroke(15, 5, 15, 20, kind="eraser", width=1))

    painted, erased = strokes(one(draw, region), SIZE_HW)

    np.testing.assert_array_equal(painted.path, [[20, 10], [40, 10]])
    np.testing.assert_array_equal(erased.path, [[30, 5], [30, 20]])
    assert (painted.adds, erased.adds) == (True, False)
    assert (painted.radius, erased.radius) == (4.0, 1.0)  # 4 % of 200 pixels is a brush 8 pixels wide


@pytest.mark.parametrize(
    ("points", "path"), [((10, 10, 20), [[20, 10]]), ((10,), None), ((), None)], ids=["odd", "half a point", "none"]
)
def test_half_a_point_of_a_stroke_is_left_out(draw: Any, points: tuple[float, ...], path: Any) -> None:
    drawn = strokes(one(draw, draw.strokes(draw.stroke(*points))), SIZE_HW)

    assert [stroke.path.tolist() for stroke in drawn] == ([] if path is None else [path])


def test_a_rectangle_covers_its_pixels(draw: Any) -> None:
    mask = area_mask(one(draw, draw.rectangle(30, 30, 9.9, 19.9)), SIZE_HW)  # pixels 60..79 and 30..49

    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (60, 79, 30, 49)
    assert mask.sum() == 20 * 20


def test_a_polygon_covers_its_inside(draw: Any) -> None:
    triangle = one(draw, draw.polygon([(0, 0), (50, 0), (0, 50)]))  # right angle at the origin, 100 x 50 pixels

    mask = area_mask(triangle, SIZE_HW)

    assert covers(mask, np.array([10, 10], np.float32))
    assert not covers(mask, np.array([90, 40], np.float32))
    assert mask.sum() == pytest.approx(100 * 50 / 2, rel=0.07)


def test_a_finished_brush_region_covers_what_the_sdk_wrote(draw: Any, square: Any) -> None:
    mask = area_mask(one(draw, draw.mask(square)), SIZE_HW)

    np.testing.assert_array_equal(mask, square)


def test_strokes_paint_over_a_finished_mask_in_their_order(draw: Any, square: Any) -> None:
    finished = draw.mask(square)  # pixels 60..79, 30..49
    erase = draw.stroke(35, 40, 35, 40, kind="eraser", width=5)  # at (70, 40), 10 pixels wide
    paint_again = draw.stroke(35, 40, 35, 40, width=2)  # at the same place, 4 pixels wide
    beside = draw.stroke(60, 40, 70, 40, width=3)  # from (120, 40) to (140, 40), 6 pixels wide
    region = draw.strokes(erase, paint_again, beside, rle=finished["value"]["rle"])

    mask = area_mask(one(draw, region), SIZE_HW)

    assert mask[31, 61]  # untouched
    assert not mask[40, 74]  # erased
    assert mask[40, 70]  # painted again
    assert mask[40, 130]  # beside
    assert mask[:, 100:].sum() == pytest.approx(20 * 6 + np.pi * 3**2, rel=0.35)


def test_a_brush_region_of_nothing_covers_nothing(draw: Any) -> None:
    assert not area_mask(one(draw, draw.strokes()), SIZE_HW).any()
    assert not area_mask(one(draw, draw.polygon([])), SIZE_HW).any()


def test_a_broken_rle_is_a_bad_prompt(draw: Any) -> None:
    for rle in ([], [1, 2, 3], [256] * 20, [0] * 20):
        with pytest.raises(BadPromptError):
            area_mask(one(draw, draw.strokes(rle=rle)), SIZE_HW)


@pytest.mark.parametrize("far", [1e308, -1e308, 1e5])
def test_far_and_thick_drawings_are_painted_without_an_error(draw: Any, far: float) -> None:
    thick = one(draw, draw.strokes(draw.stroke(50, 50, far, far, width=1e300)))
    turned = one(draw, draw.rectangle(far, 0, far, far, rotation=33))
    pointed = one(draw, draw.polygon([(0, 0), (far, 0), (0, far)]))

    assert area_mask(thick, SIZE_HW).all()
    assert area_mask(turned, SIZE_HW).shape == SIZE_HW
    assert area_mask(pointed, SIZE_HW)[0, 0]


def test_a_point_on_the_right_or_lower_edge_lies_on_the_last_pixel() -> None:
    corner = np.zeros(SIZE_HW, bool)
    corner[99, 199] = True

    assert covers(corner, np.array([200, 100], np.float32))
    assert not covers(corner, np.array([198.9, 100], np.float32))
