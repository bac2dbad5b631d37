"""The context of a request becomes prompts: regions in, one `Prompt` per object out. Pure.

Label Studio sends every click so far of one class, or every rectangle, or every brush region, the newest last. Clicks
are one object; each rectangle and each brush region is an object of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.errors import BadPromptError, PromptOutsideError
from labelstudio_sam2.labelstudio.coverage import region_covers
from labelstudio_sam2.labelstudio.extent import Extent, extent_around, mask_extent
from labelstudio_sam2.labelstudio.regions import (
    DrawnRegion,
    Stroke,
    area_mask,
    drawn_regions,
    paint,
    point_pixels,
    rectangle_corners,
)
from labelstudio_sam2.labelstudio.wire import Context
from labelstudio_sam2.segmenter.prompt import MAX_POINTS, FloatArray, Mask, Prompt

MASK_POINTS = 6
"""Points that stand for a mask, spread over it."""
STROKE_POINTS = 16
"""Points that stand for all strokes of one sign."""
MASK_LOGIT = 4.0
"""What a mask's inside is worth as `mask_input`; its outside is worth the negative."""
MASK_INPUT_SIZE = 256


@dataclass(frozen=True, eq=False)
class Clicks:
    """Points of one object.

    Attributes:
        coords: (N, 2) float32 xy in pixels.
        labels: (N,) int32, 1 for foreground, 0 for background.
    """

    coords: FloatArray
    labels: NDArray[np.int32]

    def __add__(self, other: "Clicks") -> "Clicks":
        return Clicks(np.concatenate([self.coords, other.coords]), np.concatenate([self.labels, other.labels]))

    def __len__(self) -> int:
        return len(self.labels)

    def newest(self, count: int) -> "Clicks":
        """Return the last ones: what the annotator clicked comes after what was made of masks and strokes."""
        return Clicks(self.coords[-count:], self.labels[-count:])


NO_CLICKS = Clicks(np.zeros((0, 2), np.float32), np.zeros(0, np.int32))


def newest_prompts(context: Context) -> list[DrawnRegion]:
    """Return the regions that belong together with the newest one: on the same image, of the same classes.

    Raises:
        BadPromptError: There are none.
        UnsupportedError: A region is of a kind that SAM 2 cannot be prompted with.
    """
    regions = drawn_regions(context.result)
    if not regions:
        raise BadPromptError("the context holds no region to prompt with")
    newest = regions[-1]
    return [
        region
        for region in regions
        if region.image == newest.image and set(region.class_names) == set(newest.class_names)
    ]


def clicks_of(regions: Sequence[DrawnRegion], size_hw: tuple[int, int]) -> Clicks:
    """Return the key points among the regions as one object's clicks, in drawing order.

    Raises:
        PromptOutsideError: One lies outside the image.
    """
    points = [region for region in regions if region.kind == "keypoint"]
    if not points:
        return NO_CLICKS
    coords = np.stack([point_pixels(region, size_hw) for region in points])
    height, width = size_hw
    if not ((coords >= 0) & (coords <= (width, height))).all():
        raise PromptOutsideError(f"a click lies outside the image of {width} x {height} pixels")
    return Clicks(coords, np.array([region.is_positive for region in points], np.int32))


def prompts_of(regions: Sequence[DrawnRegion], size_hw: tuple[int, int]) -> list[Prompt]:
    """Return one prompt per object, in drawing order.

    The editor of today sends regions of one kind at a time. Where clicks come along with rectangles or brush regions,
    each click corrects the newest of them that it lies on, else the newest one.

    Raises:
        BadPromptError: A region has no area, lacks a number, or carries a broken RLE.
        PromptOutsideError: A region lies outside the image.
    """
    clicks = clicks_of(regions, size_hw)
    areas = [region for region in regions if region.kind != "keypoint"]
    if not areas:
        return [Prompt(point_coords=clicks.coords, point_labels=clicks.labels)]
    owners = np.array([_owner(areas, point, size_hw) for point in clicks.coords], np.intp)
    prompts = []
    for index, region in enumerate(areas):
        own_clicks = Clicks(clicks.coords[owners == index], clicks.labels[owners == index])
        if region.kind == "rectangle":
            prompts.append(box_prompt(region, size_hw, own_clicks))
        else:
            prompts.append(mask_prompt(area_mask(region, size_hw), own_clicks))
    return prompts


