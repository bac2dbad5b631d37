"""A network that leads to files of this machine: our backend downloads its pictures as ever, and no wire is timed."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpcore

HOST = "pictures.test"


def address_of(name: str, version: int = 0) -> str:
    """Return the address of a picture in the folder; another version of it is another address of the same file."""
    return f"http://{HOST}/data/upload/1/{name}?version={version}"


def resolve(_host: str, _port: int) -> Sequence[str]:
    """Give every host one address, which nothing connects to."""
    return ["127.0.0.1"]


class LocalFiles(httpcore.NetworkBackend):
    """Connects every host to one folder, whose files it serves by the last part of their path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def connect_tcp(self, *_args: Any, **_kwargs: Any) -> httpcore.NetworkStream:
        """Return a connection that answers one request."""
        return _Connection(self._folder)


class _Connection(httpcore.NetworkStream):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answer = BytesIO()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  nothing waits
        if not buffer.startswith(b"GET "):  # the request's end
            return
        target = buffer.split(b" ", 2)[1].decode("ascii")
        data = (self._folder / PurePosixPath(urlsplit(target).path).name).read_bytes()
        self._answer = BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  nothing waits
        return self._answer.read(max_bytes)

    def close(self) -> None:
        self._answer.close()

    def get_extra_info(self, _info: str) -> Any:
        return None
