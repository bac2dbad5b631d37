"""Serving it: one gunicorn worker with threads, because one process owns the device."""

import logging
from ipaddress import ip_address
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from labelstudio_sam2.app import build_app
from labelstudio_sam2.ops.logging import configure_logging, gunicorn_log_config
from labelstudio_sam2.settings import Settings

logger = logging.getLogger(__name__)

GRACEFUL_SECONDS = 30


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
            "worker_class": "gthread",
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
        return build_app(self._settings)


def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    configure_logging(settings.log_level)
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
