"""Where in a picture a mask is."""

import numpy as np
import pytest

from labelstudio_sam2.labelstudio.extent import holds, mask_extent


def test_the_extent_holds_the_whole_mask_and_no_row_or_column_more() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2, 5] = mask[4, 1] = True

    assert mask_extent(mask) == (slice(2, 5), slice(1, 6))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (5, 0), (5, 7)])
def test_the_extent_of_a_pixel_in_a_corner_is_that_pixel(row: int, column: int) -> None:
    mask = np.zeros((6, 8), bool)
    mask[row, column] = True

    assert mask_extent(mask) == (slice(row, row + 1), slice(column, column + 1))


def test_an_empty_mask_is_nowhere() -> None:
    assert mask_extent(np.zeros((6, 8), bool)) is None


@pytest.mark.parametrize(
    ("pixel_xy", "is_inside"),
    [((1, 2), True), ((5, 4), True), ((0, 2), False), ((6, 2), False), ((1, 1), False), ((1, 5), False)],
)
def test_an_extent_holds_its_outermost_pixels_and_none_beside_them(
    pixel_xy: tuple[int, int],
    is_inside: bool,  # noqa: FBT001  a case's answer
) -> None:
    assert holds((slice(2, 5), slice(1, 6)), pixel_xy) is is_inside
