"""Coverage-guided: whatever bytes or JSON a brush region carries, its mask is the SDK's, or it is refused.

    python tests/fuzz/fuzz_brush_rle.py -max_total_time=60 [folder or file ...]

Arguments are libFuzzer's. An input that breaks a promise is written to the working directory; given as the only file
it is tried again.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import msgspec
import numpy as np
from label_studio_sdk.converter import brush as untyped_brush
from numpy.typing import NDArray

with atheris.instrument_imports(include=["labelstudio_sam2.labelstudio"]):
    from labelstudio_sam2.errors import BadPromptError
    from labelstudio_sam2.labelstudio.brush_rle import brush_rle_covers, decode_brush_rle, encode_brush_rle
    from labelstudio_sam2.labelstudio.byte_list import write_byte_list
    from labelstudio_sam2.labelstudio.coverage import region_covers
    from labelstudio_sam2.labelstudio.regions import area_mask, drawn_regions
    from labelstudio_sam2.labelstudio.wire import Region, decode_rle

brush: Any = untyped_brush
Mask = NDArray[np.bool_]
HEADER_BITS = 53
SIZES_HW = [(1, 1), (1, 2), (3, 2), (5, 7), (16, 3), (9, 30)]


def sdk_mask(stream: bytes, size_hw: tuple[int, int]) -> Mask | None:
    """Return the SDK's mask of a stream, None where the format does not say what the stream means.

    The SDK takes values that are cut off at the end, and runs past the last value; so the runs are walked first.
    """
    if len(stream) < 7:
        return None
    bits = int.from_bytes(stream, "big")
    total = 8 * len(stream)

    def read(at: int, size: int) -> int:
        return bits >> (total - at - size) & ((1 << size) - 1)

    count = 4 * size_hw[0] * size_hw[1]
    if read(0, 32) != count or read(32, 5) != 7:
        return None
    sizes = [read(37 + 4 * index, 4) + 1 for index in range(4)]
    at, done = HEADER_BITS, 0
    while done < count:
        if at + 3 > total or at + 3 + sizes[read(at + 1, 2)] > total:
            return None
        size = sizes[read(at + 1, 2)]
        length = read(at + 3, size) + 1
        at += 3 + size + 8 * (1 if read(at, 1) else length)
        done += length
        if at > total:
            return None
    if done != count:
        return None
    values: NDArray[np.uint8] = brush.decode_rle(stream)
    return values.reshape(*size_hw, 4)[:, :, 3] > 127


def mask_or_none(stream: bytes, size_hw: tuple[int, int]) -> Mask | None:
    try:
        return decode_brush_rle(stream, size_hw)
    except BadPromptError:
        return None


def try_stream(stream: bytes, size_hw: tuple[int, int], piece: int) -> None:
    """Compare what is decoded at once, pixel by pixel, and by the SDK."""
    expected, mask = sdk_mask(stream, size_hw), mask_or_none(stream, size_hw)
    assert (mask is None) == (expected is None)
    if mask is not None:
        np.testing.assert_array_equal(mask, expected)
    numbers = np.frombuffer(stream, np.uint8)
    pieces = [numbers[start : start + piece] for start in range(0, len(numbers), piece)]
    for pixel in {(0, 0), (size_hw[1] - 1, size_hw[0] - 1), (size_hw[1] // 2, size_hw[0] // 2)}:
        try:
            covers = brush_rle_covers(iter(pieces), size_hw, pixel)
        except BadPromptError:
            assert mask is None
        else:
            assert mask is None or covers == mask[pixel[1], pixel[0]]


def try_text(text: bytes, size_hw: tuple[int, int]) -> None:
    """Read JSON as the RLE of a region, as a request brings it, and compare its mask with the SDK's."""
    value = b'{"brushlabels": ["Cat"], "rle": %b}' % text
    try:
        region = msgspec.json.decode(
            b'{"id": "a", "type": "brushlabels", "from_name": "b", "to_name": "c", "value": %b}' % value, type=Region
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # refused with the whole request
    plain = json.loads(bytes(region.value.rle))
    (drawn,) = drawn_regions([region])
    try:
        numbers = [*np.concatenate([*decode_rle(region)]).tolist()]
    except BadPromptError:
        assert b"-" in text or not is_byte_list(plain)  # -0 is a byte to JSON, and no plain digits
    else:
        assert numbers == plain
    try:
        mask = area_mask(drawn, size_hw)
    except BadPromptError:
        mask = None
    if plain is not None and mask is not None:
        np.testing.assert_array_equal(mask, sdk_mask(bytes(plain), size_hw))
    try:
        covers = region_covers(drawn, np.array([0.5, 0.5], np.float32), size_hw)
    except BadPromptError:
        assert mask is None
    else:
        assert mask is None or covers == mask[0, 0]


def is_byte_list(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= 255 for item in value)


def try_one(data: bytes) -> None:
    """Take an input apart: which size, which way in, how long the pieces are; then a stream or a text."""
    if len(data) < 2:
        return
    size_hw = SIZES_HW[data[0] % len(SIZES_HW)]
    content = data[2:]
    match data[0] // len(SIZES_HW) % 4:
        case 0:
            try_stream(content, size_hw, piece=1 + data[1] % 64)
        case 1:
            try_text(content, size_hw)
        case 2:
            try_text(write_byte_list(np.frombuffer(content, np.uint8)), size_hw)
        case _:  # with a header that fits
            head = (4 * size_hw[0] * size_hw[1]).to_bytes(4, "big")
            try_stream(head + bytes([0x38 | content[0] & 7 if content else 0x38]) + content[1:], size_hw, 1 + data[1])


def write_seeds(folder: Path) -> None:
    """Write inputs to begin with: streams of real masks, whole and cut, and lists of all kinds."""
    rng = np.random.default_rng(5)
    seeds = []
    for index, size_hw in enumerate(SIZES_HW):
        for share in (0.0, 0.1, 0.5, 1.0):
            stream = encode_brush_rle(rng.random(size_hw) < share).tobytes()
            listed = bytes(brush.encode_rle(rng.integers(0, 256, 4 * size_hw[0] * size_hw[1], np.uint8)))
            text = json.dumps([*stream]).encode()
            for way, content in enumerate([stream, text, listed, stream[4:]]):
                seeds += [
                    bytes([index + way * len(SIZES_HW), 7]) + content,
                    bytes([index + way * len(SIZES_HW), 0]) + content[:-3],
                ]
    texts = [
        b"[]",
        b"null",
        b"[1,2,300]",
        b"[1.0]",
        b"[-0]",
        b"[[1]]",
        b'["1"]',
        b"[ 1 ,\n2 ]",
        b"{}",
        b'"AAAA"',
        b"[1e2]",
    ]
    seeds += [bytes([len(SIZES_HW), 0]) + text for text in texts]
    for number, seed in enumerate(seeds):
        (folder / f"{number:04}").write_bytes(seed)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        is_trying_again = any(Path(argument).is_file() for argument in sys.argv[1:])
        program, *arguments = sys.argv
        atheris.Setup([program, "-max_len=600", *arguments, *([] if is_trying_again else [folder])], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
