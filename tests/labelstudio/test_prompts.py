"""Contexts become prompts. The picture is 200 x 100: one percent is 2 pixels to the right and 1 pixel down."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstudio_sam2.errors import BadPromptError, PromptOutsideError, UnsupportedError
from labelstudio_sam2.labelstudio.prompts import (
    MASK_LOGIT,
    clicks_of,
    mask_box,
    mask_logits,
    newest_prompts,
    prompts_of,
    spread_points,
    stroke_clicks,
)
from labelstudio_sam2.labelstudio.regions import Stroke
from labelstudio_sam2.labelstudio.wire import Context
from labelstudio_sam2.segmenter.prompt import FloatArray, Prompt

SIZE_HW = (100, 200)


def newest(draw: Any, *regions: dict[str, Any]) -> list[str]:
    return [region.id for region in newest_prompts(Context(draw.results(*regions)))]


def box_of(prompt: Prompt) -> FloatArray:
    assert prompt.box is not None
    return prompt.box


def stroke(*points: tuple[float, float], adds: bool = True, radius: float = 2) -> Stroke:
    return Stroke(np.array(points, np.float32), radius, adds)


def test_clicks_of_one_class_belong_together_in_their_order(draw: Any) -> None:
    assert newest(draw, draw.click(1, 1), draw.click(2, 2), draw.click(3, 3)) == [
        "region0001",
        "region0002",
        "region0003",
    ]


def test_only_what_belongs_to_the_newest_region_counts(draw: Any) -> None:
    context = [
        draw.click(1, 1, "Dog"),
        draw.click(2, 2, "Cat", to_name="other"),
        draw.click(3, 3, "Cat", item_index=1),
        draw.click(4, 4, "Cat"),
        draw.click(5, 5, "Cat"),
    ]

    assert newest(draw, *context) == ["region0004", "region0005"]


def test_a_region_sent_twice_counts_once(draw: Any) -> None:
    click = draw.click(1, 1)

    assert newest(draw, click, click) == [click["id"]]


def test_a_context_of_labels_alone_holds_nothing_to_prompt_with(draw: Any) -> None:
    labels = {**draw.click(1, 1), "type": "labels", "value": {"labels": ["Cat"]}}

    with pytest.raises(BadPromptError):
        newest(draw, labels)


def test_a_prompt_with_another_tag_is_not_supported(draw: Any) -> None:
    with pytest.raises(UnsupportedError, match="ellipse"):
        newest(draw, draw.click(1, 1), draw.region("ellipse", {"x": 1, "y": 1}, "Cat", from_name="ellipse"))


def test_clicks_are_one_object_with_their_signs(draw: Any) -> None:
    regions = draw.drawn(draw.click(10, 20), draw.click(12.5, 20.5, is_positive=False), draw.click(50, 50))

    (prompt,) = prompts_of(regions, SIZE_HW)

    np.testing.assert_array_equal(prompt.point_coords, [[20, 20], [25, 20.5], [100, 50]])
    np.testing.assert_array_equal(prompt.point_labels, [1, 0, 1])
    assert prompt.box is None
    assert prompt.mask_input is None


@pytest.mark.parametrize(("x", "y"), [(0, 0), (100, 100), (100, 0)])
def test_a_click_on_the_images_edge_lies_inside(draw: Any, x: float, y: float) -> None:
    clicks = clicks_of(draw.drawn(draw.click(x, y)), SIZE_HW)

    np.testing.assert_array_equal(clicks.coords, [[2 * x, y]])


@pytest.mark.parametrize(("x", "y"), [(-0.01, 50), (100.01, 50), (50, -0.01), (50, 100.01), (1e308, 0), (0, -1e308)])
def test_a_click_beyond_the_images_edge_lies_outside(draw: Any, x: float, y: float) -> None:
    with pytest.raises(PromptOutsideError):
        prompts_of(draw.drawn(draw.click(50, 50), draw.click(x, y)), SIZE_HW)


def test_257_clicks_are_too_many(draw: Any) -> None:
    clicks = draw.drawn(*[draw.click(50, 50) for _ in range(257)])

    assert len(prompts_of(clicks[:256], SIZE_HW)[0].point_labels) == 256
    with pytest.raises(BadPromptError, match="257"):
        prompts_of(clicks, SIZE_HW)


def test_each_rectangle_is_an_object_of_its_own_in_drawing_order(draw: Any) -> None:
    regions = draw.drawn(draw.rectangle(50, 20, 10, 30), draw.rectangle(0, 0, 5, 5))

    first, second = prompts_of(regions, SIZE_HW)

    np.testing.assert_allclose(box_of(first), [100, 20, 120, 50])
    np.testing.assert_allclose(box_of(second), [0, 0, 10, 5])
    assert len(first.point_labels) == len(second.point_labels) == 0
    assert first.mask_input is None


def test_a_rectangle_turned_by_90_degrees_is_its_box_alone(draw: Any) -> None:
    (prompt,) = prompts_of(draw.drawn(draw.rectangle(50, 20, 10, 30, rotation=90)), SIZE_HW)

    np.testing.assert_allclose(box_of(prompt), [70, 20, 100, 40], atol=1e-4)
    assert prompt.mask_input is None


def test_a_turned_rectangle_is_the_box_around_it_and_itself_as_mask_input(draw: Any) -> None:
    (prompt,) = prompts_of(draw.drawn(draw.rectangle(50, 20, 20, 40, rotation=45)), SIZE_HW)  # 40 x 40 pixels

    half_diagonal = 40 / np.sqrt(2)
    around = [100 - half_diagonal, 20, 100 + half_diagonal, 20 + 2 * half_diagonal]
    np.testing.assert_allclose(box_of(prompt), around, atol=1e-3)
    assert prompt.mask_input is not None
    (logits,) = prompt.mask_input
    assert logits[int(48 / 100 * 256), int(100 / 200 * 256)] == MASK_LOGIT  # its middle
    assert logits[int(24 / 100 * 256), int(76 / 200 * 256)] == -MASK_LOGIT  # the box's corner


def test_a_rectangle_over_the_edge_is_cut_there(draw: Any) -> None:
    (prompt,) = prompts_of(draw.drawn(draw.rectangle(-10, 90, 20, 20)), SIZE_HW)

    np.testing.assert_allclose(box_of(prompt), [0, 90, 20, 100])


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (0, 0)])
def test_a_rectangle_needs_an_area(draw: Any, width: float, height: float) -> None:
    with pytest.raises(BadPromptError, match="area"):
        prompts_of(draw.drawn(draw.rectangle(10, 10, width, height)), SIZE_HW)


@pytest.mark.parametrize(("x", "y"), [(100, 0), (0, 100), (-10, 0), (0, -10), (1e300, 0)])
def test_a_rectangle_outside_the_image_is_refused(draw: Any, x: float, y: float) -> None:
    with pytest.raises(PromptOutsideError):
        prompts_of(draw.drawn(draw.rectangle(x, y, 10, 10)), SIZE_HW)


def test_a_rectangle_drawn_towards_the_upper_left_is_turned_around(draw: Any) -> None:
    (prompt,) = prompts_of(draw.drawn(draw.rectangle(60, 50, -10, -30)), SIZE_HW)

    np.testing.assert_allclose(box_of(prompt), [100, 20, 120, 50])


def test_a_brush_region_is_its_box_points_inside_it_and_its_mask(draw: Any, square: Any) -> None:
    (prompt,) = prompts_of(draw.drawn(draw.mask(square)), SIZE_HW)

    np.testing.assert_array_equal(box_of(prompt), [60, 30, 80, 50])
    assert len(prompt.point_labels) == 6
    assert prompt.point_labels.all()
    columns, rows = np.floor(prompt.point_coords).astype(int).T
    assert square[rows, columns].all()
    np.testing.assert_array_equal(prompt.mask_input, mask_logits(square))


def test_an_empty_brush_region_is_a_bad_prompt(draw: Any) -> None:
    for empty in (draw.strokes(), draw.polygon([]), draw.mask(np.zeros(SIZE_HW, bool))):
        with pytest.raises(BadPromptError, match="empty"):
            prompts_of(draw.drawn(empty), SIZE_HW)


def test_a_click_among_rectangles_belongs_to_the_newest_one_it_lies_on(draw: Any) -> None:
    regions = draw.drawn(
        draw.rectangle(0, 0, 50, 100),
        draw.rectangle(20, 0, 80, 100),
        draw.click(10, 50),  # on the first alone
        draw.click(30, 50, is_positive=False),  # on both
    )

    first, second = prompts_of(regions, SIZE_HW)

    np.testing.assert_array_equal(first.point_coords, [[20, 50]])
    np.testing.assert_array_equal(first.point_labels, [1])
    np.testing.assert_array_equal(second.point_coords, [[60, 50]])
    np.testing.assert_array_equal(second.point_labels, [0])


def test_a_click_beside_all_rectangles_belongs_to_the_newest(draw: Any) -> None:
    regions = draw.drawn(draw.rectangle(0, 0, 10, 10), draw.rectangle(20, 0, 10, 10), draw.click(90, 90))

    first, second = prompts_of(regions, SIZE_HW)

    assert (len(first.point_labels), len(second.point_labels)) == (0, 1)


def test_strokes_become_points_along_them_with_both_ends() -> None:
    clicks = stroke_clicks([stroke((10, 50), (90, 50))], SIZE_HW)

    assert clicks.labels.tolist() == [1] * 16
    assert (clicks.coords[:, 1] == 50).all()
    assert (clicks.coords[:, 0].min(), clicks.coords[:, 0].max()) == (10, 90)
    assert np.diff(np.sort(clicks.coords[:, 0])).max() < 10  # spread: 80 pixels over 15 gaps are 5.3 each


def test_eraser_strokes_become_negative_points() -> None:
    clicks = stroke_clicks([stroke((10, 50), (90, 50)), stroke((150, 20), (150, 80), adds=False)], SIZE_HW)

    assert (clicks.coords[clicks.labels == 0][:, 0] == 150).all()
    assert (clicks.coords[clicks.labels == 1][:, 1] == 50).all()
    assert (clicks.labels == 0).sum() == 16


def test_what_was_erased_later_is_not_asked_for() -> None:
    clicks = stroke_clicks([stroke((0, 50), (199, 50)), stroke((100, 0), (100, 99), adds=False, radius=20)], SIZE_HW)

    painted, erased = clicks.coords[clicks.labels == 1], clicks.coords[clicks.labels == 0]
    assert (np.abs(painted[:, 0] - 100) > 18).all()
    assert (np.abs(erased[:, 1] - 50) < 3).any()  # the eraser's own way stays, across the stroke


def test_what_was_painted_again_is_not_taken_away() -> None:
    clicks = stroke_clicks([stroke((100, 0), (100, 99), adds=False), stroke((0, 50), (199, 50), radius=10)], SIZE_HW)

    erased = clicks.coords[clicks.labels == 0]
    assert len(erased) > 0
    assert (np.abs(erased[:, 1] - 50) > 8).all()


def test_the_last_of_three_strokes_has_the_last_word() -> None:
    there_and_back = [stroke((50, 50)), stroke((50, 50), adds=False, radius=5), stroke((50, 50), radius=8)]

    clicks = stroke_clicks(there_and_back, SIZE_HW)

    assert clicks.labels.tolist() == [1]
    np.testing.assert_array_equal(clicks.coords, [[50, 50]])


def test_points_of_a_stroke_beyond_the_edge_are_left_out() -> None:
    clicks = stroke_clicks([stroke((-50, 50), (50, 50)), stroke((300, 300), adds=False)], SIZE_HW)

    assert clicks.labels.all()
    assert (clicks.coords >= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Stroke,
            st.lists(st.tuples(*[st.floats(-100, 300, width=32)] * 2), min_size=1, max_size=5).map(
                lambda path: np.array(path, np.float32)
            ),
            st.floats(0.5, 40),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_clicks_along_strokes_are_those_on_a_canvas_of_the_whole_picture(drawn: list[Stroke]) -> None:
    clicks = stroke_clicks(drawn, SIZE_HW)

    far_off = Stroke(np.array([[-1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, 1e4]], np.float32), 0.5, adds=True)
    with_whole_canvas = stroke_clicks([far_off, *drawn], SIZE_HW)  # no point of it is in the picture
    np.testing.assert_array_equal(clicks.coords, with_whole_canvas.coords)
    np.testing.assert_array_equal(clicks.labels, with_whole_canvas.labels)


def test_no_strokes_are_no_points() -> None:
    clicks = stroke_clicks([], SIZE_HW)

    assert clicks.coords.shape == (0, 2)
    assert len(clicks) == 0


def test_the_box_of_a_mask_holds_its_last_pixels(square: Any) -> None:
    lone = np.zeros(SIZE_HW, bool)
    lone[7, 3] = True

    np.testing.assert_array_equal(mask_box(square), [60, 30, 80, 50])
    np.testing.assert_array_equal(mask_box(lone), [3, 7, 4, 8])


def test_mask_logits_squeeze_the_image_to_a_square(square: Any) -> None:
    logits = mask_logits(square)

    assert logits.shape == (1, 256, 256)
    assert logits.dtype == np.float32
    assert logits[0, int(40 / 100 * 256), int(70 / 200 * 256)] == MASK_LOGIT  # y before x
    assert logits[0, int(70 / 100 * 256), int(40 / 200 * 256)] == -MASK_LOGIT
    assert (logits > 0).mean() == pytest.approx(square.mean(), rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    size_hw=st.sampled_from([(100, 200), (256, 256), (256, 300), (257, 600), (512, 1024), (600, 431), (1500, 700)]),
    box=st.tuples(*[st.floats(0, 1)] * 4),
    share=st.sampled_from([0.01, 0.5, 1.0]),
)
def test_mask_logits_are_to_the_bit_those_of_the_whole_picture(
    size_hw: tuple[int, int], box: tuple[float, float, float, float], share: float
) -> None:
    height, width = size_hw
    (top, bottom), (left, right) = sorted(box[:2]), sorted(box[2:])
    part = slice(int(top * height), int(bottom * height) + 1), slice(int(left * width), int(right * width) + 1)
    mask = np.zeros(size_hw, bool)
    mask[part] = np.random.default_rng(int(1e6 * top)).random(mask[part].shape) < share

    logits = mask_logits(mask)

    of_all: Any = cv2.resize(mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(logits, (of_all[None] * 2 - 1) * np.float32(MASK_LOGIT))


def test_spread_points_begin_deepest_inside_and_stay_apart() -> None:
    bar = np.zeros((100, 200), bool)
    bar[40:60, 20:180] = True

    points = spread_points(bar, 4)

    columns, rows = np.floor(points).astype(int).T
    assert bar[rows, columns].all()
    assert abs(points[0, 1] - 50) <= 1
    assert np.ptp(points[:, 0]) > 100


@pytest.mark.parametrize("scale", [1, 12])
def test_points_of_a_hair_lie_on_it(scale: int) -> None:
    hair = np.zeros((50 * scale, 70 * scale), bool)
    hair[7, 3 : 60 * scale] = True

    points = spread_points(hair, 6)

    columns, rows = np.floor(points).astype(int).T
    assert 1 <= len(points) <= 6
    assert hair[rows, columns].all()
