"""Whether Label Studio is there and takes the token: one answer of Label Studio per finding."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.doctor.label_studio import check_label_studio, check_token
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi
from labelstudio_sam2.settings import Settings

NOW = 1_800_000_000.0
DAY = 86_400

MakeSettings = Callable[..., Settings]


@pytest.fixture
def look(settings: MakeSettings, by_name: Any) -> Callable[..., dict[str, Finding]]:
    """Return a function that looks for Label Studio with these settings."""

    def check(*, in_container: bool = False, **wanted: Any) -> dict[str, Finding]:
        findings: dict[str, Finding] = by_name(
            check_label_studio(LabelStudioApi(ImageSource(settings(**wanted)).token), in_container=in_container)
        )
        return findings

    return check


@pytest.fixture
def show(settings: MakeSettings, by_name: Any) -> Callable[[str | None], dict[str, Finding]]:
    """Return a function that shows a token to Label Studio."""

    def check(token: str | None) -> dict[str, Finding]:
        api = LabelStudioApi(ImageSource(settings(label_studio_api_key=token)).token)
        findings: dict[str, Finding] = by_name(check_token(api, now=lambda: NOW))
        return findings

    return check


def test_label_studio_answers(look: Any, label_studio: Any) -> None:
    found = look()

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert label_studio.url in found["label-studio-url"].text
    assert found["label-studio-version"].text.startswith("1.23.2")
    assert "authorization" not in label_studio.asked[0].headers


def test_label_studio_answers_under_a_path(look: Any, label_studio: Any) -> None:
    label_studio.answers = {("GET", "/label/api/version"): label_studio.answers["GET", "/api/version"]}

    assert look(label_studio_url=f"{label_studio.url}/label/")["label-studio-url"].outcome == "ok"


def test_no_address_is_set(look: Any) -> None:
    finding = look(label_studio_url=None)["label-studio-url"]

    assert finding.outcome == "problem"
    assert "LABEL_STUDIO_URL is not set" in finding.text
    assert "http://label-studio:8080" in finding.advice


def test_nobody_listens_at_the_address(look: Any) -> None:
    finding = look(label_studio_url=f"http://127.0.0.1:{free_port()}")["label-studio-url"]

    assert finding.outcome == "problem"
    assert "Connection refused" in finding.text
    assert "Start Label Studio" in finding.advice


def test_the_name_cannot_be_resolved(look: Any) -> None:
    finding = look(label_studio_url="http://label-studio.invalid:8080")["label-studio-url"]

    assert finding.outcome == "problem"
    assert "cannot be resolved" in finding.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_localhost_in_a_container_is_the_container(look: Any, host: str) -> None:
    finding = look(label_studio_url=f"http://{host}:{free_port()}", in_container=True)["label-studio-url"]

    assert finding.outcome == "problem"
    assert "the container itself" in finding.advice
    assert "http://label-studio:8080" in finding.advice


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<!DOCTYPE html><title>Sign in</title>", "a web page, such as a proxy's login"),
        (200, {"version": "4"}, "something else"),
        (404, b"", "answers 404 and something else"),
        (502, b"<html>Bad Gateway", "answers 502 and a web page"),
    ],
)
def test_something_else_answers_at_the_address(look: Any, label_studio: Any, status: int, body: Any, why: str) -> None:
    label_studio.on("GET", "/api/version", body, status)

    found = look()

    assert list(found) == ["label-studio-url"]
    assert found["label-studio-url"].outcome == "problem"
    assert why in found["label-studio-url"].text


def test_a_redirect_is_told_with_where_it_leads_but_not_with_its_query(look: Any, label_studio: Any) -> None:
    label_studio.on("GET", "/api/version", b"", 302, Location="https://login.example.com/start?ticket=5ecret")

    finding = look()["label-studio-url"]

    assert finding.outcome == "problem"
    assert "redirects to https://login.example.com/start." in finding.text
    assert "5ecret" not in finding.text


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_proxy_in_front_wants_a_login(look: Any, label_studio: Any, status: int) -> None:
    label_studio.on("GET", "/api/version", b"", status)

    finding = look()["label-studio-url"]

    assert finding.outcome == "problem"
    assert "proxy in front wants a login" in finding.text


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("1.9.2", "warning"), ("1.23.1", "warning"), ("1.23.2", "ok"), ("1.23.2.post1", "ok"), ("2.0.0rc1", "ok")],
)
def test_a_version_older_than_any_that_was_tried(look: Any, label_studio: Any, version: str, outcome: str) -> None:
    label_studio.on("GET", "/api/version", {"label-studio-os-package": {"version": version}})

    finding = look()["label-studio-version"]

    assert finding.outcome == outcome
    assert version in finding.text
    assert "1.23.2" in finding.text


def test_the_legacy_token_is_taken(show: Any, label_studio: Any) -> None:
    found = show("a1" * 20)

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert "legacy token of user 1 (a...@example.com)" in found["token"].text
    assert label_studio.asked[-1].headers["authorization"] == f"Token {'a1' * 20}"


def test_the_personal_access_token_is_taken(show: Any, label_studio: Any, jwt: Any) -> None:
    label_studio.on("POST", "/api/token/refresh/", {"access": jwt(token_type="access", iat=0, exp=300)})

    found = show(jwt(token_type="refresh", exp=NOW + 30 * DAY))

    assert {finding.outcome for finding in found.values()} == {"ok"}
    assert "personal access token of user 1" in found["token"].text


def test_no_token_is_set(show: Any, label_studio: Any) -> None:
    finding = show(None)["token"]

    assert finding.outcome == "problem"
    assert "LABEL_STUDIO_API_KEY is not set" in finding.text
    assert "Personal Access Token" in finding.advice
    assert label_studio.asked == []


def test_an_expired_token_is_told_from_itself_without_a_request(show: Any, label_studio: Any, jwt: Any) -> None:
    finding = show(jwt(token_type="refresh", exp=NOW - 1))["token"]

    assert finding.outcome == "problem"
    assert "expired on 2027-01-15" in finding.text
    assert label_studio.asked == []


def test_a_token_that_expires_soon(show: Any, label_studio: Any, jwt: Any) -> None:
    label_studio.on("POST", "/api/token/refresh/", {"access": jwt(token_type="access")})

    finding = show(jwt(token_type="refresh", exp=NOW + 6 * DAY))["token"]

    assert finding.outcome == "warning"
    assert "expires on 2027-01-21" in finding.text


def test_an_access_token_lasts_five_minutes_only(show: Any, jwt: Any) -> None:
    finding = show(jwt(token_type="access", exp=NOW + 200))["token"]

    assert finding.outcome == "warning"
    assert "five minutes" in finding.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_personal_access_token_that_was_revoked(show: Any, label_studio: Any, jwt: Any, status: int) -> None:
    label_studio.on("POST", "/api/token/refresh/", {"detail": "Token is blacklisted"}, status)

    found = show(jwt(token_type="refresh", exp=NOW + 30 * DAY))

    assert list(found) == ["token"]
    assert found["token"].outcome == "problem"
    assert "expired, revoked, or of another Label Studio" in found["token"].text


def test_personal_access_tokens_are_switched_off(show: Any, label_studio: Any, jwt: Any) -> None:
    label_studio.on("POST", "/api/token/refresh/", {"access": jwt(token_type="access")})
    label_studio.on("GET", "/api/current-user/whoami", {"detail": "no"}, 401)

    finding = show(jwt(token_type="refresh", exp=NOW + 30 * DAY))["token"]

    assert finding.outcome == "problem"
    assert "switched off" in finding.text


def test_legacy_tokens_are_switched_off(show: Any, label_studio: Any) -> None:
    detail = "Authentication token no longer valid: legacy token authentication has been disabled for this organization"
    label_studio.on("GET", "/api/current-user/whoami", {"detail": detail}, 401)

    finding = show("a1" * 20)["token"]

    assert finding.outcome == "problem"
    assert "Legacy tokens are switched off" in finding.text
    assert "personal access token" in finding.advice


def test_a_legacy_token_that_label_studio_does_not_know(show: Any, label_studio: Any) -> None:
    label_studio.on("GET", "/api/current-user/whoami", {"detail": "Invalid token."}, 401)

    finding = show("b2" * 20)["token"]

    assert finding.outcome == "problem"
    assert "does not know the legacy token, it answers 401" in finding.text
    assert "b2b2" not in str(finding)


@pytest.mark.parametrize(("status", "body"), [(500, {}), (200, {"id": "one"}), (200, b"<html>")])
def test_label_studio_does_not_say_whose_token_it_is(show: Any, label_studio: Any, status: int, body: Any) -> None:
    label_studio.on("GET", "/api/current-user/whoami", body, status)

    finding = show("a1" * 20)["token"]

    assert finding.outcome == "problem"
    assert f"answers {status}" in finding.text


def test_its_user_may_not_see_tasks(show: Any, label_studio: Any) -> None:
    label_studio.change("GET", "/api/current-user/whoami", permissions=["projects.view"])

    finding = show("a1" * 20)["token-rights"]

    assert finding.outcome == "problem"
    assert "lacks tasks.view" in finding.text


def test_a_label_studio_that_does_not_tell_rights_is_no_problem(show: Any, label_studio: Any) -> None:
    label_studio.change("GET", "/api/current-user/whoami", permissions=None)

    assert show("a1" * 20)["token-rights"].outcome == "skipped"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
