"""A segmentation's mask is its logits' sign, however little of the picture is computed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstudio_sam2.segmenter.prompt import FloatArray, Segmentation


def segmentation(low_res: FloatArray, size_hw: tuple[int, int]) -> Segmentation:
    return Segmentation(low_res_logits=low_res[None], scores=np.ones(1, np.float32), size_hw=size_hw)


@st.composite
def logits(draw: st.DrawFn) -> FloatArray:
    """Draw (M, M) logits: noise of some coarseness inside a box, and nothing around it."""
    size = draw(st.sampled_from([4, 16, 64, 256]))
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).normal(0, 8, (size, size)).astype(np.float32)
    coarse = np.asarray(cv2.GaussianBlur(noise, (0, 0), draw(st.sampled_from([0.3, 1.0, 3.0]))), np.float32)
    top, bottom, left, right = (draw(st.integers(0, size)) for _ in range(4))
    low_res = np.full((size, size), -3, np.float32)
    low_res[top:bottom, left:right] = (coarse - np.float32(draw(st.sampled_from([-1, 0, 2]))))[top:bottom, left:right]
    return low_res


@settings(max_examples=200, deadline=None)
@given(low_res=logits(), size_hw=st.tuples(st.integers(1, 700), st.integers(1, 900)))
def test_a_mask_is_to_the_pixel_where_the_logits_of_the_whole_picture_are_positive(
    low_res: FloatArray, size_hw: tuple[int, int]
) -> None:
    found = segmentation(low_res, size_hw)

    mask = found.mask()

    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, found.logits() > 0)


@pytest.mark.parametrize("size_hw", [(3, 5), (16, 24), (61, 1000)], ids=["smaller", "as high", "larger"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [((0, 16), (0, 16)), ((15, 16), (15, 16)), ((0, 1), (15, 16)), ((15, 16), (0, 1)), ((7, 8),) * 2],
)
def test_a_mask_at_the_edge_of_the_picture_is_whole(
    size_hw: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    low_res = np.full((16, 16), -1, np.float32)
    low_res[slice(*rows), slice(*columns)] = 1
    found = segmentation(low_res, size_hw)

    np.testing.assert_array_equal(found.mask(), found.logits() > 0)


def test_a_small_mask_of_a_picture_little_larger_than_the_models_is_to_the_pixel_too() -> None:
    low_res = np.full((64, 64), -3, np.float32)
    low_res[0, :2] = 2.0023355, -0.03265011
    found = segmentation(low_res, (64, 65))

    np.testing.assert_array_equal(found.mask(), found.logits() > 0)


def test_without_positive_logits_the_mask_is_empty() -> None:
    mask = segmentation(np.zeros((4, 4), np.float32), (6, 8)).mask()

    assert mask.shape == (6, 8)
    assert not mask.any()


def test_the_mask_with_the_highest_score_is_the_answer_and_another_can_be_asked_for() -> None:
    low_res = np.stack([np.full((4, 4), value, np.float32) for value in (-1, 1)])
    found = Segmentation(low_res_logits=low_res, scores=np.array([0.2, 0.9], np.float32), size_hw=(6, 8))

    assert found.mask().all()
    assert not found.mask(0).any()
