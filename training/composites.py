"""Composites: cut-outs and drawn shapes over a background, with every object's true mask.

Everything follows from one random generator, so that an index names a composite for good.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.pictures import Pictures
from training.shapes import clouds, random_shape, random_texture

Uint8Array = NDArray[np.uint8]
Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

_SMALLEST_AREA = 0.0025
"""Of the image: an object that shows less is no object to ask for."""
_LEAST_VISIBLE = 0.4
"""Of an object: with more of it hidden nobody could tell what it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Composite:
    """One picture and its objects.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        masks: (K, S, S) bool, what is visible of each object, K >= 1, disjoint.
    """

    image: Uint8Array
    masks: Mask


def compose(pictures: Pictures, rng: Generator, size: int, *, easy: bool = False) -> Composite:
    """Make one composite, `size` pixels square. A few milliseconds.

    Args:
        pictures: Where cut-outs and backgrounds are taken from.
        rng: Decides everything.
        size: S.
        easy: One to three large objects that stand out, for the first steps of the training.
    """
    while True:
        canvas = _background(pictures, rng, size)
        layers = _paste_objects(canvas, pictures, rng, easy=easy)
        masks = _visible(layers, size)
        if len(masks):
            return Composite(image=_develop(canvas, rng), masks=masks)


def _background(pictures: Pictures, rng: Generator, size: int) -> FloatArray:
    if pictures.backgrounds and rng.random() < 0.65:
        canvas = _crop(pictures.backgrounds[rng.integers(len(pictures.backgrounds))], rng, size, size)
    else:
        canvas = random_texture(rng, size, size)
    if rng.random() < 0.3:
        canvas = _array(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, size / 40)))
    return _jitter(canvas.astype(np.float32), rng, 0.25)


def _paste_objects(
    canvas: FloatArray, pictures: Pictures, rng: Generator, *, easy: bool
) -> list[tuple[int, int, FloatArray]]:
    """Draw objects onto the canvas, back to front; return (top, left, alpha) of each as if nothing hid it."""
    size = canvas.shape[0]
    count = int(rng.integers(1, 4) if easy else rng.integers(1, 9))
    alike = not easy and rng.random() < 0.2  # the same thing several times: instances, not kinds
    crowded = 0.55 if count > 4 else 0.85
    layers = []
    thing = _thing(pictures, rng)
    for _ in range(count):
        if not alike:
            thing = _thing(pictures, rng)
        low, high = (0.4, 0.9) if easy else (0.12, crowded)
        length = size * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        placed = _place(thing, rng, size, length)
        if placed is None:
            continue
        top, left, color, alpha = placed
        if not easy and rng.random() < 0.12:
            color = _camouflage(color, alpha, canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]], rng)
        if rng.random() < 0.35:
            _cast_shadow(canvas, top, left, alpha, rng)
        patch = canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        patch += alpha[..., None] * (color - patch)
        layers.append((top, left, alpha))
    return layers


def _thing(pictures: Pictures, rng: Generator) -> Uint8Array:
    """Choose an object to paste, (h, w, 4) uint8 RGBA."""
    names, probabilities = pictures.sources
    if not names or rng.random() < 0.2:
        alpha = random_shape(rng)
        return np.dstack([_filling(pictures, rng, *alpha.shape), alpha])
    cutouts = pictures.cutouts[names[rng.choice(len(names), p=probabilities)]]
    cutout = cutouts[rng.integers(len(cutouts))]
    if rng.random() < 0.12:  # a silhouette with another surface: outlines without the drawing's colors
        return np.dstack([_filling(pictures, rng, *cutout.shape[:2]), cutout[..., 3]])
    return cutout


def _filling(pictures: Pictures, rng: Generator, height: int, width: int) -> Uint8Array:
    """Return a surface of (height, width, 3): photographed, or drawn; often shaded."""
    if pictures.backgrounds and rng.random() < 0.5:
        surface = _crop(pictures.backgrounds[rng.integers(len(pictures.backgrounds))], rng, height, width)
    else:
        surface = random_texture(rng, height, width)
    if rng.random() < 0.5:
        shade = 0.5 + 0.8 * clouds(rng, height, width)[..., None]
        surface = np.clip(surface * shade, 0, 255).astype(np.uint8)
    return surface


def _crop(picture: Uint8Array, rng: Generator, height: int, width: int) -> Uint8Array:
    """Return a random part of a picture at a random scale, sometimes mirrored."""
    scale = rng.uniform(0.25, 1) * min(picture.shape[0] / height, picture.shape[1] / width)
    part_height, part_width = max(1, int(height * scale)), max(1, int(width * scale))
    top = int(rng.integers(picture.shape[0] - part_height + 1))
    left = int(rng.integers(picture.shape[1] - part_width + 1))
    part = picture[top : top + part_height, left : left + part_width]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return _array(cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=interpolation))


