"""One request from prompt to prediction, with fakes for the pictures and for SAM 2. The picture is 200 x 100."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray

from labelstudio_sam2.errors import (
    BackendError,
    BadConfigError,
    BadPromptError,
    BadRequestError,
    BusyError,
    ImageTimeoutError,
    ModelLoadingError,
    NoAnswerTagError,
    PromptOutsideError,
    RotatedImageError,
    SizeMismatchError,
    UnsupportedError,
)
from labelstudio_sam2.labelstudio.assistant import Assistant, image_address
from labelstudio_sam2.labelstudio.brush_extents import BrushExtents
from labelstudio_sam2.labelstudio.editing import LESS_WEIGHT
from labelstudio_sam2.labelstudio.label_config import ImageTag
from labelstudio_sam2.labelstudio.wire import decode_predict_request, encode_answer, plain_answer

Mask = NDArray[np.bool_]


def decoded(region: dict[str, Any]) -> Mask:
    """Return a brush region's mask, read by label-studio-sdk."""
    rgba = decode_rle(region["value"]["rle"]).reshape(100, 200, 4)
    return np.asarray(rgba[:, :, 3] > 127)


def test_a_click_becomes_a_mask_of_its_class(annotator: Any, draw: Any, segmenter: Any, square: Mask) -> None:
    prediction = annotator.ask(draw.click(35, 40), task=draw.task())

    (region,) = prediction["result"]
    np.testing.assert_array_equal(decoded(region), square)
    assert (region["from_name"], region["to_name"], region["type"]) == ("brush", "image", "brushlabels")
    assert region["value"]["brushlabels"] == ["Cat"]
    assert prediction["score"] == region["score"] == 0.75
    np.testing.assert_array_equal(segmenter.prompts[0].point_coords, [[70, 40]])


def test_predictions_carry_the_models_version(annotator: Any, draw: Any) -> None:
    prediction = annotator.ask(draw.click(35, 40), task=draw.task())

    assert prediction["model_version"] == annotator.assistant.model_version == "fake@1"


def test_a_new_object_gets_an_id_that_no_prompt_has(annotator: Any, draw: Any) -> None:
    click = draw.click(35, 40)

    first = annotator.ask(click, task=draw.task())["result"][0]["id"]
    second = annotator.ask(click, task=draw.task())["result"][0]["id"]

    assert len({first, second, click["id"]}) == 3
    assert len(first) == 10


@pytest.mark.parametrize("context", [b"null", b"{}", b'{"result":[]}'])
def test_without_a_prompt_there_is_one_empty_list_per_task(annotator: Any, segmenter: Any, context: bytes) -> None:
    body = b'{"tasks":[{"id":1},{"id":2},{"id":3}],"label_config":"no xml","params":{"context":' + context + b"}}"

    predictions = annotator.assistant.predict(decode_predict_request(body))

    assert predictions == [[], [], []]
    assert segmenter.prompts == []


def test_the_picture_is_looked_for_in_its_project_and_task(annotator: Any, draw: Any, pictures: Any) -> None:
    annotator.ask(draw.click(35, 40), task=draw.task())

    assert pictures.found == [("/data/upload/6/cat.png", "6", 7)]


@pytest.mark.parametrize(
    ("task_id", "expected"), [(7, 7), ("7", 7), (None, None), ("x", None), ("-1", None), ("9" * 5000, None)]
)
def test_a_tasks_id_is_a_number_or_nothing(
    annotator: Any, draw: Any, pictures: Any, task_id: object, expected: int | None
) -> None:
    annotator.ask(draw.click(35, 40), task=draw.task(id=task_id))

    assert [number for _, _, number in pictures.found] == [expected]


def test_each_rectangle_gets_its_own_mask_in_drawing_order(
    annotator: Any, draw: Any, segmenter: Any, square: Mask
) -> None:
    segmenter.masks = [square, ~square]

    result = annotator.ask(draw.rectangle(30, 30, 10, 20), draw.rectangle(0, 0, 5, 5), task=draw.task())["result"]

    assert [decoded(region).sum() for region in result] == [400, 19_600]
    assert result[0]["id"] != result[1]["id"]
    assert [prompt.box.tolist()[:2] for prompt in segmenter.prompts] == [[60, 30], [0, 0]]


