"""Simulated annotators: first prompts, rough masks to refine, and corrective clicks where the answer is wrong.

Coordinates are xy in pixels of the grid that the mask has; a click on the pixel in column 3 is at x = 3.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

PromptKind = Literal["click", "box", "box_click", "clicks", "click_negative", "mask", "edit", "nothing"]
POSITIVE, NEGATIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, PADDING = 1, 0, 2, 3, -1
"""SAM's labels of points; a box is two points."""
MOST_POINTS = 6
"""Of a first prompt, a box counted as two."""

_EDIT_LOGIT = 4.0
"""What the backend puts into the mask input for a mask that is to be corrected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstPrompt:
    """What an annotator asks first.

    Attributes:
        points: (N, 2) float32, xy in the mask's pixels, a box's corners first.
        labels: (N,) int64, SAM's labels.
        mask_input: (M, M) float32 logits, or None.
    """

    points: FloatArray
    labels: NDArray[np.int64]
    mask_input: FloatArray | None = None


def first_prompt(kind: PromptKind, truth: Mask, others: Mask, rng: Generator, mask_input_size: int) -> FirstPrompt:
    """Ask for one object.

    Args:
        kind: What to ask with; `nothing` asks for the most prominent object, which the caller chooses.
        truth: (S, S), the object.
        others: (S, S), all other objects.
        rng: Decides everything.
        mask_input_size: M.
    """
    points: list[tuple[float, float]] = []
    labels: list[int] = []

    def add(point: tuple[float, float], label: int) -> None:
        points.append(point)
        labels.append(label)

    mask_input = None
    if kind in ("box", "box_click"):
        x1, y1, x2, y2 = rough_box(truth, rng)
        add((x1, y1), BOX_TOP_LEFT)
        add((x2, y2), BOX_BOTTOM_RIGHT)
    if kind in ("click", "box_click", "click_negative"):
        add(click_inside(truth, rng), POSITIVE)
    if kind == "clicks":
        for _ in range(int(rng.integers(2, MOST_POINTS + 1))):
            add(click_inside(truth, rng), POSITIVE)
    if kind == "click_negative":
        add(click_inside(_unwanted(truth, others, rng), rng), NEGATIVE)
    if kind == "mask":
        mask_input = as_logits(rough_mask(truth, others, rng), mask_input_size, float(rng.uniform(3, 10)))
    if kind == "edit":
        before = rough_mask(truth, others, rng)
        mask_input = as_logits(before, mask_input_size, _EDIT_LOGIT)
        for _ in range(int(rng.integers(0, 3))):
            add(click_inside(truth, rng), POSITIVE)
        add(*corrective_click(truth, before, rng))
    return FirstPrompt(
        points=np.array(points, np.float32).reshape(-1, 2), labels=np.array(labels, np.int64), mask_input=mask_input
    )


def corrective_click(truth: Mask, answer: Mask, rng: Generator | None = None) -> tuple[tuple[float, float], int]:
    """Click where the answer is wrong: in the middle of the largest error, or (with `rng`) also elsewhere in it.

    The protocol of interactive segmentation's literature. Where nothing is wrong it is a click inside the object.
    """
    missing, surplus = truth & ~answer, answer & ~truth
    depth_missing, depth_surplus = _depth(missing), _depth(surplus)
    deepest_missing, deepest_surplus = float(depth_missing.max()), float(depth_surplus.max())
    if max(deepest_missing, deepest_surplus) == 0:
        return click_inside(truth, rng), POSITIVE
    positive = deepest_missing >= deepest_surplus
    wrong, depth = (missing, depth_missing) if positive else (surplus, depth_surplus)
    label = POSITIVE if positive else NEGATIVE
    if rng is None or rng.random() < 0.5:
        return _deepest(depth), label
    return _any_pixel(wrong, rng), label


def click_inside(mask: Mask, rng: Generator | None = None) -> tuple[float, float]:
    """Click into a mask: its point farthest from the border, or (with `rng`) one that people might take."""
    depth = _depth(mask)
    if rng is None:
        return _deepest(depth)
    likely = depth >= rng.uniform(0, 0.9) * float(depth.max())
    return _any_pixel(likely & mask, rng)


def tight_box(mask: Mask) -> tuple[float, float, float, float]:
    """Return the box around a mask, xyxy, its right and bottom edge behind the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def rough_box(mask: Mask, rng: Generator) -> tuple[float, float, float, float]:
    """Return a box as people draw one, some with more care: each edge off by up to some percent of its length."""
    x1, y1, x2, y2 = tight_box(mask)
    width, height = x2 - x1, y2 - y1
    care = rng.random()
    off = care * np.clip(rng.normal(0.01, 0.05, 4), -0.1, 0.15) * [width, height, width, height]
    size_y, size_x = mask.shape
    return (
        float(np.clip(x1 - off[0], 0, size_x)),
        float(np.clip(y1 - off[1], 0, size_y)),
        float(np.clip(x2 + off[2], 0, size_x)),
        float(np.clip(y2 + off[3], 0, size_y)),
    )


