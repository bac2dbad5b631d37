"""Whether Label Studio is there, which version it is, and whether it takes the token."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from labelstudio_sam2.doctor.advice import sentence
from labelstudio_sam2.doctor.findings import Check, Finding, ok, problem, skipped, warning
from labelstudio_sam2.errors import BackendError, ImageForbiddenError
from labelstudio_sam2.images.connection import Response
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi

OLDEST_TRIED = "1.23.2"
"""The oldest Label Studio that this backend was tried with."""
WANTED_RIGHTS = ("projects.view", "tasks.view")
SOON_SECONDS = 7 * 86_400

_NEW_ONE = (
    "In Label Studio, under Account & Settings > Personal Access Token, make one; set LABEL_STUDIO_API_KEY to it and "
    "start the backend again."
)
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1")


class _Package(msgspec.Struct, frozen=True):
    version: str


class _Version(msgspec.Struct, frozen=True, rename="kebab"):
    """`GET /api/version`."""

    label_studio_os_package: _Package


class _User(msgspec.Struct, frozen=True):
    """`GET /api/current-user/whoami`."""

    id: int
    email: str = ""
    permissions: list[str] | None = None


def is_in_container() -> bool:
    """Whether this process runs in a container, as far as can be told."""
    marks = Path("/.dockerenv"), Path("/run/.containerenv")
    return any(mark.exists() for mark in marks) or "KUBERNETES_SERVICE_HOST" in os.environ


def check_label_studio(api: LabelStudioApi, *, in_container: bool) -> Check[bool]:
    """Look for Label Studio at `LABEL_STUDIO_URL`, without a token. Returns whether it is there."""
    if api.address is None:
        yield problem(
            "label-studio-url",
            "LABEL_STUDIO_URL is not set, so pictures that Label Studio keeps cannot be fetched.",
            "Set it to Label Studio's address as the backend sees it, such as http://label-studio:8080.",
        )
        return False
    where = str(api.address).rstrip("/")
    try:
        response = api.ask("/api/version", what="its version", signed=False)
    except BackendError as error:
        yield problem(
            "label-studio-url", f"Label Studio cannot be reached at {where}: {error}.", _reach(api, in_container)
        )
        return False
    version = _version(response)
    if version is None:
        yield _not_label_studio(where, response)
        return False
    yield ok("label-studio-url", f"Label Studio answers at {where}")
    if _numbers(version) < _numbers(OLDEST_TRIED):
        yield warning(
            "label-studio-version",
            f"Label Studio is {version}; nothing older than {OLDEST_TRIED} was tried with this backend.",
            f"Update Label Studio to {OLDEST_TRIED} or newer if something does not work.",
        )
    else:
        yield ok("label-studio-version", f"{version}, tried are {OLDEST_TRIED} and newer")
    return True


def check_token(api: LabelStudioApi, now: Callable[[], float] = time.time) -> Check[bool]:
    """See what kind the token is and whether Label Studio takes it. Returns whether it does."""
    kind, expires_at = api.token.kind, api.token.expires_at
    if kind == "none":
        yield problem("token", "LABEL_STUDIO_API_KEY is not set.", _NEW_ONE)
        return False
    if expires_at is not None and expires_at <= now():
        yield problem("token", f"{_KINDS[kind]} expired on {_day(expires_at)}.", _NEW_ONE)
        return False
    try:
        response = api.ask("/api/current-user/whoami", what="the token's user")
    except ImageForbiddenError:
        yield problem(
            "token",
            f"Label Studio does not take {_KINDS[kind]}, which is expired, revoked, or of another Label Studio.",
            _NEW_ONE,
        )
        return False
    except BackendError as error:
        yield problem("token", f"Label Studio does not say whose {_KINDS[kind]} is. {sentence(error)}", "Try again.")
        return False
    user = _user(response)
    if user is None:
        yield _refused(kind, response)
        return False
    who = f"Label Studio takes {_KINDS[kind]} of user {user.id}{_hidden(user.email)}"
    if kind == "access":
        yield warning("token", f"{who}; it is good for five minutes only.", _NEW_ONE)
    elif expires_at is not None and expires_at - now() < SOON_SECONDS:
        yield warning("token", f"{who}; it expires on {_day(expires_at)}.", _NEW_ONE)
    else:
        yield ok("token", who)
    yield from _check_rights(user)
    return True


def _check_rights(user: _User) -> Check[None]:
    if user.permissions is None:
        yield skipped("token-rights", "Label Studio does not say what its user may do.")
        return
    lacking = [right for right in WANTED_RIGHTS if right not in user.permissions]
    if lacking:
        yield problem(
            "token-rights",
            f"its user lacks {' and '.join(lacking)}.",
            "Take a token of a user who may see the project and its tasks.",
        )
    else:
        yield ok("token-rights", "its user may see projects and tasks")


_KINDS = {
    "legacy": "the legacy token",
    "personal": "the personal access token",
    "access": "the access token",
}


def _reach(api: LabelStudioApi, in_container: bool) -> str:  # noqa: FBT001 - private, and named at the one call
    if in_container and api.address is not None and _LOOPBACK.fullmatch(api.address.host):
        return (
            f"This runs in a container, where {api.address.host} is the container itself. Set LABEL_STUDIO_URL to the "
            "service's name, http://label-studio:8080 in docker-compose.yml, or to http://host.docker.internal:8080 "
            "for one on the host."
        )
    return "Start Label Studio, or set LABEL_STUDIO_URL to its address as this machine reaches it."


def _not_label_studio(where: str, response: Response) -> Finding:
    if response.status in {301, 302, 303, 307, 308}:
        target = response.headers.get("location", "").partition("?")[0]
        return problem(
            "label-studio-url",
            f"{where} redirects to {target or 'nowhere'}.",
            "If that is Label Studio, set LABEL_STUDIO_URL to that address without its path. If it is a login page of "
            "a proxy in front of it, give the backend an address behind that proxy.",
        )
    if response.status in {401, 403, 407}:
        return problem(
            "label-studio-url",
            f"{where} answers {response.status} before Label Studio is asked: a proxy in front wants a login.",
            "Give the backend an address behind that proxy.",
        )
    page = response.data[:4096].lstrip().lower()
    found = "a web page, such as a proxy's login" if page.startswith((b"<!doctype", b"<html")) else "something else"
    return problem(
        "label-studio-url",
        f"{where} is not Label Studio: to /api/version it answers {response.status} and {found}.",
        "Set LABEL_STUDIO_URL to Label Studio's address, with the path it is served under, if any.",
    )


def _refused(kind: str, response: Response) -> Finding:
    if response.status in {401, 403} and b"legacy token authentication has been disabled" in response.data:
        return problem(
            "token",
            "Legacy tokens are switched off for the organization.",
            "Take a personal access token from Account & Settings, or switch legacy tokens on under Organization > "
            "API Tokens Settings; then start the backend again.",
        )
    if response.status == 401 and kind == "personal":
        return problem(
            "token",
            "Label Studio takes the personal access token at its refresh address only, so they are switched off for "
            "the organization, or its user is gone.",
            "Switch them on under Organization > API Tokens Settings, or take a legacy token.",
        )
    if response.status in {401, 403}:
        return problem("token", f"Label Studio does not know {_KINDS[kind]}, it answers {response.status}.", _NEW_ONE)
    return problem(
        "token",
        f"Label Studio answers {response.status} when asked whose token it is.",
        "See Label Studio's log for that request.",
    )


def _version(response: Response) -> str | None:
    try:
        return msgspec.json.decode(response.data, type=_Version).label_studio_os_package.version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _user(response: Response) -> _User | None:
    if response.status != 200:
        return None
    try:
        return msgspec.json.decode(response.data, type=_User)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _hidden(email: str) -> str:
    """Return enough of an e-mail address to know one's own."""
    name, at, host = email.partition("@")
    return f" ({name[:1]}...{at}{host})" if at else ""


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
