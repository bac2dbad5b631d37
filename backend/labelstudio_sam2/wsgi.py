"""Serving it: one gunicorn worker with threads, because one process owns the device."""

import errno
import logging
import socket
import struct
import time
from ipaddress import ip_address
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from labelstudio_sam2.app import READINESS, build_app
from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.ops.logging import configure_logging, gunicorn_log_config
from labelstudio_sam2.ops.memory import reuse_freed_memory
from labelstudio_sam2.ops.restart import Restart
from labelstudio_sam2.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

READ_SECONDS = 10
"""How long a client may keep silent in the middle of a request. Label Studio sends from the same network."""


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

    def _set(self, option: int, seconds: float) -> None:
        microseconds = max(int(seconds * 1e6), 1)  # the kernel's 0 is no limit
        self.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *divmod(microseconds, 1_000_000)))


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, for clients that are not trusted to come to an end.

    While it shuts down `/ready` says so to whoever still has a connection. The port is left at once, so that who comes
    then is refused and need not wait for nothing.
    """

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
        conn.sock.expect_request(self.app.settings.request_seconds)
        super().enqueue_req(conn)


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
            "threads": self.settings.threads,
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
    logger.info("the status page is at %s/status", settings.own_url)
    Server(settings).run()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
