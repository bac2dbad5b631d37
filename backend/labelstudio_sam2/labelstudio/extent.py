"""Where in a picture a mask is: most masks are small, and what is done to one need not touch all pixels. Pure."""

from typing import TypeAlias

import numpy as np

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
