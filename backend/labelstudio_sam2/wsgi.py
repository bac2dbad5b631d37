"""Serving it: one gunicorn worker with threads, because one process owns the device."""

import logging
import socket
import struct
from ipaddress import ip_address
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from labelstudio_sam2.app import build_app
from labelstudio_sam2.ops.logging import configure_logging, gunicorn_log_config
from labelstudio_sam2.ops.memory import reuse_freed_memory
from labelstudio_sam2.ops.restart import Restart
from labelstudio_sam2.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

GRACEFUL_SECONDS = 30
READ_SECONDS = 10
"""How long a client may keep silent in the middle of a request. Label Studio sends from the same network."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, with an end to waiting for a client that stops sending in the middle of a request.

    When told to stop it also leaves the port, so that who comes then is refused and need not wait for nothing.
    """

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001  the base class's signature
        """Begin or cease to take connections. A worker that is replaced leaves the port to the master."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread. The limit is the kernel's: gunicorn sets Python's own to none each time."""
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", READ_SECONDS, 0))
        super().enqueue_req(conn)


class Server(BaseApplication):  # type: ignore[misc]
    """The application under gunicorn. The port is bound first, then the worker loads the model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn how to run it."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self._settings.threads,
            "preload_app": False,  # CUDA in the master would break the forked worker
            "max_requests": 0,  # a new worker would load the model again
            "timeout": 120,
            "graceful_timeout": GRACEFUL_SECONDS,
            "control_socket_disable": True,  # needs a writable home, and nobody asked for it
            "logconfig_dict": gunicorn_log_config(self._settings.log_level),
            "proc_name": "labelstudio-sam2",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application, in the worker."""
        configure_logging(self._settings.log_level)
        return build_app(self._settings, on_device_lost=Restart().after_losing_the_device)


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
