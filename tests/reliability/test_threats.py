"""The threats, a row each: what an attacker does, and that it comes to nothing. docs/threats.md tells the stories."""

import base64
import functools
import hashlib
import io
import json
import logging
import os
import pickle
import re
import shutil
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import labelstudio_sam2.wsgi
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle
from labelstudio_sam2.segmenter.zoo import MODELS
from labelstudio_sam2.settings import load_settings

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PUBLIC = "93.184.216.34"
UPLOAD = "/data/upload/1/cat.png"

Start = Callable[..., Any]
Body = Callable[..., bytes]
Picture = Callable[..., bytes]


# Token to a wrong host


@pytest.mark.parametrize(
    "form",
    [
        "http://cdn.example:{stranger}/cat.png",
        "http://127.0.0.1:{stranger}/cat.png",
        "http://127.0.0.1.cdn.example:{stranger}/cat.png",
        "http://CDN.example.:{stranger}/cat.png?http://127.0.0.1:{label_studio}/",
        "http://cdn.example:{stranger}/127.0.0.1:{label_studio}/cat.png",
        "https://127.0.0.1:{stranger}/cat.png",
        "http://[::1]:{stranger}/cat.png#@127.0.0.1:{label_studio}",
    ],
)
def test_token_to_a_wrong_host_by_the_address(
    ready_app: Start, click_body: Body, label_studio: Any, stranger: Any, names: Any, picture: Picture, form: str
) -> None:
    names.answers = {"cdn.example": [["127.0.0.1"]], "127.0.0.1.cdn.example": [["127.0.0.1"]]}
    for path in ("/cat.png", f"/127.0.0.1:{label_studio.port}/cat.png"):
        stranger.serves(path, picture())
    hosts = f"cdn.example,127.0.0.1.cdn.example,127.0.0.1:{stranger.port},[::1]"
    app = ready_app(label_studio_api_key=TOKEN, allowed_image_hosts=hosts)

    answer = app.predict(click_body(form.format(stranger=stranger.port, label_studio=label_studio.port)))

    assert answer.status == 200
    assert (stranger.tokens, label_studio.seen) == ([None], [])
    assert app.predict(click_body()).status == 200
    assert label_studio.tokens == [f"Token {TOKEN}"]  # who it belongs to does get it


def test_token_to_a_wrong_host_by_another_scheme(
    ready_app: Start, click_body: Body, label_studio: Any, names: Any, picture: Picture
) -> None:
    names.answers = {"ls.example": [["127.0.0.1"]]}
    label_studio.serves("/cat.png", picture())
    app = ready_app(
        label_studio_url=f"http://ls.example:{label_studio.port}",
        label_studio_api_key=TOKEN,
        allowed_image_hosts="ls.example",
    )

    assert app.predict(click_body(f"https://ls.example:{label_studio.port}/cat.png")).status == 200
    assert label_studio.tokens == [None]