def test_a_click_on_a_stroke_answers_with_its_id(annotator: Any, draw: Any, segmenter: Any) -> None:
    stroke = draw.strokes(draw.stroke(20, 50, 60, 50))

    (region,) = annotator.ask(draw.click(40, 50), task=draw.task(draft=[stroke]))["result"]

    assert region["id"] == stroke["id"]
    assert segmenter.prompts[0].point_labels.sum() > 5  # the stroke's points, not the click alone


def test_a_click_beside_a_stroke_is_a_new_object(annotator: Any, draw: Any, segmenter: Any) -> None:
    stroke = draw.strokes(draw.stroke(20, 50, 60, 50))

    (region,) = annotator.ask(draw.click(40, 80), task=draw.task(draft=[stroke]))["result"]

    assert region["id"] != stroke["id"]
    np.testing.assert_array_equal(segmenter.prompts[0].point_coords, [[80, 80]])


def test_the_first_click_decides_what_is_edited(annotator: Any, draw: Any, square: Mask) -> None:
    mask = draw.mask(square)
    on, beside = draw.click(35, 40), draw.click(80, 80)

    edited = annotator.ask(on, beside, task=draw.task(draft=[mask]))["result"]
    new = annotator.ask(beside, on, task=draw.task(draft=[mask]))["result"]

    assert edited[0]["id"] == mask["id"]
    assert new[0]["id"] != mask["id"]


def test_where_a_mask_is_is_known_from_the_first_click_beside_it_on(
    annotator: Any, draw: Any, pictures: Any, segmenter: Any, square: Mask, until: Any
) -> None:
    extents = BrushExtents()
    annotator.assistant = Assistant(pictures, segmenter, extents=extents)
    task = draw.task(draft=[draw.mask(square)])
    (region,) = draw.to_task(task).drafts[0].result

    beside = annotator.ask(draw.click(80, 80), task=task)
    until(lambda: extents.find(region, (100, 200)))
    beside_again, on_it = annotator.ask(draw.click(80, 80), task=task), annotator.ask(draw.click(35, 40), task=task)

    assert [prediction["result"][0]["id"] == region.id for prediction in (beside, beside_again, on_it)] == [
        False,
        False,
        True,
    ]


def test_a_click_that_is_refused_leaves_no_region_waiting_to_be_learned(
    annotator: Any, draw: Any, pictures: Any, segmenter: Any, square: Mask, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **_options: Any) -> None:
        raise BusyError("too many wait")

    monkeypatch.setattr(segmenter, "segment", refuse)
    extents = BrushExtents()
    annotator.assistant = Assistant(pictures, segmenter, extents=extents)
    task = draw.task(draft=[draw.mask(square)])

    with pytest.raises(BusyError):
        annotator.ask(draw.click(80, 80), task=task)

    (region,) = draw.to_task(task).drafts[0].result
    until(lambda: extents.find(region, (100, 200)) == (slice(30, 50), slice(60, 80)))


@pytest.mark.parametrize(
    ("class_name", "change"),
    [("Dog", {}), ("Cat", {"to_name": "another"}), ("Cat", {"item_index": 1}), ("Cat", {"original_width": 199})],
    ids=["class", "image", "index", "size"],
)
def test_what_is_not_the_same_class_on_the_same_image_is_not_edited(
    annotator: Any, draw: Any, square: Mask, class_name: str, change: dict[str, Any]
) -> None:
    mask = {**draw.mask(square), **change}
    mask["value"]["brushlabels"] = [class_name]

    (region,) = annotator.ask(draw.click(35, 40), task=draw.task(draft=[mask]))["result"]

    assert region["id"] != mask["id"]


