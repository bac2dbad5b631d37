"""Files that are small and yet the work of minutes are refused by their header; encoders' own pass."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelstudio_sam2.errors import ImageUnreadableError
from labelstudio_sam2.images.decode import ImageLimits, decode_image, read_size
from labelstudio_sam2.images.segments import MAX_SCANS, MAX_SEGMENTS

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=10_000_000)
PHOTOGRAPHS = sorted((Path(__file__).parents[1] / "data" / "photographs").glob("*.jpg"))


def saved(kind: str, **options: object) -> bytes:
    """Return a picture of 8 x 6 pixels."""
    file = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(6, 8, 3)).save(file, kind, **options)
    return file.getvalue()


def jpeg(*, scans: int = 0, segments: bytes = b"", behind: bytes = b"") -> bytes:
    """Return a progressive JPEG with its last scan repeated, and something before its tables or behind its end."""
    data = saved("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:2] + segments + data[2:-2] + last * scans + data[-2:] + behind


def scans_of(data: bytes) -> int:
    return data.count(b"\xff\xda")


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with more chunks before its pixels."""
    data = saved("PNG")
    between = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:33] + between + data[33:]


def tiff(strips: int, junk: int) -> bytes:
    """Return a TIFF of 8 pixels a strip, all of which are the same bytes; empty blocks of deflate make them more."""
    strip = b"\x78\x01" + b"\0\0\0\xff\xff" * junk + zlib.compress(bytes(8))[2:]
    strip += b"\0" * (len(strip) % 2)
    offsets = 8 + len(strip)
    tags = [(256, 8), (257, strips), (258, 8), (259, 8), (262, 1), (273, offsets), (277, 1), (278, 1)]
    tags += [(279, offsets + 4 * strips)]
    directory = b"".join(struct.pack("<HHII", tag, 4, strips if tag in (273, 279) else 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", offsets + 8 * strips) + strip
    head += struct.pack("<I", 8) * strips + struct.pack("<I", len(strip)) * strips
    return head + struct.pack("<H", len(tags)) + directory + bytes(4)


def test_a_jpeg_of_as_many_scans_as_the_limit_is_read_and_of_one_more_refused() -> None:
    own = scans_of(jpeg())

    assert decode_image(jpeg(scans=MAX_SCANS - own), LIMITS).shape == (6, 8, 3)
    with pytest.raises(ImageUnreadableError, match="more than 50 scans"):
        read_size(jpeg(scans=MAX_SCANS - own + 1), LIMITS)


@pytest.mark.parametrize("filling", [b"", b"\xff", b"\xff" * 7])
def test_scans_are_counted_behind_filling_bytes(filling: bytes) -> None:
    bomb = jpeg(scans=60).replace(b"\xff\xda", filling + b"\xff\xda")

    with pytest.raises(ImageUnreadableError, match="scans"):
        read_size(bomb)


@pytest.mark.parametrize("where", ["segments", "behind"])
def test_what_looks_like_scans_in_metadata_or_behind_the_end_is_none(where: str) -> None:
    looks = b"\xff\xda" * 100
    data = jpeg(behind=looks) if where == "behind" else jpeg(segments=b"\xff\xe5\0\xca" + looks)

    assert decode_image(data, LIMITS).shape == (6, 8, 3)


@pytest.mark.parametrize(
    "segment", [b"\xff\xfe\0\2", b"\xff\xe1\0\x12Exif\0\0" + b"x" * 10, b"\xff\xc4\0\2", b"\xff\xdb\0\2"]
)
def test_a_jpeg_of_thousands_of_segments_is_refused(segment: bytes) -> None:
    with pytest.raises(ImageUnreadableError, match="segments"):
        read_size(jpeg(segments=segment * (MAX_SEGMENTS + MAX_SCANS)))
    assert read_size(jpeg(segments=segment * 500)) == (6, 8)


def test_a_png_of_thousands_of_colour_profiles_is_refused() -> None:
    profile = b"a\0\0" + zlib.compress(bytes(100_000))

    with pytest.raises(ImageUnreadableError, match="more than 1000 chunks that are no pixels"):
        read_size(png(*[(b"iCCP", profile)] * MAX_SEGMENTS))
    assert read_size(png(*[(b"tEXt", b"a\0b")] * 500)) == (6, 8)


def test_a_png_may_have_its_pixels_in_any_number_of_chunks() -> None:
    data = png(*[(b"IDAT", b"")] * 3000)

    assert decode_image(data, LIMITS).shape == (6, 8, 3)


def test_a_tiff_whose_strips_are_the_same_bytes_again_and_again_is_refused() -> None:
    with pytest.raises(ImageUnreadableError, match="larger than its file"):
        read_size(tiff(strips=1000, junk=200))
    assert decode_image(tiff(strips=3, junk=10), LIMITS).shape == (3, 8, 3)


@pytest.mark.parametrize("file", PHOTOGRAPHS, ids=lambda file: file.name)
def test_a_photograph_passes(file: Path) -> None:
    read_size(file.read_bytes())


@pytest.mark.parametrize(
    "make",
    [
        lambda: saved("JPEG", progressive=True, subsampling=0, optimize=True),
        lambda: saved("JPEG", exif=bytes(60_000), icc_profile=bytes(3_000_000)),
        lambda: saved("PNG", icc_profile=bytes(100_000)),
        lambda: saved("TIFF", compression="tiff_deflate"),
        lambda: saved("TIFF"),
    ],
)
def test_what_encoders_make_passes(make: Callable[[], bytes]) -> None:
    assert read_size(make()) == (6, 8)


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\0", b"\x89PNG\r\n\x1a\n\0\0"]
)
def test_a_file_that_ends_early_is_walked_to_its_end(data: bytes) -> None:
    with pytest.raises(ImageUnreadableError):
        read_size(data)


def test_what_follows_the_end_of_a_png_is_not_asked() -> None:
    assert read_size(saved("PNG") + bytes(100_000)) == (6, 8)  # 8,333 chunks of no length, if it were
