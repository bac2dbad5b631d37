"""Pictures drawn for the benchmark: the same in every run, and as dear to open as photographs of their size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from labelstudio_sam2.segmenter.prompt import FloatArray, Image, Mask

_QUALITY = 90
_TILE = 1024
"""Side of the grain, which is repeated: drawing 48 megapixels of it takes seconds."""


@dataclass(frozen=True)
class PictureFile:
    """A picture in the folder.

    Attributes:
        name: Of the file.
        size_wh: (W, H) in pixels.
    """

    name: str
    size_wh: tuple[int, int]

    @property
    def megapixels(self) -> float:
        """How large it is."""
        return self.size_wh[0] * self.size_wh[1] / 1e6


def scene_file(folder: Path, size_wh: tuple[int, int]) -> PictureFile:
    """Return a JPEG that looks like a photograph to a decoder: shapes, shades and grain; drawn if it is not there."""
    file = PictureFile(f"scene-{size_wh[0]}x{size_wh[1]}.jpg", size_wh)
    if not (folder / file.name).exists():
        _write(folder / file.name, _scene(size_wh))
    return file


def disc_files(folder: Path, count: int) -> list[tuple[PictureFile, tuple[float, float]]]:
    """Return pictures of 640 x 480 with a disc each, all in different places, and the discs' centers in percent."""
    files = []
    for number in range(count):
        center = 15 + 70 * (number % 4) / 3, 20 + 60 * (number // 4 % 4) / 3
        file = PictureFile(f"disc-{number}.png", (640, 480))
        image = np.full((480, 640, 3), (225, 222, 214), np.uint8)
        at = int(center[0] * 6.4), int(center[1] * 4.8)
        cv2.circle(image, at, 60 + number, (190 - 5 * number, 60, 50 + 10 * number), -1)
        _write(folder / file.name, image)
        files.append((file, center))
    return files


def blob(size_hw: tuple[int, int], *, center: Sequence[float] = (0.5, 0.5), radius: float = 0.3) -> FloatArray:
    """Return logits of one object with a wavy outline, (H, W) float32, as a trained model gives them.

    Args:
        size_hw: (H, W).
        center: xy as shares of the width and the height.
        radius: As a share of the height.
    """
    height, width = size_hw
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    right, down = (x - center[0] * width) / height, y / height - center[1]
    angle = np.arctan2(down, right)
    outline = radius * (1 + 0.15 * np.sin(5 * angle) + 0.05 * np.sin(17 * angle))
    return np.asarray(12 * (1 - np.hypot(right, down) / outline), np.float32)


def ragged(size_hw: tuple[int, int], *, seed: int) -> Mask:
    """Return a mask of many parts with ragged outlines, (H, W) bool: foliage, a fence."""
    rough = np.random.default_rng(seed).normal(size=size_hw).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(rough, (0, 0), 3) + blob(size_hw) / 100 > 0)


def _scene(size_wh: tuple[int, int]) -> Image:
    width, height = size_wh
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (6, 8, 3)).astype(np.uint8)
    image = np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(40):
        center = int(random.integers(width)), int(random.integers(height))
        axes = int(random.integers(width // 60, width // 12)), int(random.integers(height // 60, height // 12))
        color = tuple(map(int, random.integers(0, 255, 3)))
        cv2.ellipse(image, center, axes, float(random.integers(180)), 0, 360, color, -1)
    grain = random.normal(scale=5, size=(_TILE, _TILE, 3)).astype(np.int8)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            part = image[top : top + _TILE, left : left + _TILE]
            part[:] = np.clip(part.astype(np.int16) + grain[: part.shape[0], : part.shape[1]], 0, 255)
    return image


def _write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise OSError(f"{path} cannot be written")