def test_a_polygon_is_edited_as_a_polygon_of_its_own_tag(annotator: Any, draw: Any) -> None:
    polygon = draw.polygon([(30, 30), (40, 30), (40, 50), (30, 50)])

    (region,) = annotator.ask(draw.click(35, 40), task=draw.task(draft=[polygon]))["result"]

    assert (region["id"], region["from_name"], region["type"]) == (polygon["id"], "poly", "polygonlabels")
    assert region["value"]["polygonlabels"] == ["Cat"]


def test_an_alt_click_inside_a_mask_only_takes_away(annotator: Any, draw: Any, segmenter: Any, square: Mask) -> None:
    mask = draw.mask(square)
    wider = np.zeros_like(square)
    wider[35:45, 50:200] = True
    segmenter.masks = [wider]

    (region,) = annotator.ask(draw.click(31, 31, is_positive=False), task=draw.task(draft=[mask]))["result"]

    assert region["id"] == mask["id"]
    np.testing.assert_array_equal(decoded(region), square & wider)


def test_a_further_click_may_let_a_mask_grow(annotator: Any, draw: Any, segmenter: Any, square: Mask) -> None:
    segmenter.masks = [~square]

    (region,) = annotator.ask(draw.click(35, 40), task=draw.task(draft=[draw.mask(square)]))["result"]

    assert decoded(region).sum() == (~square).sum()


def test_negative_clicks_on_nothing_ask_nothing(annotator: Any, draw: Any, segmenter: Any) -> None:
    prediction = annotator.ask(draw.click(80, 80, is_positive=False), task=draw.task())

    assert prediction["result"] == []
    assert segmenter.prompts == []


def test_a_box_from_the_draft_and_a_click_in_it_are_one_prompt(annotator: Any, draw: Any, segmenter: Any) -> None:
    box = draw.rectangle(30, 30, 10, 20)

    (region,) = annotator.ask(draw.click(35, 40, is_positive=False), task=draw.task(draft=[box]))["result"]

    (prompt,) = segmenter.prompts
    np.testing.assert_allclose(prompt.box, [60, 30, 80, 50])
    np.testing.assert_array_equal(prompt.point_coords, [[70, 40]])
    np.testing.assert_array_equal(prompt.point_labels, [0])
    assert region["id"] != box["id"]


def test_a_box_of_another_class_says_nothing_about_a_click(annotator: Any, draw: Any, segmenter: Any) -> None:
    box = draw.rectangle(30, 30, 10, 20, label="Dog")

    annotator.ask(draw.click(35, 40), task=draw.task(draft=[box]))

    assert segmenter.prompts[0].box is None


def test_what_another_annotator_submitted_does_not_lead_a_click(
    annotator: Any, draw: Any, segmenter: Any, square: Mask
) -> None:
    mask = draw.mask(square)
    submitted = [{"updated_at": "2026-11-22T11:00:00Z", "result": [mask]}]

    (region,) = annotator.ask(draw.click(35, 40), task=draw.task(annotations=submitted))["result"]

    assert region["id"] != mask["id"]
    assert segmenter.prompts[0].mask_input is None


def test_without_a_draft_a_negative_click_takes_nothing_from_what_others_submitted(
    annotator: Any, draw: Any, segmenter: Any, square: Mask
) -> None:
    submitted = [{"updated_at": "2026-11-22T11:00:00Z", "result": [draw.mask(square)]}]
    cut = draw.click(35, 40, is_positive=False)

    result = annotator.ask(cut, task=draw.task(annotations=submitted))["result"]

    assert result == []
    assert segmenter.prompts == []


def test_while_the_model_loads_nothing_is_downloaded(annotator: Any, draw: Any, segmenter: Any, pictures: Any) -> None:
    segmenter.failure = ModelLoadingError("not yet")

    with pytest.raises(ModelLoadingError):
        annotator.ask(draw.click(35, 40), task=draw.task())

    assert pictures.found == []


