import numpy as np
import pytest
from numpy.typing import NDArray
from training.prompts import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MOST_POINTS,
    NEGATIVE,
    POSITIVE,
    PromptKind,
    as_logits,
    click_inside,
    corrective_click,
    first_prompt,
    rough_box,
    rough_mask,
    tight_box,
)


def block(top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((60, 80), bool)
    mask[top : top + height, left : left + width] = True
    return mask


TRUTH = block(10, 20, 21, 31)
OTHER = block(40, 60, 15, 15)


def test_a_click_without_chance_is_in_the_middle_as_xy() -> None:
    assert click_inside(block(10, 20, 21, 21)) == (30.0, 20.0)


@pytest.mark.parametrize("seed", range(20))
def test_every_click_of_a_person_lies_inside(seed: int) -> None:
    x, y = click_inside(TRUTH, np.random.default_rng(seed))

    assert TRUTH[int(y), int(x)]


def test_a_missing_piece_gets_a_positive_click_in_its_middle() -> None:
    answer = TRUTH & ~block(10, 20, 21, 11)

    assert corrective_click(TRUTH, answer) == ((25.0, 15.0), POSITIVE)


def test_a_surplus_piece_gets_a_negative_click_in_its_middle() -> None:
    assert corrective_click(TRUTH, TRUTH | OTHER) == ((67.0, 47.0), NEGATIVE)


def test_the_larger_error_is_corrected_first() -> None:
    answer = (TRUTH & ~block(10, 20, 5, 31)) | OTHER

    assert corrective_click(TRUTH, answer)[1] == NEGATIVE


def test_a_perfect_answer_gets_a_click_inside_the_object() -> None:
    (x, y), label = corrective_click(TRUTH, TRUTH)

    assert label == POSITIVE
    assert TRUTH[int(y), int(x)]


def test_a_box_ends_behind_the_last_pixel() -> None:
    assert tight_box(TRUTH) == (20.0, 10.0, 51.0, 31.0)


@pytest.mark.parametrize("seed", range(20))
def test_a_box_drawn_by_hand_is_near_the_object_and_inside_the_picture(seed: int) -> None:
    x1, y1, x2, y2 = rough_box(TRUTH, np.random.default_rng(seed))

    np.testing.assert_allclose([x1, y1, x2, y2], tight_box(TRUTH), atol=0.15 * 31)
    assert 0 <= x1 < x2 <= 80
    assert 0 <= y1 < y2 <= 60


@pytest.mark.parametrize("kind", ["click", "box", "box_click", "clicks", "click_negative", "mask", "edit", "nothing"])
def test_every_kind_of_first_prompt_is_what_its_name_says(kind: PromptKind) -> None:
    for seed in range(10):
        prompt = first_prompt(kind, TRUTH, OTHER, np.random.default_rng(seed), 16)

        labels = prompt.labels.tolist()
        assert len(labels) == len(prompt.points) <= MOST_POINTS
        assert (labels[:2] == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]) == kind.startswith("box")
        assert (prompt.mask_input is not None) == (kind in ("mask", "edit"))
        assert (POSITIVE in labels) or kind in ("box", "mask", "edit", "nothing")
        for (x, y), label in zip(prompt.points, labels, strict=True):
            if label == POSITIVE:
                assert TRUTH[int(y), int(x)]
            if label == NEGATIVE:
                assert not TRUTH[int(y), int(x)]


@pytest.mark.parametrize("seed", range(20))
def test_a_rough_mask_still_shows_the_object(seed: int) -> None:
    rough = rough_mask(TRUTH, OTHER, np.random.default_rng(seed))

    assert (rough & TRUTH).sum() > 0.3 * TRUTH.sum()


def test_a_mask_becomes_logits_of_the_models_size() -> None:
    logits = as_logits(block(0, 0, 60, 40), 16, 4.0)

    np.testing.assert_allclose(logits, np.tile(np.repeat([4.0, -4.0], 8), (16, 1)), rtol=1e-5)
