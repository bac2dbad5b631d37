import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio_sam2.errors import (
    BusyError,
    ImageForbiddenError,
    ImageTimeoutError,
    ImageTooLargeError,
    ImageUnavailableError,
    UrlRefusedError,
)
from labelstudio_sam2.images.deadline import Deadline
from labelstudio_sam2.images.fetch import _Slots
from labelstudio_sam2.images.source import ImageSource, Picture

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PUBLIC, OTHER_PUBLIC = "93.184.216.34", "8.8.8.8"
UPLOAD = "/data/upload/1/cat.png"

Make = Callable[..., ImageSource]


def find(source: ImageSource, address: str) -> Picture:
    return source.find(address, project="1", task_id=7)


# Who gets the token


def test_label_studio_gets_the_legacy_token(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.serves(UPLOAD, png)

    find(make_source(label_studio_api_key=TOKEN), UPLOAD)

    assert label_studio.tokens == [f"Token {TOKEN}"]


@pytest.mark.parametrize(
    "form",
    [
        "http://cdn.example:{stranger}/cat.png",
        "http://127.0.0.1:{stranger}/cat.png",
        "http://127.0.0.1.cdn.example:{stranger}/cat.png",
        "http://CDN.example.:{stranger}/cat.png?http://127.0.0.1:{label_studio}/",
        "http://cdn.example:{stranger}/127.0.0.1:{label_studio}/data/upload/cat.png",
        "https://127.0.0.1:{stranger}/cat.png",
        "http://[::1]:{stranger}/cat.png#@127.0.0.1:{label_studio}",
    ],
)
def test_nobody_else_gets_the_token(
    make_source: Make, label_studio: Any, stranger: Any, names: Any, form: str, png: bytes
) -> None:
    names.answers = {"cdn.example": [["127.0.0.1"]], "127.0.0.1.cdn.example": [["127.0.0.1"]]}
    address = form.format(stranger=stranger.port, label_studio=label_studio.port)
    for path in ("/cat.png", f"/127.0.0.1:{label_studio.port}/data/upload/cat.png"):
        stranger.serves(path, png)
    hosts = f"cdn.example,127.0.0.1.cdn.example,127.0.0.1:{stranger.port},[::1]"

    find(make_source(label_studio_api_key=TOKEN, allowed_image_hosts=hosts), address)

    assert stranger.tokens == [None]
    assert label_studio.seen == []


def test_the_https_form_of_label_studio_is_another_origin(
    make_source: Make, label_studio: Any, names: Any, png: bytes
) -> None:
    names.answers = {"ls.example": [["127.0.0.1"]]}
    label_studio.serves("/cat.png", png)
    source = make_source(
        label_studio_url=f"http://ls.example:{label_studio.port}",
        label_studio_api_key=TOKEN,
        allowed_image_hosts="ls.example",
    )

    find(source, f"https://ls.example:{label_studio.port}/cat.png")

    assert label_studio.tokens == [None]


def test_a_redirect_takes_no_token_along(make_source: Make, label_studio: Any, stranger: Any, png: bytes) -> None:
    label_studio.redirects(UPLOAD, f"{stranger.url}/cat.png")
    stranger.serves("/cat.png", png)
    source = make_source(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    find(source, UPLOAD)

    assert label_studio.tokens == [f"Token {TOKEN}"]
    assert stranger.tokens == [None]


def test_a_redirect_to_label_studio_and_away_again_is_decided_hop_by_hop(
    make_source: Make, label_studio: Any, stranger: Any, png: bytes
) -> None:
    stranger.redirects("/1", f"{label_studio.url}{UPLOAD}")
    label_studio.redirects(UPLOAD, f"{stranger.url}/3", 307)
    stranger.serves("/3", png)
    source = make_source(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    find(source, f"{stranger.url}/1")

    assert stranger.tokens == [None, None]
    assert label_studio.tokens == [f"Token {TOKEN}"]


def test_a_redirect_to_a_host_that_is_not_listed_is_refused(
    make_source: Make, label_studio: Any, stranger: Any
) -> None:
    label_studio.redirects(UPLOAD, f"{stranger.url}/cat.png?sig=s3cret")

    with pytest.raises(UrlRefusedError, match=r"ALLOWED_IMAGE_HOSTS|LABEL_STUDIO_URL") as caught:
        find(make_source(label_studio_api_key=TOKEN), UPLOAD)

    assert stranger.seen == []
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a/b", "http://u:p@127.0.0.1/", "http://[::1"])
def test_a_redirect_is_judged_like_an_address(make_source: Make, label_studio: Any, location: str) -> None:
    label_studio.redirects(UPLOAD, location)

    with pytest.raises(UrlRefusedError):
        find(make_source(), UPLOAD)


def test_https_never_leads_to_http(make_source: Make, label_studio: Any, names: Any, png: bytes) -> None:
    names.answers = {"ls.example": [["127.0.0.1"]]}
    label_studio.redirects(UPLOAD, f"http://ls.example:{label_studio.port}/cat.png")
    label_studio.serves("/cat.png", png)
    source = make_source(label_studio_url=f"https://ls.example:{label_studio.port}", allowed_image_hosts="ls.example")

    with pytest.raises(UrlRefusedError, match="https to http"):
        find(source, UPLOAD)

    assert len(label_studio.seen) == 1


def test_no_secret_is_in_a_debug_log_or_a_repr(
    make_source: Make, label_studio: Any, stranger: Any, png: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    label_studio.redirects(UPLOAD, f"{stranger.url}/cat.png?X-Amz-Signature=s3cret")
    stranger.serves("/cat.png", png)
    source = make_source(label_studio_api_key=TOKEN, allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    picture = find(source, UPLOAD)

    said = caplog.text + repr(picture) + repr(source) + repr(vars(source))
    assert stranger.seen[0].target.endswith("s3cret")
    assert "s3cret" not in said
    assert TOKEN not in said


# Where a host leads


def test_the_address_that_was_checked_is_the_one_connected_to(
    make_source: Make, stranger: Any, names: Any, network: Any, png: bytes
) -> None:
    names.answers = {"evil.example": [[PUBLIC], ["127.0.0.1"]]}  # another answer to whoever asks twice
    stranger.serves("/cat.png", png)

    find(make_source(allowed_image_hosts="*"), f"http://evil.example:{stranger.port}/cat.png")

    assert network.connected == [PUBLIC]


def test_a_name_that_leads_home_the_second_time_gets_nobody_in(
    make_source: Make, stranger: Any, names: Any, network: Any
) -> None:
    names.answers = {"evil.example": [[PUBLIC], ["127.0.0.1"]]}
    stranger.redirects("/1", "/2")

    with pytest.raises(UrlRefusedError, match=r"evil\.example leads to a private"):
        find(make_source(allowed_image_hosts="*"), f"http://evil.example:{stranger.port}/1")

    assert network.connected == [PUBLIC]


@pytest.mark.parametrize("ips", [["127.0.0.1"], [PUBLIC, "10.0.0.5"], ["::ffff:10.0.0.5"], ["169.254.169.254"]])
def test_a_host_with_any_private_address_is_refused_unless_it_is_listed(
    make_source: Make, stranger: Any, names: Any, network: Any, ips: list[str], png: bytes
) -> None:
    names.answers = {"inner.example": [ips]}
    stranger.serves("/cat.png", png)
    address = f"http://inner.example:{stranger.port}/cat.png"

    with pytest.raises(UrlRefusedError, match=r"name inner\.example in ALLOWED_IMAGE_HOSTS"):
        find(make_source(allowed_image_hosts="*"), address)
    assert network.connected == []

    assert find(make_source(allowed_image_hosts="inner.example"), address).size_hw == (2, 3)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_a_private_address_itself_is_refused(make_source: Make, stranger: Any, network: Any, host: str) -> None:
    with pytest.raises(UrlRefusedError, match="private"):
        find(make_source(allowed_image_hosts="*"), f"http://{host}:{stranger.port}/cat.png")

    assert network.connected == []


def test_the_system_reads_odd_spellings_of_loopback_and_they_are_refused(
    make_settings: Callable[..., Any], stranger: Any
) -> None:
    source = ImageSource(make_settings(allowed_image_hosts="*"))

    for host in ("127.1", "2130706433", "0x7f000001", "localhost"):
        with pytest.raises((UrlRefusedError, ImageUnavailableError)):
            find(source, f"http://{host}:{stranger.port}/cat.png")

    assert stranger.seen == []


def test_tls_greets_the_host_by_name_though_it_connects_to_an_address(
    make_source: Make, stranger: Any, names: Any, network: Any, png: bytes
) -> None:
    names.answers = {"cdn.example": [[PUBLIC]]}
    stranger.serves("/cat.png", png)

    find(make_source(allowed_image_hosts="cdn.example"), f"https://cdn.example:{stranger.port}/cat.png")

    assert (network.connected, network.greeted) == ([PUBLIC], ["cdn.example"])
    assert stranger.seen[0].headers["host"] == f"cdn.example:{stranger.port}"


def test_a_certificate_nobody_signed_is_refused(make_settings: Callable[..., Any], stranger: Any) -> None:
    source = ImageSource(make_settings(allowed_image_hosts="127.0.0.1"))

    with pytest.raises(ImageUnavailableError):  # the server does not even speak TLS
        find(source, f"https://127.0.0.1:{stranger.port}/cat.png")


def test_the_next_address_is_tried_when_one_does_not_answer(
    make_source: Make, stranger: Any, names: Any, network: Any, png: bytes
) -> None:
    names.answers = {"cdn.example": [[PUBLIC, OTHER_PUBLIC]]}
    network.dead = {PUBLIC}
    stranger.serves("/cat.png", png)

    find(make_source(allowed_image_hosts="*"), f"http://cdn.example:{stranger.port}/cat.png")

    assert network.connected == [PUBLIC, OTHER_PUBLIC]


@pytest.mark.usefixtures("label_studio")
def test_proxies_of_the_environment_are_not_used(
    make_source: Make, label_studio: Any, stranger: Any, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", stranger.url)
    monkeypatch.setenv("ALL_PROXY", stranger.url)
    label_studio.serves(UPLOAD, png)

    find(make_source(), UPLOAD)

    assert stranger.seen == []


# Cloud storages


def test_label_studio_may_send_to_a_public_storage_that_is_not_listed(
    make_source: Make, label_studio: Any, stranger: Any, names: Any, png: bytes
) -> None:
    names.answers = {"bucket.example": [[PUBLIC]]}
    label_studio.redirects("/tasks/7/presign/", f"http://bucket.example:{stranger.port}/cat.png?sig=1", 303)
    stranger.serves("/cat.png", png)

    find(make_source(label_studio_api_key=TOKEN), "s3://bucket/cat.png")

    assert [label_studio.seen[0].target, stranger.seen[0].target] == [
        "/tasks/7/presign/?fileuri=czM6Ly9idWNrZXQvY2F0LnBuZw==",
        "/cat.png?sig=1",
    ]
    assert stranger.tokens == [None]


def test_a_private_storage_must_be_listed(
    make_source: Make, label_studio: Any, stranger: Any, names: Any, png: bytes
) -> None:
    names.answers = {"minio": [["172.18.0.4"]]}
    label_studio.redirects("/tasks/7/presign/", f"http://minio:{stranger.port}/cat.png?sig=1", 303)
    stranger.serves("/cat.png", png)

    with pytest.raises(UrlRefusedError, match="name minio in ALLOWED_IMAGE_HOSTS"):
        find(make_source(), "s3://bucket/cat.png")

    assert find(make_source(allowed_image_hosts="minio"), "s3://bucket/cat.png").size_hw == (2, 3)


def test_the_storage_may_not_send_further(make_source: Make, label_studio: Any, stranger: Any, names: Any) -> None:
    names.answers = {"bucket.example": [[PUBLIC]], "further.example": [[PUBLIC]]}
    label_studio.redirects("/tasks/7/presign/", f"http://bucket.example:{stranger.port}/1", 303)
    stranger.redirects("/1", f"http://further.example:{stranger.port}/2")

    with pytest.raises(UrlRefusedError, match=r"further\.example"):
        find(make_source(), "s3://bucket/cat.png")


# What servers answer


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_said_and_the_setting_named(make_source: Make, label_studio: Any, status: int) -> None:
    label_studio.says(UPLOAD, status)

    with pytest.raises(ImageForbiddenError, match=f"{status}.*LABEL_STUDIO_API_KEY"):
        find(make_source(label_studio_api_key=TOKEN), UPLOAD)


def test_the_login_page_is_a_refusal_and_no_picture(make_source: Make, label_studio: Any) -> None:
    label_studio.redirects(UPLOAD, "/user/login/?next=/")

    with pytest.raises(ImageForbiddenError, match="LABEL_STUDIO_API_KEY"):
        find(make_source(), UPLOAD)


@pytest.mark.parametrize("status", [204, 206, 304, 400, 404, 429, 500, 503])
def test_any_other_answer_than_the_file_is_an_error(make_source: Make, label_studio: Any, status: int) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()

    label_studio.on(UPLOAD, answer)

    with pytest.raises(ImageUnavailableError, match=str(status)):
        find(make_source(), UPLOAD)


def test_a_refused_connection_is_an_error(make_source: Make, names: Any, network: Any) -> None:
    names.answers = {"cdn.example": [[PUBLIC]]}
    network.dead = {PUBLIC}

    with pytest.raises(ImageUnavailableError, match=r"cdn\.example"):
        find(make_source(allowed_image_hosts="cdn.example"), "http://cdn.example/cat.png")


def test_a_name_that_does_not_exist_is_an_error(make_source: Make) -> None:
    with pytest.raises(ImageUnavailableError, match=r"cdn\.example cannot be resolved"):
        find(make_source(allowed_image_hosts="cdn.example"), "http://cdn.example/cat.png")


@pytest.mark.parametrize("sent", [b"", b"\x00\x01\x02", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_what_is_not_http_is_an_error(make_source: Make, label_studio: Any, sent: bytes) -> None:
    label_studio.on(UPLOAD, lambda handler: handler.wfile.write(sent))

    with pytest.raises(ImageUnavailableError):
        find(make_source(), UPLOAD)


def test_a_download_cut_short_is_an_error_each_time(
    make_source: Make, label_studio: Any, reply: Callable[..., None], png: bytes
) -> None:
    label_studio.on(
        UPLOAD, lambda handler: reply(handler, 200, png[:20], {"Content-Length": str(len(png)), "Connection": "close"})
    )
    source = make_source()

    for _ in range(2):
        with pytest.raises(ImageUnavailableError, match="broke off"):
            find(source, UPLOAD)


def test_a_compressed_answer_is_not_opened(make_source: Make, label_studio: Any) -> None:
    label_studio.serves(UPLOAD, b"\x1f\x8b", Content_Encoding="gzip")

    with pytest.raises(ImageUnavailableError, match="compressed"):
        find(make_source(), UPLOAD)

    assert label_studio.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("target", ["/data/upload/1/cat.png", "/data/upload/1/dog.png"])
def test_endless_redirects_end(make_source: Make, label_studio: Any, target: str) -> None:
    label_studio.redirects(UPLOAD, target)
    label_studio.redirects("/data/upload/1/dog.png", UPLOAD)

    with pytest.raises(ImageUnavailableError, match="more than 3 times"):
        find(make_source(), UPLOAD)

    assert len(label_studio.seen) == 4


def test_three_redirects_are_followed(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.redirects(UPLOAD, "/data/upload/1/1", 301)
    label_studio.redirects("/data/upload/1/1", "2", 307)
    label_studio.redirects("/data/upload/1/2", f"{label_studio.url}/data/upload/1/3", 308)
    label_studio.serves("/data/upload/1/3", png)

    assert find(make_source(), UPLOAD).size_hw == (2, 3)


# Limits


def test_a_file_said_to_be_too_large_is_not_downloaded(make_source: Make, label_studio: Any) -> None:
    sent: list[int] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000001")
        handler.end_headers()
        sent.append(handler.connection.send(b"x"))

    label_studio.on(UPLOAD, answer)

    with pytest.raises(ImageTooLargeError, match="1,000,000 bytes"):
        find(make_source(max_image_mb=1), UPLOAD)


def test_an_endless_stream_ends_at_the_limit(make_source: Make, label_studio: Any) -> None:
    sent: list[int] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while len(sent) < 1000:
            handler.wfile.write(b"x" * 100_000)
            sent.append(100_000)

    label_studio.on(UPLOAD, answer)

    with pytest.raises(ImageTooLargeError):
        find(make_source(max_image_mb=1), UPLOAD)

    assert sum(sent) < 50_000_000  # 1 MB and what the sockets hold; the server was ready to send 100 MB


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_byte_now_and_then_does_not_live_for_ever(make_source: Make, label_studio: Any, part: str) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n")
        handler.wfile.write(b"\r\n" if part == "body" else b"X: ")
        for _ in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    label_studio.on(UPLOAD, answer)
    source = make_source(image_download_seconds=0.4)
    start = time.monotonic()

    with pytest.raises(ImageTimeoutError, match=r"the download took longer than 0\.4 s"):
        find(source, UPLOAD)

    assert time.monotonic() - start < 1.5


def test_redirects_share_one_deadline(make_source: Make, label_studio: Any, reply: Callable[..., None]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(0.25)
        reply(handler, 302, b"", {"Location": UPLOAD})

    label_studio.on(UPLOAD, answer)

    with pytest.raises(ImageTimeoutError):
        find(make_source(image_download_seconds=0.4), UPLOAD)

    assert len(label_studio.seen) == 2


def test_a_name_server_that_does_not_answer_costs_the_connect_deadline_only(
    make_settings: Callable[..., Any],
) -> None:
    over = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        over.wait(5)
        return []

    settings = make_settings(allowed_image_hosts="slow.example", image_connect_seconds=0.2)
    source = ImageSource(settings, resolver=resolver)
    start = time.monotonic()

    try:
        with pytest.raises(ImageTimeoutError, match=r"connecting to slow\.example took longer than 0\.2 s"):
            find(source, "http://slow.example/cat.png")
    finally:
        over.set()

    assert time.monotonic() - start < 1.5


def test_a_server_that_accepts_and_says_nothing_costs_the_download_deadline_only(make_source: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        source = make_source(label_studio_url=f"http://127.0.0.1:{port}", image_download_seconds=0.3)

        with pytest.raises(ImageTimeoutError):
            find(source, UPLOAD)


def test_eight_at_once_from_one_host_and_sixteen_in_all(
    make_source: Make, start_site: Callable[[], Any], names: Any, png: bytes, reply: Callable[..., None]
) -> None:
    gate = threading.Event()
    hosts = ["a.example", "b.example", "c.example"]
    names.answers = {host: [["127.0.0.1"]] for host in hosts}
    sites = {host: start_site() for host in hosts}

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        gate.wait(10)
        reply(handler, 200, png)

    for site in sites.values():
        for n in range(10):
            site.on(f"/{n}", answer)
    source = make_source(allowed_image_hosts=",".join(hosts))
    threads = [
        threading.Thread(target=find, args=(source, f"http://{host}:{sites[host].port}/{n}"))
        for host in hosts
        for n in range(10)
    ]

    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while sum(len(site.seen) for site in sites.values()) < 16 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # a seventeenth would come now
    seen = [len(site.seen) for site in sites.values()]
    gate.set()
    for thread in threads:
        thread.join()

    assert sum(seen) == 16
    assert max(seen) == 8
    assert [len(site.seen) for site in sites.values()] == [10, 10, 10]


def test_who_waits_for_a_place_past_the_deadline_is_told_to_come_again() -> None:
    slots = _Slots(total=2, per_host=1)
    long, short = (Deadline.after(seconds, "the download") for seconds in (10, 0.05))

    with slots.take("a", long):
        with pytest.raises(BusyError, match="have all places"), slots.take("a", short):
            pass
        with slots.take("b", long), pytest.raises(BusyError), slots.take("c", short):
            pass


def test_places_are_given_back(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.says(UPLOAD, 500)
    source = make_source(image_download_seconds=1)

    for _ in range(20):
        with pytest.raises(ImageUnavailableError):
            find(source, UPLOAD)
    label_studio.serves(UPLOAD, png)

    assert find(source, UPLOAD).size_hw == (2, 3)