def test_a_rectangle_that_is_an_annotation_does_not_lead_a_click(annotator: Any, draw: Any, segmenter: Any) -> None:
    kept = draw.rectangle(30, 30, 10, 20)
    annotator.label_config = annotator.label_config.replace(
        '<RectangleLabels name="rect" toName="image" smart="true"',
        '<RectangleLabels name="rect" toName="image" smart="false"',
    )

    annotator.ask(draw.click(35, 40), task=draw.task(draft=[kept]))

    assert segmenter.prompts[0].box is None


def test_a_rectangle_that_was_an_answer_does_not_lead_a_click(annotator: Any, draw: Any, segmenter: Any) -> None:
    kept = draw.rectangle(30, 30, 10, 20)
    annotator.label_config = annotator.label_config.replace("<RectangleLabels", '<RectangleLabels model_answer="true"')

    annotator.ask(draw.click(35, 40), task=draw.task(draft=[kept]))

    assert segmenter.prompts[0].box is None


def test_classes_in_another_order_are_the_same_classes(annotator: Any, draw: Any, square: Mask) -> None:
    mask, click = draw.mask(square), draw.click(35, 40)
    mask["value"]["brushlabels"], click["value"]["keypointlabels"] = ["Dog", "Cat"], ["Cat", "Dog"]

    (region,) = annotator.ask(click, task=draw.task(draft=[mask]))["result"]

    assert region["id"] == mask["id"]


def test_a_class_written_by_its_alias_is_the_same_class(annotator: Any, draw: Any, square: Mask) -> None:
    annotator.label_config = (
        '<View><Image name="image" value="$image"/>'
        '<KeyPointLabels name="kp" toName="image"><Label value="Cat" alias="c1"/></KeyPointLabels>'
        '<BrushLabels name="brush" toName="image"><Label value="Cat" alias="c2"/></BrushLabels></View>'
    )
    mask = draw.mask(square)
    mask["value"]["brushlabels"] = ["c2"]

    (region,) = annotator.ask(draw.click(35, 40, "c1"), task=draw.task(draft=[mask]))["result"]

    assert region["id"] == mask["id"]
    assert region["value"]["brushlabels"] == ["c2"]


def test_a_plain_stroke_with_a_labels_tag_is_edited_in_both_results(annotator: Any, draw: Any) -> None:
    annotator.label_config = (
        '<View><Image name="image" value="$image"/><KeyPoint name="kp" toName="image"/>'
        '<Brush name="brush" toName="image"/>'
        '<Labels name="lab" toName="image"><Label value="Cat"/></Labels></View>'
    )

    def both(geometry: dict[str, Any]) -> list[dict[str, Any]]:
        kind = geometry["type"].removesuffix("labels")
        value = {key: part for key, part in geometry["value"].items() if not key.endswith("labels")}
        plain = {**geometry, "type": kind, "value": value}
        return [plain, {**plain, "type": "labels", "from_name": "lab", "value": {**value, "labels": ["Cat"]}}]

    stroke, click = both(draw.strokes(draw.stroke(20, 50, 60, 50))), both(draw.click(40, 50))

    geometry, labels = annotator.ask(*click, task=draw.task(draft=stroke))["result"]

    assert geometry["id"] == labels["id"] == stroke[0]["id"]
    assert (geometry["from_name"], geometry["type"]) == ("brush", "brush")
    assert (labels["from_name"], labels["type"], labels["value"]["labels"]) == ("lab", "labels", ["Cat"])


def test_several_answer_tags_get_a_region_each(annotator: Any, draw: Any) -> None:
    annotator.label_config = annotator.label_config.replace(
        '<PolygonLabels name="poly"', '<PolygonLabels model_answer="true" name="poly"'
    ).replace('<BrushLabels name="brush"', '<BrushLabels model_answer="true" name="brush"')

    result = annotator.ask(draw.click(35, 40), task=draw.task())["result"]

    assert [region["type"] for region in result] == ["brushlabels", "polygonlabels"]
    assert result[0]["id"] != result[1]["id"]


