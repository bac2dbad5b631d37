import numpy as np
import pytest

from labelstudio_sam2.overlay import NEGATIVE, POSITIVE, TINT, WHITE, draw_overlay
from labelstudio_sam2.segmenter.prompt import Image, Mask, Prompt

GRAY = 100
NO_PROMPT = Prompt()


@pytest.fixture
def image() -> Image:
    """750 pixels high: lines are 3 pixels wide in 9 white ones, points have a radius of 13 and a rim of 4."""
    return np.full((750, 1000, 3), GRAY, np.uint8)


@pytest.fixture
def mask() -> Mask:
    """The rows 200..599 and columns 300..799, with a hole of rows 300..399 and columns 400..599."""
    mask = np.zeros((750, 1000), bool)
    mask[200:600, 300:800] = True
    mask[300:400, 400:600] = False
    return mask


@pytest.fixture
def nothing() -> Mask:
    return np.zeros((750, 1000), bool)


def click(x: float, y: float, label: int) -> Prompt:
    return Prompt(point_coords=np.array([[x, y]], np.float32), point_labels=np.array([label], np.int32))


def test_the_mask_is_tinted_and_the_rest_is_as_it_was(image: Image, mask: Mask) -> None:
    overlay = draw_overlay(image, mask, NO_PROMPT)

    assert overlay[500, 350].tolist() == [111, 81, 162]  # 0.55 * 100 + 0.45 * (124, 58, 237)
    assert overlay[100, 350].tolist() == [GRAY] * 3
    assert overlay[350, 500].tolist() == [GRAY] * 3  # in the hole


def test_the_outline_follows_the_outer_edge_and_the_hole(image: Image, mask: Mask) -> None:
    overlay = draw_overlay(image, mask, NO_PROMPT)

    assert overlay[200, 500].tolist() == overlay[500, 300].tolist() == list(TINT)
    assert overlay[196, 500].tolist() == overlay[500, 296].tolist() == list(WHITE)
    assert overlay[350, 399].tolist() == list(TINT)


def test_the_picture_that_is_given_stays_as_it_is(image: Image, mask: Mask) -> None:
    draw_overlay(image, mask, click(500, 650, 1))

    assert (image == GRAY).all()


@pytest.mark.parametrize(("label", "color", "above"), [(1, POSITIVE, WHITE), (0, NEGATIVE, NEGATIVE)])
def test_a_point_is_a_disc_with_its_sign(
    image: Image, nothing: Mask, label: int, color: tuple[int, int, int], above: tuple[int, int, int]
) -> None:
    overlay = draw_overlay(image, nothing, click(160.5, 60.5, label))

    assert overlay[60, 160].tolist() == overlay[60, 164].tolist() == list(WHITE)
    assert overlay[56, 160].tolist() == list(above)  # a plus has an upright line too
    assert overlay[54, 154].tolist() == list(color)
    assert overlay[60, 160 + 15].tolist() == overlay[60 - 15, 160].tolist() == list(WHITE)  # the rim
    assert overlay[60, 160 + 19].tolist() == [GRAY] * 3


def test_the_box_is_drawn_on_its_edges_and_not_inside(image: Image, nothing: Mask) -> None:
    box = Prompt(box=np.array([40.5, 30.5, 850.5, 590.5], np.float32))

    overlay = draw_overlay(image, nothing, box)

    assert overlay[300, 40].tolist() == overlay[30, 400].tolist() == list(POSITIVE)
    assert overlay[300, 850].tolist() == overlay[590, 400].tolist() == list(POSITIVE)
    assert overlay[300, 36].tolist() == overlay[300, 44].tolist() == list(WHITE)
    assert overlay[300, 400].tolist() == [GRAY] * 3


def test_an_empty_mask_and_prompt_change_nothing(image: Image, nothing: Mask) -> None:
    overlay = draw_overlay(image, nothing, NO_PROMPT)

    np.testing.assert_array_equal(overlay, image)
