"""Pictures as this API's users give them become pictures known by their content."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from labelstudio_sam2.errors import BadRequestError, ImageTooLargeError, ImageUnreadableError, UrlRefusedError
from labelstudio_sam2.images.decode import ImageLimits, image_from_pillow
from labelstudio_sam2.images.source import ImageSource, Picture
from labelstudio_sam2.segmenter.prompt import Image
from labelstudio_sam2.settings import Settings

MAX_PATH_LENGTH = 4096
"""A longer text is no path."""

_PROJECT = "the SAM 2 API"
"""Under which addresses are known; Label Studio's projects have numbers."""


class InputPicture(Protocol):
    """An image known by its content, not yet decoded, or a copy of an array."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes, or of the array's shape, dtype and bytes, in hex."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W), upright."""
        ...

    def load(self) -> Image:
        """Return the (H, W, 3) uint8 RGB image, upright. Slow where it has to be decoded."""
        ...


@dataclass(frozen=True)
class ArrayPicture:
    """An image that came decoded.

    Attributes:
        sha256: Of shape, dtype and bytes, 64 hex digits.
        size_hw: (H, W).
    """

    sha256: str
    size_hw: tuple[int, int]
    _image: Image = field(repr=False, compare=False)

    @classmethod
    def of(cls, image: Image) -> Self:
        """Return the picture that (H, W, 3) uint8 RGB pixels are. They must not change any more."""
        digest = hashlib.sha256(f"{image.shape} {image.dtype} ".encode())
        digest.update(np.ascontiguousarray(image).data)
        return cls(digest.hexdigest(), (image.shape[0], image.shape[1]), image)

    def load(self) -> Image:
        """Return (H, W, 3) uint8 RGB."""
        return self._image


