from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.errors import BackendError, BadPromptError, BadRequestError
from labelstudio_sam2.sam2_api.prompts import MAX_PROMPTS, mask_inputs_from, prompt_from_points, prompts_from
from labelstudio_sam2.segmenter.prompt import Prompt

POINT = {"x": 3, "y": 2, "positive": True}


@pytest.mark.parametrize(
    "nothing",
    [None, [], {}, [{}], {"prompts": []}, {"prompts": None}, {"points": []}, {"points": None, "box": None}],
)
def test_nothing_asked_is_one_prompt_for_the_most_prominent_object(nothing: object) -> None:
    (prompt,) = prompts_from(nothing)

    assert prompt.point_coords.shape == (0, 2)
    assert prompt.box is None
    assert prompt.mask_input is None


@pytest.mark.parametrize("value", [{"prompts": [{"points": [POINT]}]}, [{"points": [POINT]}], {"points": [POINT]}])
def test_a_prompt_comes_in_an_object_in_a_list_or_alone(value: object) -> None:
    (prompt,) = prompts_from(value)

    assert prompt.point_coords.tolist() == [[3, 2]]
    assert prompt.point_labels.tolist() == [1]
    assert prompt.point_coords.dtype == np.float32
    assert prompt.point_labels.dtype == np.int32


def test_a_box_is_given_by_its_center() -> None:
    (prompt,) = prompts_from({"box": {"x": 10, "y": 20, "width": 4, "height": 6}})

    assert prompt.box is not None
    assert prompt.box.tolist() == [8, 17, 12, 23]


def test_boxes_and_points_stand_side_by_side_in_their_order() -> None:
    box = {"x": 10, "y": 20, "width": 4, "height": 6}

    only_box, only_points, both = prompts_from(
        [{"box": box}, {"points": [POINT, POINT]}, {"points": [POINT], "box": box}]
    )

    assert (only_box.box is None, only_points.box is None, both.box is None) == (False, True, False)
    assert [len(prompt.point_labels) for prompt in (only_box, only_points, both)] == [0, 2, 1]


@pytest.mark.parametrize("number", [5, 5.0, "5", " 5 ", "5.0", np.float32(5), np.int64(5)])
def test_a_number_may_come_as_a_text(number: object) -> None:
    (prompt,) = prompts_from({"points": [{"x": number, "y": number, "positive": 1}]})

    assert prompt.point_coords.tolist() == [[5, 5]]


@pytest.mark.parametrize(
    ("positive", "label"),
    [(True, 1), (False, 0), (1, 1), (0, 0), (1.0, 1), ("true", 1), ("False", 0), ("1", 1), ("off", 0), (np.True_, 1)],
)
def test_truth_may_come_as_a_number_or_a_text(positive: object, label: int) -> None:
    (prompt,) = prompts_from({"points": [{"x": 1, "y": 2, "positive": positive}]})

    assert prompt.point_labels.tolist() == [label]


def test_keys_that_mean_nothing_here_are_skipped() -> None:
    (prompt,) = prompts_from({"points": [{**POINT, "color": "red"}], "name": "cat"})

    assert prompt.point_coords.tolist() == [[3, 2]]


