"""Picture files of every form, broken in every way: pixels of the size that was read, or an error of the catalogue."""

import io
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelstudio_sam2.errors import ImageTooLargeError, ImageUnreadableError
from labelstudio_sam2.images.decode import ImageLimits, decode_image, make_pillow_strict, read_size

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=1_000_000)
WITHIN_BYTES = 128_000_000
"""What decoding may add to this process: some copies of the largest picture within the limits, which takes 3 MB."""
WITHIN_SECONDS = 5
"""Of the processor, for one file: none of these takes a tenth, what is quadratic or goes round in circles far more."""
RGB = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
GRAY_16 = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return file_of(Image.fromarray(RGB), kind, exif=exif, **options)


def animated(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(np.roll(RGB, shift, axis=1)) for shift in (0, 3, 9)]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


def tiled_tiff() -> bytes:
    """Return a TIFF of 30 x 20 gray pixels in four tiles of 16 x 16, which Pillow does not write."""
    tiles = [zlib.compress(np.full((16, 16), 50 * number, np.uint8).tobytes()) for number in range(1, 5)]
    count = 11
    arrays_at = 8 + 2 + 12 * count + 4
    starts = np.cumsum([arrays_at + 32, *map(len, tiles)])[:4]
    entries = [
        *((256, 4, 1, 30), (257, 4, 1, 20), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)),
        *((284, 3, 1, 1), (322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 4, arrays_at), (325, 4, 4, arrays_at + 16)),
    ]
    directory = struct.pack("<H", count) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 4
    arrays = struct.pack("<4I", *starts) + struct.pack("<4I", *map(len, tiles))
    return b"II*\0" + struct.pack("<I", 8) + directory + arrays + b"".join(tiles)


