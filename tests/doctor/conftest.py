"""A Label Studio on the loopback interface whose every answer a test can change, and a real backend on nano."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.serving import make_server

from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.settings import Settings, load_settings

TOKEN = "a1" * 20
XML = """
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="point" toName="image" smart="true" smartOnly="true"><Label value="Disc"/></KeyPointLabels>
  <BrushLabels name="mask" toName="image" smart="false"><Label value="Disc"/></BrushLabels>
</View>
"""

Answer: TypeAlias = tuple[int, Any, dict[str, str]]
Serve: TypeAlias = Callable[[type[BaseHTTPRequestHandler]], AbstractContextManager[int]]
Key: TypeAlias = tuple[str, str]


@dataclass
class Asked:
    """A request that a server received."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Site:
    """A server that answers by method and path, or 404."""

    url: str
    answers: dict[Key, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, method: str, path: str, answer: Any, status: int = 200, **headers: str) -> None:
        """Answer with JSON, or with bytes as they are; a function gets the request and returns the answer."""
        self.answers[method, path] = answer if callable(answer) else (status, answer, headers)

    def change(self, method: str, path: str, **values: Any) -> None:
        """Change fields of the object, or of the first one in the list, that it answers with."""
        status, answer, headers = self.answers[method, path]  # type: ignore[misc]
        changed = [{**answer[0], **values}, *answer[1:]] if isinstance(answer, list) else {**answer, **values}
        self.answers[method, path] = (status, changed, headers)

    def asked_for(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]


@contextmanager
def serve_site(serve: Serve) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                parts.path,
                parse_qs(parts.query),
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(data) if data else None,
            )
            started.asked.append(asked)
            found = started.answers.get((self.command, parts.path), (404, {"detail": "Not found."}, {}))
            status, body, headers = found(asked) if callable(found) else found
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status, headers.get("reason"))
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815 - the base class's names

    with serve(Handler) as port:
        started = Site(f"http://127.0.0.1:{port}")
        yield started


@pytest.fixture
def site(serve: Serve) -> Iterator[Site]:
    """A server that knows nothing yet."""
    with serve_site(serve) as started:
        yield started


@pytest.fixture
def label_studio(serve: Serve, disc_and_box: Any) -> Iterator[Site]:
    """A Label Studio as far as the doctor asks it: user, project 7 with one task and no ML backend, a picture."""
    with serve_site(serve) as label_studio:
        label_studio.on("GET", "/api/version", {"release": "1.23.2", "label-studio-os-package": {"version": "1.23.2"}})
        user = {"id": 1, "email": "ada@example.com", "permissions": ["projects.view", "tasks.view"]}
        label_studio.on("GET", "/api/current-user/whoami", user)
        switches = {"evaluate_predictions_automatically": False, "show_collab_predictions": True}
        project = {"id": 7, "title": "Discs", "label_config": XML, **switches}
        label_studio.on("GET", "/api/projects", {"count": 1, "results": [{"id": 7, "title": "Discs"}]})
        label_studio.on("GET", "/api/projects/7", project)
        label_studio.on("GET", "/api/ml", [])
        label_studio.on("POST", "/api/ml", {"detail": "Validation error"}, 400)
        label_studio.on("POST", "/api/webhooks", {"detail": "Validation error"}, 400)
        label_studio.on(
            "GET", "/api/tasks", {"total": 1, "tasks": [{"id": 3, "data": {"image": "/data/upload/7/disc.png"}}]}
        )
        label_studio.on("GET", "/data/upload/7/disc.png", disc_and_box.png())
        yield label_studio


@pytest.fixture
def connect(label_studio: Site) -> Callable[..., dict[str, Any]]:
    """Return a function that connects an ML backend with the project; fields of the connection go in by name."""

    def connect_backend(url: str, **values: Any) -> dict[str, Any]:
        connections = label_studio.answers["GET", "/api/ml"][1]  # type: ignore[index]
        connection = {
            "id": len(connections) + 1,
            "url": url,
            "title": "SAM 2",
            "is_interactive": True,
            "state": "CO",
            "error_message": None,
            "auth_method": "NONE",
            "basic_auth_user": "",
            "model_version": "nano@test",
            **values,
        }
        connections.append(connection)
        return connection

    return connect_backend


@pytest.fixture
def serve_app() -> Iterator[Callable[[Flask], str]]:
    """Return a function that serves an application until the test ends, and returns its address."""
    running = []

    def serve(app: Flask) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def settings(label_studio: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return a function that makes settings for the fake Label Studio; further ones go in by name."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**wanted: Any) -> Settings:
        fixed = {"label_studio_url": label_studio.url, "label_studio_api_key": TOKEN, "model": "nano"}
        return load_settings(**(fixed | wanted))

    return make


@pytest.fixture(scope="session")
def by_name() -> Callable[[Any], dict[str, Finding]]:
    """Return a function that runs a check and returns its findings by name, each of which it gives once."""

    def run(check: Any) -> dict[str, Finding]:
        findings = list(check)
        names = [finding.name for finding in findings]
        assert len(names) == len(set(names)), names
        mangled = [finding for finding in findings if "***" in finding.text + finding.advice]
        assert not mangled, "our own words look like secrets to the redaction"
        return {finding.name: finding for finding in findings}

    return run


@pytest.fixture(scope="session")
def xml() -> str:
    """A labeling configuration of which nothing is to be said."""
    return XML


@pytest.fixture(scope="session")
def jwt() -> Callable[..., str]:
    """Return a function that makes a JSON Web Token with these claims."""

    def make(**claims: object) -> str:
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
        return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "x"])

    return make