def test_the_prediction_is_as_good_as_its_worst_mask_and_at_most_one(annotator: Any, draw: Any, segmenter: Any) -> None:
    segmenter.scores = [1.25]

    prediction = annotator.ask(draw.click(35, 40), task=draw.task())

    assert prediction["score"] == 1.0


def test_an_empty_mask_is_an_empty_result(annotator: Any, draw: Any, segmenter: Any, square: Mask) -> None:
    segmenter.masks = [np.zeros_like(square)]

    assert annotator.ask(draw.click(35, 40), task=draw.task())["result"] == []


def test_the_answer_lies_on_the_image_of_the_list_that_was_clicked(annotator: Any, draw: Any, pictures: Any) -> None:
    annotator.label_config = annotator.label_config.replace('value="$image"', 'valueList="$pages"')
    task = draw.task(data={"pages": ["one.png", "two.png"]})

    (region,) = annotator.ask(draw.click(35, 40, item_index=1), task=task)["result"]

    assert region["item_index"] == 1
    assert pictures.found[0][0] == "two.png"


def test_the_answer_lies_on_the_image_tag_that_was_clicked(annotator: Any, draw: Any, pictures: Any) -> None:
    annotator.label_config = (
        '<View><Image name="left" value="$l"/><Image name="right" value="$r"/>'
        '<KeyPointLabels name="kp" toName="left,right"><Label value="Cat"/></KeyPointLabels>'
        '<BrushLabels name="brush" toName="left,right"><Label value="Cat"/></BrushLabels></View>'
    )

    (region,) = annotator.ask(draw.click(35, 40, to_name="right"), task=draw.task(data={"l": "l.png", "r": "r.png"}))[
        "result"
    ]

    assert region["to_name"] == "right"
    assert pictures.found[0][0] == "r.png"


SINGLE, SEVERAL = ImageTag("image", "image", is_list=False), ImageTag("image", "image", is_list=True)


@pytest.mark.parametrize(
    ("tag", "data", "item_index", "address"),
    [
        (SINGLE, {"image": "a.png"}, None, "a.png"),
        (SINGLE, {"image": "a.png"}, 0, "a.png"),
        (SEVERAL, {"image": ["a.png"]}, None, "a.png"),
        (SEVERAL, {"image": ["a.png", "b.png"]}, 1, "b.png"),
    ],
)
def test_the_address_of_an_image_is_found(
    draw: Any, tag: ImageTag, data: Any, item_index: int | None, address: str
) -> None:
    assert image_address(draw.to_task({"data": data}), tag, item_index) == address


@pytest.mark.parametrize(
    ("tag", "data", "item_index"),
    [
        (SINGLE, {}, None),
        (SINGLE, {"image": ""}, None),
        (SINGLE, {"image": None}, None),
        (SINGLE, {"image": ["a.png"]}, None),
        (SINGLE, {"image": {"url": "a.png"}}, None),
        (SEVERAL, {"image": "a.png"}, 0),
        (SEVERAL, {"image": []}, None),
        (SEVERAL, {"image": []}, 0),
        (SEVERAL, {"image": ["a.png", "b.png"]}, None),
        (SEVERAL, {"image": ["a.png", "b.png"]}, 2),
        (SEVERAL, {"image": ["a.png", "b.png"]}, -1),
        (SEVERAL, {"image": [7]}, 0),
    ],
)
def test_a_task_without_such_an_image_is_a_bad_request(
    draw: Any, tag: ImageTag, data: Any, item_index: int | None
) -> None:
    with pytest.raises(BadRequestError, match=r"data\.image"):
        image_address(draw.to_task({"data": data}), tag, item_index)


