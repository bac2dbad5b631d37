"""Whether a region covers a point, without making its mask: to find one of hundreds under a click. Pure."""

from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.labelstudio.brush_rle import brush_rle_covers
from labelstudio_sam2.labelstudio.extent import Extent, extent_around, holds
from labelstudio_sam2.labelstudio.regions import DrawnRegion, Stroke, draw_stroke, outline, pixel_of, strokes
from labelstudio_sam2.labelstudio.wire import Region, decode_rle, has_rle
from labelstudio_sam2.segmenter.prompt import FloatArray


class Extents(Protocol):
    """Knows where brush RLEs cover anything at all."""

    def find(self, region: Region, size_hw: tuple[int, int]) -> Extent | None:
        """Return the part of the picture beyond which a brush RLE covers nothing, or None where that is not known."""
        ...


def region_covers(
    region: DrawnRegion, point: FloatArray, size_hw: tuple[int, int], extents: Extents | None = None
) -> bool:
    """Return whether a rectangle, polygon or brush region covers a point: `covers(area_mask(region, size_hw), point)`.

    Args:
        region: Drawn on this picture.
        point: (2,) float32 xy in pixels, within the picture.
        size_hw: (H, W) of the picture.
        extents: What spares reading the RLE where the point lies beyond it, if anything.

    Raises:
        BadPromptError: Its RLE is broken. What is broken behind the point's pixel goes unseen.
    """
    pixel = pixel_of(point, size_hw)
    if region.kind in ("rectangle", "polygon"):
        return _outline_covers(outline(region, size_hw), pixel, size_hw)
    for stroke in reversed(strokes(region, size_hw)):
        if _stroke_covers(stroke, pixel, size_hw):
            return stroke.adds
    if not has_rle(region.geometry):
        return False
    extent = extents.find(region.geometry, size_hw) if extents is not None else None
    if extent is not None and not holds(extent, pixel):
        return False
    return brush_rle_covers(decode_rle(region.geometry), size_hw, pixel)


def _outline_covers(corners: NDArray[np.int32], pixel_xy: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Return whether OpenCV fills a pixel of a polygon.

    Near its edge that is seen by filling it, within the box around it; so it is for a polygon over the picture's edge,
    along which OpenCV fills pixels beside it.
    """
    if not len(corners):
        return False
    reach = 3 + (int(np.ptp(corners, axis=0).max()) >> 15)  # as far as a slanting edge is off when it is drawn
    extent = rows, columns = extent_around(corners, reach, size_hw)
    if not holds(extent, pixel_xy):
        return False
    x, y = pixel_xy
    if corners.min() >= 0 and (corners < size_hw[::-1]).all():
        distance = cv2.pointPolygonTest(corners[:, None], (float(x), float(y)), measureDist=True)
        if abs(distance) > reach:
            return distance > 0
    filled = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(filled, [corners - np.array([columns.start, rows.start], np.int32)], 1)
    return bool(filled[y - rows.start, x - columns.start])


def _stroke_covers(stroke: Stroke, pixel_xy: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Return whether a pixel is drawn on, by drawing what of the stroke is near it, uncut but by the picture's edge."""
    points = stroke.pixels
    lines = np.stack([points[:-1], points[1:]], axis=1) if len(points) > 1 else points[None]
    lines = lines[_distances(pixel_xy, lines[:, 0], lines[:, -1]) <= stroke.reach]
    if not len(lines):
        return False
    rows, columns = extent_around(lines.reshape(-1, 2), stroke.reach, size_hw)
    drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
    draw_stroke(drawn, replace(stroke, adds=True), list(lines), (columns.start, rows.start))
    x, y = pixel_xy
    return bool(drawn[y - rows.start, x - columns.start])


def _distances(pixel_xy: tuple[int, int], starts: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return how far a pixel is from each of N straight lines, (N,) float64."""
    to_pixel = np.array(pixel_xy, np.float64) - starts
    along = (ends - starts).astype(np.float64)
    length_squared = np.maximum((along**2).sum(axis=1), 1.0)
    share = np.clip((to_pixel * along).sum(axis=1) / length_squared, 0.0, 1.0)
    return np.asarray(np.hypot(*(to_pixel - share[:, None] * along).T), np.float64)
