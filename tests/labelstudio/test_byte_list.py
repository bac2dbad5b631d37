"""Lists of bytes as JSON: read as msgspec reads them, or refused."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstudio_sam2.labelstudio.byte_list import read_byte_list, write_byte_list


def read_all(text: bytes) -> NDArray[np.uint8]:
    return np.concatenate([*read_byte_list(text)])


@pytest.mark.parametrize("separator", [",", ", ", " ,\n\t"])
def test_every_byte_is_read_whatever_stands_between(separator: str) -> None:
    text = f"[{separator.join(map(str, range(256)))}]".encode()

    numbers = read_all(text)

    assert numbers.dtype == np.uint8
    assert numbers.tolist() == list(range(256))


@pytest.mark.parametrize(("text", "numbers"), [(b"[]", []), (b"[ ]", []), (b"[7]", [7]), (b"[ 255 ]", [255])])
def test_short_lists_are_read(text: bytes, numbers: list[int]) -> None:
    read = read_all(text)

    assert read.tolist() == numbers


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b"7",
        b"{}",
        b'"AAEC"',
        b"[[1],[2]]",
        b"[1,[2]]",
        b"[-1]",
        b"[1.5]",
        b"[1e2]",
        b"[true]",
        b'["1"]',
        b"[256]",
        b"[300,1]",
        b"[999]",
        b"[1,1000]",
        b"[65536]",
        b"[1,100000000000000000000]",
    ],
)
def test_anything_but_a_flat_list_of_bytes_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"no flat list|over 255"):
        read_all(text)


@settings(deadline=None)
@given(st.lists(st.integers(0, 255) | st.integers(0, 2000), max_size=40), st.sampled_from([",", ", "]))
def test_a_list_of_numbers_is_read_if_all_are_bytes(numbers: list[int], separator: str) -> None:
    text = json.dumps(numbers, separators=(separator, ":")).encode()

    if max(numbers, default=0) > 255:
        with pytest.raises(ValueError, match="over 255"):
            read_all(text)
    else:
        assert read_all(text).tolist() == numbers


@pytest.mark.parametrize("shift", range(5))
def test_long_lists_are_read_to_their_end(shift: int) -> None:
    numbers = [*[1] * shift, *np.random.default_rng(3).integers(0, 256, 60_000).tolist()]

    read = read_all(msgspec.json.encode(numbers))

    assert read.tolist() == numbers


def test_a_number_over_255_is_seen_at_the_end_of_a_long_list() -> None:
    with pytest.raises(ValueError, match="over 255"):
        read_all(msgspec.json.encode([*[7] * 60_000, 256]))


@pytest.mark.parametrize("broken", ["256", "[1]", "-1", "1.5", "null"])
def test_what_is_broken_behind_the_pieces_asked_for_goes_unseen(broken: str) -> None:
    pieces = read_byte_list(f"[{'7,' * 60_000}{broken}]".encode())

    assert set(next(pieces).tolist()) == {7}
    with pytest.raises(ValueError, match=r"no flat list|over 255"):
        list(pieces)


@pytest.mark.parametrize("numbers", [[], [0], [255], list(range(256)), [7, 0, 0, 100, 10, 0] * 30_000])
def test_bytes_are_written_as_msgspec_writes_a_list_of_numbers(numbers: list[int]) -> None:
    assert write_byte_list(np.array(numbers, np.uint8)) == msgspec.json.encode(numbers)
