"""Masks become polygons and COCO RLE. Pure."""

from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

from labelstudio_sam2.errors import BadRequestError
from labelstudio_sam2.segmenter.prompt import FloatArray, Mask


class CocoRle(TypedDict):
    """A mask as COCO writes it, compressed.

    `size` is [H, W]; `counts` are the run lengths in column-major order, as COCO's own ASCII text.
    """

    size: list[int]
    counts: str


def masks2poly(masks: ArrayLike) -> list[FloatArray]:
    """Return one polygon per mask: of its outer outlines the one with the most corners.

    A mask may have several parts and holes: `masks2multipoly` gives all parts, `coco_rle` the mask itself.

    Args:
        masks: (N, H, W) bool, or (H, W) for a single one; numbers count as true where they are not 0.

    Returns:
        N polygons (one for a single mask), each (K, 2) float32 xy, the indices of the outermost pixels; (0, 2) for an
        empty mask. K may be 1 or 2 for a mask of a pixel or a line.

    Raises:
        BadRequestError: Another shape, or logits, which are to be compared with `mask_threshold` first.
    """
    return [max(polygons, key=len) for polygons in masks2multipoly(masks)]


def masks2multipoly(masks: ArrayLike) -> list[list[FloatArray]]:
    """Return all polygons of each mask: the outer outline of each of its parts.

    Holes are not in them: filled, the polygons give the mask with its holes filled.

    Args:
        masks: As for `masks2poly`.

    Returns:
        N lists of polygons as `masks2poly` returns them, never empty: an empty mask has one polygon of shape (0, 2).

    Raises:
        BadRequestError: As `masks2poly`.
    """
    return [_outlines(mask) for mask in _stack(masks)]


def coco_rle(mask: Mask) -> CocoRle:
    """Return a mask as compressed COCO RLE, holes and all; `pycocotools.mask.decode` reads it.

    Args:
        mask: (H, W) bool.
    """
    encoded: dict[str, Any] = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = mask.shape
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _stack(masks: ArrayLike) -> NDArray[np.uint8]:
    """Return (N, H, W) uint8, 0 or 1."""
    array = np.asarray(masks)
    if array.dtype.kind not in "bui":
        raise BadRequestError(f"masks must be bool, got {array.dtype}: compare logits with mask_threshold first")
    if array.ndim not in {2, 3}:
        raise BadRequestError(f"masks must have shape (N, H, W) or (H, W), got {array.shape}")
    return (array if array.ndim == 3 else array[None]).astype(bool).astype(np.uint8)


def _outlines(mask: NDArray[np.uint8]) -> list[FloatArray]:
    found: Any = () if mask.size == 0 else cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    outlines: list[FloatArray] = [np.asarray(contour, np.float32).reshape(-1, 2) for contour in found]
    return outlines or [np.zeros((0, 2), np.float32)]
