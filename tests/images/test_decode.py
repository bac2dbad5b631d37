import io
import struct
import threading
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from labelstudio_sam2.errors import ImageTooLargeError, ImageUnreadableError
from labelstudio_sam2.images.decode import ImageLimits, decode_image, image_from_pillow, read_size

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=1_000_000)
RED, GREEN, BLUE, BLACK, WHITE, GRAY = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (0, 0, 0),
    (255, 255, 255),
    (128, 128, 128),
)
SIX = np.array([[RED, GREEN, BLUE], [BLACK, WHITE, GRAY]], np.uint8)
"""2 x 3, six different colours."""
LOSSLESS = {"PNG": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(orientation: int, kind: str, pixels: NDArray[np.uint8] = SIX) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(Image.fromarray(pixels), kind, exif=exif, **LOSSLESS.get(kind, {}))


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def riff(chunk: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiled_tiff(width: int, height: int, tile_side: int, tile: bytes) -> bytes:
    """Return a gray TIFF whose pixels lie in one deflated tile."""
    entries = [
        *((256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (284, 1)),
        *((322, tile_side), (323, tile_side), (324, 8 + 2 + 12 * 11 + 4), (325, len(tile))),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + b"\0" * 4 + tile


HUGE = {  # each says it has 10,000 x 10,000 pixels
    "png": png_header(10_000, 10_000),
    "gif": b"GIF89a" + struct.pack("<HH", 10_000, 10_000) + b"\0\0\0,",
    "webp extended": riff(b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + (9_999).to_bytes(3, "little") * 2),
    "webp lossless": riff(b"VP8L" + struct.pack("<I", 5) + b"\x2f" + (9_999 | 9_999 << 14).to_bytes(4, "little")),
    "webp lossy": riff(b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 10_000, 10_000)),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 10_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "jpeg": b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 10_000, 10_000) + b"\x03\x01\x11\0\x02\x11\0\x03\x11\0"
    b"\xff\xda\x00\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0",
}


@pytest.mark.parametrize(("kind", "options"), LOSSLESS.items())
def test_every_format_gives_the_pixels_row_by_row(kind: str, options: dict[str, Any]) -> None:
    data = file_of(Image.fromarray(SIX), kind, **options)

    assert read_size(data, LIMITS) == (2, 3)
    np.testing.assert_array_equal(decode_image(data, LIMITS), SIX)


def test_a_jpeg_is_decoded() -> None:
    data = file_of(Image.new("RGB", (16, 8), (200, 100, 50)), "JPEG", quality=100)

    image = decode_image(data, LIMITS)

    assert image.shape == (8, 16, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to((200, 100, 50), (8, 16, 3)), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_result_is_contiguous_and_can_be_written_to(orientation: int) -> None:
    image = decode_image(with_orientation(orientation, "PNG"), LIMITS)

    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_orientation_6_is_turned_a_quarter_clockwise() -> None:
    image = decode_image(with_orientation(6, "PNG"), LIMITS)

    np.testing.assert_array_equal(image, [[BLACK, RED], [WHITE, GREEN], [GRAY, BLUE]])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(kind: str, orientation: int) -> None:
    data = with_orientation(orientation, kind)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))

    assert read_size(data) == expected.shape[:2] == ((3, 2) if orientation >= 5 else (2, 3))
    np.testing.assert_array_equal(decode_image(data, LIMITS), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("row_or_column", [SIX[:1], SIX[:, :1], SIX[:1, :1]], ids=["row", "column", "pixel"])
def test_a_single_row_or_column_is_turned_too(row_or_column: NDArray[np.uint8], orientation: int) -> None:
    data = with_orientation(orientation, "PNG", row_or_column)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))

    np.testing.assert_array_equal(decode_image(data, LIMITS), expected)


def test_a_turned_jpeg_has_its_sides_swapped() -> None:
    data = with_orientation(8, "JPEG")

    assert read_size(data) == (3, 2)
    assert decode_image(data, LIMITS).shape == (3, 2, 3)


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    np.testing.assert_array_equal(decode_image(with_orientation(orientation, "PNG"), LIMITS), SIX)