class ImageInputs:
    """Finds the picture in whatever a caller gives as one. Thread-safe.

    Args:
        source: Downloads, under guard; decides which hosts may be asked.
        limits: The largest picture to accept.
        allow_files: Whether texts may name files of this machine.
    """

    def __init__(self, source: ImageSource, limits: ImageLimits, *, allow_files: bool = False) -> None:
        self._source = source
        self._limits = limits
        self._allow_files = allow_files

    @classmethod
    def local(
        cls,
        *,
        allowed_image_hosts: Sequence[str] = ("*",),
        max_image_mb: int = 500,
        max_image_megapixels: int = 200,
    ) -> Self:
        """Return inputs for a program of one's own: files are read, web addresses opened. Reads no environment.

        Args:
            allowed_image_hosts: As `ALLOWED_IMAGE_HOSTS`: `*` for every public host, `host` or `host:port` for a
                private one.
            max_image_mb: Largest file, in MB.
            max_image_megapixels: Largest picture, in megapixels.

        Raises:
            SettingsError: A host is malformed.
        """
        settings = Settings.model_construct(
            allowed_image_hosts=tuple(allowed_image_hosts),
            max_image_mb=max_image_mb,
            max_image_megapixels=max_image_megapixels,
        )
        source = ImageSource(settings, strict_pillow=False)
        return cls(source, ImageLimits.from_settings(settings), allow_files=True)

    def picture(self, image: object) -> InputPicture:
        """Return the picture that is meant.

        What comes as a file, by whatever way, is known by the SHA-256 of the file's bytes; what comes decoded by its
        pixels. EXIF's orientation is applied, transparency is laid on white.

        Args:
            image: One of

                - a path, as text or `Path`, where files are allowed;
                - a file's bytes;
                - an http or https address;
                - base64 text, a data URL too;
                - a numpy array as OpenCV has it: uint8, (H, W) gray, (H, W, 3) **BGR** or (H, W, 4) BGRA;
                - a Pillow image;
                - `{"type", "value"}` around one of these, type `base64`, `url`, `file`, `numpy`, `numpy_object` or
                  `pil`, in any case. A pickled array is never read.

        Raises:
            BadRequestError: Nothing of this.
            ImageUnreadableError: It is no picture of an accepted format, empty, or a file that cannot be read.
            ImageTooLargeError: The file or the picture is over the limits.
            UrlRefusedError: The address may not be opened.
            ImageUnavailableError: The address' server answered with an error, or not at all.
            ImageTimeoutError: The download took too long.
            BusyError: Too many downloads.
        """
        match image:
            case Mapping():
                return self._typed(image)
            case str():
                return self._text(image)
            case Path():
                return self._file(image)
            case bytes() | bytearray() | memoryview():
                return self._bytes(bytes(image))
            case np.ndarray():
                return self._array(image)
            case PillowImage.Image():
                return ArrayPicture.of(image_from_pillow(image, self._limits))
            case None:
                raise BadRequestError("image is missing")
            case _:
                raise BadRequestError(f"image must be a picture or where to find one, got a {type(image).__name__}")

    def _typed(self, image: Mapping[str, object]) -> InputPicture:
        """Return the picture of `{"type", "value"}`."""
        kind, value = image.get("type"), image.get("value")
        if not isinstance(kind, str):
            raise BadRequestError("image.type must be a text, such as base64 or url")
        if is_empty(image):
            raise ImageUnreadableError("could not load input image: the payload is empty")
        readers: dict[str, tuple[Any, Callable[[Any], InputPicture]]] = {
            "base64": (str, self._base64),
            "url": (str, self._url),
            "file": ((str, Path), self._file),
            "numpy": (np.ndarray, self._array),
            "numpy_object": (np.ndarray, self._array),
            "pil": (PillowImage.Image, self.picture),
        }
        if kind.lower() not in readers:
            raise BadRequestError("image.type must be base64 or url")
        expected, read = readers[kind.lower()]
        if not isinstance(value, expected):
            hint = "; pickled arrays are never read" if "numpy" in kind.lower() else ""
            raise BadRequestError(f"image.value does not fit image.type, got a {type(value).__name__}{hint}")
        return read(value)

    def _text(self, text: str) -> InputPicture:
        """Return the picture of an address, a data URL, a path or base64, whichever the text is."""
        if text[:8].lower().startswith(("http://", "https://")):
            return self._url(text)
        if not self._allow_files or text[:5].lower() == "data:" or len(text) > MAX_PATH_LENGTH:
            return self._base64(text)
        path = Path(text)
        if _is_file(path):
            return self._file(path)
        try:
            return self._base64(text)
        except ImageUnreadableError:
            shown = text if len(text) <= 80 else f"{text[:80]}..."
            raise ImageUnreadableError(
                f"{shown!r} is neither a file that is there, nor a web address, nor a picture in base64"
            ) from None

    def _url(self, address: str) -> Picture:
        if not address.strip().lower().startswith(("http://", "https://")):
            raise UrlRefusedError("the image address must start with http:// or https://")
        return self._source.find(address, project=_PROJECT, task_id=None)

    def _file(self, name: str | Path) -> Picture:
        if not self._allow_files:
            raise BadRequestError("files of this machine are not read: send the picture itself, as base64, or its url")
        path = Path(name)
        if not _is_file(path):
            raise ImageUnreadableError(f"there is no file {path}")
        try:
            if path.stat().st_size > self._limits.max_bytes:
                raise ImageTooLargeError(f"{path} is larger than {self._limits.max_bytes:,} bytes")
            return self._bytes(path.read_bytes())
        except OSError as error:
            raise ImageUnreadableError(f"the file cannot be read: {error}") from error

    def _base64(self, text: str) -> Picture:
        return self._bytes(_base64_bytes(text, self._limits.max_bytes))

    def _bytes(self, data: bytes) -> Picture:
        return Picture.of(data, self._limits)

    def _array(self, array: NDArray[np.generic]) -> ArrayPicture:
        """Return the picture of an array in OpenCV's order of channels."""
        if array.dtype != np.uint8 or array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {3, 4}):
            raise BadRequestError(
                "a numpy image must be uint8 of shape (H, W), (H, W, 3) in BGR order or (H, W, 4) in BGRA order, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if array.size == 0:
            raise ImageUnreadableError(f"the picture has no pixels: shape {array.shape}")
        in_rgb = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
        picture = PillowImage.fromarray(np.ascontiguousarray(in_rgb))
        return ArrayPicture.of(image_from_pillow(picture, self._limits))


def is_empty(image: object) -> bool:
    """Whether a caller gives no picture: None, an empty text, or `{"type"}` around that or around nothing."""
    value = image.get("value") if isinstance(image, Mapping) else image
    return value is None or (isinstance(value, (str, bytes)) and not value)


def _is_file(path: Path) -> bool:
    """Whether there is a file. A path that this machine cannot even ask for, overlong or undecodable, names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _base64_bytes(text: str, max_bytes: int) -> bytes:
    """Return what base64 stands for, with or without the head of a data URL, line breaks and padding."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    if len(text) > 4 * max_bytes:  # percent-encoded at worst
        raise ImageTooLargeError(f"the file is larger than {max_bytes:,} bytes")
    try:
        digits = b"".join(unquote_to_bytes(text).split()).rstrip(b"=")
        data = base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError:  # of base64, or of a lone surrogate
        raise ImageUnreadableError("could not load input image: malformed base64") from None
    if not data:
        raise ImageUnreadableError("could not load input image: the payload is empty")
    return data
