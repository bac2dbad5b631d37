"""A picture as its package holds it, and a package that holds pictures."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image

Kind: TypeAlias = Literal["cutout", "background"]
Registry: TypeAlias = Literal["debian", "npm"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """One picture before anything is cropped or scaled.

    Attributes:
        id: Unique within its source, fit for a file name.
        group: What it shows; pictures of one group are trained on together or held out together.
        kind: A cut-out keeps its alpha, a background has none.
        image: RGBA for a cut-out, RGB for a background.
        sha256: Of the file in the package.
        author: Who made this one picture, where the package says so.
    """

    id: str
    group: str
    kind: Kind
    image: Image.Image
    sha256: str
    author: str = ""


Loader: TypeAlias = Callable[[], Original | None]
"""Reads or draws one picture when called, None if there is none; slow, so there is one for each picture."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One package and how to get pictures out of it.

    Attributes:
        name: Its folder below `cutouts/` and `backgrounds/`.
        version: The one it was tried with.
        licence: SPDX identifiers, or words where there is none.
        licence_file: Path inside the package of the file that says so.
        author: Whom to name.
        extract: Unpacked package -> one loader per candidate.
    """

    name: str
    registry: Registry
    package: str
    version: str
    licence: str
    licence_file: str
    author: str
    extract: Callable[[Path], Sequence[Loader]]


def file_loader(file: Path, *, picture_id: str, group: str, kind: Kind) -> Loader:
    """Make the loader of a picture that is a file."""
    return lambda: decode(file.read_bytes(), picture_id=picture_id, group=group, kind=kind)


def decode(data: bytes, *, picture_id: str, group: str, kind: Kind) -> Original | None:
    """Decode a picture file; None for a damaged one and for one of more than 180 million pixels."""
    try:
        image = Image.open(io.BytesIO(data)).convert("RGBA" if kind == "cutout" else "RGB")
    except (OSError, Image.DecompressionBombError):
        return None
    return Original(id=picture_id, group=group, kind=kind, image=image, sha256=sha256(data))


def sha256(data: bytes) -> str:
    """Hash a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def draw(text: str) -> float:
    """Draw a number in [0, 1) that depends on the text alone: the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