def test_xmp_does_not_turn_because_browsers_do_not() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = file_of(Image.fromarray(SIX), "WEBP", lossless=True, xmp=xmp)

    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6  # it is there to be misled by
    np.testing.assert_array_equal(decode_image(data, LIMITS), SIX)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0 this is none",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\xff\0\0\0",  # a maker's name beyond the end
    ],
)
def test_broken_exif_data_does_not_cost_the_picture(exif: bytes) -> None:
    data = file_of(Image.new("RGB", (16, 8)), "JPEG", exif=exif)

    assert decode_image(data, LIMITS).shape == (8, 16, 3)


def test_sixteen_bits_are_stretched_from_the_1st_to_the_99th_percentile() -> None:
    ramp = np.arange(0, 1010, 10, np.uint16)[None]  # 1 x 101: percentile p is 10 p
    data = file_of(Image.fromarray(ramp))

    image = decode_image(data, LIMITS)

    assert image[0, [0, 1, 50, 99, 100], 0].tolist() == [0, 0, 128, 255, 255]  # (500 - 10) / 980 * 255 = 127.5
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize(
    ("dtype", "mode"), [("<u2", "I;16"), (">u2", "I;16B"), ("<i4", "I"), ("<f4", "F")], ids=lambda value: value
)
def test_every_deep_mode_keeps_its_order_of_brightness(dtype: str, mode: str) -> None:
    values = np.array([[0, 300, 600], [900, 1200, 1500]])
    image = Image.frombytes(mode, (3, 2), values.astype(dtype).tobytes())
    data = file_of(image, "TIFF")

    assert Image.open(io.BytesIO(data)).mode == mode
    decoded = decode_image(data, LIMITS)[..., 0].astype(int).ravel()
    assert (np.diff(decoded) > 40).all()
    assert (decoded[0], decoded[-1]) == (0, 255)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_deep_picture_of_one_value_is_black(value: int) -> None:
    data = file_of(Image.fromarray(np.full((2, 3), value, np.uint16)))

    np.testing.assert_array_equal(decode_image(data, LIMITS), np.zeros((2, 3, 3)))


def test_a_single_bright_pixel_of_a_deep_picture_is_not_lost() -> None:
    values = np.zeros((20, 30), np.uint16)
    values[4, 5] = 900
    data = file_of(Image.fromarray(values))

    image = decode_image(data, LIMITS)

    assert image[4, 5].tolist() == [255, 255, 255]
    assert image.sum() == 3 * 255


def test_what_is_not_a_number_is_black() -> None:
    values = np.array([[np.nan, 0, 1], [2, np.inf, -np.inf]], np.float32)
    data = file_of(Image.fromarray(values), "TIFF")

    image = decode_image(data, LIMITS)[..., 0]

    assert image[[0, 1, 1], [0, 1, 2]].tolist() == [0, 0, 0]
    assert image[1, 0] == 255


def test_the_largest_floats_there_are_do_no_harm() -> None:
    values = np.array([[-3e38, 0, 3e38], [0, 0, 0]], np.float32)
    data = file_of(Image.fromarray(values), "TIFF")

    assert decode_image(data, LIMITS).shape == (2, 3, 3)


def test_a_palette_becomes_its_colours() -> None:
    data = file_of(Image.fromarray(SIX).quantize(6))

    np.testing.assert_array_equal(decode_image(data, LIMITS), SIX)


def test_the_transparent_colour_of_a_palette_becomes_white() -> None:
    paletted = Image.frombytes("P", (3, 1), b"\0\1\2")
    paletted.putpalette([*RED, *GREEN, *BLUE])
    data = file_of(paletted, transparency=1)

    np.testing.assert_array_equal(decode_image(data, LIMITS), [[RED, WHITE, BLUE]])


def test_half_transparent_colours_are_mixed_with_white() -> None:
    data = file_of(Image.new("RGBA", (3, 2), (200, 0, 100, 128)))

    image = decode_image(data, LIMITS)

    # 200 * 128 / 255 + 127 = 227.4, 0 + 127, 100 * 128 / 255 + 127 = 177.2
    np.testing.assert_array_equal(image, np.broadcast_to((227, 127, 177), (2, 3, 3)))