def test_a_hundred_tasks_are_taken_at_once_and_no_more(annotator: Any, draw: Any) -> None:
    tasks = [draw.task() for _ in range(101)]

    assert len(annotator.assistant.predict(annotator.request(draw.click(35, 40), tasks=tasks[:100]))) == 100
    with pytest.raises(BadRequestError, match="101"):
        annotator.assistant.predict(annotator.request(draw.click(35, 40), tasks=tasks))
    assert annotator.assistant.predict(annotator.request(tasks=tasks)) == [[]] * 101  # a team lead retrieves them all


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"original_width": 100, "original_height": 200}, SizeMismatchError),
        ({"image_rotation": 90}, RotatedImageError),
        ({"value": {"x": 101, "y": 1, "keypointlabels": ["Cat"]}}, PromptOutsideError),
        ({"value": {"y": 1, "keypointlabels": ["Cat"]}}, BadPromptError),
        ({"value": {"x": 1, "y": 1, "keypointlabels": ["Cow"]}}, NoAnswerTagError),
        ({"type": "ellipselabels"}, UnsupportedError),
        ({"to_name": "nowhere"}, BadConfigError),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else "",
)
def test_a_prompt_that_cannot_be_answered_says_why_and_the_next_is_answered_as_ever(
    annotator: Any, draw: Any, segmenter: Any, change: dict[str, Any], error: type[BackendError]
) -> None:
    click, task = draw.click(35, 40), draw.task()
    before = annotator.ask(click, task=task)

    with pytest.raises(error):
        annotator.ask({**click, **change}, task=task)

    after = annotator.ask(click, task=task)
    for prediction in (before, after):
        prediction["result"][0].pop("id")
    assert plain_answer([after]) == plain_answer([before])
    assert len(segmenter.prompts) == 2


def test_what_keeps_a_picture_away_is_told_as_it_is(annotator: Any, draw: Any, pictures: Any) -> None:
    pictures.error = ImageTimeoutError("15 s")

    with pytest.raises(ImageTimeoutError):
        annotator.ask(draw.click(35, 40), task=draw.task())


def test_a_picture_that_changed_its_size_is_noticed(annotator: Any, draw: Any, pictures: Any) -> None:
    pictures.picture = replace(pictures.picture, size_hw=(100, 201))

    with pytest.raises(SizeMismatchError, match="201 x 100"):
        annotator.ask(draw.click(35, 40), task=draw.task())


percent = st.sampled_from([0, 0.5, 35, 40, 99.9, 100, 100.1, -1, 1e5, -1e5, 1e308, -1e308, 5e-324, None])
numbers = st.sampled_from([0, 30, 35.5, 45, 100, -3, 1e6, 1e308, -1e308])
names = st.sampled_from(["kp", "rect", "brush", "poly", "image", "", "x\n\u2028"])
labels = st.lists(st.sampled_from(["Cat", "Dog", "Cow", "\u00e4\x00"]), max_size=2)
touches = st.fixed_dictionaries(
    {"type": st.sampled_from(["add", "eraser", ""])},
    optional={"relativePoints": st.lists(numbers, max_size=7), "relativeStrokeWidth": numbers},
)
values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["x", "y", "width", "height"], percent),
        "rotation": numbers,
        "points": st.lists(st.tuples(numbers, numbers), max_size=5) | st.none(),
        "rle": st.lists(st.integers(-1, 256), max_size=12) | st.sampled_from([None, "AAEC", [1.5], {}]),
        "touches": st.lists(touches, max_size=3) | st.none(),
        **dict.fromkeys(["labels", "keypointlabels", "rectanglelabels", "brushlabels", "polygonlabels"], labels),
    },
)
shapes = ["keypoint", "rectangle", "brush", "polygon"]
kinds = st.sampled_from([*shapes, *(f"{shape}labels" for shape in shapes), "labels", "choices", ""])
regions = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", "c", ""]), "type": kinds, "from_name": names, "value": values},
    optional={
        "to_name": st.just("image") | names,
        "original_width": st.sampled_from([200, 200, None, -1, 2**70]),
        "original_height": st.sampled_from([100, 100, None, 0]),
        "image_rotation": st.sampled_from([0, 0, None, 90, 1e308]),
        "is_positive": st.booleans() | st.none(),
        "item_index": st.sampled_from([None, None, 0, -1, 2**70]),
    },
).map(lambda region: {"to_name": "image", **region})
saved = st.lists(st.fixed_dictionaries({"result": st.lists(regions, max_size=4)}), max_size=2)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(context=st.lists(regions, max_size=4), drafts=saved | st.just("x"), annotations=saved)
def test_any_request_is_answered_or_refused_by_the_catalogue(
    annotator: Any, context: Any, drafts: Any, annotations: Any
) -> None:
    task = {"id": 7, "data": {"image": "cat.png"}, "drafts": drafts, "annotations": annotations}

    try:
        predictions = annotator.assistant.predict(annotator.request(*context, tasks=[task]))
    except BackendError as error:
        assert error.status in {400, 422}  # noqa: PT017  either way is right
    else:
        encode_answer(predictions)
        assert len(predictions) == 1


