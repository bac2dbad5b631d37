"""Label Studio's regions in pixels: percent are turned into pixels here, once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.errors import BadPromptError, RotatedImageError, SizeMismatchError, UnsupportedError
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle
from labelstudio_sam2.labelstudio.wire import Region, RegionValue, decode_rle, has_rle
from labelstudio_sam2.segmenter.prompt import FloatArray, Mask


@dataclass(frozen=True)
class DrawnRegion:
    """One region the annotator drew: its geometry and classes, which Label Studio may send as two results of one id.

    Attributes:
        geometry: The result that says where it is.
        kind: The geometry's type without `labels`: `keypoint`, `rectangle`, `brush`, `polygon`.
        class_names: As the labels tag wrote them; empty for an unlabelled region.
        labels_from: The tag that named the classes.
    """

    geometry: Region
    kind: str
    class_names: tuple[str, ...]
    labels_from: str

    @property
    def id(self) -> str:
        """Its id, the same in every request."""
        return self.geometry.id

    @property
    def value(self) -> RegionValue:
        """Where it is."""
        return self.geometry.value

    @property
    def image(self) -> tuple[str, int | None]:
        """Which image it lies on: the object tag's name and the index within a list of images."""
        return self.geometry.to_name, self.geometry.item_index

    @property
    def is_positive(self) -> bool:
        """Whether it asks for what is there. A click that lost the mark in a draft counts as positive."""
        return self.geometry.is_positive is not False


GEOMETRY_KINDS = ("keypoint", "rectangle", "brush", "polygon")
MAX_PERCENT = 1e6
"""Places farther out than this are moved here: still far outside of every image, and no number overflows."""
MAX_BRUSH_RADIUS = 16_000
"""In pixels; OpenCV draws no thicker lines."""


def drawn_regions(results: Iterable[Region]) -> list[DrawnRegion]:
    """Join the results of each region, in drawing order.

    Plain tags with a global `<Labels>` give two results of one id: the geometry, and a copy of it of type `labels`.
    What else was said about a region (`choices`, `rating`, … of a tag with `perRegion`) is left out.

    Raises:
        UnsupportedError: A region is of a kind that SAM 2 cannot be prompted with.
    """
    drawn: dict[str, DrawnRegion] = {}
    for result in results:
        kind = result.type.removesuffix("labels")
        if result.type == "labels":
            if result.id in drawn:
                drawn[result.id] = replace(
                    drawn[result.id], class_names=tuple(result.value.labels or ()), labels_from=result.from_name
                )
        elif kind in GEOMETRY_KINDS:
            drawn[result.id] = DrawnRegion(result, kind, _class_names(result, kind), result.from_name)
        elif result.id not in drawn:
            raise UnsupportedError(f"cannot prompt SAM 2 with a region of type {result.type[:40]!r}")
    return list(drawn.values())


def check_size(region: DrawnRegion, size_hw: tuple[int, int]) -> None:
    """Do nothing if the region was drawn on a picture of this size, upright.

    Raises:
        SizeMismatchError: It was drawn on another size: the picture changed, or its EXIF orientation was ignored.
        RotatedImageError: It was drawn on the image turned in the editor.
    """
    geometry = region.geometry
    drawn_hw = geometry.original_height, geometry.original_width
    if None not in drawn_hw and drawn_hw != size_hw:
        raise SizeMismatchError(
            f"region drawn on {drawn_hw[1]} x {drawn_hw[0]}, the picture has {size_hw[1]} x {size_hw[0]} pixels"
        )
    if geometry.image_rotation:
        raise RotatedImageError(f"image_rotation is {geometry.image_rotation:g} degrees, only 0 is supported")


def point_pixels(region: DrawnRegion, size_hw: tuple[int, int]) -> FloatArray:
    """Return a key point, (2,) float32 xy in pixels, unrounded."""
    return _pixels([[_number(region, "x"), _number(region, "y")]], size_hw).reshape(2)


def rectangle_corners(region: DrawnRegion, size_hw: tuple[int, int]) -> FloatArray:
    """Return a rectangle's corners, (4, 2) float32 xy in pixels, clockwise from the first one.

    Label Studio turns a rectangle by `rotation` degrees clockwise around its first corner, in pixels.
    """
    height, width = size_hw
    origin = np.array([_number(region, "x") / 100 * width, _number(region, "y") / 100 * height])
    along = np.array([_number(region, "width") / 100 * width, 0.0])
    down = np.array([0.0, _number(region, "height") / 100 * height])
    angle = np.deg2rad(region.value.rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[0.0, 0.0], along, along + down, down])
    return np.asarray(origin + corners @ turn.T, np.float32)


@dataclass(frozen=True)
class Stroke:
    """One drag of the brush or the eraser.

    Attributes:
        path: (N, 2) float32 xy in pixels, N >= 1.
        radius: Half the brush's width, in pixels.
        adds: False for the eraser.
    """

    path: FloatArray
    radius: float
    adds: bool

    @property
    def pixels(self) -> NDArray[np.int32]:
        """The pixels of its path, (N, 2) int32 xy."""
        return _whole(self.path)

    @property
    def thickness(self) -> int:
        """How wide it is drawn, in whole pixels."""
        return max(1, round(self.radius * 2))

    @property
    def reach(self) -> int:
        """How far from its path a pixel may be and still be drawn on; generous.

        OpenCV draws slanting lines in steps of 2**-16 pixels, which add up along a line as long as no picture is.
        """
        return self.thickness // 2 + 3 + (int(np.ptp(self.pixels, axis=0).max()) >> 15)


