"""The error catalogue, a row each, as Label Studio sees it: status and reason on the wire, the code in the body.

Most rows are asked of the real server. Four need a model that is loading, broken or taken; those are asked of the same
application in this process.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from labelstudio_sam2.errors import BackendError

REASONS = {
    ("bad_json", 400): {"Request body is not valid JSON"},
    ("unauthorized", 401): {"User name or password is missing or wrong", "API key is missing or wrong"},
    ("too_large", 413): {"Request is too large"},
    ("bad_request", 422): {"A field is missing or has the wrong type", "This model is not served here"},
    ("bad_config", 422): {"Labeling configuration cannot be used"},
    ("bad_prompt", 422): {
        "Prompt is not valid",
        "Click lies outside the image",
        "No brush, polygon or rectangle tag accepts this label",
    },
    ("unsupported", 422): {
        "This tag type is not supported",
        "Rotated images are not supported, turn the image back",
    },
    ("size_mismatch", 422): {"Image size differs from the annotation's"},
    ("url_refused", 422): {"Image address is not allowed"},
    ("image_unreadable", 422): {"File is not a readable image"},
    ("image_too_large", 413): {"Image is too large"},
    ("image_unavailable", 502): {
        "Image server answered with an error",
        "Image server refused access, check LABEL_STUDIO_API_KEY",
    },
    ("image_timeout", 504): {"Image download took too long"},
    ("busy", 503): {"Server is busy, try again"},
    ("loading", 503): {"Model is still loading"},
    ("model_unavailable", 503): {"Model could not be loaded, see /ready and the log"},
    ("gpu_memory", 503): {"Not enough GPU memory for this image"},
    ("device_lost", 503): {"GPU failed, the server is starting again"},
    ("internal", 500): {"Internal error"},
}
"""By code and status, every reason there is: fixed, ASCII, and an operator's to act on."""

RETRY_AFTER = {"busy": "1", "loading": "1", "device_lost": "30"}
"""By code, the seconds after which it is worth trying again; there is no point in that for any other."""

SENT = "Zaphod"
"""In each request somewhere: no reason and no header may repeat it."""
DEEP = 100_000

Body = Callable[..., bytes]


def check(answer: Any, code: str, reason: str) -> None:
    status = next(number for name, number in REASONS if name == code)
    assert (answer.code, answer.status, answer.reason) == (code, status, reason)
    assert reason in REASONS[code, status]
    assert SENT not in answer.reason + str(answer.headers)
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json["request_id"]) == 12
    assert answer.headers.get("retry-after") == RETRY_AFTER.get(code)


@pytest.fixture(scope="module")
def site(serving_site: Callable[[], AbstractContextManager[Any]], picture: Callable[..., bytes]) -> Iterator[Any]:
    with serving_site() as site:
        site.serves("/data/upload/1/cat.png", picture())
        yield site


@pytest.fixture(scope="module")
def server(site: Any, start_backend: Callable[..., AbstractContextManager[Any]]) -> Iterator[str]:
    with start_backend(LABEL_STUDIO_URL=site.url, IMAGE_DOWNLOAD_SECONDS="2", PREFETCH_MB="0") as backend:
        yield backend.url


@pytest.fixture
def ask(server: str, ask_server: Callable[..., Any], click_body: Body) -> Iterator[Callable[[bytes], Any]]:
    """Return a function that posts to the real server, which must answer a good click afterwards as before."""
    before = ask_server(server, click_body()).regions

    yield lambda body: ask_server(server, body)

    after = ask_server(server, click_body()).regions
    assert [region["value"] for region in after] == [region["value"] for region in before]


