"""The page of the application as it is served, on nano."""

import base64
import html
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask.testing import FlaskClient

from labelstudio_sam2 import app
from labelstudio_sam2.app import build_app
from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.settings import Settings, load_settings

PATH = "/data/upload/6/1d637b21-t1.png"
TOKEN = "a1" * 20
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
Make: TypeAlias = Callable[..., FlaskClient]
Until: TypeAlias = Callable[[Callable[[], object]], None]


@pytest.fixture
def make(picture_server: Any, disc_and_box: Any, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes the application; settings go in by name."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    picture_server.files[PATH] = disc_and_box.png()

    def make_client(*, waits: bool = True, **settings: object) -> FlaskClient:
        defaults = {"model": "nano", "device": "cpu", "label_studio_url": picture_server.url}
        client = build_app(load_settings(**{**defaults, **settings})).test_client()
        while waits and client.get("/ready").get_json().get("error") == "loading":
            time.sleep(0.01)
        return client

    return make_client


@pytest.fixture
def click(recorded: Callable[[str], Any]) -> dict[str, Any]:
    body: dict[str, Any] = recorded("kp1_positive")
    return body


@pytest.fixture
def held_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While this lasts a model is being loaded, and then it could not be."""
    go_on = threading.Event()

    def wait_and_fail(*_: Any, **__: Any) -> Any:
        go_on.wait(60)
        raise ModelUnavailableError("the test is over")

    monkeypatch.setattr(app, "load_model", wait_and_fail)
    yield
    go_on.set()


def shown(client: FlaskClient, path: str = "/status", **headers: str) -> str:
    """Return the page's text."""
    response = client.get(path, headers=headers)
    assert (response.status, response.mimetype) == ("200 OK", "text/html")
    body = re.sub(r"<style>.*?</style>", "", response.text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def button(client: FlaskClient) -> str:
    """Return the address that the page's button posts to."""
    (address,) = re.findall(r'<form method="post" action="([^"]+)">', client.get("/status").text)
    return str(address)


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def test_real_clicks_are_on_the_page(make: Make, click: dict[str, Any]) -> None:
    client = make(prefetch_mb=0)

    for _ in range(3):
        assert client.post("/predict", json=click).status_code == 200

    text = shown(client)
    assert re.search(r"spread cached 2 \d.* new 1 \d", text)
    stages = ("fetch 1", "decode 1", "queue 3", "embed 1", "predict 3", "encode 3")
    assert re.search(" .* ".join(stages), text.partition("Clicks, by stage")[2])
    assert re.search(r"kept now 1 take \d", text)
    assert "hits 2 misses 1 evictions 0 skipped 0" in text
    assert "device cpu precision fp32" in text
    assert "Prefetch It is off: PREFETCH_MB is 0." in text


def test_a_bad_request_is_among_the_last_errors_with_the_catalogues_text_and_its_id(
    make: Make, held_model: None
) -> None:
    client = make(waits=False)

    refused = client.post("/predict?sig=5ignature", data=b'{"token": "hunter2"')

    text = shown(client)
    assert "Request body is not valid JSON bad_json POST /predict was answered 400 0 s ago" in text
    assert f"request {refused.get_json()['request_id']}" in text
    assert not any(secret in text for secret in ("5ignature", "hunter2"))


def test_what_no_route_answers_is_one_kind_of_error_whatever_its_path(make: Make, held_model: None) -> None:
    client = make(waits=False)

    for path in ("/train", "/<script>", "/predict/predict"):
        client.post(path)

    text = shown(client)
    assert "Not Found not_found POST other was answered 404, 3 times" in text
    assert "script" not in text


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        (BROWSER["Accept"], "text/html"),
        ("text/html", "text/html"),
        ("*/*", "application/json"),
        (None, "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html", "application/json"),
        ("text/plain", "application/json"),
        ("nonsense\xff;q=x", "application/json"),
    ],
)
def test_a_browser_gets_the_page_at_the_root_and_programs_what_they_always_got(
    make: Make, held_model: None, accept: str | None, mimetype: str
) -> None:
    client = make(waits=False)

    response = client.get("/", headers={} if accept is None else {"Accept": accept})

    assert (response.status_code, response.mimetype) == (200, mimetype)
    assert "Accept" in response.headers["Vary"]
    if mimetype == "application/json":
        assert list(response.get_json()) == ["name", "model_version", "state", "routes"]
        assert response.get_json()["name"] == "labelstudio-sam2"


def test_the_page_is_there_while_the_model_loads(make: Make, held_model: None) -> None:
    text = shown(make(waits=False))

    assert "Readiness: loading Model is still loading" in text
    assert "device not known before the model is loaded" in text
    assert "Nothing was asked for yet." in text