unit = st.floats(0, 100)
plain_strokes = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["add", "eraser"]),
            "relativePoints": st.lists(unit, min_size=2, max_size=8).map(lambda points: points[: len(points) // 2 * 2]),
            "relativeStrokeWidth": st.floats(0, 20),
        }
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clicks=st.lists(st.tuples(unit, unit, st.booleans()), min_size=1, max_size=5), touches=plain_strokes)
def test_every_click_inside_the_image_is_answered_whatever_was_painted(
    annotator: Any, draw: Any, square: Mask, clicks: Any, touches: Any
) -> None:
    context = [draw.click(x, y, is_positive=positive) for x, y, positive in clicks]
    rle = draw.mask(square)["value"]["rle"]
    draft = [draw.strokes(*touches), draw.strokes(*touches, rle=rle), draw.rectangle(20, 20, 40, 40)]

    prediction = annotator.ask(*context, task=draw.task(draft=draft))

    assert all(region["value"]["brushlabels"] == ["Cat"] for region in prediction["result"])


def test_a_tag_may_keep_only_the_clicked_part_of_a_mask(
    annotator: Any, draw: Any, segmenter: Any, square: Mask
) -> None:
    speck = np.zeros((100, 200), bool)
    speck[90:95, 190:195] = True
    segmenter.masks = [square | speck]
    annotator.label_config = annotator.label_config.replace("<BrushLabels", '<BrushLabels model_parts="clicked"')

    (region,) = annotator.ask(draw.click(35, 40), task=draw.task())["result"]

    np.testing.assert_array_equal(decoded(region), square)


def filled(x: slice, y: slice) -> Mask:
    """Return a mask of one rectangle, in pixels; the square that is edited is 60..80 across and 30..50 down."""
    mask = np.zeros((100, 200), bool)
    mask[y, x] = True
    return mask


LARGER = filled(slice(60, 80), slice(30, 80))