def _place(
    thing: Uint8Array, rng: Generator, size: int, length: float
) -> tuple[int, int, FloatArray, FloatArray] | None:
    """Turn, stretch and shift an object; return top, left, (h, w, 3) color and (h, w) alpha 0..1 within the canvas."""
    height, width = thing.shape[:2]
    if max(height, width) > 2 * length:  # warping alone would leave pixels out
        shrunk = length * 1.3 / max(height, width)
        thing = _array(
            cv2.resize(thing, (max(2, int(width * shrunk)), max(2, int(height * shrunk))), interpolation=cv2.INTER_AREA)
        )
        height, width = thing.shape[:2]
    angle = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(0, 0.12, 2)) * length / max(height, width)
    if rng.random() < 0.5:
        stretch[0] = -stretch[0]
    shear = rng.normal(0, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(stretch)
    corners = linear @ np.array([[-width, width, width, -width], [-height, -height, height, height]]) / 2
    reach = np.abs(corners).max(axis=1)
    margin = np.minimum(0.25 * reach, size / 2)  # an object may leave the picture by a part of itself
    center = [
        rng.uniform(min(r - m, size / 2), max(size - r + m, size / 2)) for r, m in zip(reach, margin, strict=True)
    ]
    left, top = (max(0, int(c - r) - 1) for c, r in zip(center, reach, strict=True))
    right, bottom = (min(size, int(c + r) + 2) for c, r in zip(center, reach, strict=True))
    if right - left < 3 or bottom - top < 3:
        return None
    shift = np.array(center) - [left, top] - linear @ np.array([width / 2, height / 2])
    premultiplied = thing.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    warped: FloatArray = _array(
        cv2.warpAffine(
            premultiplied, np.column_stack([linear, shift]), (right - left, bottom - top), flags=cv2.INTER_LINEAR
        )
    )
    if rng.random() < 0.2:
        warped = _array(cv2.GaussianBlur(warped, (0, 0), rng.uniform(0.4, 1.2)))
    alpha: FloatArray = warped[..., 3] / np.float32(255)
    color: FloatArray = warped[..., :3] / np.maximum(alpha, np.float32(1 / 255))[..., None]
    color = _jitter(color, rng, 0.2)
    if rng.random() < 0.35:
        first, last = rng.uniform(0.55, 1.35, 2)
        light = np.linspace(first, last, alpha.shape[rng.integers(2)], dtype=np.float32)
        color = color * (light[:, None, None] if len(light) == alpha.shape[0] else light[None, :, None])
    return top, left, np.clip(color, 0, 255).astype(np.float32), alpha


def _camouflage(color: FloatArray, alpha: FloatArray, behind: FloatArray, rng: Generator) -> FloatArray:
    """Move an object's mean color towards what is behind it."""
    weight = alpha.sum() + 1e-3
    difference = ((behind - color) * alpha[..., None]).sum(axis=(0, 1)) / weight
    return np.asarray(np.clip(color + np.float32(rng.uniform(0.4, 0.85)) * difference, 0, 255), np.float32)


def _cast_shadow(canvas: FloatArray, top: int, left: int, alpha: FloatArray, rng: Generator) -> None:
    height, width = alpha.shape
    pad = max(2, int(0.15 * max(height, width)))
    shadow: NDArray[Any] = np.zeros((height + 2 * pad, width + 2 * pad), np.float32)
    down, right = (int(rng.integers(-pad // 2, pad + 1)) for _ in range(2))
    shadow[
        pad + min(down, pad) : pad + min(down, pad) + height, pad + min(right, pad) : pad + min(right, pad) + width
    ] = alpha
    shadow = _array(cv2.GaussianBlur(shadow, (0, 0), max(0.6, pad * rng.uniform(0.15, 0.5))))
    size = canvas.shape[0]
    y0, x0 = max(0, top - pad), max(0, left - pad)
    y1, x1 = min(size, top + height + pad), min(size, left + width + pad)
    part = shadow[y0 - top + pad : y1 - top + pad, x0 - left + pad : x1 - left + pad]
    canvas[y0:y1, x0:x1] *= 1 - np.float32(rng.uniform(0.2, 0.65)) * part[..., None]


def _jitter(color: FloatArray, rng: Generator, amount: float) -> FloatArray:
    """Change contrast, brightness and the balance of the colors."""
    gains = np.exp(rng.normal(0, amount / 2, 3) + rng.normal(0, amount / 2)).astype(np.float32)
    mean = np.float32(127)
    jittered = (color - mean) * gains + mean * np.float32(1 + rng.normal(0, amount / 2))
    if rng.random() < 0.1:
        gray = jittered.mean(axis=2, keepdims=True)
        jittered = gray + np.float32(rng.uniform(0, 0.5)) * (jittered - gray)
    return np.clip(jittered, 0, 255)


def _develop(canvas: FloatArray, rng: Generator) -> Uint8Array:
    """Give the whole picture what a camera gives: blur, noise, gamma, JPEG."""
    if rng.random() < 0.2:
        canvas = _array(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1)))
    if rng.random() < 0.3:
        gamma = np.float32(np.exp(rng.normal(0, 0.25)))
        canvas = np.float32(255) * (np.clip(canvas, 0, 255) / np.float32(255)) ** gamma
    if rng.random() < 0.3:
        canvas = canvas + rng.normal(0, rng.uniform(1, 9), canvas.shape).astype(np.float32)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])
        image = _array(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return image


def _visible(layers: list[tuple[int, int, FloatArray]], size: int) -> Mask:
    masks = []
    hidden = np.zeros((size, size), bool)
    for top, left, alpha in reversed(layers):
        here = (slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1]))
        opaque = alpha > 0.5
        mask = np.zeros((size, size), bool)
        mask[here] = opaque & ~hidden[here]
        hidden[here] |= opaque
        area = int(mask.sum())
        if area >= _SMALLEST_AREA * size * size and area >= _LEAST_VISIBLE * int(opaque.sum()):
            masks.append(mask)
    return np.array(masks, bool).reshape(-1, size, size)


def _array(pixels: Any) -> NDArray[Any]:
    return np.asarray(pixels)
