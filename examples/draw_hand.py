"""Draws hand.png for sam2.py by arithmetic, so that the true masks of the fist and the sleeve are known.

A shape is a field: (H, W) float32, negative inside, zero on the outline, about a pixel steep. To draw the file again:
python examples/draw_hand.py examples/sam2/hand.png
"""

import sys
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

WIDTH, HEIGHT = 750, 1000
PAPER = ((0.86, 0.90, 0.84), (0.73, 0.77, 0.71))
SKIN = (0.95, 0.70, 0.52)
WOOL = (0.20, 0.30, 0.55)
CREASE = 0.62
"""How bright a line between two fingers is, of the skin."""
LIGHT = np.array([-0.5, -0.65, 0.57], np.float32)
"""Unit vector to the lamp: from the left, from above, towards the viewer; y grows downwards."""


def draw_hand() -> tuple[NDArray[np.uint8], dict[str, Mask]]:
    """Draw a fist that comes out of a sleeve.

    Returns:
        (H, W, 3) uint8 RGB, and by name the (H, W) bool of the visible `fist` (with its bare wrist) and `sleeve`.
    """
    ys, xs = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + np.float32(0.5)
    fingers = [_stick(xs, ys, (300 + 72 * i, 250 + 8 * abs(i - 1.3), 44), (310 + 68 * i, 400, 42)) for i in range(4)]
    thumb = _stick(xs, ys, (215, 470, 48), (390, 505, 40))
    below_cuff = ys - (690 + 0.22 * (xs - 330))

    fist = _join(_ellipse(xs, ys), _stick(xs, ys, (330, 640, 100), (360, 520, 110)), 50)
    for finger in fingers:
        fist = _join(fist, finger, 18)
    fist = _join(_join(fist, thumb, 14), _stick(xs, ys, (290, 860, 98), (345, 560, 100)), 30)
    fist = np.maximum(fist, below_cuff - 10)
    sleeve = np.maximum(_stick(xs, ys, (230, 1100, 150), (330, 640, 112)), -below_cuff)

    rgb = _paper(xs, ys)
    rgb *= _shadow(np.minimum(fist, sleeve))
    _paint(rgb, fist, _solid(fist, SKIN, 90))
    for finger in fingers:
        _paint(rgb, np.maximum(np.abs(finger) - 2.2, np.maximum(fist + 6, ys - 440)), _darker(SKIN, CREASE))
    _paint(rgb, thumb, _solid(thumb, SKIN, 45))
    _paint(rgb, np.maximum(np.abs(thumb) - 2.2, fist + 6), _darker(SKIN, CREASE))
    _paint(rgb, sleeve, _solid(sleeve, WOOL, 120))
    ribs = np.abs((0.976 * xs + 0.215 * ys) % 26 - 13) - 2.5
    _paint(rgb, np.maximum(ribs, np.maximum(sleeve, below_cuff - 70) + 3), _darker(WOOL, 0.72))
    _paint(rgb, np.maximum(np.abs(below_cuff - 72) - 2.5, sleeve + 1), _darker(WOOL, 0.6))

    image = np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return image, {"fist": (fist < 0) & (sleeve >= 0), "sleeve": sleeve < 0}


def _ellipse(xs: Field, ys: Field) -> Field:
    """Return the back of the hand."""
    cosine, sine = np.cos(np.radians(12)), np.sin(np.radians(12))
    u, v = cosine * (xs - 390) + sine * (ys - 440), cosine * (ys - 440) - sine * (xs - 390)
    return np.asarray((np.hypot(u / 175, v / 165) - 1) * 165, np.float32)


def _stick(xs: Field, ys: Field, start: tuple[float, float, float], end: tuple[float, float, float]) -> Field:
    """Return a stick with round ends; start and end are x, y and the radius there, in pixels."""
    (x, y, radius), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
    along = np.clip(((xs - x) * dx + (ys - y) * dy) / (dx * dx + dy * dy), 0, 1)
    distance = np.hypot(xs - x - along * dx, ys - y - along * dy)
    return np.asarray(distance - (radius + (end[2] - radius) * along), np.float32)


def _join(one: Field, other: Field, softness: float) -> Field:
    """Join two shapes with a fillet about `softness` pixels wide."""
    share = np.clip(0.5 + 0.5 * (other - one) / softness, 0, 1)
    return np.asarray(other + (one - other) * share - softness * share * (1 - share), np.float32)


def _paper(xs: Field, ys: Field) -> Field:
    """Return (H, W, 3): paper that is brightest where the lamp is."""
    distance = np.clip(np.hypot(xs - 300, ys - 350) / 800, 0, 1)[..., None]
    light, dark = np.array(PAPER, np.float32)
    return np.asarray(light + (dark - light) * distance, np.float32)


def _shadow(shape: Field) -> Field:
    """Return (H, W, 1): how bright the ground is under a shape that lies a little above it."""
    shift = np.array([[1, 0, 22], [0, 1, 18]], np.float32)
    shifted = cv2.warpAffine(shape, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(np.asarray(shifted < 0, np.float32), (0, 0), 16)
    return np.asarray(1 - 0.28 * soft, np.float32)[..., None]


def _solid(shape: Field, color: tuple[float, float, float], bulge: float) -> Field:
    """Return (H, W, 3): the color on a solid that rises from the outline over `bulge` pixels."""
    depth = np.clip(cv2.distanceTransform(np.asarray(shape < 0, np.uint8), cv2.DIST_L2, 5) / bulge, 0, 1)
    height = cv2.GaussianBlur(bulge * np.sqrt(1 - (1 - depth) ** 2), (0, 0), 4 + bulge / 16)
    slope_y, slope_x = np.gradient(height)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    facing = np.clip(normal @ LIGHT, 0, 1)[..., None]
    return np.asarray(np.asarray(color, np.float32) * (0.62 + 0.5 * facing) + 0.1 * facing**20, np.float32)


def _darker(color: tuple[float, float, float], share: float) -> Field:
    return np.asarray(color, np.float32) * np.float32(share)


def _paint(rgb: Field, shape: Field, color: Any) -> None:
    """Paint the inside of a shape with soft edges, in place."""
    slope_y, slope_x = np.gradient(shape)
    steepness = np.maximum(np.hypot(slope_x, slope_y), 1e-6)
    coverage = np.clip(0.5 - shape / steepness, 0, 1)[..., None]
    rgb += coverage * (color - rgb)


if __name__ == "__main__":
    Image.fromarray(draw_hand()[0]).save(sys.argv[1], optimize=True)
    sys.stdout.write(f"{sys.argv[1]}: {Path(sys.argv[1]).stat().st_size:,} bytes\n")
