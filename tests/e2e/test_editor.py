"""Clicks, boxes and strokes in the real editor end as the right mask in the stored annotation."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from labelstudio_sam2.demo.project import LABEL_CONFIG
from labelstudio_sam2.demo.scenes import Scene
from labelstudio_sam2.segmenter.prompt import Mask

pytestmark = pytest.mark.browser

GOOD = 0.85
"""IoU with the drawn object that the nano model must reach."""


@pytest.fixture
def check(
    scenes: dict[str, Scene], mask_of: Callable[[Any], Mask], iou: Callable[[Mask, Mask], float]
) -> Callable[[Any, str, str], None]:
    """Compare a stored region with a drawn object."""

    def check_region(region: Any, scene: str, name: str) -> None:
        reached = iou(mask_of(region), scenes[scene].masks[name])
        assert reached >= GOOD, f"IoU with the {name} is {reached:.3f}"

    return check_region


def test_a_click_becomes_the_mask_that_is_stored(open_editor: Any, check: Any) -> None:
    editor = open_editor("coins")
    editor.pick("point", "Thing")

    editor.click(53.2, 26.0)
    editor.accept()
    stored = editor.submit()

    assert [(region["type"], region["from_name"]) for region in stored] == [("brushlabels", "mask")]
    assert stored[0]["value"]["brushlabels"] == ["Thing"]
    check(stored[0], "coins", "silver")


def test_a_second_click_adds_to_the_same_suggestion(
    open_editor: Any, scenes: dict[str, Scene], mask_of: Callable[[Any], Mask], iou: Callable[[Mask, Mask], float]
) -> None:
    copper, silver = (scenes["coins"].masks[name] for name in ("copper", "silver"))
    editor = open_editor("coins")
    editor.pick("point", "Thing")

    editor.click(80, 32.5)
    editor.label("point", "Thing")
    editor.click(53.2, 26)
    editor.accept()
    stored = editor.submit()

    assert len(stored) == 1
    assert iou(mask_of(stored[0]), copper | silver) >= GOOD


def test_an_alt_click_keeps_the_neighbour_out(
    open_editor: Any, check: Any, scenes: dict[str, Scene], mask_of: Callable[[Any], Mask]
) -> None:
    """The same two clicks as above, but for the Alt: without it the neighbour would have come along."""
    editor = open_editor("coins", LABEL_CONFIG.replace('model_parts="clicked"', ""))  # the whole mask of both clicks
    editor.pick("point", "Thing")

    editor.click(43.5, 70.3)
    editor.label("point", "Thing")
    editor.click(66.4, 78.1, keys=["Alt"])
    editor.accept()
    stored = editor.submit()

    neighbour = scenes["coins"].masks["copper_low"]
    assert (mask_of(stored[0]) & neighbour).sum() < 0.2 * neighbour.sum()
    assert len(stored) == 1
    check(stored[0], "coins", "gold_low")


def test_a_box_becomes_the_mask_of_what_fills_it(open_editor: Any, check: Any) -> None:
    editor = open_editor("fruit")
    editor.pick("rectangle", "Fruit")

    editor.box(5.5, 28, 27, 72.5)
    editor.accept()
    stored = editor.submit()

    assert [region["type"] for region in stored] == ["brushlabels"]
    check(stored[0], "fruit", "pear")


def test_a_rough_stroke_becomes_the_mask_under_its_own_id(open_editor: Any, check: Any) -> None:
    editor = open_editor("fruit")
    editor.pick("brush", "Fruit")
    stroke_id = editor.paint([(76, 53), (88, 58), (82.5, 64), (82.5, 80)])
    editor.erase([(77.5, 78), (87.5, 78)])
    editor.wait_for_draft(
        lambda regions: (
            [[touch["type"] for touch in region["value"]["touches"]] for region in regions] == [["add", "eraser"]]
        )
    )
    editor.unselect()
    editor.pick("point", "Fruit")

    answer = editor.click(82.5, 67, keys=["Control"])
    editor.accept()
    stored = editor.submit()

    assert [region["id"] for region in answer] == [stroke_id]
    assert [region["id"] for region in stored] == [stroke_id]
    check(stored[0], "fruit", "orange")


def test_a_kept_mask_shrinks_where_it_is_ctrl_alt_clicked(
    open_editor: Any, check: Any, scenes: dict[str, Scene], mask_of: Callable[[Any], Mask]
) -> None:
    editor = open_editor("coins")
    editor.pick("rectangle", "Thing")
    both = editor.box(33, 56, 74.5, 89)
    editor.accept()
    editor.wait_for_draft(lambda regions: [region["type"] for region in regions] == ["brushlabels"])
    editor.unselect()
    editor.pick("point", "Thing")

    answer = editor.click(66.4, 78.1, keys=["Control", "Alt"])
    editor.accept()
    stored = editor.submit()

    neighbour = scenes["coins"].masks["copper_low"]
    assert (mask_of(both[0]) & neighbour).sum() > 0.5 * neighbour.sum()
    assert [region["id"] for region in stored] == [region["id"] for region in answer] == [both[0]["id"]]
    check(stored[0], "coins", "gold_low")


def test_a_kept_mask_grows_when_ctrl_click_and_click_follow_each_other(
    open_editor: Any, scenes: dict[str, Scene], mask_of: Callable[[Any], Mask], iou: Callable[[Mask, Mask], float]
) -> None:
    gold, copper = (scenes["coins"].masks[name] for name in ("gold_low", "copper_low"))
    editor = open_editor("coins")
    editor.pick("point", "Thing")
    kept = editor.click(43.5, 70.3)
    editor.accept()
    editor.wait_for_draft(lambda regions: [region["type"] for region in regions] == ["brushlabels"])
    editor.unselect()
    editor.pick("point", "Thing")

    editor.click(43.5, 70.3, keys=["Control"])
    editor.label("point", "Thing")
    editor.click(66.4, 78.1)
    editor.accept()
    stored = editor.submit()

    assert [region["id"] for region in stored] == [kept[0]["id"]]
    assert iou(mask_of(stored[0]), gold | copper) >= GOOD


def test_a_click_in_a_waiting_box_is_answered_within_that_box(open_editor: Any, check: Any) -> None:
    editor = open_editor("coins")
    editor.pick("rectangle", "Thing")
    editor.box(33, 56, 54, 85)
    editor.wait_for_draft(lambda regions: "rectanglelabels" in [region["type"] for region in regions])
    editor.unselect()
    editor.pick("point", "Thing")

    editor.click(43.5, 70.3, keys=["Control"])
    editor.accept()
    stored = editor.submit()

    assert [region["type"] for region in stored] == ["brushlabels"]
    check(stored[0], "coins", "gold_low")


def test_with_auto_accept_every_click_is_an_object_of_its_own(open_editor: Any, check: Any) -> None:
    editor = open_editor("coins")
    editor.auto_accept()
    editor.pick("point", "Thing")

    editor.click(53.2, 26.0)
    editor.wait_for_regions(1)
    editor.label("point", "Thing")
    editor.click(83.0, 74.2)
    editor.wait_for_regions(2)
    stored = editor.submit()

    assert len(stored) == 2
    check(stored[0], "coins", "silver")
    check(stored[1], "coins", "silver_low_right")


def test_a_rejected_suggestion_leaves_nothing_behind(open_editor: Any) -> None:
    editor = open_editor("coins")
    editor.pick("point", "Thing")

    editor.click(53.2, 26.0)
    editor.reject()
    stored = editor.submit()

    assert stored == []


PROMPTS = """
  <Image name="image" value="$image"/>
  <KeyPointLabels name="point" toName="image" smart="true" smartOnly="true">
    <Label value="Fruit" hotkey="1"/>
  </KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true" smartOnly="true" model_answer="false">
    <Label value="Fruit" hotkey="4"/>
  </RectangleLabels>
