"""The limits that ship, a row each: what is within goes through, what is beyond is refused, and each can be set."""

import http.client
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpcore
import pytest
from PIL import Image

from labelstudio_sam2.app import LARGEST_AT_ONCE
from labelstudio_sam2.images.decode import decode_image
from labelstudio_sam2.images.segments import MAX_SCANS, MAX_SEGMENTS
from labelstudio_sam2.images.source import MAX_HELD_BYTES
from labelstudio_sam2.settings import load_settings

UPLOAD = "/data/upload/1/cat.png"

Start = Callable[..., Any]
Body = Callable[..., bytes]


def test_the_limits_that_ship() -> None:
    settings = load_settings()

    assert {
        "body": settings.max_request_mb,
        "tasks": settings.max_tasks,
        "regions": settings.max_regions,
        "prompts": settings.max_objects,
        "labeling configuration": settings.max_label_config_kb,
        "file": settings.max_image_mb,
        "megapixels": settings.max_image_megapixels,
        "scans of a JPEG": MAX_SCANS,
        "segments of a JPEG, chunks of a PNG": MAX_SEGMENTS,
        "connect": settings.image_connect_seconds,
        "download": settings.image_download_seconds,
        "redirects": settings.max_redirects,
        "downloads": settings.max_downloads,
        "downloads from one host": settings.max_downloads_per_host,
        "waiting": settings.max_waiting,
        "request": settings.request_seconds,
        "drain": settings.drain_seconds,
        "embeddings on the device": settings.embedding_cache_mb,
        "embeddings on disk": settings.embedding_disk_mb,
        "files between finding and loading": MAX_HELD_BYTES // 1_000_000,
        "megapixels decoded at once": LARGEST_AT_ONCE * settings.max_image_megapixels,
    } == {
        "body": 16,
        "tasks": 100,
        "regions": 1000,
        "prompts": 256,
        "labeling configuration": 256,
        "file": 50,
        "megapixels": 50,
        "scans of a JPEG": 50,
        "segments of a JPEG, chunks of a PNG": 1000,
        "connect": 3,
        "download": 15,
        "redirects": 3,
        "downloads": 16,
        "downloads from one host": 8,
        "waiting": 32,
        "request": 60,
        "drain": 30,
        "embeddings on the device": 2048,
        "embeddings on disk": 20480,
        "files between finding and loading": 64,
        "megapixels decoded at once": 100,
    }


# What a request may ask for


@pytest.mark.parametrize("has_length", [True, False], ids=["by its length", "while it streams"])
def test_body_16_mb(start_backend: Callable[..., AbstractContextManager[Any]], has_length: bool) -> None:  # noqa: FBT001
    def post(url: str, size: int) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        body = b"{" + b" " * (size - 1)
        chunks = (body[start : start + 1_000_000] for start in range(0, size, 1_000_000))
        try:
            connection.request("POST", "/predict", body if has_length else chunks, encode_chunked=not has_length)
            response = connection.getresponse()
            return response.status, json.load(response)["error"]
        finally:
            connection.close()

    with start_backend() as backend:
        assert post(backend.url, 15_999_999) == (400, "bad_json")
        assert post(backend.url, 16_000_001) == (413, "too_large")


def test_body_limit_can_be_set(ready_app: Start) -> None:
    app = ready_app(max_request_mb=1)

    assert app.predict(b" " * 1_000_000).code == "bad_json"
    refused = app.predict(b" " * 1_000_001)
    assert (refused.code, refused.json["detail"]) == ("too_large", "the body is larger than 1 MB")


@pytest.mark.parametrize(("settings", "most"), [({}, 100), ({"max_tasks": 3}, 3)], ids=["as shipped", "set"])
def test_100_tasks(ready_app: Start, click_body: Body, settings: dict[str, Any], most: int) -> None:
    app = ready_app(**settings)

    assert app.predict(click_body("file:///", tasks=most)).code == "url_refused"  # it came as far as the picture
    refused = app.predict(click_body("file:///", tasks=most + 1))
    assert (refused.code, refused.json["detail"]) == ("bad_request", f"tasks: at most {most} at once, got {most + 1}")


