"""Draws what was asked and what was found onto a picture, for people to look at. Pure."""

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.segmenter.prompt import Image, Mask, Prompt

Color: TypeAlias = tuple[int, int, int]
"""RGB, 0..255."""

TINT: Color = (124, 58, 237)
POSITIVE: Color = (22, 163, 74)
NEGATIVE: Color = (220, 38, 38)
WHITE: Color = (255, 255, 255)
OPACITY = 0.45
"""Of the tint."""

_SHIFT = 4
"""OpenCV takes coordinates as whole numbers of 1/16 pixel."""


def draw_overlay(image: Image, mask: Mask, prompt: Prompt) -> Image:
    """Return a copy of the picture with the mask tinted and outlined, and the prompt's box and points over it.

    Positive points are green with a plus, negative ones red with a minus. Sizes follow the picture's.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
        prompt: In pixels of the picture.
    """
    canvas = image.copy()
    thickness = max(1, round(min(mask.shape) / 250))
    canvas[mask] = np.round(canvas[mask] * (1 - OPACITY) + np.array(TINT) * OPACITY)
    _outline(canvas, mask, thickness)
    if prompt.box is not None:
        _box(canvas, prompt.box, thickness)
    for point, label in zip(prompt.point_coords, prompt.point_labels, strict=True):
        _dot(canvas, point, is_positive=label == 1, radius=4 * thickness + 1)
    return canvas


def _outline(canvas: Image, mask: Mask, thickness: int) -> None:
    """Draw the mask's edge, around holes too: white, with the tint inside it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.polylines(canvas, contours, isClosed=True, color=WHITE, thickness=3 * thickness, lineType=cv2.LINE_AA)
    cv2.polylines(canvas, contours, isClosed=True, color=TINT, thickness=thickness, lineType=cv2.LINE_AA)


def _box(canvas: Image, box: NDArray[np.float32], thickness: int) -> None:
    start, end = _fixed(box[:2]), _fixed(box[2:])
    for color, width in ((WHITE, 3 * thickness), (POSITIVE, thickness)):
        cv2.rectangle(canvas, start, end, color, width, cv2.LINE_AA, _SHIFT)


def _dot(canvas: Image, point: NDArray[np.float32], *, is_positive: bool, radius: int) -> None:
    """Draw a disc with a white rim and a white plus or minus."""
    rim, sign = max(1, radius // 3), radius / 2
    color = POSITIVE if is_positive else NEGATIVE
    for shown, size in ((WHITE, radius + rim), (color, radius)):
        cv2.circle(canvas, _fixed(point), size << _SHIFT, shown, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    for step in [(sign, 0.0), (0.0, sign)] if is_positive else [(sign, 0.0)]:
        ends = _fixed(point - step), _fixed(point + step)
        cv2.line(canvas, *ends, WHITE, max(1, radius // 4), cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[Any]) -> tuple[int, int]:
    """Return xy as OpenCV draws it: there whole numbers are pixel centers, which lie at halves here."""
    x, y = np.round((np.asarray(point, np.float64) - 0.5) * (1 << _SHIFT)).astype(int)
    return int(x), int(y)
