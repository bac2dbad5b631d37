"""Where in a picture a mask is: most masks are small, and what is done to one need not touch all pixels. Pure."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.segmenter.prompt import Mask

Extent: TypeAlias = tuple[slice, slice]
"""Rows and columns; `mask[extent]` is a view."""


def mask_extent(mask: Mask) -> Extent | None:
    """Return the smallest part of a mask, (H, W) bool, that holds all of it; None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    within_rows = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[within_rows].any(axis=0))
    return within_rows, slice(int(columns[0]), int(columns[-1]) + 1)


def holds(extent: Extent, pixel_xy: tuple[int, int]) -> bool:
    """Return whether a pixel lies in a part of a picture."""
    rows, columns = extent
    x, y = pixel_xy
    return bool(columns.start <= x < columns.stop and rows.start <= y < rows.stop)


def extent_around(points: NDArray[np.int32], reach: int, size_hw: tuple[int, int]) -> Extent:
    """Return the part of a picture that is no farther than `reach` from the box around some points.

    Args:
        points: (N, 2) xy of pixels, N >= 1, anywhere.
        reach: In pixels.
        size_hw: (H, W) of the picture; what is beyond its edges is left out, which may be all.
    """
    size_wh = size_hw[::-1]
    left, top = np.clip(points.min(axis=0) - reach, 0, size_wh).tolist()
    right, bottom = np.clip(points.max(axis=0) + reach + 1, 0, size_wh).tolist()
    return slice(top, bottom), slice(left, right)