def test_there_is_no_other_row() -> None:
    def every(kind: type[BackendError]) -> Iterator[type[BackendError]]:
        yield kind
        for under in kind.__subclasses__():
            yield from every(under)

    rows: dict[tuple[str, int], set[str]] = {}
    for kind in every(BackendError):
        rows.setdefault((kind.code, kind.status), set()).add(kind.reason)

    assert rows == REASONS
    assert all(reason.isascii() and reason.isprintable() for reasons in rows.values() for reason in reasons)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"{SENT} {{".encode(), id="not JSON"),
        pytest.param(b'{"tasks": [{"data": {"image": "Zaphod \xff"}}]}', id="not UTF-8"),
        pytest.param(b'{"Zaphod": ' * DEEP, id="too deep"),
        pytest.param(b'{"tasks": [], "Zaphod": ' + b"[" * DEEP + b"]" * DEEP + b"}", id="too deep and closed"),
        pytest.param(b'["Zaphod"]', id="not an object"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"tasks": [], "Zaphod": NaN}', id="not a number"),
    ],
)
def test_bad_json_400(ask: Callable[[bytes], Any], body: bytes) -> None:
    check(ask(body), "bad_json", "Request body is not valid JSON")


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize("path", ["/predict", "/sam2/embed_image"])
@pytest.mark.parametrize(
    ("header", "body", "hang_up"),
    [
        pytest.param(CHUNKED, b"Zaphod\r\n", False, id="chunk of no size"),
        pytest.param(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n", False, id="chunk of a negative size"),
        pytest.param(CHUNKED, b"1" * 20_000, False, id="chunk size without an end"),
        pytest.param(CHUNKED, b"2\r\n{Zaphod}\r\n0\r\n\r\n", False, id="chunk longer than its size"),
        pytest.param(CHUNKED, b"2;\rx\r\n{}\r\n0\r\n\r\n", False, id="bad extension"),
        pytest.param(CHUNKED, b"2\r\n{}\r\n0\r\nZaphod\r\n\r\n", False, id="bad trailer"),
        pytest.param(CHUNKED, b"2\r\n{}\r\n0\r\nX: " + b"x" * 2_000_000, False, id="trailer without an end"),
        pytest.param(CHUNKED, b"FFFFFFFF\r\n{", True, id="chunk cut"),
        pytest.param(CHUNKED, b"FFFFFFFF\r\n{", False, id="chunk stalled"),
        pytest.param(b"Content-Length: 1000", b'{"Zaphod":', True, id="cut"),
        pytest.param(b"Content-Length: 1000", b'{"Zaphod":', False, id="stalled"),
    ],
)
def test_bad_json_400_of_a_body_that_does_not_come_to_its_end(
    ask: Callable[[bytes], Any],
    server: str,
    send_to_server: Callable[..., Any],
    path: str,
    header: bytes,
    body: bytes,
    hang_up: bool,  # noqa: FBT001  a column of the table
) -> None:
    head = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n"

    answer = send_to_server(server, head + body, hang_up=hang_up)

    check(answer, "bad_json", "Request body is not valid JSON")
    assert ask(b"{}").code == "bad_request"  # and `ask` asks again for a mask


def test_too_large_413_of_a_body_that_is_broken_beyond_the_limit(
    server: str, send_to_server: Callable[..., Any]
) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n"

    answer = send_to_server(server, head + b"1312D00\r\n" + b" " * 20_000_000 + b"Zaphod\r\n")

    check(answer, "too_large", "Request is too large")


def test_too_large_413(ask: Callable[[bytes], Any]) -> None:
    check(ask(SENT.encode() * 3_000_000), "too_large", "Request is too large")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ((b'"tasks": [', b'"Zaphod": ['), "tasks"),
        ((b'"value": {"x": 50', b'"value": {"x": "Zaphod"'), "$.params.context.result[0].value.x"),
        ((b'"image": "/data', b'"picture": "/data'), "tasks[0].data.image"),
    ],
    ids=["missing", "of the wrong type", "missing in the task"],
)
def test_bad_request_422_names_the_field(
    ask: Callable[[bytes], Any], click_body: Body, wrong: tuple[bytes, bytes], named: str
) -> None:
    answer = ask(click_body().replace(*wrong))

    check(answer, "bad_request", "A field is missing or has the wrong type")
    assert named in answer.json["detail"]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("<View><Zaphod></View>", id="broken XML"),
        pytest.param('<!DOCTYPE Zaphod><View><Image name="image" value="$image"/></View>', id="DOCTYPE"),
        pytest.param('<View><BrushLabels name="Zaphod" toName="image"/></View>', id="no image"),
        pytest.param(
            '<View><Image name="image" value="$image"/><Zaphod/>'
            '<KeyPointLabels name="kp" toName="image"><Label value="Cat"/></KeyPointLabels></View>',
            id="nothing that can hold a mask",
        ),
    ],
)
def test_bad_config_422(ask: Callable[[bytes], Any], click_body: Body, config: str) -> None:
    check(ask(click_body(config=config)), "bad_config", "Labeling configuration cannot be used")