@pytest.mark.parametrize(("settings", "most"), [({}, 1000), ({"max_regions": 3}, 3)], ids=["as shipped", "set"])
def test_1000_regions(ready_app: Start, click_body: Body, settings: dict[str, Any], most: int) -> None:
    app = ready_app(**settings)
    click = json.loads(click_body())["params"]["context"]["result"][0]

    assert app.predict(click_body("file:///", regions=[click] * most)).code == "url_refused"
    assert app.predict(click_body("file:///", regions=[click] * (most + 1))).code == "bad_prompt"


def _stroke(count: int) -> dict[str, Any]:
    """Return a brush region over the disc, with so many strokes."""
    touches = [{"type": "add", "relativePoints": [25, 37.5, 37, 37.5], "relativeStrokeWidth": 5}] * count
    region = {"id": "drawn", "type": "brushlabels", "from_name": "brush", "to_name": "image"}
    return {**region, "value": {"format": "rle", "touches": touches, "brushlabels": ["Cat"]}}


def _polygon(corners: int) -> dict[str, Any]:
    """Return a polygon over the disc, with so many corners."""
    points = [[20, 20], [80, 20], [80, 80], *[[20, 80]] * (corners - 3)]
    region = {"id": "drawn", "type": "polygonlabels", "from_name": "brush", "to_name": "image"}
    return {**region, "value": {"points": points, "polygonlabels": ["Cat"]}}


def _point(number: int) -> dict[str, Any]:
    """Return a click that somebody left behind."""
    region = {"id": f"left-{number}", "type": "keypointlabels", "from_name": "kp", "to_name": "image"}
    return {**region, "value": {"x": 1, "y": 1, "keypointlabels": ["Cat"]}}


@pytest.mark.parametrize(
    ("draft", "is_edited"),
    [
        ([_stroke(1000)], True),
        ([_stroke(1001)], False),
        ([_polygon(2000)], True),
        ([_polygon(2001)], False),
        ([_stroke(1), *[_point(number) for number in range(999)]], True),
        ([_stroke(1), *[_point(number) for number in range(1000)]], False),
        ([_stroke(1), *[{**_polygon(2000), "id": str(number), "to_name": "other"} for number in range(49)]], True),
        ([_stroke(1), *[{**_polygon(2000), "id": str(number), "to_name": "other"} for number in range(50)]], False),
    ],
    ids=["strokes", "+1", "corners", "+1", "regions", "+1", "points", "+1"],
)
def test_1000_regions_2000_corners_1000_strokes_and_100000_points_of_a_draft(
    ready_app: Start,
    click_body: Body,
    draft: list[Any],
    label_studio: Any,
    disc_and_box: Any,
    is_edited: bool,  # noqa: FBT001
) -> None:
    label_studio.serves(UPLOAD, disc_and_box.png())
    body = json.loads(click_body(value={"x": 31.25, "y": 37.5, "keypointlabels": ["Cat"]}))
    body["tasks"][0]["drafts"] = [{"result": draft}]

    answer = ready_app().predict(json.dumps(body).encode())

    # an edit may end with nothing; beyond, the click begins a new object, which is the disc
    ids = [region["id"] for region in answer.regions]
    assert (ids[:1] in ([], ["drawn"])) is is_edited


@pytest.mark.parametrize("region", [_stroke(1001), _polygon(2001)], ids=["strokes", "corners"])
def test_2000_corners_and_1000_strokes_of_a_prompt(ready_app: Start, click_body: Body, region: dict[str, Any]) -> None:
    assert ready_app().predict(click_body("file:///", regions=[region])).code == "bad_prompt"


def test_100000_points_of_all_prompts(ready_app: Start, click_body: Body) -> None:
    regions = [{**_polygon(2000), "id": str(number)} for number in range(51)]
    app = ready_app()

    assert app.predict(click_body("file:///", regions=regions[:50])).code == "url_refused"
    assert app.predict(click_body("file:///", regions=regions)).code == "bad_prompt"


def test_project_is_a_number_of_18_digits(ready_app: Start, click_body: Body, label_studio: Any) -> None:
    app = ready_app()

    for number in range(3):  # what is none is one project that has no number: nothing of it is kept
        assert app.predict(click_body(project="x" * 1_000_000 + str(number))).status == 200
    assert app.predict(click_body(project="123456789012345678.17")).status == 200

    assert len(label_studio.seen) == 2


