"""Brush RLE against label-studio-sdk's converter, both ways, and against streams nobody honest would write."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter import brush as untyped_brush
from numpy.typing import NDArray

from labelstudio_sam2.errors import BadPromptError, ImageTooLargeError
from labelstudio_sam2.labelstudio.brush_rle import (
    brush_rle_covers,
    brush_rle_extent,
    decode_brush_rle,
    encode_brush_rle,
)
from labelstudio_sam2.labelstudio.extent import mask_extent
from labelstudio_sam2.segmenter.prompt import Mask

brush: Any = untyped_brush
EDITOR_ANNOTATION = Path(__file__).parents[1] / "data" / "label_studio" / "stored_annotation_canvas_tick.json"
EIGHT_VALUES = "00000000000000000000000000001000"  # the header's count for 1 x 2 pixels
USUAL_SIZES = "00111" + "0010" + "0011" + "0111" + "1111"  # words of 8 bits; fields of 3, 4, 8 and 16 bits
FOUR_ZEROS = "1" + "00" + "011" + "00000000"
FOUR_255S = "1" + "00" + "011" + "11111111"


def from_bits(*bits: str) -> bytes:
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def pieces_of(rle: Any, length: int = 1000) -> Iterator[NDArray[np.uint8]]:
    stream = np.array([*rle], np.uint8)
    return (stream[start : start + length] for start in range(0, len(stream), length))


def sdk_mask(rle: Any, size_hw: tuple[int, int]) -> Mask:
    values: NDArray[np.uint8] = brush.decode_rle(rle).reshape(*size_hw, 4)
    return values[:, :, 3] > 127


def sdk_rle(mask: Mask) -> Any:
    return brush.mask2rle(mask.astype(np.uint8) * 255)


def disc(size_hw: tuple[int, int], center_xy: tuple[int, int], radius: int) -> Mask:
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    return np.asarray((x - center_xy[0]) ** 2 + (y - center_xy[1]) ** 2 <= radius**2)


def noise(size_hw: tuple[int, int], share: float) -> Mask:
    return np.random.default_rng(7).random(size_hw) < share


NAMED_MASKS = {
    "empty": np.zeros((6, 8), np.bool_),
    "full": np.ones((6, 8), np.bool_),
    "checkerboard": np.indices((5, 7)).sum(0) % 2 == 1,
    "first pixel": np.arange(48).reshape(6, 8) == 0,
    "last pixel": np.arange(48).reshape(6, 8) == 47,
    "a pixel in the middle": np.arange(48).reshape(6, 8) == 27,
    "rows in the middle": np.arange(48).reshape(6, 8) // 16 == 1,
    "one row": noise((1, 97), 0.5),
    "one column": noise((97, 1), 0.5),
    "disc": disc((60, 80), (30, 20), 25),
    "two discs": disc((60, 80), (20, 20), 15) | disc((60, 80), (60, 40), 12),
    "ring": disc((60, 80), (40, 30), 25) & ~disc((60, 80), (40, 30), 10),
    "dense noise": noise((61, 47), 0.5),
    "sparse noise": noise((61, 47), 0.02),
    "view with strides": disc((60, 80), (30, 20), 25)[::2, ::-3],
    "transposed": disc((60, 80), (30, 20), 25).T,
}
NO_STREAMS: list[Any] = [
    None,
    5,
    0.5,
    "AAAA",
    {"rle": [1]},
    [0.0] * 9,
    [True] * 9,
    [0, None],
    [[0], [1]],
    ["0"] * 9,
    np.zeros(9),
    np.zeros(9, np.bool_),
    np.zeros((3, 3), np.uint8),
    np.full(9, 256),
    np.full(9, -1),
]
masks = (
    st.tuples(st.integers(1, 12), st.integers(1, 40))
    .filter(lambda hw: hw[0] != hw[1])
    .flatmap(lambda size_hw: arrays(np.bool_, size_hw))
)


@st.composite
def foreign_streams(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """Draw a valid stream as another writer might cut it: any field sizes, runs that repeat and runs that list."""
    size_hw = draw(st.tuples(st.integers(1, 4), st.integers(1, 9)).filter(lambda hw: hw[0] != hw[1]))
    count = 4 * size_hw[0] * size_hw[1]
    sizes = draw(st.tuples(*[st.integers(1, 16)] * 4))
    bits, done = [f"{count:032b}", "00111", *(f"{size - 1:04b}" for size in sizes)], 0
    while done < count:
        field = draw(st.integers(0, 3))
        length = draw(st.integers(1, min(count - done, 1 << sizes[field])))
        repeats = draw(st.booleans())
        value = st.integers(0, 255)
        values = [draw(value)] if repeats else draw(st.lists(value, min_size=length, max_size=length))
        bits += [f"{repeats:b}", f"{field:02b}", f"{length - 1:0{sizes[field]}b}", *(f"{v:08b}" for v in values)]
        done += length
    return from_bits(*bits), size_hw


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_two_pixels_are_written_bit_by_bit() -> None:
    rle = encode_brush_rle(np.array([[False, True]]))

    assert rle.tobytes() == from_bits(EIGHT_VALUES, USUAL_SIZES, FOUR_ZEROS, FOUR_255S)


def test_a_stream_that_fills_its_last_byte_gets_a_zero_byte_more() -> None:
    twenty_zeros = "1" + "10" + "00010011" + "00000000"

    rle = encode_brush_rle(np.zeros((1, 5), np.bool_))

    assert rle.tobytes() == from_bits(f"{20:032b}", USUAL_SIZES, twenty_zeros) + b"\0"  # 53 + 19 bits are 9 bytes


@pytest.mark.parametrize("mask", NAMED_MASKS.values(), ids=NAMED_MASKS.keys())
def test_encoding_gives_the_bytes_of_the_sdk(mask: Mask) -> None:
    rle = encode_brush_rle(mask)

    assert rle.dtype == np.uint8
    assert rle.tolist() == sdk_rle(mask)


@pytest.mark.parametrize(
    "pixels",
    [2, 3, 4, 5, 64, 65, 16384, 16385, 32767, 32768, 32769, 49153],
    ids=lambda pixels: f"a run of {4 * pixels} values",
)
def test_encoding_cuts_long_runs_as_the_sdk_does(pixels: int) -> None:
    mask = np.arange(pixels + 3)[None] < pixels

    rle = encode_brush_rle(mask)

    assert rle.tolist() == sdk_rle(mask)


@settings(deadline=None)
@given(masks)
def test_encoding_any_mask_gives_the_bytes_of_the_sdk(mask: Mask) -> None:
    assert encode_brush_rle(mask).tolist() == sdk_rle(mask)


def test_a_mask_whose_values_the_header_cannot_count_is_refused() -> None:
    mask = np.broadcast_to(np.False_, (1 << 14, 1 << 16))

    with pytest.raises(ImageTooLargeError, match=r"less than 2\*\*30 pixels"):
        encode_brush_rle(mask)


@pytest.mark.parametrize("mask", NAMED_MASKS.values(), ids=NAMED_MASKS.keys())
def test_decoding_gives_back_the_mask_the_sdk_wrote(mask: Mask) -> None:
    decoded = decode_brush_rle(sdk_rle(mask), (mask.shape[0], mask.shape[1]))

    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@settings(deadline=None)
@given(masks)
def test_any_mask_survives_encoding_and_decoding(mask: Mask) -> None:
    height, width = mask.shape

    np.testing.assert_array_equal(decode_brush_rle(encode_brush_rle(mask), (height, width)), mask)


@settings(deadline=None)
@given(foreign_streams())
def test_streams_of_other_writers_decode_as_in_the_sdk(stream: tuple[bytes, tuple[int, int]]) -> None:
    rle, size_hw = stream

    np.testing.assert_array_equal(decode_brush_rle(rle, size_hw), sdk_mask(rle, size_hw))


@settings(deadline=None)
@given(arrays(np.uint8, (3, 5, 4), elements=st.sampled_from([0, 1, 126, 127, 128, 129, 255])))
def test_any_rgba_image_decodes_to_its_alpha_over_127(rgba: NDArray[np.uint8]) -> None:
    rle = brush.encode_rle(rgba.ravel())

    np.testing.assert_array_equal(decode_brush_rle(rle, (3, 5)), rgba[:, :, 3] > 127)


@settings(deadline=None)
@given(foreign_streams(), st.integers(1, 12))
def test_each_pixel_alone_reads_as_in_the_decoded_mask(stream: tuple[bytes, tuple[int, int]], length: int) -> None:
    rle, size_hw = stream
    height, width = size_hw

    alone = [[brush_rle_covers(pieces_of(rle, length), size_hw, (x, y)) for x in range(width)] for y in range(height)]

    np.testing.assert_array_equal(alone, decode_brush_rle(rle, size_hw))


@pytest.mark.parametrize("mask", NAMED_MASKS.values(), ids=NAMED_MASKS.keys())
def test_each_pixel_alone_reads_as_in_the_mask_the_sdk_wrote(mask: Mask) -> None:
    height, width = mask.shape
    rle = sdk_rle(mask)

    pixels = [divmod(index, width)[::-1] for index in range(0, mask.size, 1 + mask.size // 200)]

    assert [brush_rle_covers(pieces_of(rle), (height, width), pixel) for pixel in pixels] == [
        mask[y, x] for x, y in pixels
    ]


@settings(deadline=None)
@given(foreign_streams())
def test_the_extent_is_that_of_the_decoded_mask(stream: tuple[bytes, tuple[int, int]]) -> None:
    rle, size_hw = stream

    assert brush_rle_extent(rle, size_hw) == mask_extent(decode_brush_rle(rle, size_hw))


@pytest.mark.parametrize("mask", NAMED_MASKS.values(), ids=NAMED_MASKS.keys())
def test_the_extent_is_that_of_the_mask_the_sdk_wrote(mask: Mask) -> None:
    height, width = mask.shape

    assert brush_rle_extent(sdk_rle(mask), (height, width)) == mask_extent(mask)


def test_an_object_that_leaves_a_row_at_its_end_and_enters_the_next_is_as_wide_as_the_picture() -> None:
    mask = np.zeros((6, 8), np.bool_)
    mask[2, 7] = mask[3, 0] = True

    assert brush_rle_extent(encode_brush_rle(mask), (6, 8)) == (slice(2, 4), slice(0, 8))


def test_a_pixel_is_read_without_what_follows_it() -> None:
    half = from_bits(EIGHT_VALUES, USUAL_SIZES, FOUR_255S)

    assert brush_rle_covers(pieces_of(half), (1, 2), (0, 0))
    with pytest.raises(BadPromptError, match="must hold 8 values, its runs end at 4"):
        brush_rle_covers(pieces_of(half), (1, 2), (1, 0))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 5000])
def test_runs_alike_are_read_like_others(rows: int) -> None:
    mask = np.zeros((rows + 2, 300), np.bool_)
    mask[1:-1, 100:200] = True
    mask[rows // 2, ::3] = True  # runs of other widths in between
    pixels = [(x, y) for x in (0, 99, 100, 199, 200) for y in (0, 1, rows // 2, rows // 2 + 1, rows)]

    rle = encode_brush_rle(mask)

    np.testing.assert_array_equal(decode_brush_rle(rle, (rows + 2, 300)), mask)
    assert [brush_rle_covers(pieces_of(rle), (rows + 2, 300), pixel) for pixel in pixels] == [
        mask[y, x] for x, y in pixels
    ]


def test_alpha_alone_makes_a_pixel_object_and_only_over_127() -> None:
    rle = brush.encode_rle(np.array([255, 255, 255, 127, 0, 0, 0, 128]))

    np.testing.assert_array_equal(decode_brush_rle(rle, (1, 2)), [[False, True]])


@pytest.mark.parametrize("wide_runs", range(14))
def test_a_run_may_begin_at_any_bit_of_the_end_of_a_chunk(wide_runs: int) -> None:
    runs = np.array([3] * wide_runs + [1] * 42_000)  # pixels; 15 bits each, then 14 bits each
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs)[None]

    rle = encode_brush_rle(mask)

    assert len(rle) > 65536
    np.testing.assert_array_equal(decode_brush_rle(rle, (1, mask.size)), mask)


def test_listed_values_across_chunks_stay_in_step() -> None:
    alpha = np.random.default_rng(3).integers(0, 256, (1, 65536 // 2))
    listed = "".join(f"{value:08b}" for value in np.repeat(alpha, 4).tolist())  # two runs of 65536 values
    run = "0" + "11" + "1" * 16
    rle = from_bits(f"{131072:032b}", USUAL_SIZES, run, listed[: 8 * 65536], run, listed[8 * 65536 :])

    np.testing.assert_array_equal(decode_brush_rle(rle, (1, 32768)), alpha > 127)


def test_the_mask_the_editor_stored_decodes_as_in_the_sdk() -> None:
    regions = json.loads(EDITOR_ANNOTATION.read_text())["result"]
    (rle,) = [region["value"]["rle"] for region in regions if region["type"] == "brushlabels"]

    mask = decode_brush_rle(rle, (480, 640))

    assert mask.sum() == 11311
    np.testing.assert_array_equal(mask, sdk_mask(rle, (480, 640)))


@pytest.mark.parametrize(
    "container",
    [list, tuple, bytes, bytearray, np.array, lambda rle: np.array(rle, np.uint8)],
    ids=["list", "tuple", "bytes", "bytearray", "int64 array", "uint8 array"],
)
def test_every_flat_container_of_integers_is_read_alike(container: Any) -> None:
    mask = NAMED_MASKS["disc"]

    decoded = decode_brush_rle(container(sdk_rle(mask)), (60, 80))

    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize(
    "tail", [b"", b"\0", b"\0" * 50, b"\xff" * 50, b"\xff" * 200_000], ids=["none", "a zero", "zeros", "ones", "many"]
)
def test_what_follows_the_last_value_is_skipped(tail: bytes) -> None:
    rle = from_bits(EIGHT_VALUES, USUAL_SIZES, FOUR_ZEROS, FOUR_255S) + tail

    np.testing.assert_array_equal(decode_brush_rle(rle, (1, 2)), [[False, True]])


@pytest.mark.parametrize("rle", NO_STREAMS, ids=repr)
def test_anything_but_a_flat_list_of_integers_is_refused(rle: Any) -> None:
    with pytest.raises(BadPromptError, match=r"flat list of integers 0\.\.255"):
        decode_brush_rle(rle, (1, 2))


@pytest.mark.parametrize("integer", [-1, 256, 10**30])
def test_an_integer_that_is_no_byte_is_refused(integer: int) -> None:
    rle = [*from_bits(EIGHT_VALUES, USUAL_SIZES, FOUR_ZEROS, FOUR_255S), integer]

    with pytest.raises(BadPromptError, match=r"outside 0\.\.255"):
        decode_brush_rle(rle, (1, 2))


@pytest.mark.parametrize(
    ("bits", "detail"),
    [
        pytest.param([], "7 bytes of header, got 0", id="nothing"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES[:16]], "7 bytes of header, got 6", id="half a header"),
        pytest.param([f"{12:032b}", USUAL_SIZES, FOUR_ZEROS * 3], "2 x 1 image.* got 12 in all", id="another size"),
        pytest.param([EIGHT_VALUES, "01111", USUAL_SIZES[5:]], "8 bits, got 16", id="words of 16 bits"),
        pytest.param([EIGHT_VALUES, "00000", USUAL_SIZES[5:]], "8 bits, got 1", id="words of 1 bit"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES], "must hold 8 values, its runs end at 0", id="no runs"),
        pytest.param(
            [EIGHT_VALUES, USUAL_SIZES, FOUR_255S], "must hold 8 values, its runs end at 4", id="half the runs"
        ),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "100111"], "its runs end at 0", id="a repeat without its value"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, FOUR_255S, "1001111111"], "its runs end at 4", id="half a value"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "011" + "1" * 16], "its runs end at 0", id="a list without values"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "000111" + "1" * 58], "its runs end at 0", id="a list cut short"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "10100001000"], "its runs end at 0", id="a length cut short"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "1011000" + "1" * 8], "its runs end at 9", id="a repeat too long"),
        pytest.param([EIGHT_VALUES, USUAL_SIZES, "0011000" + "1" * 72], "its runs end at 9", id="a list too long"),
    ],
)
def test_a_broken_stream_is_refused_with_what_is_wrong(bits: list[str], detail: str) -> None:
    for read in (decode_brush_rle, brush_rle_extent):
        with pytest.raises(BadPromptError, match=detail):
            read(from_bits(*bits), (1, 2))


@pytest.mark.parametrize("size_hw", [(0, 2), (-1, -2), (2, 0)])
def test_a_size_without_pixels_is_refused(size_hw: tuple[int, int]) -> None:
    rle = from_bits(f"{4 * size_hw[0] * size_hw[1]:032b}", USUAL_SIZES, FOUR_ZEROS, FOUR_255S)

    with pytest.raises(BadPromptError, match="4 values a pixel"):
        decode_brush_rle(rle, size_hw)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("size_hw", [(16000, 60000), (6, 8)], ids=["the size it claims", "the picture's size"])
def test_a_header_that_promises_a_huge_mask_allocates_nothing(size_hw: tuple[int, int]) -> None:
    rle = from_bits(f"{4 * 16000 * 60000:032b}", USUAL_SIZES, FOUR_255S)

    with pytest.raises(BadPromptError):
        decode_brush_rle(rle, size_hw)

    _, peak = tracemalloc.get_traced_memory()
    assert peak < 1 << 20


@pytest.mark.usefixtures("traced")
def test_memory_stays_near_the_mask_and_the_stream_however_short_the_runs() -> None:
    rle = from_bits(f"{400_000:032b}", "00111", "0000" * 4, ("1000" + "00000000" + "1000" + "11111111") * 200_000)

    decode_brush_rle(rle, (1, 100_000))

    _, peak = tracemalloc.get_traced_memory()
    assert peak < 100_000 + 10 * len(rle) + (8 << 20)  # and one chunk


@settings(deadline=None, max_examples=300)
@given(
    position=st.integers(0, 10_000),
    junk=st.binary(min_size=1, max_size=6),
    keep=st.integers(0, 10_000),
    in_body=st.booleans(),
)
def test_damaged_bytes_are_refused_or_read_as_the_sdk_reads_them(
    position: int,
    junk: bytes,
    keep: int,
    in_body: bool,  # noqa: FBT001  (hypothesis passes by name)
) -> None:
    rle = bytearray(sdk_rle(NAMED_MASKS["ring"]))
    at = 7 + position % (len(rle) - 7) if in_body else position % 7
    rle[at : at + len(junk)] = junk
    rle = rle[: max(keep % (4 * len(rle)), 7)]

    try:
        mask = decode_brush_rle(rle, (60, 80))
    except BadPromptError:
        return

    np.testing.assert_array_equal(mask, sdk_mask(rle, (60, 80)))
