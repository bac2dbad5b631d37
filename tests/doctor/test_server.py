"""The running backend: a real one on nano, and servers that answer otherwise."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.doctor.server import Server, Servers, check_server

Look = Callable[..., dict[str, Finding]]


@pytest.fixture
def look(settings: Any, by_name: Any) -> Look:
    """Return a function that looks for the backend; the address goes in, then settings by name."""

    def check(backend_url: str | None, *connected: str, version: str = "0.1.0", **wanted: Any) -> dict[str, Finding]:
        servers = Servers(settings(**wanted), backend_url)
        findings: dict[str, Finding] = by_name(
            check_server(servers, connected, own_version=version, own_model_version="nano@test")
        )
        return findings

    return check


@pytest.fixture
def backend(site: Any) -> Any:
    """A server that answers as a backend of this project does whose model is loaded."""
    site.on("GET", "/health", {"status": "UP", "model_class": "SAM2Backend", "v": "nano@test"})
    site.on("GET", "/info", {"name": "labelstudio-sam2", "version": "0.1.0", "uuid": "one"})
    site.on("GET", "/ready", {"status": "READY"})
    return site


def test_the_real_backend_answers_and_is_ready(look: Look, make_nano_app: Any, serve_app: Any) -> None:
    url = serve_app(make_nano_app())

    found = look(url)

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert found["backend"].text == f"answers at {url}, with nano@test"


def test_the_backend_is_looked_for_where_the_settings_say(look: Look, backend: Any) -> None:
    port = int(backend.url.rpartition(":")[2])

    assert look(None, port=port, host="0.0.0.0")["backend"].outcome == "ok"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:9191/"),
        ("::", "http://127.0.0.1:9191/"),
        ("::1", "http://[::1]:9191/"),
        ("10.1.2.3", "http://10.1.2.3:9191/"),
        ("localhost", "http://localhost:9191/"),
    ],
)
def test_the_address_to_listen_on_says_where_it_is_reached(settings: Any, host: str, url: str) -> None:
    assert Servers(settings(host=host, port=9191), None).own.url == url


def test_the_backend_is_looked_for_where_label_studio_says(look: Look, backend: Any) -> None:
    found = look(None, "http://127.0.0.1:9/", backend.url, port=free_port())

    assert backend.url in found["backend"].text


def test_nobody_else_is_asked_where_an_address_was_given(look: Look, backend: Any) -> None:
    finding = look(f"http://127.0.0.1:{free_port()}", backend.url)["backend"]

    assert finding.outcome == "problem"
    assert "Connection refused" in finding.text
    assert backend.asked == []


@pytest.mark.parametrize(
    ("path", "status", "why"), [("/health", 404, "GET /health answers 404"), ("/health", 200, "another server answers")]
)
def test_something_else_answers_there(look: Look, site: Any, path: str, status: int, why: str) -> None:
    site.on("GET", path, {"status": "UP", "model_class": "NewModel"}, status)

    finding = look(site.url)["backend"]

    assert finding.outcome == "problem"
    assert why in finding.text
    assert "--backend-url" in finding.advice


def test_another_version_runs(look: Look, backend: Any) -> None:
    finding = look(backend.url, version="0.2.0")["backend-version"]

    assert finding.outcome == "warning"
    assert "is 0.1.0, this command is 0.2.0" in finding.text


def test_it_runs_with_another_model_than_the_settings_name(look: Look, backend: Any) -> None:
    backend.change("GET", "/health", v="sam2/hiera_tiny@7402e0d864fa")

    finding = look(backend.url)["backend-version"]

    assert finding.outcome == "warning"
    assert "has sam2/hiera_tiny@7402e0d864fa, the settings here name nano@test" in finding.text


@pytest.mark.parametrize(
    ("reason", "detail", "advice"),
    [
        ("Model is still loading", "the weights are still being loaded", "Wait until"),
        (
            "Model could not be loaded, see /ready and the log",
            "/weights/a.pt is missing",
            "Mend what the message names",
        ),
    ],
)
def test_its_model_is_not_loaded(look: Look, backend: Any, reason: str, detail: str, advice: str) -> None:
    backend.on("GET", "/ready", {"error": "loading", "message": detail}, 503, reason=reason)

    finding = look(backend.url)["backend-ready"]

    assert finding.outcome == "problem"
    assert finding.text == f"GET /ready answers 503: {reason}, {detail}."
    assert finding.advice.startswith(advice)


def test_label_studio_mls_own_server_is_known_by_its_model_class(look: Look, backend: Any) -> None:
    del backend.answers["GET", "/info"], backend.answers["GET", "/ready"]

    found = look(backend.url)

    assert found["backend"].outcome == "ok"
    assert (found["backend-version"].outcome, found["backend-ready"].outcome) == ("skipped", "skipped")


def test_credentials_go_to_the_address_that_was_given(settings: Any, backend: Any) -> None:
    servers = Servers(settings(basic_auth_user="ada", basic_auth_pass="s3cret"), backend.url)
    server = servers.look(backend.url)
    assert isinstance(server, Server)

    servers.check_ready(server)

    assert servers.may_predict(server)
    assert [asked.headers.get("authorization") for asked in backend.asked] == [None, None, "Basic YWRhOnMzY3JldA=="]


def test_credentials_go_nowhere_else(settings: Any, backend: Any) -> None:
    servers = Servers(settings(basic_auth_user="ada", basic_auth_pass="s3cret", port=free_port()), None)
    server = servers.look(backend.url)
    assert isinstance(server, Server)

    servers.check_ready(server)

    assert not servers.may_predict(server)
    assert {asked.headers.get("authorization") for asked in backend.asked} == {None}


@pytest.mark.parametrize("url", ["http://ada:s3cret@127.0.0.1:9090", "ftp://127.0.0.1", "http://[::1"])
def test_an_address_that_cannot_be_one_is_told(settings: Any, url: str) -> None:
    assert Servers(settings(), None).look(url) == "the address is malformed, or has a user name in it"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