@pytest.mark.parametrize(("settings", "most"), [({}, 256), ({"max_objects": 3}, 3)], ids=["as shipped", "set"])
def test_256_prompts_are_used(ready_app: Start, click_body: Body, settings: dict[str, Any], most: int) -> None:
    app = ready_app(**settings)
    boxes = [
        {
            "id": f"box-{number}",
            "type": "rectanglelabels",
            "from_name": "box",
            "to_name": "image",
            "value": {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["Cat"]},
        }
        for number in range(most + 1)
    ]

    assert app.predict(click_body("file:///", regions=boxes[:most])).code == "url_refused"
    refused = app.predict(click_body("file:///", regions=boxes))
    assert (refused.code, refused.json["detail"]) == (
        "bad_prompt",
        f"a request takes at most {most} objects, got {most + 1}",
    )


def test_256_clicks_are_used_for_one_object(ready_app: Start, click_body: Body) -> None:
    app = ready_app()
    click = json.loads(click_body())["params"]["context"]["result"][0]
    clicks = [{**click, "id": str(number)} for number in range(257)]

    assert app.predict(click_body(regions=clicks[:256])).status == 200
    assert app.predict(click_body(regions=clicks)).code == "bad_prompt"


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 256_000), ({"max_label_config_kb": 1}, 1000)], ids=["as shipped", "set"]
)
def test_label_config_256_kb(ready_app: Start, click_body: Body, settings: dict[str, Any], most: int) -> None:
    app = ready_app(**settings)
    config: str = json.loads(click_body())["label_config"]
    padding = most - len(config) - len("<!---->")

    assert app.predict(click_body(config=f"{config}<!--{'x' * padding}-->")).status == 200
    assert app.predict(click_body(config=f"{config}<!--{'x' * (padding + 1)}-->")).code == "bad_config"
    # bytes count, not characters
    assert app.predict(click_body(config=f"{config}<!--{'ä' * (padding // 2 + 1)}-->")).code == "bad_config"


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE View>",
        '<!DOCTYPE View SYSTEM "file:///etc/hostname">',
        '<!DOCTYPE View [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
)
def test_label_config_has_no_doctype(ready_app: Start, click_body: Body, doctype: str) -> None:
    config: str = json.loads(click_body())["label_config"]

    assert ready_app().predict(click_body(config=doctype + config)).code == "bad_config"


@pytest.mark.parametrize("count", [2**32 - 1, 4 * 8 * 6 + 4, 4 * 8 * 6 - 4, 0])
def test_rle_header_must_equal_4_times_width_times_height(ready_app: Start, click_body: Body, count: int) -> None:
    value = {"rle": [*count.to_bytes(4, "big"), 0x3A, 0x37, 0xF8, *[0] * 40], "brushlabels": ["Cat"]}

    answer = ready_app().predict(click_body(type="brushlabels", from_name="brush", value=value))

    assert (answer.code, answer.json["detail"]) == (
        "bad_prompt",
        f"brush RLE of a 8 x 6 image must hold 4 values a pixel, got {count} in all",
    )


# What a picture may be


def test_file_50_mb(ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes]) -> None:
    app = ready_app()
    label_studio.serves("/data/upload/1/50.png", picture().ljust(50_000_000, b"\0"))
    label_studio.serves("/data/upload/1/51.png", picture().ljust(50_000_001, b"\0"))

    assert app.predict(click_body("/data/upload/1/50.png")).status == 200
    assert app.predict(click_body("/data/upload/1/51.png")).code == "image_too_large"


def test_file_limit_can_be_set(ready_app: Start, click_body: Body, label_studio: Any, picture: Any) -> None:
    label_studio.serves(UPLOAD, picture().ljust(1_000_001, b"\0"))

    assert ready_app(max_image_mb=1).predict(click_body()).code == "image_too_large"
    assert ready_app(max_image_mb=2).predict(click_body()).status == 200


@pytest.mark.parametrize(
    ("settings", "width", "code"),
    [
        ({}, 5000, "image_unreadable"),  # it was let through to the decoder, which finds it truncated
        ({}, 5001, "image_too_large"),
        ({"max_image_megapixels": 1}, 100, "image_unreadable"),
        ({"max_image_megapixels": 1}, 101, "image_too_large"),
    ],
)
def test_50_megapixels_before_decoding(
    ready_app: Start,
    click_body: Body,
    label_studio: Any,
    picture: Callable[..., bytes],
    settings: dict[str, Any],
    width: int,
    code: str,
) -> None:
    header_only = bytearray(picture(kind="BMP")[:54])
    header_only[18:26] = width.to_bytes(4, "little") + (10_000).to_bytes(4, "little")
    label_studio.serves(UPLOAD, bytes(header_only))

    assert ready_app(**settings).predict(click_body()).code == code


