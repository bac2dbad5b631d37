"""Serving it: one gunicorn worker with threads, because one process owns the device."""

import logging
import socket
from ipaddress import ip_address
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from labelstudio_sam2.app import READINESS, build_app
from labelstudio_sam2.connections import Client, FramedRequest, Waiting
from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.ops.logging import configure_logging, gunicorn_log_config
from labelstudio_sam2.ops.memory import reuse_freed_memory
from labelstudio_sam2.ops.restart import Restart
from labelstudio_sam2.places import STRANGERS
from labelstudio_sam2.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

HEAD_SECONDS = 5
"""How long a client may take to send a request's head, from its first moment on: Label Studio sends it in one piece."""
MOST_HEADS = 256
"""Connections on which a head is awaited at once."""
LINGER_SECONDS = 5
"""How long a client that was answered may take to hang up, and to send what nobody reads."""
MOST_LINGERING = 64
"""Connections at once that are kept for that."""
MOST_KEPT = 128
"""Connections at once that wait for another request."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, for whole requests only.

    gunicorn's own worker gives a thread to whoever connects, and waits for clients to hang up in the one thread that
    takes connections. Here both wait in the poller: for a request's head, and for the end of an answered connection,
    since an answer is lost where the connection is cut while the client still sends. Threads read bodies, serve and
    answer.

    While it shuts down `/ready` says so to whoever still has a connection. The port is left at once, so that who comes
    then is refused and need not wait for nothing.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.max_keepalived = MOST_KEPT
        self._beginning = Waiting(self, seconds=HEAD_SECONDS, most=MOST_HEADS)
        self._lingering = Waiting(self, seconds=LINGER_SECONDS, most=MOST_LINGERING)

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
        """Wait for a request's head: on a new connection, or on one where another request begins."""
        if not isinstance(conn.sock, Client):
            conn.sock = Client(fileno=conn.sock.detach())
            conn.init()
            conn.parser.mesg_class = FramedRequest
        conn.sock.expect_head(conn.parser.unreader.take_buffered())
        self._beginning.begin(conn, self._read_head)
        self._serve_if_begun(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request, in a thread, when its head is parsed."""
        conn.sock.expect_body(self.app.settings.request_seconds)
        return super().handle_request(req, conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection after a request: to the next one, or to its end."""
        if not fs.cancelled() and (fs.exception() is not None or fs.result()):
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            self.nr_conns -= 1
            conn.close()
        else:
            self._lingering.begin(conn, lambda conn: conn.sock.skip())

    def murder_pending(self) -> None:
        """Close the connections that wait too long; the base class's loop calls this once a second or more often."""
        self._beginning.close_late()
        self._lingering.close_late()

    def _read_head(self, conn: Any) -> None:
        conn.sock.read_head()
        self._serve_if_begun(conn)

    def _serve_if_begun(self, conn: Any) -> None:
        if conn.sock.has_head:
            self._beginning.end(conn)
            conn.parser.unreader.unread(conn.sock.head)
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
    logger.info("the status page is at %s/status", settings.own_url)
    Server(settings).run()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
