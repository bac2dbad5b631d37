"""Views out of the middle of HDRI environments, for backgrounds in the colours of photographs."""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.original import Loader, Original, sha256

_DIRECTIONS = ((0, 0), (45, -15), (90, 0), (135, -35), (180, 5), (225, -15), (270, 0), (315, -45))
"""Yaw and pitch in degrees: around the horizon, and down to the floor."""
_BRIGHTEST = 65504.0
"""The largest half float; the sun is brighter and is stored as infinite."""


def views(files: Sequence[Path]) -> list[Loader]:
    """Look into each equirectangular OpenEXR picture in eight directions.

    Args:
        files: `name.exr`, or `name.exr.js` with the same in base64.
    """
    return [
        _view_loader(file, number=number, yaw=yaw, pitch=pitch)
        for file in files
        for number, (yaw, pitch) in enumerate(_DIRECTIONS)
    ]


def _view_loader(file: Path, *, number: int, yaw: float, pitch: float) -> Loader:
    def load() -> Original:
        data = file.read_bytes()
        if file.suffix == ".js":  # export default 'data:application/exr;base64,...'
            data = base64.b64decode(data.split(b"base64,")[1].split(b"'")[0])
        view = perspective(tone_map(_read_exr(data)), yaw=yaw, pitch=pitch)
        name = file.name.split(".")[0]
        return Original(
            id=f"{name}-{number}",
            group=f"environment-{name}",
            kind="background",
            image=Image.fromarray(view),
            sha256=sha256(data),
        )

    return load


def perspective(
    sphere: NDArray[np.uint8], *, yaw: float, pitch: float, size_wh: tuple[int, int] = (384, 288), degrees: float = 80
) -> NDArray[np.uint8]:
    """Look out of the middle of an equirectangular picture.

    Args:
        sphere: (H, W, 3), longitude -180° at the left to 180° at the right, the zenith on top.
        yaw: Degrees to the right of longitude -180°.
        pitch: Degrees upwards.
        size_wh: Of the result.
        degrees: How much of the horizon the result shows.
    """
    width, height = size_wh
    focal = width / 2 / np.tan(np.radians(degrees / 2))
    x, y = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
    tilt = np.radians(pitch)
    up, ahead = -y * np.cos(tilt) + focal * np.sin(tilt), focal * np.cos(tilt) + y * np.sin(tilt)
    longitude = np.arctan2(x, ahead) + np.radians(yaw)
    latitude = np.arctan2(up, np.hypot(x, ahead))
    rows, columns = sphere.shape[:2]
    around = np.concatenate([sphere[:, -2:], sphere, sphere[:, :2]], axis=1)
    column = (longitude / (2 * np.pi) % 1) * columns - 0.5 + 2
    row = (0.5 - latitude / np.pi) * rows - 0.5
    view = cv2.remap(
        around,
        column.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(view, np.uint8)


def tone_map(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Expose for the median, compress what is brighter (Reinhard et al. 2002, white at 3), and encode as sRGB."""
    exposed = light * (0.18 / max(float(np.median(light)), 1e-4))
    compressed = np.clip(exposed * (1 + exposed / 9) / (1 + exposed), 0, 1)
    encoded = np.where(compressed <= 0.0031308, 12.92 * compressed, 1.055 * compressed ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _read_exr(data: bytes) -> NDArray[np.float32]:
    """Decode OpenEXR to (H, W, 3) linear RGB; OpenCV's wheel reads none of it."""
    import OpenEXR  # noqa: PLC0415  # only this source needs it

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.exr")
        path.write_bytes(data)
        with OpenEXR.File(str(path)) as file:
            channels = file.channels()
            light = channels["RGB" if "RGB" in channels else "RGBA"].pixels[..., :3].astype(np.float32)
    return repair_sun(np.nan_to_num(light, nan=_BRIGHTEST, posinf=_BRIGHTEST, neginf=0))


def repair_sun(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make white what lossy compression made of the sun: blocks without red and green, with negative blue."""
    darkest, brightest = light.min(axis=2), light.max(axis=2)
    broken = (darkest < -1) | ((brightest > 30) & (darkest < 0.01))
    around: Any = cv2.dilate(broken.astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.where(around[..., None] > 0, np.float32(_BRIGHTEST), np.maximum(light, 0))