def test_50_scans_of_a_jpeg(ready_app: Start, click_body: Body, label_studio: Any) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 6), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scan, own = data[data.rindex(b"\xff\xda") : -2], data.count(b"\xff\xda")
    app = ready_app()
    label_studio.serves("/data/upload/1/50.jpg", data[:-2] + scan * (50 - own) + data[-2:])
    label_studio.serves("/data/upload/1/51.jpg", data[:-2] + scan * (51 - own) + data[-2:])

    assert app.predict(click_body("/data/upload/1/50.jpg")).status == 200
    refused = app.predict(click_body("/data/upload/1/51.jpg"))
    assert (refused.code, refused.json["detail"]) == ("image_unreadable", "the JPEG picture has more than 50 scans")


def test_1000_segments_of_metadata(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes]
) -> None:
    data, comment = picture(kind="JPEG"), b"\xff\xfe\0\2"
    app = ready_app()
    label_studio.serves("/data/upload/1/1000.jpg", data[:2] + comment * 1000 + data[2:])
    label_studio.serves("/data/upload/1/1100.jpg", data[:2] + comment * 1100 + data[2:])

    assert app.predict(click_body("/data/upload/1/1000.jpg")).status == 200
    assert app.predict(click_body("/data/upload/1/1100.jpg")).code == "image_unreadable"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_format_is_one_of_six(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes], kind: str
) -> None:
    label_studio.serves(UPLOAD, picture(kind=kind))

    assert ready_app().predict(click_body()).status == 200


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "PDF"])
def test_format_is_none_of_pillows_many_others(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes], kind: str
) -> None:
    label_studio.serves(UPLOAD, picture(kind=kind))

    assert ready_app().predict(click_body()).code == "image_unreadable"


# What a download may take


def test_connect_3_s(ready_app: Start, click_body: Body, names: Any, network: Any) -> None:
    names.answers = {"far.example": [["93.184.216.34"]]}
    waits: list[float] = []

    def never(host: str, port: int, timeout: float, *_: Any) -> Any:
        waits.append(timeout)
        raise httpcore.ConnectTimeout

    network.connect_tcp = never

    for settings, limit in (({}, 3.0), ({"image_connect_seconds": 0.5}, 0.5)):
        answer = ready_app(allowed_image_hosts="far.example", **settings).predict(click_body("http://far.example/a"))

        assert (answer.code, answer.json["detail"]) == (
            "image_timeout",
            f"connecting to far.example took longer than {limit:g} s",
        )
        assert 0 < waits[-1] <= limit


@pytest.mark.parametrize("part", ["head", "body"])
def test_whole_download_15_s_though_a_byte_comes_now_and_then(
    ready_app: Start, click_body: Body, label_studio: Any, part: str
) -> None:
    over = threading.Event()

    def drip(handler: Any) -> None:
        handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n")
        handler.wfile.write(b"\r\n" if part == "body" else b"X: ")
        while not over.wait(0.05):
            handler.wfile.write(b"x")

    label_studio.on(UPLOAD, drip)
    try:
        answer = ready_app(image_download_seconds=1).predict(click_body())
    finally:
        over.set()

    assert (answer.code, answer.json["detail"]) == ("image_timeout", "the download took longer than 1 s")


@pytest.mark.parametrize(("settings", "most"), [({}, 3), ({"max_redirects": 0}, 0)], ids=["as shipped", "set"])
def test_3_redirects(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes], settings: Any, most: int
) -> None:
    for number in range(most + 1):
        label_studio.redirects(f"/data/upload/1/{number}", f"/data/upload/1/{number - 1}" if number else UPLOAD)

    app = ready_app(**settings)
    within = f"/data/upload/1/{most - 1}" if most else UPLOAD

    assert app.predict(click_body(within)).status == 200
    assert app.predict(click_body(f"/data/upload/1/{most}")).code == "image_unavailable"


def test_accept_encoding_identity(ready_app: Start, click_body: Body, label_studio: Any) -> None:
    ready_app().predict(click_body())

    assert label_studio.seen[0].headers["accept-encoding"] == "identity"


