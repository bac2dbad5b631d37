"""Which region a click edits, and what is asked then. The picture is 200 x 100."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelstudio_sam2.errors import BadPromptError
from labelstudio_sam2.labelstudio import editing
from labelstudio_sam2.labelstudio.brush_extents import BrushExtents
from labelstudio_sam2.labelstudio.editing import Edit, box_around, edit_prompt, edit_under, editable
from labelstudio_sam2.labelstudio.prompts import Clicks, mask_logits
from labelstudio_sam2.labelstudio.regions import DrawnRegion, area_mask, covers

SIZE_HW = (100, 200)


def click(x: float, y: float, *, positive: bool = True) -> Clicks:
    """Return one click in pixels."""
    return Clicks(np.array([[x, y]], np.float32), np.array([positive], np.int32))


def under(draw: Any, x: float, y: float, *regions: dict[str, Any]) -> str | None:
    """Return the id of the region of class Cat under a point in pixels."""
    found = edit_under(
        np.array([x, y], np.float32),
        draw.drawn(*regions),
        SIZE_HW,
        is_wanted=lambda region: region.class_names == ("Cat",),
    )
    return None if found is None else found.region.id


def around(draw: Any, x: float, y: float, *regions: dict[str, Any]) -> str | None:
    found = box_around(np.array([x, y], np.float32), draw.drawn(*regions), SIZE_HW, is_wanted=lambda _: True)
    return None if found is None else found.id


def edit_of(region: DrawnRegion, clicks: Clicks) -> Edit:
    return edit_prompt(editable(region, SIZE_HW), clicks, SIZE_HW)


def test_a_click_on_a_stroke_finds_it_and_one_beside_it_does_not(draw: Any) -> None:
    stroke = draw.strokes(draw.stroke(20, 50, 60, 50, width=4))  # y 46..54, x 40..120 and the round ends

    assert under(draw, 80, 50, stroke) == stroke["id"]
    assert under(draw, 80, 60, stroke) is None


def test_a_click_on_what_was_erased_is_beside_the_stroke(draw: Any) -> None:
    stroke = draw.strokes(draw.stroke(20, 50, 60, 50, width=4), draw.stroke(40, 40, 40, 60, kind="eraser", width=5))

    assert under(draw, 80, 50, stroke) is None


def test_a_click_on_a_mask_or_a_polygon_finds_it(draw: Any, square: Any) -> None:
    mask, polygon = draw.mask(square), draw.polygon([(30, 30), (40, 30), (40, 50), (30, 50)])

    assert under(draw, 70, 40, mask) == mask["id"]
    assert under(draw, 70, 40, polygon) == polygon["id"]
    assert under(draw, 81.5, 40, mask) is None


def test_the_topmost_region_is_edited(draw: Any, square: Any) -> None:
    below, above = draw.mask(square), draw.mask(square)

    assert under(draw, 70, 40, below, above) == above["id"]


def test_regions_of_another_class_are_not_edited(draw: Any, square: Any) -> None:
    cat, dog = draw.mask(square), draw.mask(square)
    dog["value"]["brushlabels"] = ["Dog"]

    assert under(draw, 70, 40, cat, dog) == cat["id"]
    assert under(draw, 70, 40, dog) is None


def test_key_points_and_rectangles_are_not_edited(draw: Any) -> None:
    assert under(draw, 70, 40, draw.click(35, 40), draw.rectangle(0, 0, 100, 100)) is None


@pytest.mark.parametrize(
    "spoiled",
    [
        {"original_width": 100},
        {"image_rotation": 90},
        {"value": {"format": "rle", "rle": [1, 2, 3], "brushlabels": ["Cat"]}},
        {"value": {"format": "rle", "rle": "AAEC", "brushlabels": ["Cat"]}},
    ],
)
def test_a_region_that_does_not_fit_is_passed_over(draw: Any, square: Any, spoiled: dict[str, Any]) -> None:
    fitting, spoilt = draw.mask(square), {**draw.mask(square), **spoiled}

    assert under(draw, 70, 40, fitting, spoilt) == fitting["id"]
    assert under(draw, 70, 40, spoilt) is None


RLES = ("whole", "cut short", "cut late", "goes on", "a word in it", "too large a number in it")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["strokes", "polygon", *RLES]), max_size=6),
    seed=st.integers(0, 10_000),
    click_at=st.tuples(st.integers(0, 200), st.integers(0, 100)),
)
def test_the_region_under_a_click_is_the_topmost_whose_mask_can_be_made_and_holds_it(
    draw: Any, kinds: list[str], seed: int, click_at: tuple[int, int]
) -> None:
    random = np.random.default_rng(seed)
    regions = draw.drawn(*[any_region(draw, kind, random) for kind in kinds])
    point = np.array(click_at, np.float32)

    found = edit_under(point, regions, SIZE_HW, is_wanted=lambda _: True)

    expected = [region for region in regions if (mask := mask_or_none(region)) is not None and covers(mask, point)]
    assert (found and found.region.id) == (expected[-1].id if expected else None)
    if found is not None and found.mask is not None:
        np.testing.assert_array_equal(found.mask, area_mask(found.region, SIZE_HW))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["strokes", "polygon", *RLES]), max_size=6),
    seed=st.integers(0, 10_000),
    clicks=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 100)), min_size=1, max_size=9),
)
def test_with_extents_the_same_region_is_found_before_and_after_they_are_learned(
    draw: Any, until: Any, kinds: list[str], seed: int, clicks: list[tuple[int, int]]
) -> None:
    random = np.random.default_rng(seed)
    regions = draw.drawn(*[any_region(draw, kind, random) for kind in kinds])
    extents = BrushExtents()

    def found(point: tuple[int, int], extents: BrushExtents | None = None) -> str | None:
        at = np.array(point, np.float32)
        edited = edit_under(at, regions, SIZE_HW, is_wanted=lambda _: True, extents=extents)
        return None if edited is None else edited.region.id

    plain = [found(point) for point in clicks]

    assert [found(point, extents) for point in clicks] == plain
    extents.learn()
    until(lambda: not extents.is_learning)
    assert [found(point, extents) for point in clicks] == plain


def any_region(draw: Any, kind: str, random: np.random.Generator) -> dict[str, Any]:
    """Return a large region somewhere, its RLE perhaps damaged."""
    x, y = random.uniform(0, 70, 2).tolist()
    if kind == "strokes":
        painted: dict[str, Any] = draw.strokes(
            draw.stroke(*random.uniform(0, 100, 6).tolist(), width=20), draw.stroke(x, y, kind="eraser", width=9)
        )
        return painted
    if kind == "polygon":
        return dict(draw.polygon(random.uniform(0, 100, (5, 2)).tolist()))
    mask = np.zeros(SIZE_HW, bool)
    mask[int(y) : int(y) + 30, int(x) : int(x) + 120] = True
    region = draw.mask(mask)
    rle = region["value"]["rle"]
    half = len(rle) // 2
    region["value"]["rle"] = {
        "whole": rle,
        "cut short": rle[:half],
        "cut late": rle[:-2],
        "goes on": [*rle, 255, 255],
        "a word in it": [*rle[:half], "7", *rle[half + 1 :]],
        "too large a number in it": [*rle[:half], 300, *rle[half + 1 :]],
    }[kind]
    return dict(region)


def mask_or_none(region: DrawnRegion) -> Any:
    try:
        return area_mask(region, SIZE_HW)
    except BadPromptError:
        return None


def test_the_mask_of_an_edited_region_is_made_once(draw: Any, square: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DrawnRegion] = []

    def count(region: DrawnRegion, size_hw: tuple[int, int]) -> Any:
        made.append(region)
        return area_mask(region, size_hw)

    monkeypatch.setattr(editing, "area_mask", count)
    regions = draw.drawn(draw.mask(square), draw.mask(~square), draw.mask(~square))

    edited = edit_under(np.array([70, 40], np.float32), regions, SIZE_HW, is_wanted=lambda _: True)
    assert edited is not None
    edit_prompt(edited, click(70, 40), SIZE_HW)

    assert len(made) == 1


def test_the_newest_rectangle_around_a_click_is_found(draw: Any, square: Any) -> None:
    large, small = draw.rectangle(0, 0, 100, 100), draw.rectangle(30, 30, 10, 20)

    assert around(draw, 70, 40, large, small, draw.mask(square)) == small["id"]
    assert around(draw, 100, 40, large, small) == large["id"]
    assert around(draw, 100, 40, small) is None


def test_strokes_are_edited_by_points_along_them_and_the_click(draw: Any) -> None:
    (region,) = draw.drawn(draw.strokes(draw.stroke(20, 50, 60, 50), draw.stroke(80, 10, 80, 90, kind="eraser")))

    edit = edit_of(region, click(80, 51))

    coords, labels = edit.prompt.point_coords, edit.prompt.point_labels
    np.testing.assert_array_equal(coords[-1], [80, 51])
    assert labels[-1] == 1
    assert (coords[:-1][labels[:-1] == 1][:, 1] == 50).all()
    assert (coords[labels == 0][:, 0] == 160).all()
    assert (edit.prompt.box, edit.prompt.mask_input, edit.within) == (None, None, None)


def test_a_finished_mask_goes_in_as_mask_input_with_points_that_keep_it(draw: Any, square: Any) -> None:
    (region,) = draw.drawn(draw.mask(square))

    edit = edit_of(region, click(90.5, 40))

    np.testing.assert_array_equal(edit.prompt.mask_input, mask_logits(square))
    np.testing.assert_array_equal(edit.prompt.point_coords[-1], [90.5, 40])
    kept = np.floor(edit.prompt.point_coords[:-1]).astype(int)
    assert len(kept) == 6
    assert square[kept[:, 1], kept[:, 0]].all()
    assert edit.prompt.point_labels.all()
    assert edit.within is None


def test_a_polygon_is_edited_like_a_finished_mask(draw: Any) -> None:
    (region,) = draw.drawn(draw.polygon([(30, 30), (39.5, 30), (39.5, 49), (30, 49)]))

    edit = edit_of(region, click(70, 40))

    assert edit.prompt.mask_input is not None
    assert (edit.prompt.mask_input > 0).mean() == pytest.approx(20 * 20 / 20_000, rel=0.1)


def test_taking_away_keeps_the_answer_within_the_mask_and_only_far_points(draw: Any, square: Any) -> None:
    (region,) = draw.drawn(draw.mask(square))

    edit = edit_of(region, click(62, 32, positive=False))

    np.testing.assert_array_equal(edit.within, square)
    kept = edit.prompt.point_coords[edit.prompt.point_labels == 1]
    assert len(kept) == 2
    assert np.hypot(*(kept - [62, 32]).T).min() > 8
    np.testing.assert_array_equal(edit.prompt.point_coords[edit.prompt.point_labels == 0], [[62, 32]])


def test_adding_and_taking_away_together_may_grow(draw: Any, square: Any) -> None:
    (region,) = draw.drawn(draw.mask(square))

    edit = edit_of(region, click(62, 32, positive=False) + click(90, 40))

    assert edit.within is None


def test_strokes_over_a_finished_mask_count_besides_it(draw: Any, square: Any) -> None:
    rle = draw.mask(square)["value"]["rle"]
    (region,) = draw.drawn(draw.strokes(draw.stroke(31, 32, 31, 48, kind="eraser", width=1), rle=rle))

    edit = edit_of(region, click(75, 40, positive=False))

    asked_away = edit.prompt.point_coords[edit.prompt.point_labels == 0]
    assert (asked_away[:, 0] == 62).sum() == len(asked_away) - 1  # along the eraser, and the click
    assert edit.within is not None
    assert not edit.within[40, 62]
    assert edit.within[40, 70]


def test_a_mask_that_was_erased_completely_is_asked_by_its_strokes(draw: Any, square: Any) -> None:
    rle = draw.mask(square)["value"]["rle"]
    (region,) = draw.drawn(draw.strokes(draw.stroke(35, 40, kind="eraser", width=50), rle=rle))

    edit = edit_of(region, click(70, 40))

    assert edit.prompt.mask_input is None
