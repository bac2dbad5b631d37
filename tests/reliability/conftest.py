"""What proves that the backend keeps working: the real application, sites to fetch from, Label Studio's requests."""

import http.client
import io
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from flask import Flask
from PIL import Image

import labelstudio_sam2.app
from labelstudio_sam2.app import build_app
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.segmenter.sam2_model import Sam2Model
from labelstudio_sam2.settings import Settings, load_settings

# For test_limits.py, test_catalogue.py and test_threats.py: requests, answers, and who is asked.

UPLOAD = "/data/upload/1/cat.png"
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>'
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels>'
    '<RectangleLabels name="box" toName="image" smart="true"><Label value="Cat"/></RectangleLabels></View>'
)


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP.

    Attributes:
        status: The number.
        reason: Of the status line: all that Label Studio keeps of an error.
        headers: Names in lower case.
        json: The body.
    """

    status: int
    reason: str
    headers: dict[str, str]
    json: Any

    @property
    def code(self) -> Any:
        """The error's, or None of an answer that is none."""
        return self.json.get("error")

    @property
    def regions(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.json
        result: list[dict[str, Any]] = self.json["results"][0]["result"]
        return result


@dataclass(frozen=True)
class App:
    """The application as `build_app` makes it, in this process."""

    flask: Flask

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send one request; underscores in the names of headers stand for dashes. Thread-safe."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.flask.test_client().open(path, method=method, data=body, headers=named)
        status, _, reason = response.status.partition(" ")
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answer(int(status), reason, lower, response.get_json())

    def predict(self, body: bytes, **headers: str) -> Answer:
        return self.ask("POST", "/predict", body, **headers)


def ask_server(url: str, body: bytes, path: str = "/predict") -> Answer:
    """Post to a server that listens, as Label Studio does."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return _answer(connection.getresponse())
    finally:
        connection.close()


def send_to_server(url: str, request: bytes, *, hang_up: bool = False) -> Answer:
    """Send bytes to a server that listens, whatever they are; to hang up is to say that no more will come."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=120) as client:
        client.sendall(request)
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(client)
        response.begin()
        return _answer(response)


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, response.reason, headers, json.load(response))


def click_body(
    image: str = UPLOAD,
    *,
    project: str = "1.17",
    config: str = CONFIG,
    regions: list[Any] | None = None,
    tasks: int = 1,
    login: str | None = None,
    **click: Any,
) -> bytes:
    """Return what Label Studio posts for a click in the middle of a picture, or for these regions."""
    region = {
        "id": "aaaaaaaaaa",
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "value": {"x": 50, "y": 50, "width": 0.3, "keypointlabels": ["Cat"]},
        "is_positive": True,
        **click,
    }
    params = {"login": login, "password": login, "context": {"result": [region] if regions is None else regions}}
    task = {"id": 7, "data": {"image": image}}
    return json.dumps({"tasks": [task] * tasks, "project": project, "label_config": config, "params": params}).encode()


def picture(width: int = 8, height: int = 6, kind: str = "PNG", value: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session", name="ask_server")
def ask_server_fixture() -> Callable[..., Answer]:
    return ask_server


@pytest.fixture(scope="session", name="send_to_server")
def send_to_server_fixture() -> Callable[..., Answer]:
    return send_to_server


@pytest.fixture(scope="session", name="click_body")
def click_body_fixture() -> Callable[..., bytes]:
    return click_body


@pytest.fixture(scope="session", name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def label_studio(start_site: Callable[[], Any]) -> Any:
    """A site that stands for Label Studio and has a picture of 8 x 6 pixels."""
    site = start_site()
    site.serves(UPLOAD, picture())
    return site


@pytest.fixture
def stranger(start_site: Callable[[], Any]) -> Any:
    return start_site()


@pytest.fixture
def start_app(
    monkeypatch: pytest.MonkeyPatch, nano_model: Sam2Model, names: Any, network: Any, label_studio: Any
) -> Callable[..., App]:
    """Return a function that builds the application on nano; settings go in by name.

    What is not real: names are resolved by `names`, and every connection ends on 127.0.0.1, see `network`.
    """

    def start(
        *, load: Callable[[], Any] = lambda: nano_model, clock: Callable[[], float] = time.monotonic, **wanted: Any
    ) -> App:
        def source(settings: Settings) -> ImageSource:
            return ImageSource(settings, resolver=names, network=network, clock=clock)

        monkeypatch.setattr(labelstudio_sam2.app, "ImageSource", source)
        monkeypatch.setattr(labelstudio_sam2.app, "load_model", lambda *_, **__: load())
        fixed = {"model": "nano", "label_studio_url": label_studio.url, "prefetch_mb": 0}
        return App(build_app(load_settings(**(fixed | wanted))))

    return start


@pytest.fixture
def ready_app(start_app: Callable[..., App], until: Callable[..., None]) -> Callable[..., App]:
    """Return `start_app` that comes back when the model is loaded."""

    def start(**wanted: Any) -> App:
        app = start_app(**wanted)
        until(lambda: app.flask.test_client().get("/ready").status_code == 200)
        return app

    return start


@pytest.fixture
def real_app() -> Callable[..., App]:
    """Return a function that builds the application as it is served, checkpoint and all; settings go in by name."""
    return lambda **wanted: App(build_app(load_settings(**wanted)))


_opened: list[list[str]] = []
"""Where the names of files go that are opened; a hook cannot be taken out, so there is one, which writes nowhere."""
sys.addaudithook(lambda event, arguments: [names.append(str(arguments[0])) for names in _opened if event == "open"])  # type: ignore[func-returns-value]


@pytest.fixture
def opened_files() -> Iterator[list[str]]:
    """The names of all files that this process opens during the test, however it does."""
    opened: list[str] = []
    _opened.append(opened)
    yield opened
    _opened.remove(opened)
