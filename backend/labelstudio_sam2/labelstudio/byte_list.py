"""Lists of bytes as JSON, as Label Studio carries brush RLE: no Python number is made for any of them. Pure."""

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 16
"""Characters read at once, or a few more: what is made of them stays in the processor's cache."""
_FOUR_CHARACTERS = np.frombuffer(b"".join(f"{number},".ljust(4).encode() for number in range(256)), np.uint32)
"""Each number as it stands in a list, with spaces up to four characters."""


def read_byte_list(text: bytes) -> NDArray[np.uint8] | None:
    """Return the numbers of a JSON list, (N,) uint8, or None for anything but a flat list of 0..255 in plain digits.

    Args:
        text: Valid JSON.
    """
    if text.translate(None, b"0123456789, \t\r\n") != b"[]":
        return None
    characters = np.frombuffer(text, np.uint8)
    pieces: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
    start = 0
    while start < len(text):
        end = text.find(b",", start + _PIECE) + 1 or len(text)
        numbers = _numbers(characters[start:end])
        if numbers is None:
            return None
        pieces.append(numbers)
        start = end
    return np.concatenate(pieces)


def write_byte_list(numbers: NDArray[np.uint8]) -> bytes:
    """Return numbers, (N,) uint8, as a JSON list without spaces."""
    return b"[%b]" % _FOUR_CHARACTERS.take(numbers).tobytes().translate(None, b" ")[:-1]


def _numbers(characters: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the numbers that stand in a text, or None if one is over 255.

    The text's last character is no digit: so `wrap`, which takes it for the one before the first, finds none there.
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
        return None
    return numbers.astype(np.uint8)