"""
POLYGONS = """
  <PolygonLabels name="outline" toName="image" model_parts="clicked"><Label value="Fruit" hotkey="7"/></PolygonLabels>
"""
BOXES = """
  <RectangleLabels name="kept" toName="image" smart="false" model_parts="clicked">
    <Label value="Fruit" hotkey="7"/>
  </RectangleLabels>
"""
PLAIN_TAGS = """
<View>
  <Image name="image" value="$image"/>
  <KeyPoint name="point" toName="image" smart="true" smartOnly="true"/>
  <Rectangle name="box" toName="image" smart="true" smartOnly="true" model_answer="false"/>
  <Brush name="mask" toName="image" smart="false" model_parts="clicked"/>
  <Labels name="label" toName="image"><Label value="Fruit" hotkey="1"/></Labels>
</View>
"""


def test_polygons_where_the_configuration_has_polygons(
    open_editor: Any, scenes: dict[str, Scene], iou: Callable[[Mask, Mask], float]
) -> None:
    editor = open_editor("fruit", f"<View>{PROMPTS}{POLYGONS}</View>")
    editor.pick("point", "Fruit")

    editor.click(82.5, 57.5)
    editor.accept()
    (region,) = editor.submit()

    orange = scenes["fruit"].masks["orange"]
    corners = np.array(region["value"]["points"]) / 100 * (orange.shape[1], orange.shape[0])
    drawn = cv2.fillPoly(np.zeros(orange.shape, np.uint8), [corners.astype(np.int32)], 1).astype(bool)
    assert (region["type"], region["from_name"]) == ("polygonlabels", "outline")
    assert region["value"]["polygonlabels"] == ["Fruit"]
    assert iou(drawn, orange) >= GOOD


def test_boxes_where_the_configuration_has_only_boxes(open_editor: Any, scenes: dict[str, Scene]) -> None:
    editor = open_editor("fruit", f"<View>{PROMPTS}{BOXES}</View>")
    editor.pick("point", "Fruit")

    editor.click(82.5, 57.5)
    editor.accept()
    (region,) = editor.submit()

    assert (region["type"], region["from_name"]) == ("rectanglelabels", "kept")
    rows, columns = np.nonzero(scenes["fruit"].masks["orange"])
    height, width = scenes["fruit"].masks["orange"].shape
    left_top_right_bottom = [columns.min() / width, rows.min() / height, columns.max() / width, rows.max() / height]
    value = region["value"]
    stored = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
    assert stored == pytest.approx([100 * edge for edge in left_top_right_bottom], abs=3)


def test_plain_tags_with_one_list_of_labels(open_editor: Any, check: Any) -> None:
    editor = open_editor("fruit", PLAIN_TAGS)
    editor.pick("point", "Fruit")

    editor.click(82.5, 57.5)
    editor.accept()
    stored = {region["type"]: region for region in editor.submit()}

    assert set(stored) == {"brush", "labels"}
    assert stored["brush"]["id"] == stored["labels"]["id"]
    assert stored["labels"]["value"]["labels"] == ["Fruit"]
    check(stored["brush"], "fruit", "orange")


def test_the_configuration_that_readme_tells_to_paste(open_editor: Any, check: Any) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (label_config,) = re.findall(r"```xml\n(.*?)```", readme, re.DOTALL)
    editor = open_editor("fruit", label_config)
    editor.pick("point", "Cat")

    editor.click(82.5, 57.5)
    editor.accept()
    (region,) = editor.submit()

    assert (region["from_name"], region["value"]["brushlabels"]) == ("mask", ["Cat"])
    check(region, "fruit", "orange")
