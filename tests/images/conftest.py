"""Servers on the loopback interface, a network that leads every name to them, and pictures to serve."""

import io
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import numpy as np
import pytest
from PIL import Image

from labelstudio_sam2.images.decode import make_pillow_strict
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.settings import Settings, load_settings

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    """A request that a site received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    """A web server on 127.0.0.1 that answers by path and remembers what it was asked."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, answer: Answer) -> None:
        self.answers[path] = answer

    def serves(self, path: str, data: bytes, **headers: str) -> None:
        self.on(path, lambda handler: reply(handler, 200, data, headers))

    def redirects(self, path: str, location: str, status: int = 302) -> None:
        self.on(path, lambda handler: reply(handler, status, b"", {"Location": location}))

    def says(self, path: str, status: int) -> None:
        self.on(path, lambda handler: reply(handler, status, b"no"))

    @property
    def tokens(self) -> list[str | None]:
        """The Authorization header of each request."""
        return [request.headers.get("authorization") for request in self.seen]


def reply(
    handler: BaseHTTPRequestHandler, status: int, data: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture(name="reply")
def reply_fixture() -> Callable[..., None]:
    return reply


@pytest.fixture
def start_site() -> Iterator[Callable[[], Site]]:
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start() -> Site:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                site.seen.append(Seen(self.command, self.path, headers, self.rfile.read(length)))
                answer = site.answers.get(self.path) or site.answers.get(self.path.partition("?")[0])
                try:
                    reply(self, 404) if answer is None else answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = answer  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        site = Site(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return site

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def label_studio(start_site: Callable[[], Site]) -> Site:
    return start_site()


@pytest.fixture
def stranger(start_site: Callable[[], Site]) -> Site:
    return start_site()


class Detour(httpcore.NetworkBackend):
    """Notes where a connection would lead and leads it to 127.0.0.1, in plain text also where TLS is asked for."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.greeted: list[str | None] = []
        self.dead: set[str] = set()

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        self.connected.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("Connection refused")
        return PlainTls(httpcore.SyncBackend().connect_tcp("127.0.0.1", port, timeout=5), self.greeted)


class PlainTls(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, greeted: list[str | None]) -> None:
        self.stream = stream
        self.greeted = greeted
        self.read = stream.read  # type: ignore[method-assign]
        self.write = stream.write  # type: ignore[method-assign]
        self.close = stream.close  # type: ignore[method-assign]

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self.greeted.append(server_hostname)
        return self


class Names:
    """A name server: each name gives its answers one after the other, the last for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Sequence[str]]] = {}

    def __call__(self, host: str, port: int) -> Sequence[str]:
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(host)
        return answers.pop(0) if len(answers) > 1 else answers[0]


class HandClock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def network() -> Detour:
    return Detour()


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return load_settings


@pytest.fixture
def make_source(
    make_settings: Callable[..., Settings], names: Names, network: Detour, label_studio: Site
) -> Callable[..., ImageSource]:
    """Make a source for the label_studio site; keyword arguments are settings, and `clock`."""

    def make(**overrides: Any) -> ImageSource:
        clock = {"clock": overrides.pop("clock")} if "clock" in overrides else {}
        fixed = {"label_studio_url": label_studio.url, "image_revalidate_seconds": 10}
        settings = make_settings(**(fixed | overrides))
        return ImageSource(settings, resolver=names, network=network, **clock)

    return make


@pytest.fixture(autouse=True)
def _pillow_as_in_production() -> None:
    make_pillow_strict()


@pytest.fixture
def png() -> bytes:
    """Give a picture of 2 rows and 3 columns."""
    return png_of(0)


@pytest.fixture
def other_png() -> bytes:
    """Give another picture, of the same file size."""
    data = png_of(1)
    assert len(data) == len(png_of(0))
    return data


def png_of(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(file, "PNG", compress_level=0)
    return file.getvalue()