def test_token_to_a_wrong_host_by_redirects(
    ready_app: Start, click_body: Body, label_studio: Any, stranger: Any, picture: Picture
) -> None:
    label_studio.redirects(UPLOAD, f"{stranger.url}/1")
    stranger.redirects("/1", f"{label_studio.url}/data/upload/1/2.png", 307)
    label_studio.redirects("/data/upload/1/2.png", f"{stranger.url}/3", 308)
    stranger.serves("/3", picture())
    app = ready_app(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    assert app.predict(click_body()).status == 200

    assert stranger.tokens == [None, None]
    assert label_studio.tokens == [f"Token {TOKEN}"] * 2


def test_token_to_a_wrong_host_over_http_where_label_studio_is_https(
    ready_app: Start, click_body: Body, label_studio: Any, names: Any, picture: Picture
) -> None:
    names.answers = {"ls.example": [["127.0.0.1"]]}
    plain = f"http://ls.example:{label_studio.port}/cat.png"
    label_studio.redirects(UPLOAD, plain)
    label_studio.serves("/cat.png", picture())
    app = ready_app(
        label_studio_url=f"https://ls.example:{label_studio.port}",
        label_studio_api_key=TOKEN,
        allowed_image_hosts="ls.example",
    )

    assert app.predict(click_body()).code == "url_refused"
    assert label_studio.tokens == [f"Token {TOKEN}"]  # over what stands for TLS here
    assert app.predict(click_body(plain)).status == 200
    assert label_studio.tokens[1:] == [None]


# Token to a wrong path

ACTING = [
    "/api/projects/1/next",
    "/api/projects/5/export?exportType=JSON",
    "/user/logout",
    "/",
    "/data/upload/../../api/projects/1/next",
    "/data/upload/%2e%2e/%2e%2e/api/projects/1/next",
    "/tasks/7/presign/..%5C..%5C..%5Capi/projects/1/next",
]
"""Paths of Label Studio's where a GET with a token does something, or tells what is no picture."""


@pytest.mark.parametrize("path", ACTING)
def test_token_to_a_wrong_path_by_the_address(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Picture, path: str
) -> None:
    label_studio.serves(path, picture())
    app = ready_app(label_studio_api_key=TOKEN)

    for address in (path, f"{label_studio.url}{path}", f"http://localhost:9{path}"):
        assert app.predict(click_body(address)).code == "url_refused"

    assert label_studio.seen == []


@pytest.mark.parametrize("path", ACTING)
@pytest.mark.parametrize("who", ["label_studio", "stranger"])
def test_token_to_a_wrong_path_by_a_redirect(
    ready_app: Start, click_body: Body, label_studio: Any, stranger: Any, picture: Picture, path: str, who: str
) -> None:
    label_studio.serves(path, picture())
    site = {"label_studio": label_studio, "stranger": stranger}[who]
    site.redirects(UPLOAD, f"{label_studio.url}{path}")
    app = ready_app(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    assert app.predict(click_body(f"{site.url}{UPLOAD}")).code == "url_refused"

    assert [request.target for site in (label_studio, stranger) for request in site.seen] == [UPLOAD]


def test_token_to_a_wrong_path_beside_a_label_studio_under_a_path(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Picture
) -> None:
    label_studio.serves(f"/ls{UPLOAD}", picture())
    label_studio.serves("/data/upload/2/cat.png", picture())
    label_studio.redirects("/ls/data/upload/1/moved.png", "/data/upload/2/cat.png")
    app = ready_app(label_studio_url=f"{label_studio.url}/ls", label_studio_api_key=TOKEN)

    assert app.predict(click_body(f"{label_studio.url}/ls{UPLOAD}")).status == 200
    assert (
        app.predict(click_body("/data/upload/1/moved.png")).code == "url_refused"
    )  # what is there is not Label Studio
    assert [request.target for request in label_studio.seen] == [f"/ls{UPLOAD}", "/ls/data/upload/1/moved.png"]


def test_token_to_a_wrong_path_is_not_sent_though_its_host_is_listed(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Picture
) -> None:
    label_studio.serves("/pictures/cat.png", picture())
    app = ready_app(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{label_studio.port}")

    assert app.predict(click_body(f"{label_studio.url}/pictures/cat.png")).status == 200
    assert app.predict(click_body(f"{label_studio.url}{UPLOAD}")).status == 200

    assert label_studio.tokens == [None, f"Token {TOKEN}"]


# SSRF


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("169.254.169.254", id="link-local"),
        pytest.param("10.0.0.5", id="private 10"),
        pytest.param("172.16.0.5", id="private 172"),
        pytest.param("192.168.1.5", id="private 192"),
        pytest.param("100.64.0.5", id="CGNAT"),
        pytest.param("224.0.0.5", id="multicast"),
        pytest.param("::1", id="loopback 6"),
        pytest.param("fe80::1", id="link-local 6"),
        pytest.param("fd00::1", id="private 6"),
        pytest.param("ff02::1", id="multicast 6"),
        pytest.param("::ffff:127.0.0.1", id="IPv4-mapped"),
        pytest.param("64:ff9b::7f00:1", id="NAT64"),
    ],
)
def test_ssrf_by_a_name_that_leads_inside(
    ready_app: Start, click_body: Body, stranger: Any, names: Any, network: Any, picture: Picture, address: str
) -> None:
    names.answers = {"inner.example": [[PUBLIC, address]]}
    stranger.serves("/cat.png", picture())
    body = click_body(f"http://inner.example:{stranger.port}/cat.png")

    assert ready_app(allowed_image_hosts="*").predict(body).code == "url_refused"
    assert network.connected == []
    assert ready_app(allowed_image_hosts="inner.example").predict(body).status == 200  # an operator may list it


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "169.254.169.254", "0.0.0.0"])
def test_ssrf_by_a_number(ready_app: Start, click_body: Body, stranger: Any, network: Any, host: str) -> None:
    answer = ready_app(allowed_image_hosts="*").predict(click_body(f"http://{host}:{stranger.port}/cat.png"))

    assert (answer.code, network.connected) == ("url_refused", [])


