import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from labelstudio_sam2.errors import BadRequestError
from labelstudio_sam2.sam2_api.masks import coco_rle, masks2multipoly, masks2poly


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((6, 8), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def test_a_single_mask_gives_one_polygon_and_not_one_for_each_row() -> None:
    (polygon,) = masks2poly(rectangle(1, 2, 5, 4))

    assert polygon.tolist() == [[1, 2], [1, 4], [5, 4], [5, 2]]
    assert polygon.dtype == np.float32


def test_each_mask_gives_one_polygon() -> None:
    first, second, third = masks2poly(np.stack([rectangle(1, 2, 5, 4), np.zeros((6, 8), bool), rectangle(0, 0, 7, 5)]))

    assert first.tolist() == [[1, 2], [1, 4], [5, 4], [5, 2]]
    assert second.shape == (0, 2)
    assert third.tolist() == [[0, 0], [0, 5], [7, 5], [7, 0]]


def test_of_two_parts_the_one_with_more_corners_is_the_polygon() -> None:
    rectangle_of_12, triangle_of_3 = rectangle(3, 3, 6, 5), rectangle(0, 0, 1, 0) | rectangle(0, 1, 0, 1)

    (polygon,) = masks2poly(rectangle_of_12 | triangle_of_3)

    assert polygon.tolist() == [[3, 3], [3, 5], [6, 5], [6, 3]]


def test_every_part_is_among_the_polygons() -> None:
    two_parts = rectangle(0, 0, 2, 1) | rectangle(5, 3, 7, 5)

    (polygons,) = masks2multipoly(two_parts)

    assert sorted(polygon.tolist() for polygon in polygons) == [
        [[0, 0], [0, 1], [2, 1], [2, 0]],
        [[5, 3], [5, 5], [7, 5], [7, 3]],
    ]


def test_an_empty_mask_has_one_polygon_without_corners() -> None:
    ((polygon,),) = masks2multipoly(np.zeros((6, 8), bool))

    assert polygon.shape == (0, 2)


@pytest.mark.parametrize("shape", [(0, 6, 8), (0, 0, 0)])
def test_no_masks_give_no_polygons(shape: tuple[int, ...]) -> None:
    assert masks2poly(np.zeros(shape, bool)) == []


def test_filled_polygons_are_the_mask_with_its_holes_filled() -> None:
    ring = rectangle(1, 0, 6, 5) & ~rectangle(3, 2, 4, 3)

    (polygons,) = masks2multipoly(ring)

    filled = cv2.fillPoly(np.zeros((6, 8), np.uint8), [polygon.astype(np.int32) for polygon in polygons], [1])
    np.testing.assert_array_equal(filled.astype(bool), rectangle(1, 0, 6, 5))


def test_numbers_other_than_0_are_true() -> None:
    (polygon,) = masks2poly(rectangle(1, 2, 5, 4).astype(np.int64) * 256)

    assert polygon.tolist() == [[1, 2], [1, 4], [5, 4], [5, 2]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((6, 8), np.float32), "compare logits with mask_threshold first"),
        (np.zeros(6, bool), r"shape \(N, H, W\) or \(H, W\), got \(6,\)"),
        (np.zeros((1, 1, 6, 8), bool), "shape"),
    ],
)
def test_what_is_no_mask_is_refused(masks: np.ndarray[tuple[int, ...], np.dtype[np.float32]], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        masks2poly(masks)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own, under numpy 2
def test_coco_rle_decodes_to_the_mask_with_its_holes() -> None:
    ring = rectangle(1, 0, 6, 5) & ~rectangle(3, 2, 4, 3)

    rle = coco_rle(ring)

    assert rle["size"] == [6, 8]
    assert isinstance(rle["counts"], str)
    np.testing.assert_array_equal(coco.decode(rle).astype(bool), ring)


def test_coco_rle_counts_along_columns() -> None:
    rle = coco_rle(rectangle(0, 0, 0, 5))

    uncompressed = {"size": [6, 8], "counts": [0, 6, 42]}  # the first column is true
    assert rle["counts"] == coco.frPyObjects(uncompressed, 6, 8)["counts"].decode()
