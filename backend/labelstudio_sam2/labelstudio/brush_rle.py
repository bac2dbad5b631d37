"""Brush RLE: Label Studio's bit-packed run lengths over the RGBA bytes of a mask.

A stream is a header and then runs, written from the highest bit of each byte on:

    header  32 bits: how many values follow, 4 * W * H; 5 bits: word size - 1; four times 4 bits: field size - 1
    run     1 bit: 1 repeats one value, 0 lists values; 2 bits: which field size; that many bits: length - 1; values

The format comes from thi.ng's rle-pack. The writer here gives the bytes of `label_studio_sdk.converter.brush.mask2rle`;
the reader takes every stream with 8-bit words, whatever its field sizes and runs. Both are pure functions.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstudio_sam2.errors import BadPromptError, ImageTooLargeError
from labelstudio_sam2.labelstudio.extent import Extent
from labelstudio_sam2.segmenter.prompt import Mask

FIELD_SIZES = (3, 4, 8, 16)
"""Bits of a run's length, as the SDK and Label Studio's editor write them."""

_COUNT_BITS, _HEADER_BITS, _HEADER_BYTES = 32, 53, 7
_LONGEST_RUN = 1 << 16
_PIECE = 1 << 15
"""Bytes of a whole stream whose runs are looked for at once: what is made of them is some 20 times as large."""
_ALIKE, _ONE_BY_ONE = 64, 2048
"""How many runs of one width are looked for at once; the bits over which they are not where they were not found."""
_MARGIN = np.zeros(8, np.uint8)
"""Zeros after a piece of the stream, so that a 64-bit window can start at its last byte."""
_NO_BYTES = np.zeros(0, np.uint8)


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


def brush_rle_covers(pieces: Iterable[NDArray[np.uint8]], size_hw: tuple[int, int], pixel_xy: tuple[int, int]) -> bool:
    """Return whether one pixel is object: `decode_brush_rle(rle, size_hw)[y, x]`, without making the mask.

    Takes no more pieces than up to the run that holds the pixel, so what is broken behind it goes unseen.

    Args:
        pieces: The RLE, (N,) uint8 each.
        size_hw: (H, W) of the region's original image.
        pixel_xy: A pixel of it.

    Raises:
        BadPromptError: As `decode_brush_rle`, as far as it is read.
    """
    pieces = iter(pieces)
    first = next(pieces, _NO_BYTES)
    while len(first) < _HEADER_BYTES and (piece := next(pieces, None)) is not None:
        first = np.concatenate((first, piece))
    _, sizes = _read_header(first, size_hw)
    x, y = pixel_xy
    alpha, done = 4 * (y * size_hw[1] + x) + 3, 0
    for padded, starts in _run_starts(chain([first], pieces), sizes):
        repeats, lengths, values_at = _run_heads(padded, starts, np.array(sizes))
        ends = done + np.cumsum(lengths)
        done = int(ends[-1])
        if done > alpha:
            run = int(np.searchsorted(ends, alpha, side="right"))
            before = 0 if repeats[run] else alpha - int(ends[run] - lengths[run])
            return bool(_is_object(padded, values_at[run] + 8 * before))
    raise BadPromptError(f"brush RLE must hold {4 * size_hw[0] * size_hw[1]} values, its runs end at {done}")


def brush_rle_extent(rle: ArrayLike, size_hw: tuple[int, int]) -> Extent | None:
    """Return where the object is: `mask_extent(decode_brush_rle(rle, size_hw))`, without making the mask.

    Args:
        rle: As `decode_brush_rle` takes it.
        size_hw: (H, W) of the region's original image.

    Raises:
        BadPromptError: As `decode_brush_rle`.
    """
    stream = _stream(rle)
    count, sizes = _read_header(stream, size_hw)
    pixels, is_object = _read_runs(stream, sizes, count)
    ends = np.cumsum(pixels)[is_object]
    if not len(ends):
        return None
    width = size_hw[1]
    firsts, lasts = ends - pixels[is_object], ends - 1
    rows = slice(int(firsts[0]) // width, int(lasts[-1]) // width + 1)
    if (firsts // width < lasts // width).any():  # a run goes on in the next row
        return rows, slice(0, width)
    return rows, slice(int((firsts % width).min()), int((lasts % width).max()) + 1)


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
    if isinstance(rle, np.ndarray) and rle.ndim == 1 and rle.dtype == np.uint8:
        return rle
    if isinstance(rle, np.ndarray) and rle.ndim == 1 and rle.dtype.kind in "iu" and np.all((rle >= 0) & (rle <= 255)):
        return rle.astype(np.uint8)
    if isinstance(rle, list | tuple) and set(map(type, rle)) <= {int}:  # bool is an int to isinstance
        try:
            return np.frombuffer(bytes(rle), np.uint8)
        except ValueError:
            raise BadPromptError("brush RLE has an integer outside 0..255") from None
    raise BadPromptError("brush RLE must be a flat list of integers 0..255")


def _read_header(stream: NDArray[np.uint8], size_hw: tuple[int, int]) -> tuple[int, tuple[int, ...]]:
    """Return the number of RGBA values and the four field sizes in bits, checked against the size of the image."""
    height, width = size_hw
    header = stream[:_HEADER_BYTES].tobytes()
    if len(header) < _HEADER_BYTES:
        raise BadPromptError(f"brush RLE needs 7 bytes of header, got {len(header)}")
    bits = int.from_bytes(header, "big") >> 3
    count, word_size = bits >> 21, (bits >> 16 & 31) + 1
    if min(size_hw) < 1 or count != 4 * height * width:
        raise BadPromptError(f"brush RLE of a {width} x {height} image must hold 4 values a pixel, got {count} in all")
    if word_size != 8:
        raise BadPromptError(f"brush RLE must have words of 8 bits, got {word_size}")
    return count, tuple((bits >> shift & 15) + 1 for shift in (12, 8, 4, 0))


def _read_runs(stream: NDArray[np.uint8], sizes: tuple[int, ...], count: int) -> tuple[NDArray[np.int32], Mask]:
    """Read all runs up to the last of the `count` values.

    Returns:
        How many pixels have their alpha in each of R runs, (R,) int32, at least 1; whether it is over 127, (R,) bool.
    """
    pieces = (stream[start : start + _PIECE] for start in range(0, len(stream), _PIECE))
    all_pixels, all_objects, done = [], [], 0
    for padded, starts in _run_starts(pieces, sizes):
        repeats, lengths, values_at = _run_heads(padded, starts, np.array(sizes))
        ends = done + np.cumsum(lengths)
        needed = slice(int(np.searchsorted(ends, count)) + 1)
        ends, values_at = _single_values(repeats[needed], lengths[needed], ends[needed], values_at[needed])
        pixels = np.diff(ends >> 2, prepend=done >> 2)  # alpha is the last of 4 values, so e values hold e // 4 of them
        values_at = values_at[pixels > 0]
        all_pixels.append(pixels[pixels > 0].astype(np.int32))
        all_objects.append(_is_object(padded, values_at))
        done = int(ends[-1])
        if done >= count:
            break
    if done != count:
        raise BadPromptError(f"brush RLE must hold {count} values, its runs end at {done}")
    return np.concatenate(all_pixels), np.concatenate(all_objects)


def _run_starts(
    pieces: Iterable[NDArray[np.uint8]], sizes: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield some bytes of a stream, with a margin, and the bit positions in them at which whole runs start.

    (N,) uint8 and (R,) int64, R >= 1. A run's place is known only from the one before, so this is a loop; all it does
    is to hop. How far a repeat goes is in its first three bits, and looked up for every bit of a piece at once.
    """
    widths = _repeat_widths(sizes)
    position = _HEADER_BITS
    left: NDArray[np.uint8] = _NO_BYTES
    for piece in pieces:
        padded = np.concatenate((left, piece, _MARGIN))
        total = 8 * (len(padded) - len(_MARGIN))
        first_bits = padded.astype(np.uint16)
        hops = widths.take(first_bits[:-1] << 2 | first_bits[1:] >> 6).tobytes()
        ends = position + np.cumsum(_hopped(hops, padded.tobytes(), position, total, sizes))
        starts = np.concatenate(([position], ends))[: np.searchsorted(ends, total, side="right") + 1]
        if len(starts) > 1:
            yield padded, starts[:-1]
        left, position = padded[starts[-1] >> 3 : -len(_MARGIN)], int(starts[-1]) & 7


