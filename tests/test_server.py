"""The real server: gunicorn as `labelstudio-sam2 serve` runs it, with nano, over HTTP."""

import http.client
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>'
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels></View>'
)


def test_health_is_answered_while_clicks_wait_and_one_click_too_many_is_refused(
    start_backend: Callable[..., AbstractContextManager[Any]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts, and never answers
        label_studio = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with (
            start_backend(LABEL_STUDIO_URL=label_studio, THREADS="4", IMAGE_DOWNLOAD_SECONDS="6") as backend,
            ThreadPoolExecutor(3) as threads,
        ):
            clicks = [threads.submit(backend.predict, _click(i)) for i in range(3)]  # two have a place

            with urllib.request.urlopen(f"{backend.url}/health", timeout=5) as health:
                assert health.status == 200
            assert sorted(click.result(30)[2]["error"] for click in clicks) == [
                "busy",
                "image_timeout",
                "image_timeout",
            ]


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"


@pytest.fixture(scope="module")
def guarded(start_backend: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server with few threads and Basic auth, to be kept waiting by strangers."""
    with start_backend(THREADS="4", BASIC_AUTH_USER="sam", BASIC_AUTH_PASS="secret") as backend:
        yield backend


@pytest.mark.parametrize(
    ("clients", "begun"),
    [
        pytest.param(300, b"", id="before the first byte"),
        pytest.param(60, b"POST /pre", id="in the first line"),
        pytest.param(60, b"GET / HTTP/1.1\r\nHost: x\r\n", id="in the headers"),
        pytest.param(60, GET + GET[:9], id="in another request behind a whole one"),
        pytest.param(60, POST % b"/predict", id="in a body that is refused"),
        pytest.param(60, POST % b"/webhook", id="in a body that nobody needs"),
    ],
)
def test_clients_that_fall_silent_keep_nobody_waiting(guarded: Any, clients: int, begun: bytes) -> None:
    with ExitStack() as sockets:
        for _ in range(clients):
            sockets.enter_context(_connection(guarded)).sendall(begun)

        assert _is_well(guarded)
    assert _is_well(guarded)
    assert [line for line in guarded.log() if line["level"] in {"ERROR", "CRITICAL"}] == []


def test_who_is_refused_while_still_sending_gets_the_answer(guarded: Any) -> None:
    assert _post(guarded, "/predict", "x" * 12_000_000) == (401, "unauthorized")


def test_requests_in_pieces_and_behind_one_another_are_all_answered(guarded: Any) -> None:
    with closing(_connection(guarded)) as client:
        for byte in GET * 2:
            client.sendall(bytes([byte]))

        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 2:
            more = client.recv(65_536)
            assert more, received
            received += more


def test_a_head_that_is_too_long_is_refused(guarded: Any) -> None:
    with closing(_connection(guarded)) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n" + b"X-Long: x\r\n" * 8_000)

        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 431


@pytest.mark.parametrize(
    "begun", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"]
)
def test_clients_that_send_a_byte_now_and_then_do_not_keep_the_server_from_others(
    start_backend: Callable[..., AbstractContextManager[Any]], begun: bytes
) -> None:
    with start_backend(THREADS="4", REQUEST_SECONDS="2") as backend, ExitStack() as sockets:
        address = "127.0.0.1", int(backend.url.rpartition(":")[2])
        clients = [sockets.enter_context(socket.create_connection(address)) for _ in range(4)]
        for client in clients:
            client.sendall(begun)
            client.settimeout(0.1)

        for _ in range(1000):
            clients = [client for client in clients if _takes_another_byte(client)]

        assert clients == []
        with urllib.request.urlopen(f"{backend.url}/health", timeout=60) as health:
            assert health.status == 200


def test_clients_that_do_not_hang_up_keep_nobody_waiting(
    start_backend: Callable[..., AbstractContextManager[Any]],
) -> None:
    with start_backend() as backend, ExitStack() as sockets:
        for _ in range(70):
            client = sockets.enter_context(_connection(backend))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # and keeps it open

        assert _is_well(backend)
        assert [line for line in backend.log() if line["level"] == "ERROR"] == []


def test_strangers_do_not_take_the_places_of_those_who_are_let_in(
    start_backend: Callable[..., AbstractContextManager[Any]], until: Callable[..., None]
) -> None:
    password = {"Authorization": "Basic c2FtOnNlY3JldA=="}
    with (
        start_backend(THREADS="4", API_KEY="key", BASIC_AUTH_USER="sam", BASIC_AUTH_PASS="secret") as backend,
        ExitStack() as sockets,
    ):
        for _ in range(6):  # two more than may be read at once
            sockets.enter_context(_connection(backend)).sendall(POST % b"/sam2/embed_image")

        until(lambda: _post(backend, "/sam2/embed_image", {"image": "aaaa"}) == (503, "busy"))
        label_studio = _post(backend, "/predict", {}, password)
        program = _post(backend, "/sam2/embed_image?api_key=key", {"image_id": "x"})

        assert label_studio == (422, "bad_request")
        assert program == (400, "bad_request")
        assert _is_well(backend)


def test_prometheus_is_told_of_the_clicks_and_every_line_of_a_click_has_its_id(
    start_backend: Callable[..., AbstractContextManager[Any]], picture_server: Any
) -> None:
    picture_server.files["/data/upload/1/0.png"] = cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    with start_backend(LABEL_STUDIO_URL=picture_server.url) as backend:
        for _ in range(3):
            backend.predict(_click(0))
        with urllib.request.urlopen(f"{backend.url}/metrics", timeout=5) as answer:
            kind, text = answer.headers["Content-Type"], answer.read().decode()
        log = backend.log()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    clicks = families["labelstudio_sam2_click_seconds"].samples
    (refreshed,) = {sample.value for sample in families["process_start_time_seconds"].samples}
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert {s.labels["embedding"]: s.value for s in clicks if s.name.endswith("_count")} == {"new": 1, "cached": 2}
    assert abs(time.time() - refreshed) < 3600
    ids = [line["request_id"] for line in log if line["message"] == "POST /predict"]
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in log if line["message"] == "embedded a picture"] == ids[:1]
    assert list(next(line["stages_ms"] for line in log if line["message"] == "POST /predict")) == [
        "fetch",
        "queue",
        "decode",
        "embed",
        "predict",
        "encode",
    ]


def test_while_it_shuts_down_ready_says_no_to_who_is_still_connected_and_the_last_click_is_answered(
    start_backend: Callable[..., AbstractContextManager[Any]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        label_studio = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with (
            start_backend(LABEL_STUDIO_URL=label_studio, IMAGE_DOWNLOAD_SECONDS="4") as backend,
            closing(http.client.HTTPConnection(backend.url.removeprefix("http://"), timeout=10)) as kept,
            ThreadPoolExecutor(1) as thread,
        ):
            before = _ready(kept)
            click = thread.submit(backend.predict, _click(0))
            with hanging.accept()[0]:  # the click has begun
                backend.process.send_signal(signal.SIGTERM)
                during = next(answer for answer in iter(partial(_ready, kept), None) if answer != before)
                answered = click.result(30)

            assert (before, during) == ((200, ""), (503, "the server is shutting down"))
            assert answered[2]["error"] == "image_timeout"
            assert backend.process.wait(40) == 0


def _ready(connection: http.client.HTTPConnection) -> tuple[int, str]:
    connection.request("GET", "/ready")
    answer = connection.getresponse()
    return answer.status, json.load(answer).get("detail", "")


def _post(backend: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"{backend.url}{path}", json.dumps(body).encode(), headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def _connection(backend: Any) -> socket.socket:
    host, _, port = backend.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def _is_well(backend: Any) -> bool:
    """Ask for `/health`, which is promised within a second: after five the server waits, and is not merely slow."""
    with urllib.request.urlopen(f"{backend.url}/health", timeout=5) as health:
        return bool(health.status == 200)


def _takes_another_byte(client: socket.socket) -> bool:
    """Send a byte; return whether the server still waits for more, instead of answering or hanging up."""
    try:
        client.sendall(b"x")
        client.recv(1)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def _click(i: int) -> bytes:
    region = {
        "id": "aaaaaaaaaa",
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "value": {"x": 50, "y": 50, "width": 0.3, "keypointlabels": ["Cat"]},
        "is_positive": True,
    }
    task = {"id": i, "data": {"image": f"/data/upload/1/{i}.png"}}
    params = {"login": None, "password": None, "context": {"result": [region]}}
    return json.dumps({"tasks": [task], "project": "1.17", "label_config": CONFIG, "params": params}).encode()
