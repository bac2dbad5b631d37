"""One labeling configuration per finding."""

from collections.abc import Callable
from typing import Any

import pytest

from labelstudio_sam2.demo.project import LABEL_CONFIG
from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.doctor.labeling import check_labeling

ByName = Callable[[Any], dict[str, Finding]]


def view(*tags: str, image: str = '<Image name="image" value="$image"/>') -> str:
    return f"<View>{image}{''.join(tags)}</View>"


def tag(kind: str, name: str, *labels: str, **attributes: str) -> str:
    written = "".join(f' {key}="{value}"' for key, value in {"toName": "image", **attributes}.items())
    return f'<{kind} name="{name}"{written}>{"".join(map("<Label value={!r}/>".format, labels))}</{kind}>'


POINT = tag("KeyPointLabels", "point", "Cat", "Dog", smart="true", smartOnly="true")
BRUSH = tag("BrushLabels", "mask", "Cat", "Dog", smart="false")


@pytest.mark.parametrize("xml", [LABEL_CONFIG, view(POINT, BRUSH)])
def test_nothing_is_said_against_a_good_configuration(xml: str, by_name: ByName) -> None:
    found = by_name(check_labeling(xml))

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert set(found) == {"labeling-configuration", "prompt-tag", "smart-only", "answer-tag", "labels", "smart-brush"}
    assert found["answer-tag"].text == "masks go to <BrushLabels name='mask'>"


def test_plain_tags_with_one_list_of_labels_are_good_too(by_name: ByName) -> None:
    plain = [
        tag("Brush", "brush", smart="false"),
        tag("KeyPoint", "point", smartOnly="true"),
        tag("Labels", "l", "Cat"),
    ]

    found = by_name(check_labeling(view(*plain)))

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert found["labels"].text == "1 can be clicked, and an answer tag has each"


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        ("<View><KeyPoint", "usable XML"),
        (view(POINT, BRUSH, image=""), "no <Image>"),
        (view(POINT, BRUSH, image='<Image name="image" value="image.png"/>'), "no <Image>"),
        (view(POINT, tag("BrushLabels", "mask", "Cat", model_parts="some")), "model_parts"),
    ],
)
def test_a_configuration_that_cannot_be_read_says_why(xml: str, why: str, by_name: ByName) -> None:
    found = by_name(check_labeling(xml))

    assert list(found) == ["labeling-configuration"]
    assert found["labeling-configuration"].outcome == "problem"
    assert why in found["labeling-configuration"].text


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (view(BRUSH), "no tag to prompt with"),
        (view(BRUSH, tag("KeyPointLabels", "point", "Cat", smart="false")), "name='point'> could prompt, but"),
        (view(tag("BrushLabels", "mask", "Cat")), "name='mask'> is smart, but sends nothing"),
        (view(BRUSH, tag("PolygonLabels", "outline", "Cat", smart="true")), "no tag to prompt with"),
        (view(BRUSH, tag("KeyPointLabels", "point", "Cat", toName="text")), "no tag to prompt with"),
    ],
)
def test_there_is_no_smart_tag_to_prompt_with(xml: str, why: str, by_name: ByName) -> None:
    finding = by_name(check_labeling(xml))["prompt-tag"]

    assert finding.outcome == "problem"
    assert why in finding.text
    assert 'smart="true"' in finding.advice


def test_an_image_that_cannot_be_prompted_on_is_named(by_name: ByName) -> None:
    second = '<Image name="image" value="$image"/><Image name="second" value="$second"/>'

    found = by_name(check_labeling(view(POINT, BRUSH, image=second)))

    assert found["prompt-tag"].outcome == "warning"
    assert "'second'" in found["prompt-tag"].text
    assert found["labeling-configuration"].text == "2 image tags"


def test_a_list_of_images_is_told(by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, BRUSH, image='<Image name="image" valueList="$images"/>')))

    assert found["labeling-configuration"].text == "1 image tag, a list per task"


@pytest.mark.parametrize("other", ["", tag("BrushLabels", "mask", "Cat", smart="false", model_answer="false")])
def test_no_tag_can_hold_the_mask(other: str, by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, other)))

    assert found["answer-tag"].outcome == "problem"
    assert "'image'" in found["answer-tag"].text
    assert "labels" not in found


def test_labels_that_no_answer_tag_has_are_named(by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, tag("BrushLabels", "mask", "Cat", "dog", smart="false"))))

    assert found["labels"].outcome == "problem"
    assert "label 'Dog'" in found["labels"].text
    assert "Cat" not in found["labels"].text


def test_labels_that_cannot_be_clicked_are_named(by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, tag("BrushLabels", "mask", "Cat", "Dog", "Cow", smart="false"))))

    assert found["labels"].outcome == "warning"
    assert "label 'Cow'" in found["labels"].text
    assert "Dog" not in found["labels"].text


def test_an_alias_of_one_tag_is_no_difference(by_name: ByName) -> None:
    brush = BRUSH.replace("value='Dog'", "value='Dog' alias='d'")
    assert brush != BRUSH

    assert by_name(check_labeling(view(POINT, brush)))["labels"].outcome == "ok"


def test_labels_of_the_task_are_taken_as_they_come(by_name: ByName) -> None:
    point = tag("KeyPointLabels", "point", value="$labels", smartOnly="true")

    assert by_name(check_labeling(view(point, BRUSH)))["labels"].outcome == "ok"


def test_a_smart_brush_sends_nothing(by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, tag("BrushLabels", "mask", "Cat", "Dog"))))

    assert found["smart-brush"].outcome == "warning"
    assert "name='mask'" in found["smart-brush"].text
    assert 'smart="false"' in found["smart-brush"].advice


def test_an_ordinary_point_tool_beside_the_smart_one_asks_for_no_mask(by_name: ByName) -> None:
    point = tag("KeyPointLabels", "point", "Cat", "Dog", smart="true")

    found = by_name(check_labeling(view(point, BRUSH)))

    assert found["smart-only"].outcome == "warning"
    assert 'smartOnly="true"' in found["smart-only"].advice


def test_a_rectangle_that_is_also_an_annotation_may_have_its_ordinary_tool(by_name: ByName) -> None:
    found = by_name(check_labeling(view(POINT, BRUSH, tag("RectangleLabels", "box", "Cat", "Dog"))))

    assert found["smart-only"].outcome == "ok"
