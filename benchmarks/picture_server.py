"""A server on loopback that gives one picture under as many addresses as are asked for, never twice the same file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.loopback import serving


@contextmanager
def serve_picture(picture: Path) -> Iterator[str]:
    """Serve a picture for the length of the block.

    What is asked for is written behind the picture's end, where no decoder looks: every address has content of its own.

    Yields:
        The server's host and port.
    """
    data = picture.read_bytes()
    with serving(lambda path: data + path.encode()) as address:
        yield address