def box_prompt(region: DrawnRegion, size_hw: tuple[int, int], clicks: Clicks) -> Prompt:
    """Return the prompt of a rectangle; a turned one is the box around it, with the rectangle itself as mask input.

    Raises:
        BadPromptError: It has no area.
        PromptOutsideError: It lies outside the image.
    """
    corners = rectangle_corners(region, size_hw)
    height, width = size_hw
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or low[0] >= width or low[1] >= height:
        raise PromptOutsideError(f"a rectangle lies outside the image of {width} x {height} pixels")
    box = np.clip(np.concatenate([low, high]), 0, [width, height, width, height]).astype(np.float32)
    if not (box[2:] > box[:2]).all():
        raise BadPromptError("a rectangle must have an area")
    is_turned = region.value.rotation % 90 != 0
    mask_input = mask_logits(area_mask(region, size_hw)) if is_turned else None
    return Prompt(point_coords=clicks.coords, point_labels=clicks.labels, box=box, mask_input=mask_input)


def mask_prompt(mask: Mask, clicks: Clicks) -> Prompt:
    """Return the prompt that a rough mask stands for: its box, points spread over it, and itself as mask input.

    SAM 2 follows a mask alone badly (facebookresearch/sam2 issue 327), together with box and points well.

    Raises:
        BadPromptError: The mask is empty.
    """
    if not mask.any():
        raise BadPromptError("a brush region is empty")
    points = spread_points(mask, MASK_POINTS)
    asked = (Clicks(points, np.ones(len(points), np.int32)) + clicks).newest(MAX_POINTS)
    return Prompt(
        point_coords=asked.coords,
        point_labels=asked.labels,
        box=mask_box(mask),
        mask_input=mask_logits(mask),
    )


def stroke_clicks(drawn: Sequence[Stroke], size_hw: tuple[int, int]) -> Clicks:
    """Return points along the strokes: positive along what was painted, negative along what was erased.

    A place that a later stroke of the other sign covers counts for nothing: the annotator changed their mind there. Nor
    does one beyond the image's edge.
    """
    if not drawn:
        return NO_CLICKS
    rows, columns = _extent_of(drawn, size_hw)
    origin = columns.start, rows.start
    blank = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    clicks = NO_CLICKS
    if not blank.size:
        return clicks
    for adds in (True, False):
        last_word = paint(blank, [replace(stroke, adds=stroke.adds == adds) for stroke in drawn], origin)
        own = [stroke for stroke in drawn if stroke.adds == adds]
        paths = [_along(stroke.path, spacing=max(stroke.radius / 2, 1.0)) for stroke in own]
        points = np.concatenate([NO_CLICKS.coords, *paths])
        points = points[((points >= 0) & (points < size_hw[::-1])).all(axis=1)]
        x, y = (points.astype(np.int64) - origin).T
        points = points[last_word[y, x]]
        points = points[_far_apart(points, STROKE_POINTS)]
        clicks += Clicks(points, np.full(len(points), int(adds), np.int32))
    return clicks


def mask_box(mask: Mask) -> FloatArray:
    """Return the box around a mask that is not empty, (4,) float32 xyxy in pixels.

    Raises:
        ValueError: The mask is empty.
    """
    extent = mask_extent(mask)
    if extent is None:
        raise ValueError("an empty mask has no box")
    rows, columns = extent
    return np.array([columns.start, rows.start, columns.stop, rows.stop], np.float32)


def mask_logits(mask: Mask) -> FloatArray:
    """Return a mask as `mask_input`, (1, 256, 256) float32 logits from -`MASK_LOGIT` to `MASK_LOGIT`."""
    return ((_squeezed(mask) * 2 - 1) * MASK_LOGIT)[None]