@pytest.mark.parametrize(
    ("click", "reason"),
    [
        pytest.param({"value": {"x": 120, "y": 50, "keypointlabels": ["Cat"]}}, "Click lies outside the image"),
        pytest.param({"value": {"x": 1e300, "y": 50, "keypointlabels": ["Cat"]}}, "Click lies outside the image"),
        pytest.param({"value": {"y": 50, "keypointlabels": ["Cat"]}}, "Prompt is not valid", id="no x"),
        pytest.param(
            {"value": {"x": 50, "y": 50, "keypointlabels": [SENT]}},
            "No brush, polygon or rectangle tag accepts this label",
        ),
        pytest.param(
            {"type": "brushlabels", "from_name": "brush", "value": {"rle": [1, 2, 3], "brushlabels": ["Cat"]}},
            "Prompt is not valid",
            id="broken RLE",
        ),
        pytest.param(
            {
                "type": "rectanglelabels",
                "from_name": "box",
                "value": {"x": 10, "y": 10, "width": 0, "height": 5, "rectanglelabels": ["Cat"]},
            },
            "Prompt is not valid",
            id="no area",
        ),
    ],
)
def test_bad_prompt_422(ask: Callable[[bytes], Any], click_body: Body, click: dict[str, Any], reason: str) -> None:
    check(ask(click_body(**click)), "bad_prompt", reason)


@pytest.mark.parametrize(
    ("click", "reason"),
    [
        ({"type": f"ellipse{SENT}"}, "This tag type is not supported"),
        ({"image_rotation": 90}, "Rotated images are not supported, turn the image back"),
    ],
)
def test_unsupported_422(ask: Callable[[bytes], Any], click_body: Body, click: dict[str, Any], reason: str) -> None:
    check(ask(click_body(**click)), "unsupported", reason)


@pytest.mark.parametrize("size_wh", [(9, 6), (6, 8)], ids=["another", "turned"])
def test_size_mismatch_422(ask: Callable[[bytes], Any], click_body: Body, size_wh: tuple[int, int]) -> None:
    width, height = size_wh

    answer = ask(click_body(original_width=width, original_height=height))

    check(answer, "size_mismatch", "Image size differs from the annotation's")


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("ftp://Zaphod/cat.png", id="scheme"),
        pytest.param("file:///Zaphod.png", id="file"),
        pytest.param("http://Zaphod.example/cat.png", id="host"),
        pytest.param("http://169.254.169.254/Zaphod", id="private address"),
        pytest.param("http://Zaphod:pass@127.0.0.1/cat.png", id="user"),
        pytest.param("http://127.0.0.1/Zaphod\r\nX-Evil: 1", id="control characters"),
        pytest.param("/etc/Zaphod", id="path"),
    ],
)
def test_url_refused_422(ask: Callable[[bytes], Any], click_body: Body, address: str) -> None:
    check(ask(click_body(address)), "url_refused", "Image address is not allowed")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<!doctype html><title>Zaphod, log in</title>", id="HTML"),
        pytest.param(b"", id="zero bytes"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='6'/>", id="SVG"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n", id="EPS"),
        pytest.param(None, id="truncated"),
    ],
)
def test_image_unreadable_422(
    ask: Callable[[bytes], Any], click_body: Body, site: Any, picture: Callable[..., bytes], data: bytes | None
) -> None:
    whole = picture(kind="BMP", width=80)
    site.serves("/data/upload/1/broken", whole[: len(whole) // 2] if data is None else data)

    check(ask(click_body("/data/upload/1/broken")), "image_unreadable", "File is not a readable image")


def test_image_too_large_413(
    ask: Callable[[bytes], Any], click_body: Body, site: Any, picture: Callable[..., bytes]
) -> None:
    too_wide = bytearray(picture(kind="BMP"))
    too_wide[18:26] = (10_000).to_bytes(4, "little") * 2  # width and height in the header
    site.serves("/data/upload/1/large", bytes(too_wide))

    check(ask(click_body("/data/upload/1/large")), "image_too_large", "Image is too large")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "Image server refused access, check LABEL_STUDIO_API_KEY"),
        (403, "Image server refused access, check LABEL_STUDIO_API_KEY"),
        (404, "Image server answered with an error"),
        (500, "Image server answered with an error"),
    ],
)
def test_image_unavailable_502(
    ask: Callable[[bytes], Any], click_body: Body, site: Any, status: int, reason: str
) -> None:
    site.says("/data/upload/1/gone", status)

    check(ask(click_body("/data/upload/1/gone")), "image_unavailable", reason)


