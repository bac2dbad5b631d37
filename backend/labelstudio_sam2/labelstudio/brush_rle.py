"""Brush RLE: Label Studio's bit-packed run lengths over the RGBA bytes of a mask.

A stream is a header and then runs, written from the highest bit of each byte on:

    header  32 bits: how many values follow, 4 * W * H; 5 bits: word size - 1; four times 4 bits: field size - 1
    run     1 bit: 1 repeats one value, 0 lists values; 2 bits: which field size; that many bits: length - 1; values

The format comes from thi.ng's rle-pack. The writer here gives the bytes of `label_studio_sdk.converter.brush.mask2rle`;
the reader takes every stream with 8-bit words, whatever its field sizes and runs. Both are pure functions.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from labelstudio_sam2.errors import BadPromptError, ImageTooLargeError
from labelstudio_sam2.segmenter.prompt import Mask

FIELD_SIZES = (3, 4, 8, 16)
"""Bits of a run's length, as the SDK and Label Studio's editor write them."""

_COUNT_BITS, _HEADER_BITS = 32, 53
_LONGEST_RUN = 1 << 16
_CHUNK_BYTES = 1 << 16
_MARGIN = bytes(8)
"""Zeros after the stream, so that a 64-bit window can start at its last byte."""


def encode_brush_rle(mask: Mask) -> NDArray[np.uint8]:
    """Write a mask as brush RLE, every channel 255 inside and 0 outside.

    Args:
        mask: (H, W) bool, at least one pixel.

    Returns:
        (N,) uint8, the value of `rle` in a brush region once it is a list.

    Raises:
        ImageTooLargeError: The mask has 2**30 pixels or more; the header cannot count them.
    """
    count = 4 * mask.size
    if count >= 1 << _COUNT_BITS:
        raise ImageTooLargeError(f"brush RLE holds less than 2**30 pixels, got {mask.size}")
    lengths, is_object = _mask_runs(mask)
    field = (lengths > 8).astype(np.int64) + (lengths > 16) + (lengths > 256)  # by the whole run, as the SDK chooses
    pieces = 1 + (lengths - 1) // _LONGEST_RUN
    field, is_object, lengths = np.repeat(field, pieces), np.repeat(is_object, pieces), _cut(lengths, pieces)
    sizes = np.array(FIELD_SIZES)[field]
    codes = (((4 + field) << sizes | (lengths - 1)) << 8) | np.where(is_object, 255, 0)
    header = (8 - 1) << 16 | sum((size - 1) << shift for size, shift in zip(FIELD_SIZES, (12, 8, 4, 0), strict=True))
    return _pack(
        np.concatenate(([count, header], codes)),
        np.concatenate(([_COUNT_BITS, _HEADER_BITS - _COUNT_BITS], sizes + 11)),
    )


def decode_brush_rle(rle: ArrayLike, size_hw: tuple[int, int]) -> Mask:
    """Read brush RLE from anyone; what follows the last value is skipped.

    Memory stays within the mask's W * H bytes and some 10 times the stream's; the mask is made last, when the runs are
    known to fill it. Whether the size is the picture's, and within its limit, is the caller's to check.

    Args:
        rle: N integers 0..255 as a flat list, tuple or array, or N bytes.
        size_hw: (H, W) of the region's original image.

    Returns:
        (H, W) bool, where the alpha channel is over 127.

    Raises:
        BadPromptError: Not such integers, a header that does not fit the size, words other than 8 bits, or runs that
            end before the last pixel or run past it.
    """
    stream = _stream(rle)
    count, sizes = _read_header(stream, size_hw)
    pixels, is_object = _read_runs(stream, sizes, count)
    return np.repeat(is_object, pixels).reshape(size_hw)


def _mask_runs(mask: Mask) -> tuple[NDArray[np.int64], Mask]:
    """Return each run's length in RGBA values, (R,) int64, and whether it is object, (R,) bool."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = (max(int(rows[0]) - 1, 0), int(rows[-1]) + 1) if len(rows) else (0, 0)
    flat = mask[first : last + 1].ravel()  # with an empty row above and below, where the outermost runs change
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes + first * mask.shape[1], [mask.size]))
    starts_inside = bool(mask[0, 0])
    return 4 * np.diff(edges), (np.arange(len(edges) - 1) & 1 == 1) ^ starts_inside