PICTURES: dict[str, bytes] = {
    "PNG": file_of(Image.fromarray(RGB), "PNG"),
    "PNG, palette": file_of(Image.fromarray(RGB).quantize(16), "PNG", transparency=3),
    "PNG, 16 bit": file_of(Image.fromarray(GRAY_16), "PNG"),
    "PNG, 1 bit": file_of(Image.fromarray(RGB[..., 0] > 127), "PNG"),
    "PNG, RGBA": file_of(Image.fromarray(np.dstack([RGB, RGB[..., :1]])), "PNG"),
    "PNG, turned": turned("PNG"),
    "PNG, animated": animated("PNG"),
    "JPEG": file_of(Image.fromarray(RGB), "JPEG"),
    "JPEG, turned": turned("JPEG"),
    "JPEG, progressive": file_of(Image.fromarray(RGB), "JPEG", progressive=True, subsampling=0),
    "JPEG, gray": file_of(Image.fromarray(RGB).convert("L"), "JPEG", comment=b"a comment"),
    "JPEG, CMYK": file_of(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "WEBP": file_of(Image.fromarray(RGB), "WEBP"),
    "WEBP, lossless": file_of(Image.fromarray(RGB), "WEBP", lossless=True),
    "WEBP, turned": turned("WEBP"),
    "WEBP, animated": animated("WEBP"),
    "GIF": file_of(Image.fromarray(RGB), "GIF"),
    "GIF, animated": animated("GIF", transparency=1, disposal=2),
    "GIF, interlaced": file_of(Image.fromarray(RGB), "GIF", interlace=True, comment=b"a comment"),
    "BMP": file_of(Image.fromarray(RGB), "BMP"),
    "BMP, palette": file_of(Image.fromarray(RGB).quantize(16), "BMP"),
    "BMP, 1 bit": file_of(Image.fromarray(RGB[..., 0] > 127), "BMP"),
    "TIFF": file_of(Image.fromarray(RGB), "TIFF"),
    "TIFF, turned": turned("TIFF"),
    "TIFF, tiled": tiled_tiff(),
    "TIFF, 16 bit": file_of(Image.fromarray(GRAY_16), "TIFF"),
    "TIFF, floats": file_of(Image.fromarray(GRAY_16.astype(np.float32)), "TIFF"),
    "TIFF, CMYK": file_of(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "TIFF, palette": file_of(Image.fromarray(RGB).quantize(16), "TIFF"),
    **{
        f"TIFF, {name}": file_of(Image.fromarray(RGB), "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd")
    },
    "TIFF, fax": file_of(Image.fromarray(RGB[..., 0] > 127), "TIFF", compression="group4"),
    "TIFF, several pages": animated("TIFF"),
}

EXTREMES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\1", b"\0\0", b"\xff\xff", b"\xff\x7f", b"\x7f\xff", b"\0\1", b"\1\0"]
EXTREMES += [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\1\0", b"\0\1\0\0"]


def parts_of(data: bytes) -> list[bytes]:
    """Cut a file where its format does: chunks, segments, blocks or entries; the parts make up the file."""
    match data[:4]:
        case b"\x89PNG":
            cuts = _chunks(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
        case b"RIFF":
            cuts = _chunks(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1 & ~1))
        case b"GIF8":
            cuts = [13, *(at for at in range(13, len(data)) if data[at] in b"\x21\x2c\x3b")]
        case b"II*\0" | b"MM\0*":
            order: Any = "little" if data[:1] == b"I" else "big"
            first = int.from_bytes(data[4:8], order)
            count = int.from_bytes(data[first : first + 2], order)
            cuts = sorted({8, first, *(first + 2 + 12 * index for index in range(count + 1))})
        case head if head.startswith(b"\xff\xd8"):
            cuts = [at for at in range(2, len(data) - 1) if data[at] == 0xFF and data[at + 1] > 0xBF]
        case _:  # BMP: the file's header, the picture's, and the rest
            cuts = [14, 54]
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _chunks(data: bytes, start: int, length_at: Callable[[int], int]) -> list[int]:
    cuts = []
    while start < len(data):
        cuts.append(start)
        start += length_at(start)
    return cuts


def with_right_sums(data: bytes) -> bytes:
    """Return a PNG with the checksums of its chunks made right again, that broken ones are looked into."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    head, *chunks = parts_of(data)
    whole = [chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4])) for chunk in chunks if len(chunk) >= 12]
    return head + b"".join(whole)


def flipped(draw: st.DrawFn, part: bytes) -> bytes:
    at, bit = draw(st.integers(0, 8 * len(part) - 1)), 1
    return part[: at // 8] + bytes([part[at // 8] ^ bit << at % 8]) + part[at // 8 + 1 :]


def overwritten(draw: st.DrawFn, part: bytes) -> bytes:
    value = draw(st.sampled_from(EXTREMES) | st.binary(min_size=1, max_size=4))
    at = draw(st.integers(0, min(len(part), 40) - 1) | st.integers(0, len(part) - 1))
    return part[:at] + value + part[at + len(value) :]


def cut(draw: st.DrawFn, part: bytes) -> bytes:
    return part[: draw(st.integers(0, len(part)))]


def stretched(draw: st.DrawFn, part: bytes) -> bytes:
    at = draw(st.integers(0, len(part)))
    return part[:at] + part[max(at - 8, 0) : at] * draw(st.sampled_from([1, 4, 600])) + part[at:]


@st.composite
def broken_pictures(draw: st.DrawFn, pictures: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """Draw a picture's file with some of its parts dropped, doubled, moved, mixed with another file's, or broken."""
    parts = parts_of(draw(st.sampled_from(pictures)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        other = draw(st.sampled_from(others))
        match draw(st.sampled_from(["break"] * 4 + ["drop", "double", "move", "splice"])):
            case "break" if parts[at]:
                parts[at] = draw(st.sampled_from([flipped, overwritten, overwritten, cut, stretched]))(draw, parts[at])
            case "drop" if len(parts) > 1:
                del parts[at]
            case "double":
                parts[at:at] = [parts[at]] * draw(st.sampled_from([1, 1, 50]))
            case "move":
                parts.insert(draw(st.integers(0, len(parts) - 1)), parts.pop(at))
            case _:
                foreign = parts_of(other)
                parts[at:at] = foreign[draw(st.integers(0, len(foreign) - 1)) :][: draw(st.integers(1, 3))]
    data = b"".join(parts)
    return with_right_sums(data) if draw(st.booleans()) else data


def peak_bytes() -> int:
    """Return the largest size this process had, since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.fixture
def memory_is_bounded() -> Iterator[None]:
    """Fail if the test made this process grow: what the readers in C allocate is seen by the system only."""
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        pytest.skip("only Linux tells how large a process was")
    forget.write_text("5")
    before = peak_bytes()
    yield
    assert peak_bytes() - before < WITHIN_BYTES


def decode_or_refuse(data: bytes) -> None:
    """Decode a file as the server does, and look at what came out of it."""
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        make_pillow_strict()
        began = time.thread_time()
        try:
            size_hw = read_size(data, LIMITS)
            image = decode_image(data, LIMITS)
        except (ImageUnreadableError, ImageTooLargeError):
            image = None
    assert time.thread_time() - began < WITHIN_SECONDS
    assert [str(warning.message) for warning in leaked] == []
    if image is not None:
        assert image.shape == (*size_hw, 3)
        assert image.dtype == np.uint8
        assert image.shape[0] * image.shape[1] <= LIMITS.max_pixels


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_broken_here_was_whole(name: str) -> None:
    assert b"".join(parts_of(PICTURES[name])) == PICTURES[name]
    assert decode_image(PICTURES[name], LIMITS).shape == ((30, 20, 3) if "turned" in name else (20, 30, 3))


@pytest.mark.usefixtures("memory_is_bounded")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_broken_picture_is_one_of_the_size_read_or_refused(kind: str) -> None:
    own = [data for name, data in PICTURES.items() if name.startswith(kind)]

    @given(broken_pictures(own, [*PICTURES.values()]))
    def decode(data: bytes) -> None:
        decode_or_refuse(data)

    decode()