def test_an_edit_whose_answer_ignores_a_click_is_asked_again_with_less_weight_on_the_earlier_mask(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    segmenter.masks, segmenter.scores = [square, LARGER], [0.75, 0.5]

    prediction = annotator.ask(draw.click(35, 40), draw.click(35, 60), task=draw.task(draft=[draw.mask(square)]))

    first, again = segmenter.prompts
    np.testing.assert_array_equal(again.point_coords, first.point_coords)
    np.testing.assert_array_equal(again.point_labels, first.point_labels)
    np.testing.assert_allclose(again.mask_input, first.mask_input * LESS_WEIGHT)
    (region,) = prediction["result"]
    np.testing.assert_array_equal(decoded(region), LARGER)
    assert prediction["score"] == 0.5


def test_an_edit_whose_answer_covers_a_negative_click_is_asked_again(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    segmenter.masks = [LARGER, square]
    context = draw.click(35, 40), draw.click(35, 60, is_positive=False)

    (region,) = annotator.ask(*context, task=draw.task(draft=[draw.mask(square)]))["result"]

    assert len(segmenter.prompts) == 2
    np.testing.assert_array_equal(decoded(region), square)
    first, second = segmenter.ends
    assert first == second == pytest.approx(time.monotonic() + 60, abs=5)


INSIDE, BELOW, BESIDE = (35, 40), (35, 60), (80, 40)
"""Places in percent: on the square; on the larger mask alone; on neither."""


@pytest.mark.parametrize(
    ("clicks", "kept"),
    [
        ([INSIDE, BELOW, BESIDE], "second"),  # the square ignores two of them, the larger mask one
        ([INSIDE, BESIDE], "first"),  # both ignore one
    ],
    ids=["fewer", "as many"],
)
def test_where_both_answers_ignore_clicks_the_one_that_ignores_fewer_is_kept(
    annotator: Any, segmenter: Any, draw: Any, square: Mask, clicks: Any, kept: str
) -> None:
    segmenter.masks, segmenter.scores = [square, LARGER], [0.75, 0.5]

    prediction = annotator.ask(*[draw.click(*at) for at in clicks], task=draw.task(draft=[draw.mask(square)]))

    assert len(segmenter.prompts) == 2
    (region,) = prediction["result"]
    np.testing.assert_array_equal(decoded(region), LARGER if kept == "second" else square)
    assert prediction["score"] == (0.5 if kept == "second" else 0.75)


def test_a_second_answer_that_ignores_more_clicks_than_the_first_is_not_kept(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    segmenter.masks, segmenter.scores = [LARGER, square], [0.75, 0.5]
    clicks = [draw.click(*at) for at in (INSIDE, BELOW, BESIDE)]

    prediction = annotator.ask(*clicks, task=draw.task(draft=[draw.mask(square)]))

    assert len(segmenter.prompts) == 2
    (region,) = prediction["result"]
    np.testing.assert_array_equal(decoded(region), LARGER)
    assert prediction["score"] == 0.75


def test_a_second_answer_to_what_takes_away_may_not_grow_either(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    right_half_and_more = filled(slice(70, 120), slice(30, 50))
    segmenter.masks = [square, right_half_and_more]

    (region,) = annotator.ask(draw.click(32, 40, is_positive=False), task=draw.task(draft=[draw.mask(square)]))[
        "result"
    ]

    assert len(segmenter.prompts) == 2
    np.testing.assert_array_equal(decoded(region), filled(slice(70, 80), slice(30, 50)))


def test_what_an_answer_covers_beyond_the_mask_it_takes_away_from_is_not_asked_again(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    segmenter.masks = [filled(slice(70, 120), slice(30, 50))]
    context = [draw.click(x, 40, is_positive=False) for x in (32, 55)]  # the second lies on it, beside the square

    annotator.ask(*context, task=draw.task(draft=[draw.mask(square)]))

    assert len(segmenter.prompts) == 1


def test_strokes_that_are_edited_are_asked_once_whatever_the_answer_ignores(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    stroke = draw.strokes(draw.stroke(20, 50, 60, 50))

    (region,) = annotator.ask(draw.click(40, 50), draw.click(40, 80), task=draw.task(draft=[stroke]))["result"]

    assert len(segmenter.prompts) == 1
    np.testing.assert_array_equal(decoded(region), square)


@pytest.mark.parametrize(("covered_to", "asked"), [(200, 1), (199, 2)], ids=["heeded", "ignored"])
def test_a_click_on_the_pictures_edge_lies_in_its_last_pixel(
    annotator: Any, segmenter: Any, draw: Any, square: Mask, covered_to: int, asked: int
) -> None:
    segmenter.masks = [filled(slice(60, covered_to), slice(30, 100))]

    annotator.ask(draw.click(35, 40), draw.click(100, 100), task=draw.task(draft=[draw.mask(square)]))

    assert len(segmenter.prompts) == asked


def test_an_edit_whose_answer_heeds_every_click_is_asked_once(
    annotator: Any, segmenter: Any, draw: Any, square: Mask
) -> None:
    task = draw.task(draft=[draw.mask(square)])

    annotator.ask(draw.click(35, 40), draw.click(60, 80, is_positive=False), task=task)

    assert len(segmenter.prompts) == 1
