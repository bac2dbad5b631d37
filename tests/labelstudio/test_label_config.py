"""Labeling configurations: which image, which tag takes an answer, and what a hostile one can do."""

from typing import Any

import pytest

from labelstudio_sam2.errors import BadConfigError, NoAnswerTagError
from labelstudio_sam2.labelstudio.label_config import AnswerTag, ImageTag, parse_label_config

IMAGE = '<Image name="image" value="$image"/>'
KEYPOINTS = '<KeyPointLabels name="kp" toName="image"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>'


def answers(body: str, class_names: tuple[str, ...] = ("Cat",), prompt_name: str = "kp") -> list[AnswerTag]:
    config = parse_label_config(f"<View>{IMAGE}{KEYPOINTS}{body}</View>")
    return config.answer_tags("image", prompt_name, class_names)


def names(tags: list[AnswerTag]) -> list[str]:
    return [tag.from_name for tag in tags]


def labels_tag(tag: str, name: str, *values: str, attributes: str = "", to_name: str = "image") -> str:
    inside = "".join(f'<Label value="{value}"/>' for value in values)
    return f'<{tag} name="{name}" toName="{to_name}" {attributes}>{inside}</{tag}>'


def test_a_recorded_configuration_answers_with_its_brush(recorded: Any) -> None:
    body = recorded("kp1_positive")
    xml = body.get("predict_request", {}).get("body", body)["label_config"]

    config = parse_label_config(xml)

    assert config.image("image") == ImageTag("image", "image", is_list=False)
    assert config.answer_tags("image", "kp", ("Object",)) == [AnswerTag("brush", "image", "brush", None, ("Object",))]


def test_brush_goes_before_polygon_before_rectangle() -> None:
    rectangle = labels_tag("RectangleLabels", "rect", "Cat")
    polygon = labels_tag("PolygonLabels", "poly", "Cat")
    brush = labels_tag("BrushLabels", "brush", "Cat")

    assert names(answers(rectangle + polygon + brush)) == ["brush"]
    assert names(answers(rectangle + polygon)) == ["poly"]
    assert names(answers(rectangle)) == ["rect"]


def test_the_first_tag_that_has_the_label_takes_the_answer() -> None:
    body = labels_tag("BrushLabels", "dogs", "Dog") + labels_tag("PolygonLabels", "cats", "Cat")

    assert names(answers(body, ("Cat",))) == ["cats"]
    assert names(answers(body, ("Dog",))) == ["dogs"]


def test_model_answer_true_wins_over_the_order_and_several_take_a_region_each() -> None:
    brush = labels_tag("BrushLabels", "brush", "Cat")
    polygon = labels_tag("PolygonLabels", "poly", "Cat", attributes='model_answer="true"')
    rectangle = labels_tag("RectangleLabels", "rect", "Cat", attributes='model_answer="TRUE"')

    assert names(answers(brush + polygon)) == ["poly"]
    assert names(answers(brush + polygon + rectangle)) == ["poly", "rect"]


def test_model_answer_false_never_takes_an_answer() -> None:
    brush = labels_tag("BrushLabels", "brush", "Cat", attributes='model_answer="false"')

    assert names(answers(brush + labels_tag("PolygonLabels", "poly", "Cat"))) == ["poly"]
    with pytest.raises(NoAnswerTagError):
        answers(brush)


def test_model_answer_on_a_tag_without_the_label_changes_nothing() -> None:
    brush = labels_tag("BrushLabels", "brush", "Cat")
    polygon = labels_tag("PolygonLabels", "poly", "Dog", attributes='model_answer="true"')

    assert names(answers(brush + polygon)) == ["brush"]


def test_all_parts_of_a_mask_stay_unless_the_tag_says_clicked() -> None:
    (usual,) = answers(labels_tag("BrushLabels", "brush", "Cat"))
    (clicked,) = answers(labels_tag("BrushLabels", "brush", "Cat", attributes='model_parts="clicked"'))

    assert (usual.parts, clicked.parts) == ("all", "clicked")


def test_model_tolerance_is_in_pixels_and_one_by_default() -> None:
    (rough,) = answers(labels_tag("PolygonLabels", "poly", "Cat", attributes='model_tolerance="2.5"'))
    (usual,) = answers(labels_tag("PolygonLabels", "poly", "Cat"))

    assert (rough.tolerance, usual.tolerance) == (2.5, 1.0)


@pytest.mark.parametrize(
    "attributes",
    [
        'model_answer="yes"',
        'model_answer=""',
        'model_parts="some"',
        'model_tolerance="-1"',
        'model_tolerance="nan"',
        'model_tolerance="inf"',
        'model_tolerance="101"',
        'model_tolerance="1px"',
    ],
)
def test_a_wrong_attribute_of_ours_is_named(attributes: str) -> None:
    with pytest.raises(BadConfigError) as error:
        answers(labels_tag("PolygonLabels", "poly", "Cat", attributes=attributes))

    assert attributes.partition("=")[0] in str(error.value)
    assert "<PolygonLabels>" in str(error.value)


def test_a_label_that_no_tag_accepts_has_no_answer() -> None:
    with pytest.raises(NoAnswerTagError, match="Dog"):
        answers(labels_tag("BrushLabels", "brush", "Cat"), ("Dog",))


