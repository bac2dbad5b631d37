"""Pictures of answers: the mask over the image, the truth's outline, and what was asked with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8Array = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Tile: TypeAlias = tuple[Uint8Array, Mask | None, Mask, str, tuple[float, ...]]
"""Image, answer, truth, caption, and a click (x, y) or a box (x1, y1, x2, y2)."""

_MASK_RGB = (255, 45, 110)
_TRUTH_RGB = (40, 235, 90)
_PROMPT_RGB = (255, 225, 40)
_CELL = 300
_CAPTION = 24


def contact_sheet(rows: Sequence[Sequence[Tile]], path: Path) -> None:
    """Write rows of tiles as one picture: answers red with a white edge, the truth's outline green, prompts yellow."""
    drawn = [np.hstack([_tile(*tile) for tile in row]) for row in rows]
    width = max(row.shape[1] for row in drawn)
    drawn = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in drawn]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(drawn), cv2.COLOR_RGB2BGR))


def _tile(image: Uint8Array, answer: Mask | None, truth: Mask, caption: str, prompt: tuple[float, ...]) -> Uint8Array:
    height, width = truth.shape
    scale = _CELL / max(height, width)
    size = (round(width * scale), round(height * scale))
    picture: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if answer is not None:
        inside = _resized(answer, size)
        picture[inside] = (0.55 * picture[inside] + 0.45 * np.array(_MASK_RGB)).astype(np.uint8)
        cv2.drawContours(picture, _outlines(inside), -1, (255, 255, 255), 3, cv2.LINE_AA)  # seen on any color
        cv2.drawContours(picture, _outlines(inside), -1, _MASK_RGB, 1, cv2.LINE_AA)
    cv2.drawContours(picture, _outlines(_resized(truth, size)), -1, _TRUTH_RGB, 1, cv2.LINE_AA)
    points = [round(value * scale) for value in prompt]
    if len(points) == 2:
        cv2.circle(picture, (points[0], points[1]), 5, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(picture, (points[0], points[1]), 4, _PROMPT_RGB, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(picture, (points[0], points[1]), (points[2], points[3]), _PROMPT_RGB, 1)
    tile = np.full((_CELL + _CAPTION, _CELL + 4, 3), 255, np.uint8)
    tile[_CAPTION : _CAPTION + size[1], : size[0]] = picture
    cv2.putText(tile, caption[:44], (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return tile


def _outlines(mask: Mask) -> Sequence[Any]:
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]


def _resized(mask: Mask, size_wh: tuple[int, int]) -> Mask:
    resized: Any = cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(resized >= 0.5)