def test_the_page_says_which_weights_are_missing_and_how_to_get_them(make: Make, tmp_path: Path) -> None:
    client = make(model="sam2/hiera_tiny", weights_dir=tmp_path)

    text = shown(client)

    assert "Readiness: failed Model could not be loaded" in text
    assert "sam2.1_hiera_tiny.pt is missing; get it with `labelstudio-sam2 weights fetch --model " in text


def test_the_page_may_load_nothing_and_be_kept_by_nobody(make: Make, held_model: None) -> None:
    headers = make(waits=False).get("/status").headers

    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_can_be_held(make: Make, held_model: None) -> None:
    client = make(waits=False)

    assert '<meta http-equiv="refresh" content="2; url=/status">' in client.get("/", headers=BROWSER).text
    assert 'http-equiv="refresh"' not in client.get("/status?refresh=off").text


@pytest.mark.parametrize("query", ["refresh=off", "word=%ed%a0%80", "%ff=1", "refresh=" + "x" * 5000])
def test_whatever_the_address_asks_the_page_is_shown(make: Make, held_model: None, query: str) -> None:
    client = make(waits=False)

    assert client.get("/status", query_string=query).status_code == 200
    assert client.get("/status", environ_overrides={"QUERY_STRING": "refresh=\xff"}).status_code == 200


def test_the_doctor_looks_when_the_button_is_pressed_and_never_by_itself(
    make: Make, held_model: None, picture_server: Any, until: Until
) -> None:
    client = make(waits=False, label_studio_api_key=TOKEN, prefetch_mb=0)
    for _ in range(3):
        assert "Look at the connection" in shown(client)
    assert picture_server.requests == []

    pressed = client.post(button(client))

    assert (pressed.status_code, pressed.headers["Location"]) == (303, "/status")
    until(lambda: "Look again" in shown(client))
    text = shown(client)
    assert "problem label-studio-url" in text
    assert "is not Label Studio" in text
    assert "What to do: Set LABEL_STUDIO_URL to Label Studio's address" in text
    assert picture_server.requests == [("/api/version", None)]
    assert TOKEN not in client.get("/status").text


@pytest.mark.parametrize("query", ["", "?word=", "?word=guessed", "?word=%ff"])
def test_another_site_cannot_press_the_button(make: Make, held_model: None, query: str) -> None:
    client = make(waits=False)

    refused = client.post(f"/status/doctor{query}")

    assert (refused.status_code, refused.get_json()["error"]) == (422, "bad_request")
    assert "Look at the connection" in shown(client)


def test_nobody_presses_the_button_by_following_a_link(make: Make, held_model: None) -> None:
    client = make(waits=False)

    assert client.get(button(client)).status_code == 405


def test_with_basic_auth_set_only_who_has_it_sees_the_page(make: Make, held_model: None) -> None:
    client = make(waits=False, basic_auth_user="sam", basic_auth_pass="hunter2", api_key="k3y-of-the-api")
    asked = [("GET", "/status"), ("GET", "/status/"), ("GET", "/"), ("POST", "/status/doctor")]

    strangers = [client.open(path, method=method, headers=BROWSER) for method, path in asked]

    assert [stranger.status_code for stranger in strangers] == [401, 401, 401, 401]
    assert all(stranger.headers["WWW-Authenticate"].startswith("Basic ") for stranger in strangers)
    text = shown(client, Authorization=basic("sam:hunter2"))
    assert "User name or password is missing or wrong unauthorized GET /status was answered 401, 2 times" in text
    assert not any(secret in text for secret in ("hunter2", "k3y-of-the-api"))


def test_the_real_server_serves_the_page_and_logs_where_it_is(start_backend: Any, picture_server: Any) -> None:
    with start_backend(
        LABEL_STUDIO_URL=picture_server.url,
        LABEL_STUDIO_API_KEY=TOKEN,
        BASIC_AUTH_USER="sam",
        BASIC_AUTH_PASS="hunter2",
    ) as backend:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{backend.url}/status", timeout=60)
        refused.value.close()
        asked = urllib.request.Request(backend.url, headers={**BROWSER, "Authorization": basic("sam:hunter2")})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            page, headers = answer.read().decode(), answer.headers
        told = [line["message"] for line in backend.log() if "status page" in line["message"]]

    assert refused.value.code == 401
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "The model is loaded, clicks are answered." in page
    assert not any(secret in page for secret in ("hunter2", TOKEN, picture_server.url))
    assert told == [f"the status page is at {backend.url}/status"]