def test_image_timeout_504(ask: Callable[[bytes], Any], click_body: Body, site: Any) -> None:
    over = threading.Event()
    site.on("/data/upload/1/slow", lambda _: over.wait(60))

    answer = ask(click_body("/data/upload/1/slow"))
    over.set()

    check(answer, "image_timeout", "Image download took too long")


def test_busy_503(
    ready_app: Callable[..., Any], click_body: Body, label_studio: Any, until: Callable[..., None]
) -> None:
    over = threading.Event()
    label_studio.on("/data/upload/1/slow", lambda _: over.wait(60))
    app = ready_app(threads=4)  # two of which stay free for health checks
    waiting = [threading.Thread(target=app.predict, args=(click_body("/data/upload/1/slow"),)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    try:
        until(lambda: app.predict(b"{}").code == "busy")
        answer, health = app.predict(click_body()), app.ask("GET", "/health")
    finally:
        over.set()
        for thread in waiting:
            thread.join()

    check(answer, "busy", "Server is busy, try again")
    assert health.status == 200


def test_loading_503(start_app: Callable[..., Any], click_body: Body, nano_model: Any, until: Any) -> None:
    over = threading.Event()

    def load() -> Any:
        assert over.wait(60)
        return nano_model

    app = start_app(load=load)
    try:
        answer, probe, health = app.predict(click_body()), app.ask("GET", "/ready"), app.ask("GET", "/health")
    finally:
        over.set()

    check(answer, "loading", "Model is still loading")
    assert (probe.status, probe.reason, "retry-after" in probe.headers) == (503, "Model is still loading", False)
    assert health.status == 200
    until(lambda: app.predict(click_body()).status == 200)


def test_model_unavailable_503(start_app: Callable[..., Any], click_body: Body, until: Any) -> None:
    def load() -> Any:
        raise RuntimeError("no kernel image is available")

    app = start_app(load=load)
    until(lambda: app.ask("GET", "/ready").code == "model_unavailable")

    answer = app.predict(click_body())

    check(answer, "model_unavailable", "Model could not be loaded, see /ready and the log")
    assert "no kernel image is available" in answer.json["detail"]
    assert app.ask("GET", "/health").status == 200


def test_gpu_memory_503(
    ready_app: Callable[..., Any], click_body: Body, nano_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(_: object) -> Any:
        asked.append(1)
        raise torch.cuda.OutOfMemoryError("Tried to allocate 9.99 GiB")

    app = ready_app()
    with monkeypatch.context() as broken:
        broken.setattr(nano_model._net, "forward_image", full)
        answer = app.predict(click_body())

    check(answer, "gpu_memory", "Not enough GPU memory for this image")
    assert len(asked) == 2  # once more with emptied caches
    assert app.predict(click_body()).status == 200


def test_internal_500_with_its_details_in_the_log_only(
    ready_app: Callable[..., Any],
    click_body: Body,
    nano_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bug(_: object) -> Any:
        raise ZeroDivisionError(SENT)

    app = ready_app()
    monkeypatch.setattr(nano_model._net, "forward_image", bug)
    answer = app.predict(click_body())

    check(answer, "internal", "Internal error")
    assert SENT not in str(answer.json)
    assert answer.json["request_id"] in answer.json["detail"]
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in records] == ["a bug: ZeroDivisionError"]
    assert records[0].exc_info is not None


def test_unauthorized_401(ready_app: Callable[..., Any], click_body: Body) -> None:
    app = ready_app(basic_auth_user="sam", basic_auth_pass="secret")

    answer = app.predict(click_body(), Authorization=f"Bearer {SENT}")

    check(answer, "unauthorized", "User name or password is missing or wrong")
    assert answer.headers["www-authenticate"] == 'Basic realm="labelstudio-sam2"'
