"""Turns a picture's untrusted bytes into pixels, within limits.

All functions are thread-safe and touch none of Pillow's settings: the readers are used directly instead of through
`PIL.Image.open`, whose bomb check is process-wide, and the limits are checked from the header, before any pixel.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage

from labelstudio_sam2.errors import BackendError, ImageTooLargeError, ImageUnreadableError
from labelstudio_sam2.images.segments import check_segments, check_strips
from labelstudio_sam2.segmenter.prompt import Image
from labelstudio_sam2.settings import Settings

PERCENTILES = (1, 99)
"""Of a picture with more than 8 bits a channel: these values become black and white."""
PERCENTILE_SAMPLES = 1_000_000
"""Of so many pixels, evenly spread; exact percentiles of 50 million take most of a second."""


@dataclass(frozen=True)
class ImageLimits:
    """The largest picture to accept.

    Attributes:
        max_bytes: Of the file.
        max_pixels: Height times width.
    """

    max_bytes: int
    max_pixels: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read `MAX_IMAGE_MB` and `MAX_IMAGE_MEGAPIXELS`, both in millions."""
        return cls(settings.max_image_mb * 1_000_000, settings.max_image_megapixels * 1_000_000)


def make_pillow_strict() -> None:
    """Turn Pillow's warnings into errors: it warns where data is broken, and goes on.

    Except broken tags (EXIF's too): many good pictures have some, and browsers do not mind them either.
    Python's warning filters belong to the whole process, so this is called once, at the start.
    """
    warnings.filterwarnings("error", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("error", category=PillowImage.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")  # reads EXIF too


def read_size(data: bytes, limits: ImageLimits | None = None) -> tuple[int, int]:
    """Return (H, W) of the upright picture, from the header alone.

    Args:
        data: The file: PNG, JPEG, WEBP, GIF, BMP or TIFF.
        limits: Checked if given.

    Raises:
        ImageUnreadableError: Not one of these formats, or a broken header.
        ImageTooLargeError: Over the limits.
    """
    with _opened(data, limits) as header:
        return header.size_hw


def decode_image(data: bytes, limits: ImageLimits) -> Image:
    """Return the picture's first frame, as (H, W, 3) uint8 RGB, upright. Slow.

    Turned as EXIF says and as a browser shows it. Transparency is laid on white. Gray of more than 8 bits (16- and
    32-bit integers, floats) is stretched so that the 1st percentile becomes 0 and the 99th 255; a picture of one value
    becomes black. Colour of 16 bits keeps its upper eight. Palette, gray, 1-bit, CMYK and YCbCr are converted to RGB;
    colour profiles are not applied.

    Args:
        data: The file.
        limits: Checked before a pixel is decoded.

    Raises:
        ImageUnreadableError: Not one of the formats, truncated or broken.
        ImageTooLargeError: Over the limits.
    """
    with _opened(data, limits) as header:
        pixels = _to_rgb(header.file)
        if not isinstance(header.file, TiffImagePlugin.TiffImageFile):  # that one turns itself
            pixels = _turn(pixels, header.orientation)
        if pixels.shape != (*header.size_hw, 3):
            raise ImageUnreadableError("the picture's size differs from its header")
        return pixels


def image_from_pillow(picture: PillowImage.Image, limits: ImageLimits) -> Image:
    """Return Pillow's picture as (H, W, 3) uint8 RGB, upright, converted as `decode_image` does: a copy.

    Args:
        picture: Of any mode; it may be a file that Pillow has not decoded yet.
        limits: Its pixels are checked before it is decoded.

    Raises:
        ImageUnreadableError: It is broken, or has no pixels.
        ImageTooLargeError: Over the limits.
    """
    if 0 in picture.size:
        raise ImageUnreadableError("the picture has no pixels")
    with _only_our_errors():
        _check_pixels(picture.size, limits)
        _check_pixels(_tile_size_wh(picture), limits, "a tile of the picture")
        turns_itself = isinstance(picture, TiffImagePlugin.TiffImageFile)
        orientation = 1 if turns_itself else _orientation(picture)
        return _turn(_to_rgb(picture), orientation)


@dataclass(frozen=True)
class _Header:
    """What is known of a picture before its pixels are decoded.

    Attributes:
        file: Pillow's reader, which decodes when asked to.
        orientation: EXIF's, 1..8.
        size_hw: (H, W) of the upright picture.
    """

    file: ImageFile.ImageFile
    orientation: int
    size_hw: tuple[int, int]


@contextmanager
def _opened(data: bytes, limits: ImageLimits | None) -> Iterator[_Header]:
    """Read the header; whatever Pillow raises then and inside `with` becomes an error of the catalogue."""
    with _only_our_errors():
        yield _read_header(data, limits)


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """Turn whatever Pillow raises into an error of the catalogue."""
    try:
        yield
    except BackendError:
        raise
    except (MemoryError, PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        raise ImageTooLargeError("the picture does not fit in memory") from None
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise nearly anything on broken data
        raise ImageUnreadableError(f"the picture is broken: {type(error).__name__}") from None


def _read_header(data: bytes, limits: ImageLimits | None) -> _Header:
    if limits is not None and len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"the file has {len(data):,} bytes, more than {limits.max_bytes:,}")
    reader = _reader(data)
    check_segments(data)
    _check_pixels(_declared_size_wh(data), limits)  # before a reader that allocates when it is made
    file = reader(BytesIO(data))
    width, height = _stored_size_wh(file)
    _check_pixels((width, height), limits)
    _check_pixels(_tile_size_wh(file), limits, "a tile of the picture")
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        check_strips(file, len(data))
    orientation = _orientation(file)
    return _Header(file, orientation, (width, height) if orientation >= 5 else (height, width))


def _check_pixels(size_wh: tuple[int, int] | None, limits: ImageLimits | None, what: str = "the picture") -> None:
    if size_wh is None or limits is None:
        return
    width, height = size_wh
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(f"{what} is {width} x {height}, over {limits.max_pixels:,} pixels")


def _reader(data: bytes) -> Callable[[BytesIO], ImageFile.ImageFile]:
    match data[:16]:
        case head if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return PngImagePlugin.PngImageFile
        case head if head.startswith(b"\xff\xd8\xff"):
            return JpegImagePlugin.JpegImageFile
        case head if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return WebPImagePlugin.WebPImageFile
        case head if head.startswith((b"GIF87a", b"GIF89a")):
            return GifImagePlugin.GifImageFile
        case head if head.startswith(b"BM"):
            return BmpImagePlugin.BmpImageFile
        case head if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            return TiffImagePlugin.TiffImageFile
        case b"":
            raise ImageUnreadableError("the file is empty")
        case _:
            raise ImageUnreadableError("the file is not a PNG, JPEG, WEBP, GIF, BMP or TIFF picture")


def _declared_size_wh(data: bytes) -> tuple[int, int] | None:
    """Return (W, H) as the first bytes of a GIF or WEBP say; None for the others, whose readers allocate nothing."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    if data.startswith(b"GIF8"):
        return number(6, 2), number(8, 2)
    if data.startswith(b"RIFF"):
        match data[12:16]:
            case b"VP8X":  # 24 bits each, less 1
                return number(24, 3) + 1, number(27, 3) + 1
            case b"VP8L":  # 14 bits each, less 1
                return (number(21, 4) & 0x3FFF) + 1, (number(21, 4) >> 14 & 0x3FFF) + 1
            case b"VP8 ":  # 14 bits each, above them 2 bits of scaling
                return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
            case _:
                raise ImageUnreadableError("the WEBP picture has no image in it")
    return None


def _stored_size_wh(file: ImageFile.ImageFile) -> tuple[int, int]:
    """Return (W, H) before turning. Pillow's TIFF reader gives the turned size, so its tags are read instead."""
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        return int(file.tag_v2[TiffImagePlugin.IMAGEWIDTH]), int(file.tag_v2[TiffImagePlugin.IMAGELENGTH])
    return file.size


def _tile_size_wh(file: PillowImage.Image) -> tuple[int, int] | None:
    """Return (W, H) of a TIFF's tiles, None where there are none. Each is decoded whole, however small the picture."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile) or TiffImagePlugin.TILEWIDTH not in file.tag_v2:
        return None
    return int(file.tag_v2[TiffImagePlugin.TILEWIDTH]), int(file.tag_v2[TiffImagePlugin.TILELENGTH])


def _orientation(file: PillowImage.Image) -> int:
    """Return EXIF's orientation, 1..8. XMP's is not asked: browsers do not turn by it."""
    tags: Any = PillowImage.Exif()
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        tags = file.tag_v2
    else:
        with suppress(SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error):  # as browsers do
            tags.load(file.info.get("exif") or b"")
    value = tags.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and value in _TURNS else 1


_TURNS: dict[int, Callable[[Image], Any]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), 0),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""From the stored pixels to the upright ones, by EXIF orientation. With OpenCV, which is 4 to 10 times as fast as a
contiguous copy of NumPy's view."""


def _turn(pixels: Image, orientation: int) -> Image:
    return np.asarray(_TURNS[orientation](pixels), np.uint8)


def _to_rgb(file: PillowImage.Image) -> Image:
    """Return (H, W, 3), contiguous, which can be written to."""
    file.load()
    if file.mode in {"I", "F"} or file.mode.startswith("I;16"):
        gray = _stretch(np.asarray(file))
        return np.repeat(gray[..., None], 3, axis=2)
    if file.has_transparency_data:
        rgba = file.convert("RGBA")
        white = PillowImage.new("RGBA", rgba.size, "white")
        return np.array(PillowImage.alpha_composite(white, rgba).convert("RGB"))
    return np.array(file if file.mode == "RGB" else file.convert("RGB"))  # `convert` copies even then


def _stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Map (H, W) numbers to (H, W) uint8 by the percentile window; what is not a number becomes black."""
    values = values.astype(np.float32)
    samples = values.ravel()[:: -(-values.size // PERCENTILE_SAMPLES)]
    samples = samples[np.isfinite(samples)]
    low, high = map(float, np.percentile(samples, PERCENTILES)) if samples.size else (0.0, 0.0)
    if high <= low:  # nearly all pixels are equal: show the few that are not
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):  # floats come with any values
        values -= low
        values *= 255 / (high - low)
        values += 0.5
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
