"""Lists of bytes as JSON, as Label Studio carries brush RLE: no Python number is made for any of them. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FIRST_PIECE, _LONGEST_PIECE = 1 << 13, 1 << 16
"""Characters read at once, or a few more: few at first, for what is wanted may be among them."""
_PLAIN = b"0123456789, \t\r\n"
_FOUR_CHARACTERS = np.frombuffer(b"".join(f"{number},".ljust(4).encode() for number in range(256)), np.uint32)
"""Each number as it stands in a list, with spaces up to four characters."""


def read_byte_list(text: bytes) -> Iterator[NDArray[np.uint8]]:
    """Yield the numbers of a JSON list piece by piece, (N,) uint8; what is not asked for is not read.

    Args:
        text: Valid JSON.

    Raises:
        ValueError: It is anything but a flat list of 0..255 in plain digits.
    """
    start, length = 0, _FIRST_PIECE
    while start < len(text):
        end = text.find(b",", start + length) + 1 or len(text)
        piece = text[start:end]
        brackets = b"[" * (start == 0) + b"]" * (end == len(text))
        if piece.translate(None, _PLAIN) != brackets:
            raise ValueError("no flat list of plain whole numbers")
        yield _numbers(np.frombuffer(piece, np.uint8))
        start, length = end, min(2 * length, _LONGEST_PIECE)


def write_byte_list(numbers: NDArray[np.uint8]) -> bytes:
    """Return numbers, (N,) uint8, as a JSON list without spaces."""
    return b"[%b]" % _FOUR_CHARACTERS.take(numbers).tobytes().translate(None, b" ")[:-1]


def _numbers(characters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the numbers that stand in a text, (N,) uint8.

    The text's last character is no digit: so `wrap`, which takes it for the one before the first, finds none there.

    Raises:
        ValueError: One is over 255.
    """
    digits = characters - np.uint8(ord("0"))  # what is no digit turns into more than 9
    is_digit = digits < 10
    digits *= is_digit.view(np.uint8)
    ones_at = np.flatnonzero(is_digit[:-1] > is_digit[1:])
    tens_at = ones_at - 1
    hundreds = digits.take(ones_at - 2, mode="wrap") * is_digit.view(np.uint8).take(tens_at, mode="wrap")
    below_100 = digits.take(tens_at, mode="wrap") * np.uint8(10) + digits.take(ones_at)
    numbers = hundreds * np.uint16(100) + below_100
    has_thousands = is_digit[:-3] & is_digit[1:-2] & is_digit[2:-1] & is_digit[3:]
    if numbers.max(initial=0) > 255 or has_thousands.any():
        raise ValueError("a number is over 255")
    return numbers.astype(np.uint8)