def test_a_plain_brush_without_labels_takes_only_unlabelled_prompts() -> None:
    body = '<KeyPoint name="plain" toName="image"/><Brush name="brush" toName="image"/>'

    assert answers(body, (), "plain") == [AnswerTag("brush", "image", "brush", None, ())]
    with pytest.raises(NoAnswerTagError):
        answers(body, ("Cat",))


def test_a_plain_brush_takes_its_class_from_a_labels_tag() -> None:
    body = '<Brush name="brush" toName="image"/>' + labels_tag("Labels", "lab", "Dog", "Cat")

    assert answers(body) == [AnswerTag("brush", "image", "brush", "lab", ("Cat",))]


def test_a_labels_tag_of_another_image_does_not_count() -> None:
    body = '<Brush name="brush" toName="image"/>' + labels_tag("Labels", "lab", "Cat", to_name="other")

    with pytest.raises(NoAnswerTagError):
        answers(body)


def test_regions_say_a_labels_alias_on_both_sides() -> None:
    config = parse_label_config(
        f"<View>{IMAGE}"
        '<KeyPointLabels name="kp" toName="image"><Label value="Cat" alias="c1"/></KeyPointLabels>'
        '<BrushLabels name="brush" toName="image"><Label value="Cat" alias="c2"/></BrushLabels></View>'
    )

    (tag,) = config.answer_tags("image", "kp", ("c1",))

    assert tag.class_names == ("c2",)
    assert config.label_values("kp", ("c1",)) == config.label_values("brush", ("c2",)) == ("Cat",)


def test_labels_from_the_tasks_data_accept_any_class() -> None:
    body = labels_tag("BrushLabels", "brush", attributes='value="$labels"')

    (tag,) = answers(body, ("Whatever",))

    assert tag.class_names == ("Whatever",)


def test_a_tag_works_on_each_image_of_its_to_name() -> None:
    config = parse_label_config(
        '<View><Image name="left" value="$l"/><Image name="right" value="$r"/>'
        + labels_tag("BrushLabels", "brush", "Cat", to_name="left, right")
        + labels_tag("PolygonLabels", "poly", "Cat", to_name="right")
        + "</View>"
    )

    (left,) = config.answer_tags("left", "brush", ("Cat",))

    assert (left.from_name, left.to_name) == ("brush", "left")
    assert config.image("right").data_key == "r"
    with pytest.raises(BadConfigError, match="middle"):
        config.image("middle")


def test_a_value_list_is_a_list_of_images() -> None:
    config = parse_label_config('<View><Image name="image" valueList="$pages"/></View>')

    assert config.image("image") == ImageTag("image", "pages", is_list=True)


def test_labels_may_stand_deeper_in_the_configuration() -> None:
    body = '<View><BrushLabels name="brush" toName="image"><View><Label value="Cat"/></View></BrushLabels></View>'

    assert names(answers(body)) == ["brush"]


def test_no_tag_that_can_hold_a_mask_is_a_bad_configuration() -> None:
    for body in ("", '<Choices name="c" toName="image"/>', labels_tag("BrushLabels", "brush", "Cat", to_name="other")):
        with pytest.raises(BadConfigError, match="BrushLabels"):
            answers(body)


ENTITY_BOMB = (
    '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]><View><Image name="&y;" value="$i"/></View>'
)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "no xml",
        "<View>",
        "<View></Wiev>",
        "<View>\x00</View>",
        "<View>&unknown;</View>",
        "<View/>",
        '<View><Image name="image"/></View>',
        '<View><Image value="$image"/></View>',
        '<View><Image name="image" value="fixed.png"/></View>',
        '<View><Text name="text" value="$text"/></View>',
        "<View>" * 30_000,
        "<View>" * 15_000 + "</View>" * 15_000,
        f"<!DOCTYPE View><View>{IMAGE}</View>",
        '<!DOCTYPE a SYSTEM "file:///etc/hostname"><View/>',
        ENTITY_BOMB,
    ],
    ids=lambda xml: repr(xml[:40]),
)
def test_a_configuration_that_cannot_be_used_is_refused(xml: str) -> None:
    with pytest.raises(BadConfigError):
        parse_label_config(xml)


def test_the_detail_holds_nothing_of_a_broken_configuration() -> None:
    with pytest.raises(BadConfigError) as error:
        parse_label_config("<View>secret</Wiev>")

    assert "secret" not in str(error.value)


def test_prompt_tags_are_the_smart_points_and_rectangles_of_an_image() -> None:
    config = parse_label_config("""
        <View>
          <Image name="image" value="$image"/>
          <KeyPointLabels name="point" toName="image" smartOnly="true"><Label value="Cat" alias="c"/></KeyPointLabels>
          <Rectangle name="box" toName="image"/>
          <Rectangle name="dull" toName="image" smart="false"/>
          <KeyPoint name="elsewhere" toName="other"/>
          <BrushLabels name="mask" toName="image"><Label value="Cat"/></BrushLabels>
          <Labels name="label" toName="image"><Label value="Dog"/></Labels>
        </View>
    """)

    point, box = config.prompt_tags("image")

    assert (point.name, point.is_smart_only) == ("point", True)
    assert (box.name, box.is_smart_only) == ("box", False)
    assert config.prompt_classes(point) == [("point", "c")]
    assert config.prompt_classes(box) == [("label", "Dog")]