def test_a_prompt_value_is_taken_as_it_is() -> None:
    prompt = Prompt(box=np.array([1, 2, 3, 4], np.float32))

    assert prompts_from([prompt]) == prompts_from(prompt) == [prompt]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("cat", BadRequestError, "prompts must be a list of prompts or one prompt, got a str"),
        (7, BadRequestError, "prompts must be a list"),
        ([None], BadRequestError, r"prompts\[0\] must be an object, got None"),
        ([{}, [1, 2]], BadRequestError, r"prompts\[1\] must be an object, got a list"),
        ({"points": {"x": 1}}, BadRequestError, r"prompts\.points must be a list, got a dict"),
        ({"points": "abc"}, BadRequestError, r"prompts\.points must be a list, got a str"),
        ([{"points": [POINT, 5]}], BadRequestError, r"prompts\[0\]\.points\[1\] must be an object, got 5"),
        ([{"points": [{"y": 2, "positive": 1}]}], BadRequestError, r"prompts\[0\]\.points\[0\]\.x is missing"),
        ([{"points": [{"x": 1, "y": 2}]}], BadRequestError, r"points\[0\]\.positive is missing"),
        ([{"box": {"x": 1, "y": 2, "width": 3}}], BadRequestError, r"prompts\[0\]\.box\.height is missing"),
        ([{"box": [1, 2, 3, 4]}], BadRequestError, r"prompts\[0\]\.box must be an object"),
        (
            [{"points": [{**POINT, "x": "abc"}]}],
            BadPromptError,
            r"points\[0\]\.x must be a number in pixels, got a str",
        ),
        ([{"points": [{**POINT, "x": None}]}], BadPromptError, r"x must be a number in pixels, got None"),
        ([{"points": [{**POINT, "x": float("nan")}]}], BadPromptError, "x must be a number in pixels, got nan"),
        ([{"points": [{**POINT, "y": "inf"}]}], BadPromptError, "y must be a number in pixels, got a str"),
        ([{"points": [{**POINT, "y": 10**5000}]}], BadPromptError, "y must be a number in pixels, got a int"),
        ([{"box": {"x": None, "y": 2, "width": 3, "height": 1}}], BadPromptError, r"^prompts\[0\]\.box\.x must be"),
        ([{"points": [{**POINT, "positive": 2}]}], BadPromptError, r"positive must be true or false, got 2"),
        (
            [{"points": [{**POINT, "positive": "maybe"}]}],
            BadPromptError,
            r"positive must be true or false, got a str",
        ),
        (
            [{"box": {"x": 1, "y": 2, "width": -3, "height": 1}}],
            BadPromptError,
            r"^prompts\[0\]\.box must not .* negative",
        ),
        ([{}, {"points": [POINT] * 257}], BadPromptError, r"prompts\[1\]: a prompt takes at most 256 points, got 257"),
        ([{}] * (MAX_PROMPTS + 1), BadPromptError, "prompts takes at most 256 prompts, got 257"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(value: object, error: type[BackendError], message: str) -> None:
    with pytest.raises(error, match=message):
        prompts_from(value)


@pytest.mark.parametrize(
    "value",
    [
        "secret",
        {"points": "secret"},
        {"points": [{**POINT, "x": "secret"}]},
        {"points": [{**POINT, "positive": "secret"}]},
    ],
)
def test_an_error_never_repeats_a_text(value: object) -> None:
    with pytest.raises(BackendError) as caught:
        prompts_from(value)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("coords", "labels"), [(None, None), ([], []), (np.zeros((0, 2)), np.zeros(0))])
def test_no_points_are_an_empty_prompt(coords: Any, labels: Any) -> None:
    assert prompt_from_points(coords, labels).point_coords.shape == (0, 2)


def test_subpixel_points_are_not_rounded() -> None:
    prompt = prompt_from_points([[0.25, 7.5], [3.0, 4.0]], [1, 0])

    assert prompt.point_coords.tolist() == [[0.25, 7.5], [3, 4]]
    assert prompt.point_labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("coords", "labels", "message"),
    [
        ([[1, 2]], None, "go together"),
        (None, [1], "go together"),
        ([[1, 2]], [1, 0], r"point_coords must have shape \(2, 2\)"),
        ([1, 2], [1], r"point_coords must have shape \(1, 2\)"),
        ([[1, 2]], 1, r"point_labels must have shape \(N,\)"),
        ([[1, 2]], [0.5], "point_labels must be 1"),
        ([[1, 2]], [2], "point_labels must be 1"),
        ([[1, float("inf")]], [1], "point_coords must be finite"),
        ([[1, 2], [3]], [1, 0], "point_coords must be an array of numbers"),
        ([["a", "b"]], [1], "point_coords must be an array of numbers"),
    ],
)
def test_points_that_do_not_fit_are_refused(coords: Any, labels: Any, message: str) -> None:
    with pytest.raises(BadPromptError, match=message):
        prompt_from_points(coords, labels)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (1, 1, 4, 4)])
def test_one_mask_input_goes_to_every_prompt(shape: tuple[int, ...]) -> None:
    first, second = mask_inputs_from(np.full(shape, 7.0).tolist(), 2)

    np.testing.assert_array_equal(first, np.full((1, 4, 4), 7))
    np.testing.assert_array_equal(second, first)
    assert first.dtype == np.float32


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 1, 4, 4)])
def test_as_many_mask_inputs_as_prompts_go_to_one_each(shape: tuple[int, ...]) -> None:
    logits = np.repeat([1.0, 2.0], 16).reshape(shape)

    first, second = mask_inputs_from(logits, 2)

    np.testing.assert_array_equal(first, np.full((1, 4, 4), 1))
    np.testing.assert_array_equal(second, np.full((1, 4, 4), 2))


@pytest.mark.parametrize("shape", [(4,), (3, 4, 4), (2, 4, 5), (2, 2, 4, 4), (1, 1, 1, 4, 4)])
def test_a_mask_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadPromptError, match="mask_input must have shape"):
        mask_inputs_from(np.zeros(shape), 2)