def _hopped(hops: bytes, part: bytes, offset: int, stop: int, sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return how many bits each run takes that starts in a part of a stream, (R,) int64.

    The rows of a wide object are runs of one width, one behind the other: as many as are alike are taken in one go.

    Args:
        hops: The bits that a repeat would take which starts at each bit of the part, 0 for a list.
        part: The part and some bytes more.
        offset: The bit at which the first run starts.
        stop: Behind the last bit at which a run may start.
        sizes: The four field sizes in bits.
    """
    hopped, lists = bytearray(), []
    while offset < stop:
        hop = hops[offset]
        alike = hops[offset : min(offset + _ALIKE * hop, stop) : hop] if hop else b""
        count = len(alike) - len(alike.lstrip(alike[:1]))
        hopped += alike[:count]
        offset += count * hop
        end = offset if count == _ALIKE else min(offset + _ONE_BY_ONE, stop)
        while offset < end:
            hop = hops[offset]
            hopped.append(hop)
            if not hop:
                hop = _list_bits(part, offset, sizes)
                lists.append(hop)
            offset += hop
    bits = np.frombuffer(hopped, np.uint8).astype(np.int64)
    bits[bits == 0] = lists
    return bits


@lru_cache(maxsize=16)
def _repeat_widths(sizes: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return how many bits a repeat takes that starts at one of a byte's 8 bits, 0 for a list, as 8 bytes in a row.

    The index of the (1024,) uint64 is the byte and the two bits behind it: the first three bits of each such run.
    """
    widths = np.array([0, 0, 0, 0, *(3 + size + 8 for size in sizes)], np.uint8)
    first_three_bits = np.arange(1024)[:, None] >> np.arange(7, -1, -1) & 7
    return np.asarray(widths[first_three_bits].view(np.uint64)[:, 0], np.uint64)


def _list_bits(data: bytes, position: int, sizes: tuple[int, ...]) -> int:
    """Return how many bits the run of listed values takes that starts at a bit position."""
    head = int.from_bytes(data[position // 8 : position // 8 + 4], "big") << position % 8
    size = sizes[head >> 29 & 3]
    return 3 + size + 8 * ((head >> (29 - size) & ((1 << size) - 1)) + 1)


def _run_heads(
    padded: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Mask, NDArray[np.int64], NDArray[np.int64]]:
    """Read the heads of R runs: whether each repeats its value, its length, the bit position of its first value."""
    every_byte: NDArray[np.int64] = np.ndarray(len(padded) - 7, ">i8", padded, strides=(1,))
    windows = every_byte[starts >> 3].astype(np.int64)
    to_go = 61 - (starts & 7)  # bits of the window behind kind and field
    kinds = windows >> to_go & 7
    size = sizes[kinds & 3]
    lengths = (windows >> (to_go - size) & ((1 << size) - 1)) + 1
    return kinds >= 4, lengths, starts + 3 + size


def _is_object(padded: NDArray[np.uint8], values_at: NDArray[np.int64]) -> Mask:
    """Return whether the values that start at some bit positions are over 127: whether their first bit is set."""
    return np.asarray(padded[values_at >> 3] >> (7 - (values_at & 7)) & 1 == 1)


def _single_values(
    repeats: Mask, lengths: NDArray[np.int64], ends: NDArray[np.int64], values_at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Break the runs that list values up into runs of one value; return the ends and the bit positions of all."""
    parts = np.where(repeats, 1, lengths)
    behind = np.repeat(np.cumsum(parts), parts) - np.arange(parts.sum()) - 1  # parts of the same run after this one
    before = np.repeat(parts, parts) - behind - 1
    return np.repeat(ends, parts) - behind, np.repeat(values_at, parts) + 8 * before
