"""Files that are small and yet the work of minutes, known before a reader looks at them.

Sizes alone do not bound the work. Each scan of a progressive JPEG goes over all of its pixels, in as few as 15 bytes; a
PNG may have a colour profile that unpacks to a megabyte again and again; all strips of a TIFF may be the same bytes.
Here only the lengths are followed, so that the whole costs about what reading the file once does.
"""

import re
from collections.abc import Iterator

from PIL.TiffImagePlugin import STRIPBYTECOUNTS, TILEBYTECOUNTS, TiffImageFile

from labelstudio_sam2.errors import ImageUnreadableError

MAX_SCANS = 50
"""Of a JPEG. Encoders make 1 to about 20."""
MAX_SEGMENTS = 1000
"""Besides a JPEG's scans and what holds a PNG's pixels: metadata and tables. The largest profiles take some hundred."""
MAX_OVERLAP = 4
"""How many times as large as the file a TIFF's strips or tiles may be, all together: writers that count wrong pass."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""A JPEG's next marker, as decoders look for it: behind pixels, filling bytes or whatever else is between two of them.
0 stands for a 255 in pixels, D0 to D7 are points to restart from."""
_ALONE, _SCAN, _END = frozenset(b"\x01\xd8"), 0xDA, 0xD9
_OF_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})


def check_segments(data: bytes) -> None:
    """Do nothing if a JPEG or PNG is made of no more parts than an encoder's; of other files nothing is asked.

    Raises:
        ImageUnreadableError: It has more.
    """
    if data.startswith(b"\xff\xd8"):
        scans = segments = 0
        for marker in _jpeg_markers(data):
            scans += marker == _SCAN
            segments += marker != _SCAN
            if scans > MAX_SCANS:
                raise ImageUnreadableError(f"the JPEG picture has more than {MAX_SCANS} scans")
            if segments > MAX_SEGMENTS + MAX_SCANS:  # each scan may come with a table of its own
                raise ImageUnreadableError(f"the JPEG picture has more than {MAX_SEGMENTS + MAX_SCANS} segments")
    elif data.startswith(b"\x89PNG"):
        for count, _ in enumerate(_png_metadata(data)):
            if count >= MAX_SEGMENTS:
                raise ImageUnreadableError(f"the PNG picture has more than {MAX_SEGMENTS} chunks that are no pixels")


def check_strips(file: TiffImageFile, file_bytes: int) -> None:
    """Do nothing if a TIFF's strips, or tiles, are as many bytes as can be in its file.

    Raises:
        ImageUnreadableError: They are more: the same bytes again and again.
    """
    for tag in (STRIPBYTECOUNTS, TILEBYTECOUNTS):
        if sum(file.tag_v2.get(tag, ())) > MAX_OVERLAP * file_bytes:
            raise ImageUnreadableError("the TIFF picture's strips are larger than its file")


def _jpeg_markers(data: bytes) -> Iterator[int]:
    """Yield the markers from the first to the end of the picture; a video or another picture may follow there."""
    at = 0
    while (found := _MARKER.search(data, at)) is not None and (marker := found[1][0]) != _END:
        yield marker
        at = found.end()
        if marker not in _ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))


def _png_metadata(data: bytes) -> Iterator[bytes]:
    """Yield the names of the chunks that hold no pixels, to the end of the picture; anything may follow there."""
    at = 8
    while at + 8 <= len(data) and (name := data[at + 4 : at + 8]) != b"IEND":
        if name not in _OF_PIXELS:
            yield name
        at += 12 + int.from_bytes(data[at : at + 4], "big")
