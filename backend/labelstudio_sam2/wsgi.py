"""Serving it: one gunicorn worker with threads, because one process owns the device."""

import errno
import logging
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from selectors import EVENT_READ
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.http.body import Body
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.workers.gthread import ThreadWorker

from labelstudio_sam2.app import READINESS, build_app
from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.ops.logging import configure_logging, gunicorn_log_config
from labelstudio_sam2.ops.memory import reuse_freed_memory
from labelstudio_sam2.ops.restart import Restart
from labelstudio_sam2.places import STRANGERS
from labelstudio_sam2.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

READ_SECONDS = 10
"""How long a client may keep silent in the middle of a request. Label Studio sends from the same network."""
RECEIVE_BYTES = 65_536
"""At once, where nothing waits."""
LINGER_SECONDS = 5
"""How long a client that was answered may take to hang up, and to send what nobody reads."""
MOST_LINGERING = 64
"""Connections that are kept for clients to hang up; one more, and the oldest is cut off."""


class Client(socket.socket):
    """A client's connection, with an end to waiting for one that stops sending, stops reading or takes for ever.

    The limits are the kernel's: gunicorn sets Python's own to none each time.
    """

    read_until = 0.0
    """On the monotonic clock, when the request that comes in must be here."""

    def expect_request(self, seconds: float) -> None:
        """Give the next request its time: a byte now and then must not hold a thread for ever."""
        self.read_until = time.monotonic() + seconds
        self._set(socket.SO_SNDTIMEO, READ_SECONDS)

    def recv(self, *arguments: int) -> bytes:
        """Read what is there, or wait for some.

        Raises:
            ConnectionResetError: The request took too long to come in.
            BlockingIOError: The client kept silent for too long.
        """
        left = self.read_until - time.monotonic()
        if left <= 0:
            raise ConnectionResetError(errno.ECONNRESET, "the request took too long to come in")
        self._set(socket.SO_RCVTIMEO, min(left, READ_SECONDS))
        return super().recv(*arguments)

    def recv_now(self) -> bytes:
        """Read what is there, without waiting; nothing means that the client has hung up.

        Raises:
            BlockingIOError: Nothing is there yet.
        """
        try:
            return super().recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def _set(self, option: int, seconds: float) -> None:
        microseconds = max(int(seconds * 1e6), 1)  # the kernel's 0 is no limit
        self.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *divmod(microseconds, 1_000_000)))


class FramedBody(Body):  # type: ignore[misc]
    """A request's body as WSGI promises it: what cannot be read is an `OSError`, whichever way it is broken."""

    def _read_reader(self, size: int) -> bytes:
        try:
            data: bytes = super()._read_reader(size)
        except ParseException as error:
            raise OSError(errno.EBADMSG, str(error)) from None
        return data


class FramedRequest(Request):  # type: ignore[misc]
    """A request whose body may be framed in any way."""

    def set_body_reader(self) -> None:
        """Prepare to read the body, when the head has been read."""
        super().set_body_reader()
        self.body = FramedBody(self.body.reader)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, for clients that are not trusted to come to an end.

    While it shuts down `/ready` says so to whoever still has a connection. The port is left at once, so that who comes
    then is refused and need not wait for nothing.

    An answered connection lingers until its client hangs up, since an answer is lost where the connection is cut while
    the client still sends. gunicorn waits for that in the one thread that takes connections; here it waits in the
    poller.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lingering: deque[Any] = deque()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to shut down, at a signal."""
        app = getattr(self, "wsgi", None)
        if isinstance(app, Flask):  # else it is still being built
            app.extensions[READINESS].withdraw(BusyError("the server is shutting down"))
        super().handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001  the base class's signature
        """Begin or cease to take connections. A worker that is replaced leaves the port to the master."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread: a new one, or one on which another request begins."""
        if not isinstance(conn.sock, Client):
            conn.sock = Client(fileno=conn.sock.detach())
            conn.init()
            conn.parser.mesg_class = FramedRequest
        conn.sock.expect_request(self.app.settings.request_seconds)
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection after a request: to the next one, or to its end."""
        if fs.cancelled() or (fs.exception() is None and not fs.result()):
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close the connections that took too long; the base class's loop calls this once a second or more often."""
        super().murder_pending()
        while self._lingering and self._lingering[0].timeout <= time.monotonic():
            self._let_go(self._lingering[0])

    def _linger(self, conn: Any) -> None:
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            self._close(conn)
            return
        conn.sock.setblocking(False)  # noqa: FBT003  its only parameter, by position only
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._lingering.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self._forget_what_comes, conn))
        if len(self._lingering) > MOST_LINGERING:
            self._let_go(self._lingering[0])

    def _forget_what_comes(self, conn: Any, _: Any) -> None:
        with suppress(BlockingIOError):
            if not conn.sock.recv_now():
                self._let_go(conn)

    def _let_go(self, conn: Any) -> None:
        self._lingering.remove(conn)
        self.poller.unregister(conn.sock)
        self._close(conn)

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()


class Server(BaseApplication):  # type: ignore[misc]
    """The application under gunicorn. The port is bound first, then the worker loads the model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn how to run it."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{self.settings.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self.settings.threads + (STRANGERS if self.settings.api_key else 0),
            "preload_app": False,  # CUDA in the master would break the forked worker
            "max_requests": 0,  # a new worker would load the model again
            "timeout": 120,
            "graceful_timeout": self.settings.drain_seconds,
            "control_socket_disable": True,  # needs a writable home, and nobody asked for it
            "logconfig_dict": gunicorn_log_config(self.settings.log_level),
            "proc_name": "labelstudio-sam2",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application, in the worker."""
        configure_logging(self.settings.log_level)
        return build_app(self.settings, on_device_lost=Restart().after_losing_the_device)


def check_port(settings: Settings) -> None:
    """Do nothing if the address can be listened on; gunicorn would try again for seconds and log a page.

    Raises:
        SettingsError: It cannot.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(f"HOST, PORT: cannot listen on {where}, {error.strerror}; choose another --port") from None


def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    configure_logging(settings.log_level)
    reuse_freed_memory()  # the worker inherits it
    for name, value in (
        ("LABEL_STUDIO_URL", settings.label_studio_url),
        ("LABEL_STUDIO_API_KEY", settings.label_studio_api_key),
    ):
        if value is None:
            logger.warning("%s is not set: pictures that Label Studio keeps cannot be fetched", name)
    if not _is_loopback(settings.host) and not settings.basic_auth_user:
        logger.warning(
            "listening on %s without Basic auth: whoever reaches this port can use it; set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, or keep the port inside a private network",
            settings.host,
        )
    Server(settings).run()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
