"""Masks become Label Studio's regions: brush, polygon or rectangle. Pure."""

import secrets
import string
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle
from labelstudio_sam2.labelstudio.extent import mask_extent
from labelstudio_sam2.labelstudio.label_config import AnswerTag
from labelstudio_sam2.labelstudio.prompts import mask_box
from labelstudio_sam2.segmenter.prompt import FloatArray, Mask, Prompt

MIN_PART = 0.01
"""Parts of a mask smaller than this share of its largest part become no polygon of their own."""

_CLICKED = 2
"""Marks the pixels of a clicked part, where 1 is a pixel of any part."""


def answer_regions(
    mask: Mask, score: float, tag: AnswerTag, *, region_id: str | None = None, item_index: int | None = None
) -> list[dict[str, Any]]:
    """Return the results that show a mask in Label Studio, `rle` as an array of uint8; none for an empty mask.

    A brush or a rectangle is one region. Polygons are one region for each part of the mask, the largest first; they
    follow outer outlines only, so holes are filled: choose a brush tag where holes matter.

    Args:
        mask: (H, W) bool in the original image's size.
        score: 0..1.
        tag: Where the answer goes.
        region_id: The id of the region that the answer replaces; a fresh one otherwise.
        item_index: Which image of a list, if the prompt named one.
    """
    if not mask.any():
        return []
    values: list[dict[str, Any]]
    match tag.kind:
        case "brush":
            values = [{"format": "rle", "rle": encode_brush_rle(mask)}]
        case "polygon":
            values = [
                {"points": _percent(outline, mask).tolist(), "closed": True}
                for outline in mask_outlines(mask, tolerance=tag.tolerance)
            ]
        case "rectangle":
            (left, top), (right, bottom) = _percent(mask_box(mask).reshape(2, 2), mask).tolist()
            values = [{"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}]
    results = []
    for index, value in enumerate(values):
        own_id = region_id if region_id is not None and index == 0 else fresh_region_id()
        results += _results(value, own_id, score, tag, mask.shape, item_index)
    return results


def clicked_parts(mask: Mask, prompt: Prompt) -> Mask:
    """Return the connected parts of a mask that hold a positive click; the whole mask if none does.

    Args:
        mask: (H, W) bool.
        prompt: What was asked, in pixels of the same image.
    """
    height, width = mask.shape
    x, y = np.clip(np.floor(prompt.point_coords[prompt.point_labels == 1]).astype(int), 0, (width - 1, height - 1)).T
    on_mask = mask[y, x]
    extent = mask_extent(mask)
    if extent is None or not on_mask.any():
        return mask
    rows, columns = extent
    parts = mask[extent].astype(np.uint8)
    for column, row in zip((x[on_mask] - columns.start).tolist(), (y[on_mask] - rows.start).tolist(), strict=True):
        if parts[row, column] != _CLICKED:
            cv2.floodFill(parts, None, (column, row), _CLICKED, flags=8)  # 8 neighbours
    kept = np.zeros(mask.shape, np.bool_)
    kept[extent] = parts == _CLICKED
    return kept


def mask_outlines(mask: Mask, *, tolerance: float) -> list[FloatArray]:
    """Return the outer outline of each part of a mask, the largest part first.

    Args:
        mask: (H, W) bool.
        tolerance: Of OpenCV's `approxPolyDP` (Douglas-Peucker), in pixels. It drops corners twice, so an outline may
            move by up to 1.7 times that.

    Returns:
        (K, 2) float32 xy in pixels each, K >= 3, along the edges of the outermost pixels. Parts smaller than `MIN_PART`
        of the largest one are left out.
    """
    extent = mask_extent(mask)
    if extent is None:
        return []
    rows, columns = extent
    # A corner of the pixel grid belongs to a part if one of the four pixels around it does.
    pixels = np.pad(mask[extent].astype(np.uint8), ((0, 1), (0, 1)))
    corners = cv2.dilate(pixels, np.ones((2, 2), np.uint8), anchor=(1, 1))
    origin = columns.start, rows.start
    found, _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=origin)
    by_area = sorted(((cv2.contourArea(contour), contour) for contour in found), key=lambda part: -part[0])
    outlines: list[FloatArray] = []
    for area, contour in by_area:
        if area < by_area[0][0] * MIN_PART:
            break
        simple = cv2.approxPolyDP(contour, tolerance, closed=True)
        outline = simple if len(simple) >= 3 else contour  # no part vanishes for being small
        outlines.append(outline.reshape(-1, 2).astype(np.float32))
    return outlines


def fresh_region_id() -> str:
    """Return a region id as Label Studio's editor makes them: ten letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(10))


def _results(
    value: dict[str, Any], region_id: str, score: float, tag: AnswerTag, size_hw: Sequence[int], item_index: int | None
) -> list[dict[str, Any]]:
    common = {
        "id": region_id,
        "to_name": tag.to_name,
        "original_width": size_hw[1],
        "original_height": size_hw[0],
        "image_rotation": 0,
        "score": round(score, 4),
        **({} if item_index is None else {"item_index": item_index}),
    }
    if tag.labels_from is None and tag.class_names:
        labels_key = f"{tag.kind}labels"
        return [
            {
                **common,
                "from_name": tag.from_name,
                "type": labels_key,
                "value": {**value, labels_key: [*tag.class_names]},
            }
        ]
    results = [{**common, "from_name": tag.from_name, "type": tag.kind, "value": value}]
    if tag.labels_from is not None:
        labels = {"labels": [*tag.class_names]}
        results.append({**common, "from_name": tag.labels_from, "type": "labels", "value": labels})
    return results


def _percent(points: FloatArray, mask: Mask) -> FloatArray:
    """Turn (N, 2) xy in pixels into percent of the image."""
    height, width = mask.shape
    return np.asarray(points / (width, height) * 100)
