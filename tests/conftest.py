"""What most tests share: recorded requests, the nano model, a drawn picture with known truth, servers on loopback."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import httpcore
import hypothesis
import numpy as np
import pytest
import torch
from flask import Flask
from numpy.typing import NDArray
from PIL import Image

from labelstudio_sam2.app import create_app
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.checkpoint import find_checkpoint
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.sam2_model import Sam2Model, load_sam2
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.segmenter.zoo import resolve
from labelstudio_sam2.settings import load_settings

# A busy machine is no failure: how long an example takes is a benchmark's to say, not a test's.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

RECORDED = Path(__file__).parent / "data" / "label_studio"


@dataclass(frozen=True)
class DrawnPicture:
    """A picture drawn for a test, and the truth about it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: By object, (H, W) bool.
    """

    image: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.bool_]]

    def png(self) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "PNG")
        return file.getvalue()


@dataclass
class PictureServer:
    """A loopback server that stands for Label Studio's file store.

    Attributes:
        url: Its origin.
        files: By path, what it serves; change them while it runs.
        answers: By path, what answers instead, in a thread of its own.
        requests: (path, Authorization) of every request so far.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass
class Backend:
    """The real server in a process of its own, as `labelstudio-sam2 serve` runs it.

    Attributes:
        url: Its origin.
        process: To be stopped by the fixture.
        log_file: What it wrote to stderr.
    """

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def predict(self, body: bytes) -> tuple[int, str, Any]:
        """Post a body as Label Studio does; return status, reason and the JSON answer."""
        request = urllib.request.Request(f"{self.url}/predict", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.reason, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.reason, json.load(error)

    def get(self, path: str) -> tuple[int, str, Any]:
        """Ask for a path; return status, reason and the JSON answer."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
                return answer.status, answer.reason, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.reason, json.load(error)

    def worker(self) -> int:
        """Return the id of the process that answers now: the newest that the server has started."""
        return [int(line["message"].rpartition(" ")[2]) for line in self.log() if "Booting worker" in line["message"]][
            -1
        ]

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def recorded() -> Callable[[str], Any]:
    """Return a function that reads a recorded request's body by name."""
    return lambda name: json.loads((RECORDED / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def nano_model() -> Sam2Model:
    spec = resolve("nano")
    return load_sam2(spec, find_checkpoint(spec, Path()), device="cpu")


@pytest.fixture(scope="session")
def disc_and_box() -> DrawnPicture:
    """A picture that fits the recorded requests: 640 x 480, a disc and a box on plain ground where they point."""
    disc = cv2.circle(np.zeros((480, 640), np.uint8), (200, 180), 70, 1, thickness=-1).astype(bool)
    box = np.zeros((480, 640), bool)
    box[250:400, 400:560] = True
    image = np.full((480, 640, 3), (225, 222, 214), np.uint8)
    image[disc] = (190, 60, 50)
    image[box] = (50, 90, 170)
    return DrawnPicture(image, {"disc": disc, "box": box})


@pytest.fixture(scope="session")
def make_nano_app(nano_model: Sam2Model) -> Callable[..., Flask]:
    """Return a function that composes the application on nano, in this process; settings go in by name."""

    def make(*, extras: Mapping[str, Callable[[], Segmenter[Any]]] | None = None, **wanted: object) -> Flask:
        settings = load_settings(model="nano", **wanted)
        segmenter: Segmenter[Any] = Segmenter(
            lambda: nano_model,
            model_version="nano@test",
            cache=EmbeddingCache(2**28),
            device=DeviceSchedule(max_waiting=8, wait_seconds=20),
        )
        segmenter.start().join()
        source = ImageSource(settings)
        inputs = ImageInputs(source, ImageLimits.from_settings(settings), allow_files=settings.allow_file_inputs)
        models = Models("nano", segmenter, extras=extras or {}, view=lambda each: SegmentAnything2.on(each, inputs))
        return create_app(Assistant(source, segmenter), segmenter, models, settings)

    return make


@pytest.fixture
def picture_server() -> Iterator[PictureServer]:
    with serve_pictures() as server:
        yield server


@pytest.fixture(scope="session")
def serving_pictures() -> Callable[[], AbstractContextManager[PictureServer]]:
    """Return `serve_pictures`, for a server that lasts longer than one test."""
    return serve_pictures


@pytest.fixture(scope="session")
def start_backend(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Backend]]:
    """Return a function that serves for the length of a block; settings go in as environment variables.

    The function also takes the model, the program if it is another one, and the path that is asked until it answers.
    """
    installed = (str(Path(sys.executable).with_name("labelstudio-sam2")),)

    @contextmanager
    def start(
        *, model: str = "nano", program: Sequence[str] = installed, answers: str = "/ready", **environment: str
    ) -> Iterator[Backend]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path_factory.mktemp("backend")
        log_file = folder / "backend.log"
        command = [*program, "serve", "--model", model, "--port", str(port)]
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, cwd=folder)
        backend = Backend(f"http://127.0.0.1:{port}", process, log_file)
        try:
            _wait_for_answer(backend, answers)
            yield backend
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(40)

    return start


def _wait_for_answer(backend: Backend, path: str) -> None:
    for _ in range(240):
        assert backend.process.poll() is None, backend.log_file.read_text()
        try:
            with urllib.request.urlopen(f"{backend.url}{path}", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(backend.log_file.read_text())


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a line on stderr."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve on a port of loopback for the length of the block; whoever still hangs then is left behind."""
    quiet = type("Quiet", (QuietHandler, handler), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    server.block_on_close = False
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(name="serve", scope="session")
def serve_fixture() -> Callable[[type[BaseHTTPRequestHandler]], AbstractContextManager[int]]:
    """Return a function that serves on a port of loopback for the length of a block."""
    return serve


@contextmanager
def serve_pictures() -> Iterator[PictureServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pictures.requests.append((self.path, self.headers["Authorization"]))
            path = self.path.partition("?")[0]
            if path in pictures.answers:
                with suppress(ConnectionError):  # who asked may give up
                    pictures.answers[path](self)
                return
            data = pictures.files.get(path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

    with serve(Handler) as port:
        pictures = PictureServer(f"http://127.0.0.1:{port}")
        yield pictures


Answer: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


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


@contextmanager
def serve_site() -> Iterator[Site]:
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

    with serve(Handler) as port:
        site = Site(port)
        yield site


@pytest.fixture(scope="session")
def serving_site() -> Callable[[], AbstractContextManager[Site]]:
    """Return `serve_site`, for a site that lasts longer than one test."""
    return serve_site


@pytest.fixture
def start_site() -> Iterator[Callable[[], Site]]:
    """Return a function that starts a web site on 127.0.0.1, which ends with the test."""
    with ExitStack() as sites:
        yield lambda: sites.enter_context(serve_site())


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


@pytest.fixture(scope="session")
def resize_floats() -> Callable[[NDArray[np.uint8], int], torch.Tensor]:
    """Return SAM 2's own way to resize a picture, without rounding, in the form of `sam2_model._resize`."""

    def resize(image: NDArray[np.uint8], size: int) -> torch.Tensor:
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        return torch.nn.functional.interpolate(
            pixels, (size, size), mode="bilinear", align_corners=False, antialias=True
        )

    return resize


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits, for some seconds at most, until a condition holds."""

    def wait_until(condition: Callable[[], object]) -> None:
        for _ in range(500):
            if condition():
                return
            time.sleep(0.01)
        pytest.fail("it never came true")

    return wait_until


@pytest.fixture(scope="session")
def iou() -> Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]:
    """Return a function that gives the intersection over union of two masks."""

    def intersection_over_union(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
        return float((one & other).sum() / max((one | other).sum(), 1))

    return intersection_over_union
