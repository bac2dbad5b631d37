import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from labelstudio_sam2.cli import app
from labelstudio_sam2.demo.project import TITLE, LabelStudioClient, explained
from labelstudio_sam2.settings import SettingsError, load_settings

LEGACY_TOKEN = "0123456789" * 4


class FakeLabelStudio:
    """Remembers what it was asked; has one project of the demo's title, and answers ML backends as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, Any]] = []
        self.authorizations: set[str] = set()
        self.refusal: tuple[int, Any] | None = None

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if self.refusal and path.startswith("/api/ml"):
            return self.refusal
        if path.startswith("/api/projects/?"):
            return 200, {"results": [{"id": 9, "title": f"{TITLE} of mine"}, {"id": 7, "title": TITLE}]}
        if path == "/api/projects/7/":
            return 200, {"id": 7, "task_number": 4}
        return (200, []) if method == "GET" else (201, {})


@pytest.fixture
def label_studio(serve: Callable[..., AbstractContextManager[int]]) -> Iterator[FakeLabelStudio]:
    fake = FakeLabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fake.authorizations.add(self.headers["Authorization"])
            fake.asked.append((self.command, self.path, json.loads(body) if body else None))
            status, answer = fake.answer(self.command, self.path)
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    with serve(Handler) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake


@pytest.fixture
def environment(label_studio: FakeLabelStudio) -> dict[str, str]:
    return {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": LEGACY_TOKEN}


def test_a_project_that_is_there_is_taken_up_again_and_connected(
    label_studio: FakeLabelStudio, environment: dict[str, str]
) -> None:
    done = CliRunner().invoke(app, ["demo-project", "--backend-url", "http://sam2:9090/"], env=environment)

    assert done.exit_code == 0, done.output
    assert "has number 7" in done.output
    assert f"Open it: {label_studio.url}/projects/7/data\n" in done.output
    assert [(method, body) for method, _, body in label_studio.asked if method == "POST"] == [
        ("POST", {"project": 7, "title": "SAM 2", "url": "http://sam2:9090", "is_interactive": True})
    ]
    assert label_studio.authorizations == {f"Token {LEGACY_TOKEN}"}


def test_label_studio_is_told_the_password_that_the_backend_wants(
    label_studio: FakeLabelStudio, environment: dict[str, str]
) -> None:
    wants = {"BASIC_AUTH_USER": "bob", "BASIC_AUTH_PASS": "made-up"}

    done = CliRunner().invoke(app, ["demo-project"], env=environment | wants)

    (connected,) = [body for method, _, body in label_studio.asked if method == "POST"]
    assert connected["auth_method"] == "BASIC_AUTH"
    assert (connected["basic_auth_user"], connected["basic_auth_pass"]) == ("bob", "made-up")
    assert "made-up" not in done.output


def test_label_studios_own_words_say_why_it_refused(label_studio: FakeLabelStudio, environment: dict[str, str]) -> None:
    label_studio.refusal = 403, {"detail": "URL resolves to a reserved network address"}

    done = CliRunner().invoke(app, ["demo-project"], env=environment)

    assert done.exit_code == 1
    assert "it answered 403 to GET /api/ml; URL resolves to a reserved network address" in done.output


def test_without_a_token_it_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY: set both"):
        LabelStudioClient.from_settings(load_settings(label_studio_url="http://localhost:8080"))


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"detail": null, "validation_errors": null}'])
def test_an_answer_that_says_nothing_is_told_by_its_status(answer: bytes) -> None:
    request = httpx.Request("GET", "http://localhost:8080/api/ml")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(502, content=answer, request=request))

    assert explained(error) == "it answered 502 to GET /api/ml"
