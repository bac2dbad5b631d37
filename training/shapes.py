"""Shapes and textures drawn by the program: objects and backgrounds without limit and without anybody's rights."""

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Uint8Array = NDArray[np.uint8]
_SIDE = 128
_TEXTURES = (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)
"""How often a texture is plain, a gradient, stripes, checks, dots, clouds, noise: drawings are mostly the first two."""
_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


def random_shape(rng: Generator) -> Uint8Array:
    """Return a silhouette, (128, 128) uint8 from 0 outside to 255 inside, its border antialiased."""
    draw = (_blob, _polygon, _star, _ellipse, _rectangle, _ring, _bar)[rng.integers(7)]
    canvas = np.zeros((_SIDE, _SIDE), np.uint8)
    draw(canvas, rng)
    return canvas


def random_texture(rng: Generator, height: int, width: int) -> Uint8Array:
    """Return (height, width, 3) uint8 RGB: plain, a gradient, stripes, checks, dots, clouds or noise, in two colors."""
    first, second = _color(rng), _color(rng)
    kind = rng.choice(7, p=_TEXTURES)
    if kind == 0:
        return np.broadcast_to(first.astype(np.uint8), (height, width, 3)).copy()
    if kind == 1:
        share = _ramp(rng, height, width)
    elif kind == 2:
        share = 0.5 + 0.5 * np.sin(_ramp(rng, height, width) * rng.uniform(10, 120))
        if rng.random() < 0.5:
            share = (share > 0.5).astype(np.float32)
    elif kind == 3:
        waves = [np.sin(_ramp(rng, height, width) * rng.uniform(10, 80)) for _ in range(2)]
        share = (waves[0] * waves[1] > 0).astype(np.float32)
    elif kind == 4:
        share = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(5, 60))):
            center = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.circle(
                share, center, int(rng.integers(2, max(3, height // 10))), float(rng.uniform(0.3, 1)), -1, cv2.LINE_AA
            )
    elif kind == 5:
        share = clouds(rng, height, width)
    else:
        share = rng.random((height, width), np.float32)
    mixed = first + share[..., None].astype(np.float32) * (second - first)
    return np.clip(mixed + rng.normal(0, rng.uniform(0, 6)), 0, 255).astype(np.uint8)


def clouds(rng: Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return (height, width) float32 noise of several scales, 0..1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, 6):
        cells = 2**octave + 1
        grid = rng.random((cells, cells), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _color(rng: Generator) -> NDArray[np.float32]:
    return rng.uniform(0, 255, 3).astype(np.float32)


def _ramp(rng: Generator, height: int, width: int) -> NDArray[np.float32]:
    """0..1 along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    return np.asarray(np.clip(rows + columns + 0.5, 0, 1), np.float32)


def _fill(canvas: Uint8Array, points: NDArray[Any], value: int = 255) -> None:
    fixed = np.round(points * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], value, cv2.LINE_AA, _SHIFT)


def _around(radii: NDArray[Any], angles: NDArray[Any]) -> NDArray[Any]:
    """Points at these radii (1 is the canvas' half) and angles around the center."""
    half = _SIDE / 2
    return np.asarray(half + (half - 3) * radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _blob(canvas: Uint8Array, rng: Generator) -> None:
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.ones_like(angles)
    for wave in range(2, int(rng.integers(4, 9))):
        radii += rng.normal(0, 0.5 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    radii = np.clip(radii, 0.15, None)
    _fill(canvas, _around(radii / radii.max(), angles))


def _polygon(canvas: Uint8Array, rng: Generator) -> None:
    corners = int(rng.integers(3, 8))
    angles = (
        np.sort(rng.uniform(0, 2 * np.pi, corners)) if rng.random() < 0.5 else np.arange(corners) * 2 * np.pi / corners
    )
    _fill(canvas, _around(rng.uniform(0.75, 1, corners), angles))


def _star(canvas: Uint8Array, rng: Generator) -> None:
    spikes = int(rng.integers(4, 9))
    angles = np.arange(2 * spikes) * np.pi / spikes
    radii = np.where(np.arange(2 * spikes) % 2 == 0, 1.0, rng.uniform(0.35, 0.75))
    _fill(canvas, _around(radii, angles))


def _ellipse(canvas: Uint8Array, rng: Generator) -> None:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    _fill(canvas, _around(np.ones_like(angles), angles) * [1, rng.uniform(0.35, 1)])


def _rectangle(canvas: Uint8Array, rng: Generator) -> None:
    half_height, corner = rng.uniform(0.25, 1) * (_SIDE / 2 - 3), rng.uniform(0, 0.5)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = 2 + 10 * (1 - corner) ** 3  # a superellipse: from round to cornered
    x, y = np.cos(angles), np.sin(angles)
    points = np.stack(
        [np.sign(x) * np.abs(x) ** (2 / power) * (_SIDE / 2 - 3), np.sign(y) * np.abs(y) ** (2 / power) * half_height],
        1,
    )
    _fill(canvas, points + _SIDE / 2)


def _ring(canvas: Uint8Array, rng: Generator) -> None:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    _fill(canvas, _around(np.ones_like(angles), angles))
    _fill(canvas, _around(np.full_like(angles, rng.uniform(0.3, 0.7)), angles), 0)


def _bar(canvas: Uint8Array, rng: Generator) -> None:
    """A bent bar: what is long and thin, as limbs, handles and cables are."""
    along = np.linspace(-1, 1, 24)
    y = rng.normal(0, 0.4) * along**2 + rng.normal(0, 0.25) * along**3
    points = (
        np.stack([along * 0.9, y - y.mean()], 1) * (_SIDE / 2 - 8) / max(1, float(np.abs(y - y.mean()).max()))
        + _SIDE / 2
    )
    cv2.polylines(
        canvas,
        [np.round(points * 16).astype(np.int32)],
        isClosed=False,
        color=255,
        thickness=int(rng.integers(8, 26)),
        lineType=cv2.LINE_AA,
        shift=_SHIFT,
    )
