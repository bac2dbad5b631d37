"""The real server: gunicorn as `labelstudio-sam2 serve` runs it, with nano, over HTTP."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>'
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels></View>'
)


@pytest.fixture
def backend(picture_server: Any, start_backend: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with start_backend(
        LABEL_STUDIO_URL=picture_server.url, LABEL_STUDIO_API_KEY="a" * 40, LOG_LEVEL="DEBUG"
    ) as backend:
        yield backend


def test_64_clicks_over_8_threads_on_8_pictures_get_their_own_masks_and_the_encoder_runs_8_times(
    backend: Any, picture_server: Any, iou: Callable[..., float]
) -> None:
    truths = [_disc(i) for i in range(8)]
    for i, truth in enumerate(truths):
        picture_server.files[f"/data/upload/1/{i}.png"] = _png(truth)

    def click(n: int) -> float:
        i = n % 8
        status, _, answer = backend.predict(_click(i, *_center(i)))
        assert status == 200, answer
        (region,) = answer["results"][0]["result"]
        return iou(decode_brush_rle(region["value"]["rle"], (480, 640)), truths[i])

    with ThreadPoolExecutor(8) as threads:
        overlaps = list(threads.map(click, range(64)))

    assert min(overlaps) >= 0.85
    assert sum(line["message"] == "embedded a picture" for line in backend.log()) == 8
    downloads = sorted(path for path, _ in picture_server.requests if not path.startswith("/api/tasks?"))
    assert downloads == [f"/data/upload/1/{i}.png" for i in range(8)]


def test_bad_input_gets_the_catalogues_answer_and_the_next_good_click_the_same_answer_as_before(
    backend: Any, picture_server: Any
) -> None:
    picture_server.files["/data/upload/1/0.png"] = _png(_disc(0))
    picture_server.files["/data/upload/1/7.png"] = b"<html>Log in</html>"
    good = _click(0, *_center(0))
    before = _masks(backend.predict(good))
    bad = {
        "bad_json": b"{",
        "too_large": b"{" + b" " * 17_000_000,
        "bad_request": good.replace(b'"to_name"', b'"to_nam"'),
        "bad_config": good.replace(b"<View>", b"<!DOCTYPE x><View>"),
        "bad_prompt": good.replace(b'"x": ', b'"x": 1'),  # more than 100 percent
        "unsupported": good.replace(b'"keypointlabels", "from', b'"ellipselabels", "from'),
        "size_mismatch": good.replace(b'"original_width": 640', b'"original_width": 641'),
        "url_refused": good.replace(b"/data/upload/1/0.png", b"file:///etc/passwd"),
        "image_unreadable": good.replace(b"/1/0.png", b"/1/7.png"),
        "image_unavailable": good.replace(b"/1/0.png", b"/1/9.png"),
    }

    answers = {code: backend.predict(body) for code, body in bad.items()}

    assert {code: answer["error"] for code, (_, _, answer) in answers.items()} == {code: code for code in bad}
    assert all(reason.isascii() and status in (400, 413, 422, 502) for status, reason, _ in answers.values())
    assert _masks(backend.predict(good)) == before


def test_no_secret_and_no_body_reaches_a_debug_log(backend: Any, picture_server: Any) -> None:
    picture_server.files["/data/upload/1/0.png"] = _png(_disc(0))
    setup = json.dumps({"project": "1.2", "access_token": "5ecre7" * 6, "hostname": "http://x"}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{backend.url}/setup", setup), timeout=5).close()
    backend.predict(_click(0, *_center(0)).replace(b'"login": null', b'"login": "hunter2"'))
    backend.predict(_click(0, *_center(0)).replace(b"0.png", b"9.png?sig=5ignature"))

    log = backend.log_file.read_text()

    assert "POST /predict" in log
    assert not any(secret in log for secret in ("5ecre7", "a" * 40, "hunter2", "5ignature", "keypointlabels"))


def test_health_is_answered_while_clicks_wait_and_one_click_too_many_is_refused(
    start_backend: Callable[..., AbstractContextManager[Any]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts, and never answers
        label_studio = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with (
            start_backend(LABEL_STUDIO_URL=label_studio, THREADS="4", IMAGE_DOWNLOAD_SECONDS="6") as backend,
            ThreadPoolExecutor(3) as threads,
        ):
            clicks = [threads.submit(backend.predict, _click(i, *_center(i))) for i in range(3)]  # two have a place

            with urllib.request.urlopen(f"{backend.url}/health", timeout=5) as health:
                assert health.status == 200
            assert sorted(click.result(30)[2]["error"] for click in clicks) == [
                "busy",
                "image_timeout",
                "image_timeout",
            ]


def test_clients_that_fall_silent_do_not_keep_the_server_from_others(
    start_backend: Callable[..., AbstractContextManager[Any]],
) -> None:
    with start_backend(THREADS="4") as backend, ExitStack() as sockets:
        for begun in (b"POST /pre", b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{") * 4:
            client = sockets.enter_context(socket.create_connection(("127.0.0.1", int(backend.url.rpartition(":")[2]))))
            client.sendall(begun)

        with urllib.request.urlopen(f"{backend.url}/health", timeout=60) as health:
            assert health.status == 200


def _center(i: int) -> tuple[int, int]:
    return 100 + 60 * i, 150 + 25 * i


def _disc(i: int) -> NDArray[np.bool_]:
    return cv2.circle(np.zeros((480, 640), np.uint8), _center(i), 60, 1, thickness=-1).astype(bool)


def _png(mask: NDArray[np.bool_]) -> bytes:
    image = np.where(mask[..., None], np.array([50, 90, 190], np.uint8), np.array([214, 222, 225], np.uint8))
    return cv2.imencode(".png", image)[1].tobytes()


def _click(i: int, x: float, y: float) -> bytes:
    region = {
        "id": "aaaaaaaaaa",
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "value": {"x": x / 6.4, "y": y / 4.8, "width": 0.3, "keypointlabels": ["Cat"]},
        "is_positive": True,
    }
    task = {"id": i, "data": {"image": f"/data/upload/1/{i}.png"}}
    params = {"login": None, "password": None, "context": {"result": [region]}}
    return json.dumps({"tasks": [task], "project": "1.17", "label_config": CONFIG, "params": params}).encode()


def _masks(answer: tuple[int, str, Any]) -> Any:
    assert answer[0] == 200, answer
    return [region["value"] for region in answer[2]["results"][0]["result"]]