def test_what_alpha_hides_is_white_in_gray_pictures_too() -> None:
    data = file_of(Image.frombytes("LA", (3, 1), bytes([10, 0, 10, 255, 200, 255])))

    np.testing.assert_array_equal(decode_image(data, LIMITS)[0, :, 0], [255, 10, 200])


def test_cmyk_becomes_rgb() -> None:
    data = file_of(Image.new("CMYK", (16, 8), (0, 255, 255, 0)), "TIFF")

    np.testing.assert_array_equal(decode_image(data, LIMITS)[3, 5], RED)


def test_one_bit_becomes_black_and_white() -> None:
    data = file_of(Image.fromarray(np.array([[True, False, True]])))

    np.testing.assert_array_equal(decode_image(data, LIMITS), [[WHITE, BLACK, WHITE]])


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, BLUE)]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])

    np.testing.assert_array_equal(decode_image(data, LIMITS), np.broadcast_to(RED, (2, 3, 3)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_unreadable(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    data = file_of(Image.fromarray(noise), kind)

    with pytest.raises(ImageUnreadableError):
        decode_image(data[: len(data) // 2], LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        b"<!doctype html><title>Log in</title>",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='3' height='2'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n",
        b"P6 3 2 255 " + b"\0" * 18,  # Pillow reads it, this backend does not
    ],
)
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    with pytest.raises(ImageUnreadableError):
        read_size(data)
    with pytest.raises(ImageUnreadableError):
        decode_image(data, LIMITS)


@pytest.mark.parametrize("kind", HUGE)
def test_100_megapixels_are_refused_from_the_header_with_no_memory_taken(kind: str) -> None:
    limits = ImageLimits(max_bytes=1000, max_pixels=50_000_000)

    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError, match="10000 x 10000"):
            decode_image(HUGE[kind], limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_pixel_limit_is_exact_in_every_format(kind: str) -> None:
    data = file_of(Image.new("RGB", (30, 20)), kind)

    assert read_size(data, ImageLimits(10_000, 600)) == (20, 30)
    with pytest.raises(ImageTooLargeError):
        read_size(data, ImageLimits(10_000, 599))
    with pytest.raises(ImageTooLargeError):
        decode_image(data, ImageLimits(10_000, 599))


def test_a_tile_is_as_limited_as_a_picture_since_it_is_decoded_whole() -> None:
    tile = zlib.compress(b"\x07" * 1024)

    assert decode_image(tiled_tiff(30, 20, 32, tile), ImageLimits(1000, 1024))[5, 7].tolist() == [7, 7, 7]
    with pytest.raises(ImageTooLargeError, match="a tile of the picture is 32 x 32"):
        decode_image(tiled_tiff(30, 20, 32, tile), ImageLimits(1000, 1023))
    with pytest.raises(ImageTooLargeError, match="a tile of the picture is 40000 x 40000"):
        image_from_pillow(Image.open(io.BytesIO(tiled_tiff(30, 20, 40_000, tile))), LIMITS)


def test_pillows_own_pixel_limit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = file_of(Image.new("RGB", (30, 20)))

    assert decode_image(data, LIMITS).shape == (20, 30, 3)


def test_the_byte_limit_is_exact() -> None:
    data = file_of(Image.new("RGB", (3, 2)))

    assert decode_image(data, ImageLimits(len(data), 6)).shape == (2, 3, 3)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decode_image(data, ImageLimits(len(data) - 1, 6))


SEEDS = [file_of(Image.fromarray(SIX), kind, **options) for kind, options in LOSSLESS.items()]
SEEDS += [with_orientation(6, kind) for kind in ("JPEG", "TIFF", "WEBP")]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_mutated_file_gives_a_picture_of_the_size_read_or_an_error_of_the_catalogue(
    seed: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value

    try:
        size_hw = read_size(bytes(data), LIMITS)
        image = decode_image(bytes(data), LIMITS)
    except (ImageUnreadableError, ImageTooLargeError):
        return

    assert image.shape == (*size_hw, 3)


def test_threads_do_not_mix_pictures_up() -> None:
    files = [file_of(Image.new("RGB", (30, 20), (n, n, n))) for n in range(8)]
    wrong: list[int] = []

    def decode(n: int) -> None:
        wrong.extend(n for _ in range(20) if (decode_image(files[n], LIMITS) != n).any())

    threads = [threading.Thread(target=decode, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
