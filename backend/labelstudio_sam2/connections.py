"""Connections of clients that are not trusted to come to an end: what each may take, in seconds and bytes."""

import errno
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders, ParseException
from gunicorn.http.message import Request

READ_SECONDS = 10
"""How long a client may keep silent in the middle of a body. Label Studio sends from the same network."""
HEAD_BYTES = 65_536
"""Of a request's first line and headers together."""


class Client(socket.socket):
    """A connection that reads a request's head without waiting, and its body with an end to waiting.

    The limits are the kernel's: gunicorn sets Python's own to none each time.
    """

    head = b""
    """What has come of the next request."""
    read_until: float | None = None
    """On the monotonic clock, when the body must be here; None while there is no request yet."""

    def expect_head(self, begun: bytes) -> None:
        """Begin another request, of which some bytes may have come behind the one before."""
        self.head, self.read_until = begun, None
        self._set(socket.SO_SNDTIMEO, READ_SECONDS)

    @property
    def has_head(self) -> bool:
        """Whether what has come is enough to be parsed, for good or ill."""
        return b"\r\n\r\n" in self.head or len(self.head) > HEAD_BYTES

    def read_head(self) -> None:
        """Read what is there, which may be more than the head; never waits.

        Raises:
            BlockingIOError: Nothing is there.
            EOFError: The client has hung up.
        """
        self.head += self._read_now()

    def skip(self) -> None:
        """Forget what is there; never waits.

        Raises:
            BlockingIOError: Nothing is there.
            EOFError: The client has hung up.
        """
        self._read_now()

    def expect_body(self, seconds: float) -> None:
        """Give the body its time: a byte now and then must not hold a thread for ever."""
        self.head, self.read_until = b"", time.monotonic() + seconds

    def recv(self, *arguments: int) -> bytes:
        """Read what is there of the body, or wait for some.

        Raises:
            LimitRequestHeaders: It is the head that is not all here, since it is too long.
            ConnectionResetError: The body took too long to come in.
            BlockingIOError: The client kept silent for too long.
        """
        if self.read_until is None:
            raise LimitRequestHeaders(f"more than {HEAD_BYTES} bytes")
        left = self.read_until - time.monotonic()
        if left <= 0:
            raise ConnectionResetError(errno.ECONNRESET, "the request took too long to come in")
        self._set(socket.SO_RCVTIMEO, min(left, READ_SECONDS))
        return super().recv(*arguments)

    def _read_now(self) -> bytes:
        try:
            data = super().recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return data

    def _set(self, option: int, seconds: float) -> None:
        microseconds = max(int(seconds * 1e6), 1)  # the kernel's 0 is no limit
        self.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *divmod(microseconds, 1_000_000)))


class FramedBody(Body):  # type: ignore[misc]
    """A request's body as WSGI promises it: what cannot be read is an `OSError`, whichever way it is broken."""

    @property
    def is_read(self) -> bool:
        """Whether nothing of it is left on the connection."""
        if self.failed:
            return False
        return self.reader.parser is None if isinstance(self.reader, ChunkedReader) else self.reader.length == 0

    def _read_reader(self, size: int) -> bytes:
        try:
            data: bytes = super()._read_reader(size)
        except ParseException as error:
            raise OSError(errno.EBADMSG, str(error)) from None
        return data


class FramedRequest(Request):  # type: ignore[misc]
    """A request whose body may be framed in any way, and need not be read."""

    body: FramedBody

    def set_body_reader(self) -> None:
        """Prepare to read the body, when the head has been read."""
        super().set_body_reader()
        self.body = FramedBody(self.body.reader)

    def should_close(self) -> bool:
        """Whether the connection ends with this request. What is left of a body is nothing to wait for, so it does."""
        return bool(super().should_close()) or not self.body.is_read


class Waiting:
    """Connections that wait for their clients, in a worker's poller, which holds no thread. The oldest come first.

    Args:
        worker: Whose poller and connections.
        seconds: How long each may wait before it is closed.
        most: How many may; one more, and the oldest is closed.
    """

    def __init__(self, worker: Any, *, seconds: float, most: int) -> None:
        self._worker = worker
        self._seconds = seconds
        self._most = most
        self._until: dict[Any, float] = {}

    def begin(self, conn: Any, on_bytes: Callable[[Any], object]) -> None:
        """Let a connection wait.

        Args:
            conn: gunicorn's, with a `Client`.
            on_bytes: Called with it each time something has come. When the client has hung up, it raises `EOFError`.
        """
        conn.sock.setblocking(False)  # noqa: FBT003  its only parameter, by position only
        self._until[conn] = time.monotonic() + self._seconds
        self._worker.poller.register(conn.sock, EVENT_READ, partial(self._go_on, conn, on_bytes))
        if len(self._until) > self._most:
            self._close(next(iter(self._until)))

    def end(self, conn: Any) -> None:
        """Take a connection out, to go on with it."""
        del self._until[conn]
        self._worker.poller.unregister(conn.sock)

    def close_late(self) -> None:
        """Close those whose time is over."""
        now = time.monotonic()
        for conn in [conn for conn, until in self._until.items() if until <= now]:
            self._close(conn)

    def _go_on(self, conn: Any, on_bytes: Callable[[Any], object], _: object) -> None:
        if conn not in self._until:  # it was closed for another one in the same round of the poller
            return
        try:
            with suppress(BlockingIOError):
                on_bytes(conn)
        except EOFError:
            self._close(conn)

    def _close(self, conn: Any) -> None:
        self.end(conn)
        self._worker.nr_conns -= 1
        conn.close()