def test_byte_limit_on_the_stream(ready_app: Start, click_body: Body, label_studio: Any) -> None:
    sent: list[int] = []

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while len(sent) < 1000:
            handler.wfile.write(b"x" * 100_000)
            sent.append(100_000)

    label_studio.on(UPLOAD, endless)

    assert ready_app(max_image_mb=1).predict(click_body()).code == "image_too_large"
    assert sum(sent) < 50_000_000  # 1 MB and what sockets hold; the server was ready to send 100 MB


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the sites of `hosts` wait for before they answer."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def hosts(
    start_site: Callable[[], Any],
    names: Any,
    picture: Callable[..., bytes],
    reply: Callable[..., None],
    gate: threading.Event,
) -> dict[str, Any]:
    """Three hosts with ten pictures each, by name."""

    def answer(handler: Any) -> None:
        gate.wait(60)
        reply(handler, 200, picture())

    sites = {host: start_site() for host in ("a.example", "b.example", "c.example")}
    names.answers = {host: [["127.0.0.1"]] for host in sites}
    for site in sites.values():
        for number in range(10):
            site.on(f"/{number}", answer)
    return sites


@pytest.mark.parametrize(
    ("settings", "most"),
    [({}, (16, 8)), ({"max_downloads": 5, "max_downloads_per_host": 2}, (5, 2))],
    ids=["as shipped", "set"],
)
def test_16_downloads_at_once_and_8_per_host(
    ready_app: Start,
    click_body: Body,
    hosts: dict[str, Any],
    gate: threading.Event,
    until: Callable[..., None],
    settings: dict[str, Any],
    most: tuple[int, int],
) -> None:
    app = ready_app(allowed_image_hosts=",".join(hosts), **settings)
    bodies = [click_body(f"http://{host}:{site.port}/{number}") for host, site in hosts.items() for number in range(10)]
    answers: list[int] = []
    clicks = [threading.Thread(target=lambda body=body: answers.append(app.predict(body).status)) for body in bodies]
    for click in clicks:
        click.start()
    until(lambda: sum(len(site.seen) for site in hosts.values()) >= most[0])
    time.sleep(0.3)  # one too many would come now
    seen = [len(site.seen) for site in hosts.values()]
    gate.set()
    for click in clicks:
        click.join()

    assert (sum(seen), max(seen)) == most
    assert answers == [200] * 30


# How long and how many


class Turnstile:
    """A model whose predictions wait until they may pass."""

    def __init__(self, model: Any) -> None:
        self.device, self.precision, self.embedding_format = model.device, model.precision, model.embedding_format
        self.embed, self.to_bytes, self.from_bytes = model.embed, model.to_bytes, model.from_bytes
        self.free_memory = model.free_memory
        self._model = model
        self.may_pass = threading.Event()
        self.may_pass.set()
        self.inside = 0

    def predict(self, *arguments: Any, **options: Any) -> Any:
        self.inside += 1
        assert self.may_pass.wait(60)
        return self._model.predict(*arguments, **options)


@pytest.mark.parametrize(("settings", "most"), [({}, 32), ({"max_waiting": 2}, 2)], ids=["as shipped", "set"])
def test_32_waiting_then_503(
    ready_app: Start, click_body: Body, nano_model: Any, until: Callable[..., None], settings: Any, most: int
) -> None:
    model = Turnstile(nano_model)
    app = ready_app(load=lambda: model, threads=60, **settings)
    app.predict(click_body())  # the picture is embedded
    model.may_pass.clear()
    model.inside = 0
    codes: list[str | None] = []

    def ask() -> None:
        codes.append(app.predict(click_body()).code)

    clicks = [threading.Thread(target=ask) for _ in range(most + 3)]  # one on the device, two too many
    for click in clicks:
        click.start()
    try:
        until(lambda: len(codes) == 2)
        time.sleep(0.3)  # a third would come now
        refused = [*codes]
    finally:
        model.may_pass.set()
        for click in clicks:
            click.join()

    assert refused == ["busy", "busy"]
    assert codes.count(None) == most + 1
    assert model.inside == most + 1