def rough_mask(truth: Mask, others: Mask, rng: Generator) -> Mask:
    """Return a mask as one meets it before a correction: grown or shrunk, with a piece too much or too little."""
    mask = truth.astype(np.uint8)
    reach = max(1, int(np.sqrt(truth.sum()) * rng.uniform(0.02, 0.15)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    change = rng.random()
    if change < 0.4:
        mask = np.asarray(cv2.dilate(mask, kernel), np.uint8)
    elif change < 0.6:
        eroded = np.asarray(cv2.erode(mask, kernel), np.uint8)
        mask = eroded if eroded.any() else mask
    if rng.random() < 0.5 and others.any():  # a neighbour's piece, or all of it
        _, pieces = cv2.connectedComponents(others.astype(np.uint8))
        at = _any_pixel(others, rng)
        piece = pieces == pieces[int(at[1]), int(at[0])]
        if rng.random() < 0.5:
            piece &= _disc(truth.shape, at, rng)
        mask |= piece.astype(np.uint8)
    if rng.random() < 0.5:  # a bite out of the object, or a lump beside it
        bite = _disc(truth.shape, _any_pixel(truth, rng), rng)
        mask = np.where(bite, rng.random() < 0.3, mask).astype(np.uint8)
    return mask.astype(bool) if mask.any() else truth


def as_logits(mask: Mask, size: int, logit: float) -> FloatArray:
    """Return a mask as (size, size) logits of +-`logit`, in between along its border."""
    share: Any = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray((2 * share - 1) * logit, np.float32)


def _unwanted(truth: Mask, others: Mask, rng: Generator) -> Mask:
    """Where a negative click makes sense: on another object, or just outside."""
    if others.any() and rng.random() < 0.75:
        return others
    x1, y1, x2, y2 = (int(v) for v in tight_box(truth))
    pad = max(2, (x2 - x1 + y2 - y1) // 8)
    near = np.zeros_like(truth)
    near[max(0, y1 - pad) : y2 + pad, max(0, x1 - pad) : x2 + pad] = True
    near &= ~truth
    return near if near.any() else ~truth


def _disc(shape: tuple[int, ...], center_xy: tuple[float, float], rng: Generator) -> Mask:
    radius = shape[0] * float(np.exp(rng.uniform(np.log(0.03), np.log(0.2))))
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((columns - center_xy[0]) ** 2 + (rows - center_xy[1]) ** 2 < radius**2, bool)


def _depth(mask: Mask) -> FloatArray:
    """Return every pixel's distance to the outside of the mask; the picture's edge counts as outside."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance: Any = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    return np.asarray(distance[1:-1, 1:-1], np.float32)


def _deepest(depth: FloatArray) -> tuple[float, float]:
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column), float(row)


def _any_pixel(mask: Mask, rng: Generator) -> tuple[float, float]:
    pixels = np.flatnonzero(mask)
    row, column = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return float(column), float(row)