def spread_points(mask: Mask, count: int) -> FloatArray:
    """Return up to `count` points well inside a mask and far from each other, (N, 2) float32 xy in pixels.

    The first is the one farthest from the mask's edge; each next one is the farthest from those before.
    """
    scale = max(1, max(mask.shape) // 256)
    small = np.pad(mask[::scale, ::scale].astype(np.uint8), 1)
    depth = cv2.distanceTransform(small, cv2.DIST_L2, 3)[1:-1, 1:-1]
    if not depth.any():
        rows, columns = np.nonzero(mask)
        return np.array([[columns[0] + 0.5, rows[0] + 0.5]], np.float32)
    rows, columns = np.nonzero(depth >= depth.max() * 0.4)
    deepest = int(np.argmax(depth[rows, columns]))
    inside = np.stack([columns, rows], axis=1).astype(np.float32) * scale + 0.5
    return inside[_far_apart(inside, count, first=deepest)]


def _owner(areas: Sequence[DrawnRegion], point: FloatArray, size_hw: tuple[int, int]) -> int:
    """Return the index of the newest area the point lies on, else of the newest area."""
    for index in range(len(areas) - 1, 0, -1):
        if region_covers(areas[index], point, size_hw):
            return index
    return 0 if region_covers(areas[0], point, size_hw) else len(areas) - 1


def _squeezed(mask: Mask) -> FloatArray:
    """Return which share of each cell a mask covers, (256, 256) float32, the image squeezed to a square.

    To the bit the resized whole picture: a part that began elsewhere than at the first row and column OpenCV would
    weigh a rounding error apart, so the part begins there; it ends where the mask does.
    """
    height, width = mask.shape
    shares = np.zeros((MASK_INPUT_SIZE, MASK_INPUT_SIZE), np.float32)
    extent = mask_extent(mask)
    if extent is None:
        return shares
    if min(mask.shape) < MASK_INPUT_SIZE:
        return _resized_by_area(mask, shares.shape)
    rows, columns = extent
    bottom, right = rows.stop + 2 * height // MASK_INPUT_SIZE + 2, columns.stop + 2 * width // MASK_INPUT_SIZE + 2
    part = _resized_by_area(mask[:bottom, :right], None, fx=MASK_INPUT_SIZE / width, fy=MASK_INPUT_SIZE / height)
    shares[: part.shape[0], : part.shape[1]] = part
    return shares


def _resized_by_area(mask: Mask, dsize: Sequence[int] | None, *, fx: float = 0, fy: float = 0) -> FloatArray:
    resized: Any = cv2.resize(mask.astype(np.float32), dsize, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.float32)


def _extent_of(drawn: Sequence[Stroke], size_hw: tuple[int, int]) -> Extent:
    """Return the part of the picture that any of the strokes can touch."""
    extents = [extent_around(stroke.pixels, stroke.reach, size_hw) for stroke in drawn]
    rows, columns = zip(*extents, strict=True)
    return (
        slice(min(part.start for part in rows), max(part.stop for part in rows)),
        slice(min(part.start for part in columns), max(part.stop for part in columns)),
    )


def _along(path: FloatArray, spacing: float) -> FloatArray:
    """Return points along a path at equal distances, its ends among them, (N, 2) float32."""
    steps = np.hypot(*np.diff(path, axis=0).T) if len(path) > 1 else np.zeros(0)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    count = min(int(travelled[-1] / spacing) + 2, 512)
    at = np.linspace(0.0, travelled[-1], count)
    return np.stack([np.interp(at, travelled, path[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def _far_apart(points: FloatArray, count: int, first: int = 0) -> NDArray[np.intp]:
    """Return the indices of up to `count` distinct points, each as far as can be from those chosen before."""
    if not len(points):
        return np.zeros(0, np.intp)
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(axis=1)
    while len(chosen) < count and distance.max() > 0:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, np.intp)