def test_ssrf_by_a_host_nobody_listed(ready_app: Start, click_body: Body, names: Any, network: Any) -> None:
    names.answers = {"evil.example": [[PUBLIC]]}

    assert ready_app().predict(click_body("http://evil.example/cat.png")).code == "url_refused"
    assert network.connected == []


def test_ssrf_by_rebinding(
    ready_app: Start, click_body: Body, stranger: Any, names: Any, network: Any, picture: Picture
) -> None:
    names.answers = {"evil.example": [[PUBLIC], ["127.0.0.1"]]}  # public to who checks, private to who asks again
    stranger.serves("/1", picture())
    stranger.serves("/2", picture())
    app = ready_app(allowed_image_hosts="*")

    first = app.predict(click_body(f"http://evil.example:{stranger.port}/1"))
    second = app.predict(click_body(f"http://evil.example:{stranger.port}/2"))

    assert (first.status, second.code) == (200, "url_refused")
    assert network.connected == [PUBLIC]  # the checked address is the one connected to


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/", "http://inner.example:{port}/", "file:///etc/passwd"])
@pytest.mark.parametrize("allowed", ["*", "evil.example"])
def test_ssrf_by_a_redirect(
    ready_app: Start, click_body: Body, stranger: Any, names: Any, network: Any, location: str, allowed: str
) -> None:
    names.answers = {"evil.example": [[PUBLIC]], "inner.example": [["10.0.0.5"]]}
    stranger.redirects("/cat.png", location.format(port=stranger.port))

    answer = ready_app(allowed_image_hosts=allowed).predict(click_body(f"http://evil.example:{stranger.port}/cat.png"))

    assert (answer.code, network.connected, len(stranger.seen)) == ("url_refused", [PUBLIC], 1)


# File read


@pytest.mark.parametrize(
    "form",
    [
        "{path}",
        "file://{path}",
        "FILE://localhost{path}",
        "./{path}",
        "../../../../../../../..{path}",
        "/data/upload/../../../../../..{path}",
        "/data/upload/%2e%2e/%2e%2e/%2e%2e{path}",
        "/data/local-files/?d={path}",
        "/data/upload{path}",
        "s3://{path}",
    ],
)
def test_file_read_by_the_address_in_a_task(
    ready_app: Start,
    click_body: Body,
    label_studio: Any,
    picture: Picture,
    tmp_path: Path,
    opened_files: list[str],
    form: str,
) -> None:
    planted = tmp_path / "cat.png"
    planted.write_bytes(picture())
    app = ready_app(label_studio_api_key=TOKEN)
    opened_files.clear()

    answer = app.predict(click_body(form.format(path=planted)))

    assert answer.code in {"url_refused", "image_unavailable"}
    assert [name for name in opened_files if "cat.png" in name] == []
    # what is a place of Label Studio's is asked of Label Studio, nothing else is asked for
    asked = [request.target for request in label_studio.seen]
    assert all(target.startswith(("/data/upload/tmp", "/data/local-files/", "/tasks/7/presign/")) for target in asked)
    assert bool(asked) == (answer.code == "image_unavailable")


@pytest.mark.parametrize(
    "image", [{"type": "file", "value": "{path}"}, "{path}", {"type": "url", "value": "file://{path}"}]
)
@pytest.mark.parametrize("route", ["/sam2/embed_image", "/sam2/segment_image"])
def test_file_read_by_the_sam2_api(
    ready_app: Start, picture: Picture, tmp_path: Path, opened_files: list[str], image: Any, route: str
) -> None:
    planted = tmp_path / "cat.png"
    planted.write_bytes(picture())
    app = ready_app()
    opened_files.clear()

    answer = app.ask("POST", route, json.dumps({"image": image}).replace("{path}", str(planted)).encode())

    assert answer.status == 400
    assert [name for name in opened_files if "cat.png" in name] == []


# Bombs

MAX_GROWTH = 128 * 2**20
"""Of resident memory, in bytes. Each bomb takes several times as much where it goes off."""


@pytest.fixture(scope="module")
def bombed_site(serving_site: Callable[[], AbstractContextManager[Any]], picture: Picture) -> Iterator[Any]:
    with serving_site() as site:
        site.serves(UPLOAD, picture())
        yield site


