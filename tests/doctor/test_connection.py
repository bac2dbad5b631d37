"""How a project is connected with the backend: one list of connections per finding."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from labelstudio_sam2.doctor.connection import Connection, check_connection, check_private_addresses, connections_of
from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.doctor.server import Server
from labelstudio_sam2.images.address import WebAddress
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi

HERE = "http://sam2:9090"
GONE = "it cannot be reached"


def server(url: str = HERE, process: str = "one") -> Server:
    return Server(WebAddress.parse(url), "0.1.0", "nano@test", process, is_trusted=True)


class KnownServers:
    """Stands for `Servers`: says what answers at an address."""

    def __init__(self, **at: Server | str) -> None:
        self._at = at

    def look(self, url: str) -> Server | str:
        host = WebAddress.parse(url).host
        return self._at.get(host, GONE)


@pytest.fixture
def check(label_studio: Any, connect: Any, settings: Any, by_name: Any) -> Callable[..., dict[str, Finding]]:
    """Return a function that checks what `connect` has connected."""

    def run(servers: KnownServers | None = None, running: Server | None = None, **wanted: Any) -> dict[str, Finding]:
        connections = connections_of(LabelStudioApi(ImageSource(settings()).token), 7)
        found: dict[str, Finding] = by_name(
            check_connection(
                connections,
                servers or KnownServers(sam2=server()),  # type: ignore[arg-type]
                running or server(),
                settings(**wanted),
                own_model_version="nano@test",
            )
        )
        return found

    return run


def test_the_editor_asks_this_backend(check: Any, connect: Any, label_studio: Any) -> None:
    connect(HERE)

    found = check()

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert found["connection"].text == "SAM 2 (http://sam2:9090)"
    assert label_studio.asked[0].query == {"project": ["7"]}


def test_the_project_has_no_ml_backend(check: Any) -> None:
    found = check()

    assert list(found) == ["connection"]
    assert found["connection"].outcome == "problem"
    assert "Connect Model" in found["connection"].advice


def test_only_other_ml_backends_are_connected(check: Any, connect: Any) -> None:
    connect("http://yolo:9090", title="YOLO", model_version="yolo-8")

    found = check()

    assert list(found) == ["connection"]
    assert found["connection"].outcome == "problem"
    assert "YOLO (http://yolo:9090)" in found["connection"].text


def test_a_backend_that_only_label_studio_reaches_is_known_by_its_model(check: Any, connect: Any) -> None:
    connect("http://yolo:9090", title="YOLO", model_version="yolo-8", is_interactive=False)
    connect("http://inside:9090", model_version="nano@test")

    found = check(KnownServers())

    assert found["connection"].text == "SAM 2 (http://inside:9090)"
    assert found["connection"].outcome == "ok"


def test_the_same_process_under_another_name_is_this_backend(check: Any, connect: Any) -> None:
    connect("http://old:9090", title="old", is_interactive=False)
    connect("http://alias:9090")

    found = check(KnownServers(old=server("http://old:9090", "other"), alias=server("http://alias:9090", "one")))

    assert found["connection"].text == "SAM 2 (http://alias:9090)"
    assert found["connection"].outcome == "ok"


@pytest.mark.parametrize("processes", [("other", "one"), ("", "")])  # label-studio-ml's server does not name its own
def test_another_backend_of_this_kind_is_connected(check: Any, connect: Any, processes: tuple[str, str]) -> None:
    connect("http://old:9090", title="old")
    connected, running = processes

    finding = check(KnownServers(old=server("http://old:9090", connected)), server(process=running))["connection"]

    assert finding.outcome == "warning"
    assert "another process than the backend at http://sam2:9090" in finding.text


def test_interactive_preannotations_are_off(check: Any, connect: Any) -> None:
    connect(HERE, is_interactive=False)

    finding = check()["interactive"]

    assert finding.outcome == "problem"
    assert "no Auto-Annotation switch" in finding.text
    assert "switch on Interactive preannotations" in finding.advice


def test_the_editor_asks_another_interactive_backend_first(check: Any, connect: Any) -> None:
    connect("http://silent:9090", title="silent", is_interactive=False)
    connect("http://yolo:9090", title="YOLO")
    connect(HERE)

    finding = check()["interactive"]

    assert finding.outcome == "problem"
    assert "YOLO (http://yolo:9090)" in finding.text


def test_an_interactive_backend_behind_this_one_is_not_asked(check: Any, connect: Any) -> None:
    connect(HERE)
    connect("http://yolo:9090", title="YOLO")

    assert check()["interactive"].outcome == "ok"


def test_label_studio_cannot_reach_the_backend(check: Any, connect: Any) -> None:
    connect(HERE, state="DI")

    finding = check()["connection-state"]

    assert finding.outcome == "problem"
    assert "cannot reach it at http://sam2:9090" in finding.text
    assert finding.advice.startswith("If private-addresses is well")


def test_nobody_reaches_the_backend(check: Any, connect: Any) -> None:
    connect(HERE, state="DI")

    assert check(KnownServers())["connection-state"].advice.startswith("It does not answer here either")


def test_label_studios_error_is_told_without_secrets(connect: Any, label_studio: Any, settings: Any) -> None:
    said = "401 Client Error: User name or password is missing or wrong for url: http://ada:s3cret@sam2:9090/setup?k=v"
    connect(HERE, state="ER", error_message=said)
    connections = connections_of(LabelStudioApi(ImageSource(settings()).token), 7)

    found = check_connection(
        connections,
        KnownServers(sam2=server()),  # type: ignore[arg-type]
        server(),
        settings(),
        own_model_version="nano@test",
    )

    (finding,) = (finding for finding in found if finding.name == "connection-state")
    assert finding.outcome == "problem"
    assert "User name or password is missing or wrong" in finding.text
    assert "s3cret" not in finding.text
    assert "k=v" not in finding.text
    assert "BASIC_AUTH_USER" in finding.advice


@pytest.mark.parametrize(
    ("values", "outcome", "why"),
    [
        ({}, "problem", "sends none"),
        ({"auth_method": "BASIC_AUTH", "basic_auth_user": "bob"}, "problem", "another user name"),
        ({"auth_method": "BASIC_AUTH", "basic_auth_user": "ada"}, "ok", "the user name that the backend wants"),
    ],
)
def test_the_connections_credentials(check: Any, connect: Any, values: Any, outcome: str, why: str) -> None:
    connect(HERE, **values)

    finding = check(basic_auth_user="ada", basic_auth_pass="s3cret")["connection-auth"]

    assert finding.outcome == outcome
    assert why in finding.text


@pytest.fixture
def private(label_studio: Any, settings: Any) -> Callable[[], Finding]:
    """Return a function that asks whether Label Studio lets a backend be at a private address."""

    def ask() -> Finding:
        (finding,) = check_private_addresses(LabelStudioApi(ImageSource(settings()).token), HERE)
        assert "***" not in finding.text + finding.advice
        return finding

    return ask


RESERVED = {"detail": "URL resolves to a reserved network address (block: 172.16.0.0/12)"}


def test_private_addresses_are_let_in_and_nothing_is_created(private: Any, label_studio: Any) -> None:
    assert private().outcome == "ok"

    backend, webhook = label_studio.asked
    assert backend.body == {"url": "http://sam2:9090"}  # a project is required, so it is never created
    assert webhook.body == {"url": "http://sam2:9090/webhook", "actions": ["none"]}  # nor with such an action


@pytest.mark.parametrize(
    ("webhook", "named"), [(RESERVED, "ML_BLOCK_LOCAL_IP and SSRF_PROTECTION_ENABLED are on"), ({}, "IP is on")]
)
def test_label_studio_refuses_private_addresses(private: Any, label_studio: Any, webhook: Any, named: str) -> None:
    label_studio.on("POST", "/api/ml", RESERVED, 403)
    label_studio.on("POST", "/api/webhooks", webhook, 403 if webhook else 400)

    finding = private()

    assert finding.outcome == "problem"
    assert named in finding.text
    assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in finding.advice


def test_label_studio_refuses_webhooks_only(private: Any, label_studio: Any) -> None:
    label_studio.on("POST", "/api/webhooks", RESERVED, 403)

    finding = private()

    assert finding.outcome == "warning"
    assert "SSRF_PROTECTION_ENABLED=false" in finding.advice


def test_label_studio_cannot_resolve_the_backends_name(private: Any, label_studio: Any) -> None:
    label_studio.on("POST", "/api/ml", {"detail": "Can't resolve hostname sam2"}, 500)

    finding = private()

    assert finding.outcome == "problem"
    assert "cannot resolve the name in http://sam2:9090" in finding.text


@pytest.mark.parametrize("status", [403, 404, 201])
def test_it_is_said_where_it_cannot_be_told(private: Any, label_studio: Any, status: int) -> None:
    label_studio.on("POST", "/api/ml", {"detail": "You do not have permission to perform this action."}, status)

    finding = private()

    assert finding.outcome == "skipped"
    assert f"answers {status} and 400" in finding.text


def test_a_connections_name_shows_no_secret_of_its_address() -> None:
    connection = msgspec.convert({"id": 1, "url": "http://sam2:9090/?key=5ecret"}, Connection)

    assert connection.name == "an ML backend (http://sam2:9090)"
