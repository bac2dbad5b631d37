"""The click that is made, and what counts as a mask."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from labelstudio_sam2.doctor.click import BadAnswerError, click_in_the_middle, covered
from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle
from labelstudio_sam2.labelstudio.label_config import parse_label_config
from labelstudio_sam2.labelstudio.wire import Task, decode_predict_request

SIZE_HW = (48, 64)
TASK = Task(3, {"image": "/data/upload/7/disc.png", "images": ["a.png", "b.png"]})

PLAIN = """
<View>
  <Image name="image" value="$image"/>
  <Brush name="brush" toName="image" smart="false"/>
  <KeyPoint name="point" toName="image"/>
  <Labels name="label" toName="image"><Label value="Disc"/></Labels>
</View>
"""
BOX = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image"><Label value="Disc"/></RectangleLabels>
</View>
"""


def prompt(xml: str) -> list[dict[str, Any]]:
    return click_in_the_middle(TASK, 7, xml, parse_label_config(xml), SIZE_HW).regions


def test_it_clicks_in_the_middle_with_the_first_label_as_the_editor_does(xml: str) -> None:
    (region,) = prompt(xml)

    assert (region["type"], region["from_name"], region["to_name"]) == ("keypointlabels", "point", "image")
    assert (region["value"]["x"], region["value"]["y"], region["value"]["keypointlabels"]) == (50, 50, ["Disc"])
    assert (region["original_width"], region["original_height"]) == (64, 48)
    assert "item_index" not in region


def test_plain_tags_send_the_label_as_a_result_of_its_own() -> None:
    point, label = prompt(PLAIN)

    assert (point["type"], label["type"], label["from_name"]) == ("keypoint", "labels", "label")
    assert label["value"]["labels"] == ["Disc"]
    assert point["id"] == label["id"]


def test_where_there_are_no_points_it_drags_a_rectangle() -> None:
    (region,) = prompt(BOX)

    assert region["type"] == "rectanglelabels"
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == [25, 25, 50, 50]


def test_of_a_list_of_images_it_names_the_first(xml: str) -> None:
    (region,) = prompt(xml.replace('value="$image"', 'valueList="$images"'))

    assert region["item_index"] == 0


@pytest.mark.parametrize("name", ["plain", "box", "labels"])
def test_the_backends_own_parts_take_it_for_a_prompt(name: str, xml: str) -> None:
    label_config = {"plain": PLAIN, "box": BOX, "labels": xml}[name]
    click = click_in_the_middle(TASK, 7, label_config, parse_label_config(label_config), SIZE_HW)

    request = decode_predict_request(click.body())

    assert request.context is not None
    assert len(request.context.result) == len(click.regions)
    assert (request.project, request.tasks[0].data) == ("7", TASK.data)


def brush(**changed: Any) -> dict[str, Any]:
    """Return a region that covers the upper half of the picture."""
    mask = np.zeros(SIZE_HW, np.bool_)
    mask[:24] = True
    region = {
        "id": "a1",
        "from_name": "mask",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": 64,
        "original_height": 48,
        "value": {"format": "rle", "rle": encode_brush_rle(mask).tolist(), "brushlabels": ["Disc"]},
    }
    return {**region, **changed}


@pytest.fixture
def share(xml: str) -> Callable[..., float]:
    """Return a function that reads an answer with these regions."""

    def read(*regions: dict[str, Any]) -> float:
        answer = msgspec.json.encode({"results": [{"result": regions, "score": 0.9}]})
        return covered(answer, parse_label_config(xml), SIZE_HW)

    return read


def test_the_share_of_the_picture_that_is_covered_is_read_from_the_regions(share: Any) -> None:
    assert share(brush()) == 0.5


@pytest.mark.parametrize(
    ("region", "why"),
    [
        (None, "no mask in it"),
        ({"from_name": "outline"}, "goes to a tag 'outline'"),
        ({"to_name": "second"}, "goes to a tag 'mask'"),
        ({"type": "polygonlabels"}, "is a polygonlabels region of <BrushLabels name='mask'>"),
        ({"value": {"format": "rle", "rle": [0], "brushlabels": ["Box"]}}, "has no label 'Box'"),
        ({"value": {"format": "rle", "rle": [0, 1], "brushlabels": ["Disc"]}}, "RLE"),
        ({"original_width": 48, "original_height": 64}, "drawn on 48 x 64"),
    ],
)
def test_an_answer_that_label_studio_could_not_show_says_why(share: Any, region: Any, why: str) -> None:
    with pytest.raises(BadAnswerError, match="(?i)" + why.replace("<", "[<]")):
        share(*([] if region is None else [brush(**region)]))


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"results": []}', b'{"results": [[]]}', b'{"results": [7]}'])
def test_an_answer_without_a_prediction_is_none(answer: bytes, xml: str) -> None:
    with pytest.raises(BadAnswerError):
        covered(answer, parse_label_config(xml), SIZE_HW)