@pytest.fixture(scope="module")
def bombed(bombed_site: Any, start_backend: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with start_backend(LABEL_STUDIO_URL=bombed_site.url, PREFETCH_MB="0") as backend:
        yield backend


@pytest.fixture
def peak_growth(bombed: Any, click_body: Body) -> Callable[..., tuple[Any, int]]:
    """Return a function that posts a body and tells the answer's code, and by how much the worker's memory rose."""

    def ask(body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> tuple[Any, int]:
        assert bombed.predict(click_body())[0] == 200  # all is loaded
        children = Path(f"/proc/{bombed.process.pid}/task/{bombed.process.pid}/children")
        if not children.exists():
            pytest.skip("resident memory is read from Linux's /proc")
        worker = Path(f"/proc/{children.read_text().split()[0]}")
        (worker / "clear_refs").write_text("5")  # the peak is forgotten
        before = _status_bytes(worker, "VmRSS")
        request = urllib.request.Request(f"{bombed.url}/predict", body, dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        growth = _status_bytes(worker, "VmHWM") - before
        assert bombed.predict(click_body())[0] == 200
        return answer.get("error"), growth

    return ask


def _status_bytes(process: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_bomb_of_100_megapixels(peak_growth: Any, click_body: Body, bombed_site: Any) -> None:
    bombed_site.serves("/data/upload/1/bomb.png", _png_of_zeros(10_000, 10_000))

    code, growth = peak_growth(click_body("/data/upload/1/bomb.png"))

    assert (code, growth < MAX_GROWTH) == ("image_too_large", True), growth


def test_bomb_of_gzip(peak_growth: Any, click_body: Body, bombed_site: Any) -> None:
    bombed_site.serves("/data/upload/1/bomb.gz", _packed_zeros(31), Content_Encoding="gzip")

    code, growth = peak_growth(click_body("/data/upload/1/bomb.gz"))

    assert (code, growth < MAX_GROWTH) == ("image_unavailable", True), growth


def test_bomb_of_gzip_in_a_request(peak_growth: Any) -> None:
    code, growth = peak_growth(_packed_zeros(31), {"Content-Encoding": "gzip"})

    assert (code, growth < MAX_GROWTH) == ("bad_json", True), growth


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_bomb_in_a_chunk_of_text(peak_growth: Any, click_body: Body, bombed_site: Any, chunk: bytes) -> None:
    text = b"a\0\0" + _packed_zeros(15)
    bombed_site.serves("/data/upload/1/text.png", _png_of_zeros(8, 6, (chunk, text)))

    _, growth = peak_growth(click_body("/data/upload/1/text.png"))

    assert growth < MAX_GROWTH


def _jpeg_of_scans() -> bytes:
    """Return 1,000 scans of the picture's last bits: 15 bytes and all of its 3 megapixels each."""
    file = io.BytesIO()
    Image.new("L", (2000, 1500), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 1000 + data[-2:]


def _jpeg_of_exif() -> bytes:
    """Return 100,000 pieces of EXIF, each of which is added to a copy of those before."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG")
    return file.getvalue()[:2] + b"\xff\xe1\0\x09Exif\0\0x" * 100_000 + file.getvalue()[2:]


def _png_of_profiles() -> bytes:
    """Return 5,000 colour profiles, each of which unpacks to a megabyte."""
    return _png_of_zeros(8, 6, *[(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 5000)


def _tiff_of_one_strip() -> bytes:
    """Return 100,000 rows of 8 pixels that are all the same 100 kB."""
    rows, strip = 100_000, b"\x78\x01" + b"\0\0\0\xff\xff" * 20_000 + zlib.compress(bytes(8))[2:]
    offsets = 8 + len(strip)
    tags = {256: 8, 257: rows, 258: 8, 259: 8, 262: 1, 273: offsets, 277: 1, 278: 1, 279: offsets + 4 * rows}
    entries = [struct.pack("<HHII", tag, 4, rows if tag in {273, 279} else 1, tags[tag]) for tag in tags]
    places = struct.pack("<I", 8) * rows + struct.pack("<I", len(strip)) * rows
    head = b"II*\0" + struct.pack("<I", offsets + 8 * rows) + strip + places
    return head + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("make", [_jpeg_of_scans, _jpeg_of_exif, _png_of_profiles, _tiff_of_one_strip])
def test_bomb_of_work_in_a_small_file(
    ready_app: Start, click_body: Body, label_studio: Any, make: Callable[[], bytes]
) -> None:
    bomb = make()
    label_studio.serves(UPLOAD, bomb)
    app = ready_app()
    own = json.dumps({"image": {"type": "base64", "value": base64.b64encode(bomb).decode()}}).encode()

    assert app.predict(click_body()).code == "image_unreadable"
    assert app.ask("POST", "/sam2/embed_image", own).code == "image_unreadable"


def test_bomb_of_an_endless_stream(peak_growth: Any, click_body: Body, bombed_site: Any) -> None:
    sent: list[int] = []

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while sum(sent) < 1_000_000_000:
            handler.wfile.write(bytes(1_000_000))
            sent.append(1_000_000)

    bombed_site.on("/data/upload/1/endless.png", endless)

    code, growth = peak_growth(click_body("/data/upload/1/endless.png"))

    assert (code, growth < MAX_GROWTH) == ("image_too_large", True), growth
    assert sum(sent) < 100_000_000


@pytest.mark.parametrize(("where", "answer"), [("prompt", "bad_prompt"), ("draft", None)])
def test_bomb_of_an_rle_of_4_billion_values(peak_growth: Any, click_body: Body, where: str, answer: str | None) -> None:
    rle = _rle_of_zeros(32767, 32769)
    region = {
        "id": "brush-1",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "value": {"format": "rle", "rle": rle, "brushlabels": ["Cat"]},
    }
    body = json.loads(click_body(regions=[region]) if where == "prompt" else click_body())
    body["tasks"][0]["drafts"] = [{"result": [region]}] if where == "draft" else []

    code, growth = peak_growth(json.dumps(body).encode())

    assert (code, growth < MAX_GROWTH) == (answer, True), growth  # one in a draft is passed over


def test_bomb_of_an_rle_as_large_as_it_says(peak_growth: Any, click_body: Body) -> None:
    region = {"original_width": 32767, "original_height": 32769}
    rle = _rle_of_zeros(32767, 32769)
    value = {"format": "rle", "rle": rle, "brushlabels": ["Cat"]}

    code, growth = peak_growth(click_body(type="brushlabels", from_name="brush", value=value, **region))

    assert (code, growth < MAX_GROWTH) == ("size_mismatch", True), growth


# Stale or foreign image


def test_stale_image_is_noticed_behind_its_address(
    ready_app: Start, click_body: Body, label_studio: Any, clock: Any
) -> None:
    app = ready_app(clock=clock, image_revalidate_seconds=10)
    in_the_middle = _disc(5)
    label_studio.serves(UPLOAD, _drawn(in_the_middle))
    before = app.predict(click_body()).regions[0]
    label_studio.serves(UPLOAD, _drawn(in_the_middle[::2, ::2]))

    clock.now += 10.1
    after = app.predict(click_body()).regions[0]

    assert (before["original_width"], after["original_width"]) == (640, 320)


def test_stale_image_of_the_same_size_gets_another_embedding(
    ready_app: Start,
    click_body: Body,
    label_studio: Any,
    picture: Picture,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    app = ready_app(clock=clock, image_revalidate_seconds=10)
    for value in (90, 200):
        label_studio.serves(UPLOAD, picture(value=value))
        app.predict(click_body())
        app.predict(click_body())
        clock.now += 10.1

    assert _embedded(caplog) == 2
    label_studio.serves("/data/upload/2/same.png", picture(value=200))
    app.predict(click_body("/data/upload/2/same.png"))
    assert _embedded(caplog) == 2  # known by its content, wherever it is


def test_foreign_image_is_not_served_to_another_project_unasked(
    ready_app: Start, click_body: Body, label_studio: Any
) -> None:
    app = ready_app(label_studio_api_key=TOKEN)
    assert app.predict(click_body(project="1.17")).status == 200
    label_studio.says(UPLOAD, 403)

    theirs = app.predict(click_body(project="2.17"))

    assert theirs.code == "image_unavailable"
    assert len(label_studio.seen) == 2
    assert app.predict(click_body(project="1.17")).status == 200


def test_a_new_signature_is_not_another_image(
    ready_app: Start, click_body: Body, stranger: Any, picture: Picture
) -> None:
    stranger.serves("/cat.png", picture())
    app = ready_app(allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    for number in range(3):
        signature = f"X-Amz-Date={number}&X-Amz-Signature={number}"
        assert app.predict(click_body(f"{stranger.url}/cat.png?{signature}")).status == 200

    assert len(stranger.seen) == 1


def _embedded(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage() == "embedded a picture" for record in caplog.records)


# Mixing


def test_mixing_60_requests_on_12_threads(
    picture_server: Any,
    start_backend: Callable[..., AbstractContextManager[Any]],
    click_body: Body,
    iou: Callable[..., float],
) -> None:
    truths = [_disc(number) for number in range(12)]
    for number, truth in enumerate(truths):
        picture_server.files[f"/data/upload/1/{number}.png"] = _drawn(truth)

    with start_backend(LABEL_STUDIO_URL=picture_server.url, LABEL_STUDIO_API_KEY=TOKEN) as backend:

        def click(count: int) -> float:
            number = count % 12
            x, y = _center(number)
            value = {"x": x / 6.4, "y": y / 4.8, "width": 0.3, "keypointlabels": ["Cat"]}
            body = click_body(
                f"/data/upload/1/{number}.png", value=value, original_width=640, original_height=480
            ).replace(b'"id": 7', b'"id": %d' % number)
            status, _, answer = backend.predict(body)
            assert status == 200, answer
            (region,) = answer["results"][0]["result"]
            return iou(decode_brush_rle(region["value"]["rle"], (480, 640)), truths[number])

        with ThreadPoolExecutor(12) as threads:
            overlaps = list(threads.map(click, range(60)))
        embedded = sum(line["message"] == "embedded a picture" for line in backend.log())

    assert min(overlaps) >= 0.85
    assert embedded == 12
    downloads = sorted(path for path, _ in picture_server.requests if not path.startswith("/api/tasks?"))
    assert downloads == sorted(f"/data/upload/1/{number}.png" for number in range(12))


def _center(number: int) -> tuple[int, int]:
    return 80 + 42 * number, 120 + 20 * number


def _disc(number: int) -> NDArray[np.bool_]:
    return cv2.circle(np.zeros((480, 640), np.uint8), _center(number), 60, 1, thickness=-1).astype(bool)


def _drawn(mask: NDArray[np.bool_]) -> bytes:
    image = np.where(mask[..., None], np.array([50, 90, 190], np.uint8), np.array([214, 222, 225], np.uint8))
    return cv2.imencode(".png", image)[1].tobytes()


# Herd


def test_herd_of_50_equal_requests_runs_the_encoder_once(
    ready_app: Start,
    click_body: Body,
    label_studio: Any,
    picture: Picture,
    reply: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    def slow(handler: Any) -> None:
        time.sleep(0.3)
        reply(handler, 200, picture())

    label_studio.on(UPLOAD, slow)
    app = ready_app(threads=64, max_waiting=64)
    start = threading.Barrier(50)

    def click(_: int) -> int:
        start.wait()
        status: int = app.predict(click_body()).status
        return status

    with ThreadPoolExecutor(50) as threads:
        statuses = list(threads.map(click, range(50)))

    assert statuses == [200] * 50
    assert (_embedded(caplog), len(label_studio.seen)) == (1, 1)


def test_herd_follower_gives_up_at_its_own_deadline(
    ready_app: Start, click_body: Body, nano_model: Any, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    may_end, embedding = threading.Event(), threading.Event()
    real = nano_model._net.forward_image

    def held(pixels: Any) -> Any:
        embedding.set()
        assert may_end.wait(60)
        return real(pixels)

    app = ready_app(request_seconds=0.5)
    monkeypatch.setattr(nano_model._net, "forward_image", held)
    answers: list[int] = []
    leader = threading.Thread(target=lambda: answers.append(app.predict(click_body()).status))
    leader.start()
    try:
        until(embedding.is_set)
        follower = app.predict(click_body())
    finally:
        may_end.set()
        leader.join()

    assert follower.code == "busy"
    assert answers == [200]


def test_herd_failure_is_not_remembered(
    ready_app: Start, click_body: Body, label_studio: Any, picture: Picture
) -> None:
    label_studio.says(UPLOAD, 500)
    app = ready_app()
    assert app.predict(click_body()).code == "image_unavailable"

    label_studio.serves(UPLOAD, picture())

    assert app.predict(click_body()).status == 200


# Secrets in logs


def test_secrets_in_logs(
    picture_server: Any, picture: Picture, start_backend: Callable[..., AbstractContextManager[Any]], click_body: Body
) -> None:
    picture_server.files[UPLOAD] = picture()
    user = base64.b64encode(b"sam:pa55word").decode()
    settings = {"LABEL_STUDIO_URL": picture_server.url, "LABEL_STUDIO_API_KEY": TOKEN, "API_KEY": "ap1key"}
    credentials = {"BASIC_AUTH_USER": "sam", "BASIC_AUTH_PASS": "pa55word"}
    with start_backend(LOG_LEVEL="DEBUG", **settings, **credentials) as backend:
        setup = {"project": "1.2", "access_token": "5ecre7" * 6, "hostname": "http://x"}
        for path, body, authorization in (
            ("/setup", json.dumps(setup).encode(), f"Basic {user}"),
            ("/setup", json.dumps(setup).encode(), "Basic d3Jvbmc6d3Jvbmc="),
            ("/predict", click_body(login="hunter2"), f"Basic {user}"),
            ("/predict", click_body("/data/upload/1/gone.png?sig=5ignature"), f"Basic {user}"),
            ("/predict", click_body("http://bob:pr1vate@h.example/cat.png"), f"Basic {user}"),
            ("/predict", b'{"broken": "br0ken', f"Basic {user}"),
            ("/nowhere/api_key=p4thkey", b"{}", f"Basic {user}"),
            ("/sam2/embed_image?api_key=ap1key", b'{"image": "aHVudGVyMg=="}', "Bearer wr0ngkey"),
        ):
            request = urllib.request.Request(f"{backend.url}{path}", body, {"Authorization": authorization})
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=60).close()

        log = backend.log_file.read_text()

    assert all(
        line in log
        for line in ("POST /predict", "POST /setup", "refused: ", "embedded a picture", "/nowhere/api_key=***")
    )
    secrets = [
        "5ecre7",
        TOKEN,
        "ap1key",
        "wr0ngkey",
        "hunter2",
        "aHVudGVyMg",
        "5ignature",
        "pr1vate",
        "br0ken",
        "p4thkey",
    ]
    secrets += [user, "pa55word", "d3Jvbmc6d3Jvbmc", "keypointlabels"]
    assert [secret for secret in secrets if secret in log] == []


# Who may call

RIGHT = "sam:p\u00e4ss:w\u00f6rd"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="missing"),
        pytest.param("Basic " + base64.b64encode(b"sam:wrong").decode(), id="wrong"),
        pytest.param("Basic " + base64.b64encode(b"sam:").decode(), id="no password"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param("Basic", id="nothing"),
        pytest.param("Basic " + base64.b64encode("sam:\u6f22\u5b57".encode()).decode(), id="non-ASCII inside"),
        pytest.param("B\u00e4sic \u00e4\u00f6", id="non-ASCII outside"),
        pytest.param("Basic \u00e4\u00f6", id="non-ASCII behind Basic"),
        pytest.param("Bearer " + base64.b64encode(RIGHT.encode()).decode(), id="Bearer"),
        pytest.param("Token " + TOKEN, id="Token"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/setup", "/sam2/segment_image", "/model/add"])
def test_who_may_call_is_not_without_the_right_credentials(
    ready_app: Start, click_body: Body, label_studio: Any, header: str | None, path: str
) -> None:
    app = ready_app(basic_auth_user="sam", basic_auth_pass="p\u00e4ss:w\u00f6rd")

    answer = app.ask("POST", path, click_body(), **({} if header is None else {"Authorization": header}))

    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["content-type"] == "application/json"
    assert label_studio.seen == []


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_who_may_call_is_whoever_has_them(ready_app: Start, click_body: Body, encoding: str) -> None:
    app = ready_app(basic_auth_user="sam", basic_auth_pass="p\u00e4ss:w\u00f6rd")
    authorization = "Basic " + base64.b64encode(RIGHT.encode(encoding)).decode()

    assert app.predict(click_body(), Authorization=authorization).status == 200


def test_who_may_call_health_is_everyone(ready_app: Start) -> None:
    assert ready_app(basic_auth_user="sam", basic_auth_pass="secret").ask("GET", "/health").status == 200


def test_who_may_call_webhook_is_everyone_and_it_does_nothing(
    ready_app: Start, click_body: Body, label_studio: Any, opened_files: list[str]
) -> None:
    app = ready_app(basic_auth_user="sam", basic_auth_pass="secret", prefetch_mb=16)
    opened_files.clear()

    answers = [app.ask("POST", "/webhook", body) for body in (b"", b"\xff" * 1000, b"[" * 100_000, click_body())]

    assert [(answer.status, answer.json) for answer in answers] == [(200, {"status": "ok"})] * 4
    assert (label_studio.seen, opened_files) == ([], [])


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": "0.0.0.0", "basic_auth_user": "sam", "basic_auth_pass": "secret"}, False),
    ],
)
def test_who_may_call_is_warned_of_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    warned: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(labelstudio_sam2.wsgi, "configure_logging", lambda _: None)  # caplog listens
    monkeypatch.setattr(labelstudio_sam2.wsgi, "reuse_freed_memory", lambda: None)
    monkeypatch.setattr(labelstudio_sam2.wsgi.Server, "run", lambda _: None)

    labelstudio_sam2.wsgi.serve(load_settings(**settings))

    assert ("without Basic auth" in caplog.text) is warned


# Checkpoint


def test_checkpoint_with_one_swapped_byte_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_app: Start, until: Callable[..., None]
) -> None:
    swapped = tmp_path / "swapped.safetensors"
    shutil.copyfile(MODELS["nano"].checkpoint, swapped)
    with swapped.open("r+b") as file:
        file.seek(4_000_000)
        byte = file.read(1)[0]
        file.seek(4_000_000)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setitem(MODELS, "nano", replace(MODELS["nano"], checkpoint=swapped))

    app = real_app(model="nano")
    until(lambda: app.ask("GET", "/ready").code != "loading")
    answer = app.ask("GET", "/ready")

    assert (answer.status, answer.code) == (503, "model_unavailable")
    assert str(swapped) in answer.json["detail"]
    assert hashlib.sha256(swapped.read_bytes()).hexdigest() in answer.json["detail"]


class Payload:
    """What runs where a checkpoint is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_checkpoint_runs_no_code(real_app: Start, tmp_path: Path, until: Callable[..., None]) -> None:
    evil, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save({"model": {"weight": Payload(trace)}}, evil)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(evil, weights_only=True)
    app = real_app(model=str(evil), model_config_file="sam2.1_hiera_t.yaml")

    until(lambda: app.ask("GET", "/ready").code != "loading")

    assert app.ask("GET", "/ready").code == "model_unavailable"
    assert not trace.exists()


@pytest.mark.parametrize("name", ["{path}", "file://{path}", "http://127.0.0.1:{port}/evil.pt", "../evil.pt"])
@pytest.mark.parametrize("field", ["sam2_version_id", "model_id"])
def test_checkpoint_is_never_named_by_a_request(
    ready_app: Start, label_studio: Any, tmp_path: Path, opened_files: list[str], name: str, field: str
) -> None:
    evil = tmp_path / "evil.pt"
    evil.write_bytes(b"")
    app = ready_app()
    opened_files.clear()
    route = "/model/add" if field == "model_id" else "/sam2/embed_image"
    asked = {field: name.format(path=evil, port=label_studio.port), "image": "aaaa"}

    answer = app.ask("POST", route, json.dumps(asked).encode())

    assert (answer.status, answer.code) == (400, "bad_request")
    assert ([found for found in opened_files if "evil" in found], label_studio.seen) == ([], [])


# The stories

ROOT = Path(__file__).parents[2]
ROWS = [
    "Token to a wrong host",
    "Token to a wrong path",
    "SSRF",
    "File read",
    "Bombs",
    "Stale or foreign image",
    "Mixing",
    "Herd",
    "Secrets in logs",
    "Who may call",
    "Status page",
    "Checkpoint",
]


def _stories() -> dict[str, set[tuple[str, str]]]:
    """Return the tests that each story names, file and name."""
    stories = re.split(r"^## ", (ROOT / "docs" / "threats.md").read_text(), flags=re.MULTILINE)[1:]
    parts = [story.partition("\n") for story in stories]
    return {title: set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)) for title, _, text in parts}


def _tests_of(file: str) -> set[tuple[str, str]]:
    return {(file, name) for name in re.findall(r"^def (test_\w+)\(", (ROOT / file).read_text(), re.MULTILINE)}


def test_every_threat_has_a_story_that_names_the_tests_which_prove_it_closed() -> None:
    stories = _stories()

    assert list(stories) == ROWS
    for title, named in stories.items():
        assert named, title
        assert named <= set().union(*(_tests_of(file) for file, _ in named)), title


def test_every_test_of_a_threat_is_named_in_a_story() -> None:
    own = "tests/reliability/test_threats.py"

    assert {name for _, name in _tests_of(own) if not name.startswith("test_every_")} == {
        name for named in _stories().values() for file, name in named if file == own
    }


def _png_of_zeros(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a whole picture of black RGB pixels, however large, in little memory."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    packer, row = zlib.compressobj(1), bytes(1 + 3 * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    inside = [chunk(name, content) for name, content in ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(inside)


def _rle_of_zeros(width: int, height: int) -> list[int]:
    """Return the whole brush RLE of an empty mask, however large: runs of at most 65,536 values."""
    runs, rest = divmod(4 * width * height, 65536)
    header = f"{4 * width * height:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits = header + ("111" + "1" * 16 + "0" * 8) * runs + f"111{rest - 1:016b}" + "0" * 8
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


@functools.cache
def _packed_zeros(wbits: int) -> bytes:
    """Return 500 MB of zeros in zlib's format (15) or gzip's (31)."""
    packer, piece = zlib.compressobj(1, wbits=wbits), bytes(1_000_000)
    return b"".join(packer.compress(piece) for _ in range(500)) + packer.flush()
