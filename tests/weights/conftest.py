"""A server that hands out a checkpoint, and misbehaves as it is told."""

import hashlib
import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.segmenter.zoo import ModelSpec

CONTENT = random.Random(1).randbytes(100_000)  # noqa: S311 - no secret, only bytes that do not repeat
FILE = "made_up.pt"


@dataclass
class WeightsServer:
    """What a server of checkpoints does, to be changed while it runs.

    Attributes:
        url: The file's address.
        content: The file.
        etag: Its ETag; None for a server that gives none.
        honors_range: Whether it can send a part of the file.
        announced: The length it says that the file has, if not the true one; "" for not saying it.
        answers: How to answer the next requests: a status, or `cut` (half of what is asked for, then the end), `hang`
            (half, then silence), `drip` (half, then a byte now and then), `redirect`, `elsewhere` (a part that was not
            asked for). After these it behaves.
        requests: (path, Range, If-Range) of every request so far.
        body_bytes: How much was sent of the file, in all.
        gate: Shut it and the server waits in the middle of an answer.
    """

    url: str
    content: bytes = CONTENT
    etag: str | None = '"1"'
    honors_range: bool = True
    announced: str | None = None
    answers: deque[str] = field(default_factory=deque)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    body_bytes: int = 0
    gate: threading.Event = field(default_factory=threading.Event)


@dataclass
class FakeReport:
    """Keeps what it is told.

    Attributes:
        sizes: How much was there, each time.
        texts: What was said.
        broken: Raised at the next size, as a write to a full disk would.
    """

    sizes: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    broken: OSError | None = None

    def at(self, size_bytes: int) -> None:
        if self.broken is not None:
            raise self.broken
        self.sizes.append(size_bytes)

    def say(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def report() -> FakeReport:
    return FakeReport()


@pytest.fixture
def spec(weights_server: WeightsServer) -> ModelSpec:
    """A model whose checkpoint is what the server's is as long as no test changes that."""
    return ModelSpec(
        model_id="sam2/hiera_made_up",
        config=Path("configs/sam2.1/sam2.1_hiera_t.yaml"),
        checkpoint=Path(FILE),
        url=weights_server.url,
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


@pytest.fixture
def weights_server() -> Iterator[WeightsServer]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = WeightsServer(f"http://127.0.0.1:{server.server_port}/{FILE}")
    server.fake.gate.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.fake
    finally:
        server.ended.set()
        server.fake.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    fake: WeightsServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ended = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        fake = self.server.fake
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        fake.requests.append((self.path, wanted, condition))
        how = fake.answers.popleft() if fake.answers else ""
        if how.isdigit():
            self.send_error(int(how))
            return
        if how == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{FILE}")
            self.end_headers()
            return
        start = self._start(wanted if condition in {None, fake.etag} else None)
        if start > len(fake.content):
            self.send_error(416)
            return
        self._send(fake.content[start:], start if wanted else None, how)

    def _start(self, wanted: str | None) -> int:
        if wanted is None or not self.server.fake.honors_range:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, body: bytes, start: int | None, how: str) -> None:
        fake = self.server.fake
        self._send_headers(len(body), start, how)
        half = len(body) // 2
        self._write(body[:half])
        if how == "hang":
            self.server.ended.wait(30)
        if how == "drip":
            self._drip(body[half:])
        if not fake.gate.wait(30) or how in {"cut", "hang", "drip"}:
            return
        self._write(body[half:])

    def _send_headers(self, length: int, start: int | None, how: str) -> None:
        fake = self.server.fake
        self.send_response(206 if start else 200)
        if start:
            first = start + 7 if how == "elsewhere" else start
            self.send_header("Content-Range", f"bytes {first}-{len(fake.content) - 1}/{len(fake.content)}")
        announced = str(length) if fake.announced is None else fake.announced
        if announced:
            self.send_header("Content-Length", announced)
        if fake.etag is not None:
            self.send_header("ETag", fake.etag)
        self.end_headers()

    def _drip(self, body: bytes) -> None:
        for place in range(len(body)):
            if self.server.ended.wait(0.02) or not self._write(body[place : place + 1]):
                return

    def _write(self, data: bytes) -> bool:
        self.server.fake.body_bytes += len(data)  # before, as who has it may look at once
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:
            self.server.fake.body_bytes -= len(data)
            return False  # who asked is gone
        return True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