def _cut(lengths: NDArray[np.int64], pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut each of R runs in its number of pieces: the longest possible ones, then the rest, (pieces.sum(),) int64."""
    cut = np.full(int(pieces.sum()), _LONGEST_RUN)
    cut[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST_RUN
    return cut


def _pack(codes: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Write C codes of 1..32 bits one behind the other, and 1..8 zero bits, as the SDK ends every stream.

    Codes are gathered by the 32-bit word they begin in. No code leaps over a word, so every word gets some; the part
    that runs over into the next word is the lower half of the 64-bit sum.
    """
    ends = np.cumsum(widths)
    starts = ends - widths
    shifted = codes.astype(np.uint64) << (64 - widths - (starts & 31)).astype(np.uint64)
    first_of_word = np.flatnonzero(np.diff(starts >> 5, prepend=-1))
    halves = np.bitwise_or.reduceat(shifted, first_of_word).astype(">u8").view(">u4").reshape(-1, 2)
    words = np.zeros(len(halves) + 1, ">u4")
    words[:-1] = halves[:, 0]
    words[1:] |= halves[:, 1]
    return words.view(np.uint8)[: ends[-1] // 8 + 1]


def _stream(rle: ArrayLike) -> NDArray[np.uint8]:
    """Return the bytes of a stream, (N,) uint8, or say that they are none."""
    if isinstance(rle, bytes | bytearray):
        return np.frombuffer(rle, np.uint8)
    if isinstance(rle, np.ndarray) and rle.ndim == 1 and rle.dtype.kind in "iu" and np.all((rle >= 0) & (rle <= 255)):
        return rle.astype(np.uint8)
    if isinstance(rle, list | tuple) and set(map(type, rle)) <= {int}:  # bool is an int to isinstance
        try:
            return np.frombuffer(bytes(rle), np.uint8)
        except ValueError:
            raise BadPromptError("brush RLE has an integer outside 0..255") from None
    raise BadPromptError("brush RLE must be a flat list of integers 0..255")


def _read_header(stream: NDArray[np.uint8], size_hw: tuple[int, int]) -> tuple[int, list[int]]:
    """Return the number of RGBA values and the four field sizes in bits, checked against the size of the image."""
    height, width = size_hw
    header = stream[:7].tobytes()
    if len(header) < 7:
        raise BadPromptError(f"brush RLE needs 7 bytes of header, got {len(header)}")
    bits = int.from_bytes(header, "big") >> 3
    count, word_size = bits >> 21, (bits >> 16 & 31) + 1
    if min(size_hw) < 1 or count != 4 * height * width:
        raise BadPromptError(f"brush RLE of a {width} x {height} image must hold 4 values a pixel, got {count} in all")
    if word_size != 8:
        raise BadPromptError(f"brush RLE must have words of 8 bits, got {word_size}")
    return count, [(bits >> shift & 15) + 1 for shift in (12, 8, 4, 0)]


def _read_runs(stream: NDArray[np.uint8], sizes: list[int], count: int) -> tuple[NDArray[np.int32], Mask]:
    """Read all runs up to the last of the `count` values.

    Returns:
        How many pixels have their alpha in each of R runs, (R,) int32, at least 1; whether it is over 127, (R,) bool.
    """
    padded = np.concatenate((stream, np.frombuffer(_MARGIN, np.uint8)))
    all_pixels, all_objects, done = [], [], 0
    for starts in _run_starts(padded, sizes):
        repeats, lengths, values_at = _run_heads(padded, starts, np.array(sizes))
        ends = done + np.cumsum(lengths)
        needed = slice(int(np.searchsorted(ends, count)) + 1)
        ends, values_at = _single_values(repeats[needed], lengths[needed], ends[needed], values_at[needed])
        pixels = np.diff(ends >> 2, prepend=done >> 2)  # alpha is the last of 4 values, so e values hold e // 4 of them
        values_at = values_at[pixels > 0]
        all_pixels.append(pixels[pixels > 0].astype(np.int32))
        all_objects.append(padded[values_at >> 3] >> (7 - (values_at & 7)) & 1 == 1)  # the highest of 8 bits: over 127
        done = int(ends[-1])
        if done >= count:
            break
    if done != count:
        raise BadPromptError(f"brush RLE must hold {count} values, its runs end at {done}")
    return np.concatenate(all_pixels), np.concatenate(all_objects)


def _run_starts(padded: NDArray[np.uint8], sizes: list[int]) -> Iterator[NDArray[np.int64]]:
    """Yield the bit positions at which whole runs start, some (R,) int64 at a time, R >= 1.

    A run's place is known only from the one before, so this is a loop; all it does is to hop. How far a repeat goes is
    in its first three bits, and looked up for every bit of a chunk at once.
    """
    data = padded.tobytes()
    total = 8 * (len(padded) - len(_MARGIN))
    repeat_bits = bytes([0, 0, 0, 0, *(3 + size + 8 for size in sizes)]).ljust(256, b"\0")
    position = _HEADER_BITS
    while position < total:
        first_byte, offset = divmod(position, 8)
        bits = np.unpackbits(padded[first_byte : first_byte + _CHUNK_BYTES + 1])
        hops = (bits[:-2] << 2 | bits[1:-1] << 1 | bits[2:]).tobytes().translate(repeat_bits)
        stop = min(8 * _CHUNK_BYTES, total - 8 * first_byte)
        offsets = []
        while offset < stop:
            offsets.append(offset)
            offset += hops[offset] or _list_bits(data, 8 * first_byte + offset, sizes)
        position = 8 * first_byte + offset
        if position > total:
            offsets.pop()
        if offsets:
            yield 8 * first_byte + np.array(offsets)


def _list_bits(data: bytes, position: int, sizes: list[int]) -> int:
    """Return how many bits the run of listed values takes that starts at a bit position."""
    head = int.from_bytes(data[position // 8 : position // 8 + 4], "big") << position % 8
    size = sizes[head >> 29 & 3]
    return 3 + size + 8 * ((head >> (29 - size) & ((1 << size) - 1)) + 1)


def _run_heads(
    padded: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Mask, NDArray[np.int64], NDArray[np.int64]]:
    """Read the heads of R runs: whether each repeats its value, its length, the bit position of its first value."""
    windows = sliding_window_view(padded, 8)[starts >> 3].view(">i8")[:, 0].astype(np.int64)
    to_go = 61 - (starts & 7)  # bits of the window behind kind and field
    kinds = windows >> to_go & 7
    size = sizes[kinds & 3]
    lengths = (windows >> (to_go - size) & ((1 << size) - 1)) + 1
    return kinds >= 4, lengths, starts + 3 + size


def _single_values(
    repeats: Mask, lengths: NDArray[np.int64], ends: NDArray[np.int64], values_at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Break the runs that list values up into runs of one value; return the ends and the bit positions of all."""
    parts = np.where(repeats, 1, lengths)
    behind = np.repeat(np.cumsum(parts), parts) - np.arange(parts.sum()) - 1  # parts of the same run after this one
    before = np.repeat(parts, parts) - behind - 1
    return np.repeat(ends, parts) - behind, np.repeat(values_at, parts) + 8 * before