def test_100_megapixels_decoded_at_once(
    ready_app: Start,
    click_body: Body,
    nano_model: Any,
    label_studio: Any,
    picture: Callable[..., bytes],
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []

    def decode(data: bytes, limits: Any) -> Any:
        decoded.append(len(data))
        return decode_image(data, limits)

    monkeypatch.setattr("labelstudio_sam2.images.source.decode_image", decode)
    may_embed = threading.Event()

    def embed(image: Any, step_aside: Any) -> Any:
        assert may_embed.wait(60)
        return nano_model.embed(image, step_aside)

    model = Turnstile(nano_model)
    may_embed.set()
    model.embed = embed
    app = ready_app(load=lambda: model, max_image_megapixels=1, threads=20)  # twice that may be decoded
    for number in range(5):  # 0.7 megapixels each
        label_studio.serves(f"/data/upload/1/{number}.png", picture(1000, 700, value=number))
    may_embed.clear()
    answers: list[Any] = []
    clicks = [
        threading.Thread(target=lambda path: answers.append(app.predict(click_body(path))), args=[path])
        for path in (f"/data/upload/1/{number}.png" for number in range(5))
    ]
    for click in clicks:
        click.start()
    try:
        until(lambda: len(decoded) == 2)
        until(lambda: len(label_studio.seen) == 5)
        time.sleep(0.3)  # a third would come now
        meanwhile = len(decoded)
    finally:
        may_embed.set()
        for click in clicks:
            click.join()

    assert meanwhile == 2
    assert [answer.status for answer in answers] == [200] * 5


def test_request_60_s_for_the_device(
    ready_app: Start, click_body: Body, nano_model: Any, until: Callable[..., None]
) -> None:
    model = Turnstile(nano_model)
    app = ready_app(load=lambda: model, request_seconds=0.5)
    app.predict(click_body())
    model.may_pass.clear()
    model.inside = 0
    first = threading.Thread(target=app.predict, args=(click_body(),))
    first.start()
    try:
        until(lambda: model.inside)
        answer = app.predict(click_body())
    finally:
        model.may_pass.set()
        first.join()

    assert (answer.code, answer.json["detail"]) == ("busy", "the device did not come free in time")


def test_request_60_s_for_all_its_tasks(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Callable[..., bytes], reply: Callable[..., None]
) -> None:
    def slow(handler: Any) -> None:
        time.sleep(0.5)
        reply(handler, 200, picture())

    label_studio.on("/data/upload/1/slow.png", slow)
    body = json.loads(click_body("/data/upload/1/slow.png"))
    body["tasks"].append(json.loads(click_body())["tasks"][0])

    answer = ready_app(request_seconds=0.4).predict(json.dumps(body).encode())

    assert (answer.code, answer.json["detail"]) == ("busy", "the request took longer than 0.4 s")
    assert [request.target for request in label_studio.seen] == ["/data/upload/1/slow.png"]


def test_drain_30_s(
    start_backend: Callable[..., AbstractContextManager[Any]],
    start_site: Callable[[], Any],
    click_body: Body,
    until: Callable[..., None],
) -> None:
    site, over = start_site(), threading.Event()
    site.on(UPLOAD, lambda _: over.wait(120))
    settings = {"DRAIN_SECONDS": "1", "IMAGE_DOWNLOAD_SECONDS": "100", "PREFETCH_MB": "0"}
    with start_backend(LABEL_STUDIO_URL=site.url, **settings) as backend:

        def click() -> None:
            with pytest.raises(OSError, match=r"."):
                backend.predict(click_body())

        thread = threading.Thread(target=click)
        thread.start()
        try:
            until(lambda: site.seen)
            backend.process.terminate()
            assert backend.process.wait(60) == 0  # long before the download would end
        finally:
            over.set()
            thread.join()


# What is kept


def test_caches_are_bounded_by_bytes(
    ready_app: Start,
    click_body: Body,
    label_studio: Any,
    picture: Callable[..., bytes],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    caplog.set_level(logging.INFO)
    app = ready_app(embedding_cache_mb=1, embedding_disk_dir=tmp_path, embedding_disk_mb=1)  # four of nano's each

    def embeds(number: int) -> bool:
        path = f"/data/upload/1/{number}.png"
        label_studio.serves(path, picture(value=number))
        caplog.clear()
        assert app.predict(click_body(path)).status == 200
        return "embedded a picture" in caplog.text

    assert [embeds(number) for number in range(8)] == [True] * 8
    assert [embeds(number) for number in (7, 6)] == [False] * 2
    until(lambda: any(tmp_path.rglob("*.safetensors")) or any(path.is_file() for path in tmp_path.rglob("*")))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2**20
    assert embeds(0)  # it had to go