def strokes(region: DrawnRegion, size_hw: tuple[int, int]) -> list[Stroke]:
    """Return a draft region's strokes in drawing order; none for a finished mask."""
    drawn = []
    for touch in region.value.touches or []:
        path = _pixels(np.reshape(touch.relative_points[: len(touch.relative_points) // 2 * 2], (-1, 2)), size_hw)
        radius = touch.relative_stroke_width / 100 * size_hw[1] / 2
        if len(path):
            drawn.append(Stroke(path, min(max(radius, 0.5), MAX_BRUSH_RADIUS), adds=touch.type != "eraser"))
    return drawn


def outline(region: DrawnRegion, size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Return the pixels that the corners of a rectangle or a polygon lie in, (K, 2) int32 xy."""
    if region.kind == "rectangle":
        return _whole(rectangle_corners(region, size_hw))
    return _whole(_pixels(region.value.points or [], size_hw))


def area_mask(region: DrawnRegion, size_hw: tuple[int, int]) -> Mask:
    """Return what a rectangle, polygon or brush region covers, (H, W) bool.

    Raises:
        BadPromptError: Its RLE is broken.
    """
    if region.kind in ("rectangle", "polygon"):
        corners = outline(region, size_hw)
        mask = np.zeros(size_hw, np.uint8)
        if len(corners):
            cv2.fillPoly(mask, [corners], 1)
        return mask.view(np.bool_)
    if has_rle(region.geometry):
        finished = decode_brush_rle(np.concatenate([*decode_rle(region.geometry)]), size_hw)
    else:
        finished = np.zeros(size_hw, np.bool_)
    for stroke in strokes(region, size_hw):
        draw_stroke(finished, stroke, [stroke.pixels])
    return finished


def paint(mask: Mask, drawn: Sequence[Stroke], origin_xy: tuple[int, int] = (0, 0)) -> Mask:
    """Return the mask, (H, W) bool, with strokes added and erased in their order.

    Args:
        mask: Of the picture or of a part of it.
        drawn: In pixels of the picture.
        origin_xy: Where in the picture the mask begins.
    """
    painted = mask.copy()
    for stroke in drawn:
        draw_stroke(painted, stroke, [stroke.pixels], origin_xy)
    return painted


def draw_stroke(
    mask: Mask, stroke: Stroke, lines: Sequence[NDArray[np.int32]], origin_xy: tuple[int, int] = (0, 0)
) -> None:
    """Add or erase parts of a stroke, and its two ends, in a mask in place.

    Args:
        mask: (H, W) bool, of the picture or of a part of it.
        stroke: In pixels of the picture.
        lines: Pieces of its `pixels`, (N, 2) int32 each; all of it as a rule.
        origin_xy: Where in the picture the mask begins.
    """
    canvas, color = mask.view(np.uint8), int(stroke.adds)
    origin = np.array(origin_xy, np.int32)
    cv2.polylines(canvas, [line - origin for line in lines], isClosed=False, color=color, thickness=stroke.thickness)
    for x, y in (stroke.pixels[[0, -1]] - origin).tolist():
        cv2.circle(canvas, (x, y), round(stroke.radius), color, thickness=-1)


def covers(mask: Mask, point: FloatArray) -> bool:
    """Return whether a point of the image, (2,) xy in pixels, lies on the mask."""
    height, width = mask.shape
    x, y = pixel_of(point, (height, width))
    return bool(mask[y, x])


def pixel_of(point: FloatArray, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the pixel, xy, that a point of the image lies in; on the right or lower edge it is the last one."""
    height, width = size_hw
    return min(int(point[0]), width - 1), min(int(point[1]), height - 1)


def _whole(points: FloatArray) -> NDArray[np.int32]:
    """Return the pixels that points lie in, within what OpenCV can draw."""
    return np.clip(np.floor(points), -1_000_000, 1_000_000).astype(np.int32)


def _class_names(result: Region, kind: str) -> tuple[str, ...]:
    own = getattr(result.value, f"{kind}labels")
    return tuple(own or result.value.labels or ())


def _number(region: DrawnRegion, name: str) -> float:
    number = getattr(region.value, name)
    if number is None:
        raise BadPromptError(f"a {region.kind} region needs value.{name}")
    return float(np.clip(number, -MAX_PERCENT, MAX_PERCENT))


def _pixels(percent: Sequence[Sequence[float]] | FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """Turn (N, 2) xy in percent of the original image into pixels, (N, 2) float32."""
    height, width = size_hw
    within = np.clip(np.reshape(np.asarray(percent, np.float64), (-1, 2)), -MAX_PERCENT, MAX_PERCENT)
    return np.asarray(within / 100 * (width, height), np.float32)
