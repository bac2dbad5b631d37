"""The backend that is running: whether it answers, which one it is, and whether its model is loaded."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from labelstudio_sam2.doctor.advice import SEE_LOG, advice_for, sentence
from labelstudio_sam2.doctor.findings import Check, Finding, ok, problem, skipped, warning
from labelstudio_sam2.errors import BackendError, UrlRefusedError
from labelstudio_sam2.images.address import Reach, WebAddress
from labelstudio_sam2.images.connection import GuardedHttp, Response
from labelstudio_sam2.images.deadline import Deadline
from labelstudio_sam2.settings import Settings

PROBE_SECONDS = 5.0
MAX_PROBE_BYTES = 65_536
MAX_ANSWER_BYTES = 64_000_000
NAME = "labelstudio-sam2"
MODEL_CLASS = "SAM2Backend"
"""Of this backend, whichever server runs it."""


class _Info(msgspec.Struct, frozen=True):
    """`GET /info`."""

    name: str = ""
    version: str = ""
    uuid: str = ""


class _Health(msgspec.Struct, frozen=True):
    """`GET /health`; `v` is the model's version."""

    model_class: str = ""
    v: str = ""


class _Error(msgspec.Struct, frozen=True):
    """What every error is answered with."""

    message: str = ""


class RefusedError(Exception):
    """A backend answered with an error; the message says what it was asked and what it said.

    Attributes:
        reason: The phrase beside the status.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Server:
    """A backend of this project that answers.

    Attributes:
        address: Where.
        version: Of the package; empty where label-studio-ml's server runs it.
        model_version: Of its model.
        process: Names its process, so that one reached at two addresses is known as one; empty as the version.
        is_trusted: The operator named the address, so that credentials may be sent there.
    """

    address: WebAddress
    version: str
    model_version: str
    process: str
    is_trusted: bool


class Servers:
    """Asks ML backends. Redirects are not followed, and credentials go only where the operator said the backend is.

    Args:
        settings: This backend's.
        backend_url: Where the operator says it runs; where the settings say, if None.
    """

    def __init__(self, settings: Settings, backend_url: str | None) -> None:
        self._settings = settings
        self._http = GuardedHttp(connect_seconds=settings.image_connect_seconds)
        self._known: dict[str, Server | str] = {}
        self.is_named = backend_url is not None
        self.own = WebAddress.parse(backend_url or settings.own_url)

    def look(self, url: str) -> Server | str:
        """Return the backend of this project that answers at a URL, else what is wrong there. Asks once per URL."""
        if url not in self._known:
            self._known[url] = self._look(url)
        return self._known[url]

    def check_ready(self, server: Server) -> None:
        """Ask whether its model is loaded.

        Raises:
            RefusedError: It is not.
            BackendError: No answer.
        """
        _check(self._get(server.address, "/ready", headers=self._credentials(server)), "GET /ready")

    def predict(self, server: Server, body: bytes) -> bytes:
        """Post a body as Label Studio does, and return the answer's.

        Raises:
            RefusedError: It answers with an error.
            BackendError: No answer.
        """
        seconds = self._settings.request_seconds + self._settings.image_download_seconds + PROBE_SECONDS
        response = self._http.request(
            "POST",
            _under(server.address, "/predict"),
            reach=Reach.ANYWHERE,
            headers={"Content-Type": "application/json", **self._credentials(server)},
            body=body,
            deadline=Deadline.after(seconds, "the backend's answer"),
            max_bytes=MAX_ANSWER_BYTES,
            reads_errors=True,
        )
        return _check(response, "POST /predict").data

    def may_predict(self, server: Server) -> bool:
        """Whether it can be asked for a mask: not where it may want credentials that must not be sent there."""
        return server.is_trusted or self._settings.basic_auth_user is None

    def _look(self, url: str) -> Server | str:
        try:
            address = WebAddress.parse(url)
            health = self._get(address, "/health")
            if health.status != 200:
                return f"GET /health answers {health.status}"
            info, answer = self._get(address, "/info"), _read(health, _Health)
        except UrlRefusedError:
            return "the address is malformed, or has a user name in it"
        except BackendError as error:
            return str(error)
        if answer.model_class != MODEL_CLASS:
            return "another server answers there"
        server = _read(info, _Info) if info.status == 200 else _Info()
        is_ours = server.name == NAME
        return Server(
            address,
            version=server.version if is_ours else "",
            model_version=answer.v,
            process=server.uuid if is_ours else "",
            is_trusted=address.origin == self.own.origin,
        )

    def _get(self, address: WebAddress, path: str, headers: dict[str, str] | None = None) -> Response:
        return self._http.request(
            "GET",
            _under(address, path),
            reach=Reach.ANYWHERE,
            headers=headers or {},
            deadline=Deadline.after(PROBE_SECONDS, f"GET {path}"),
            max_bytes=MAX_PROBE_BYTES,
            reads_errors=True,
        )

    def _credentials(self, server: Server) -> dict[str, str]:
        user, password = self._settings.basic_auth_user, self._settings.basic_auth_pass
        if not (server.is_trusted and user and password):
            return {}
        credentials = base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode("ascii")
        return {"Authorization": f"Basic {credentials}"}


def check_server(
    servers: Servers, connected_urls: Sequence[str], *, own_version: str, own_model_version: str
) -> Check[Server | None]:
    """Find the running backend, and see whether it can be asked. Returns it, or None.

    Args:
        servers: Asks.
        connected_urls: Where Label Studio's projects say that ML backends are; looked at unless the operator named one.
        own_version: Of this package.
        own_model_version: Of the model that the settings here name.
    """
    candidates = [servers.own.url] if servers.is_named else [servers.own.url, *connected_urls]
    found = {url: servers.look(url) for url in dict.fromkeys(candidates)}
    server = next((each for each in found.values() if isinstance(each, Server)), None)
    if server is None:
        seen = "; ".join(f"{shown(url)}: {what}" for url, what in found.items())
        yield problem(
            "backend",
            f"This backend does not answer. {seen}.",
            "Start it (labelstudio-sam2 serve); if it runs elsewhere, say where with --backend-url.",
        )
        return None
    yield ok("backend", f"answers at {shown(str(server.address))}, with {server.model_version}")
    yield _same_version(server, own_version, own_model_version)
    yield _ready(servers, server)
    return server


def _same_version(server: Server, own_version: str, own_model_version: str) -> Finding:
    if not server.version:
        return skipped("backend-version", "label-studio-ml's server runs it, which does not tell.")
    if server.version != own_version:
        return warning(
            "backend-version",
            f"The running backend is {server.version}, this command is {own_version}.",
            "Start the backend again from this installation, or run doctor from the backend's.",
        )
    if server.model_version != own_model_version:
        return warning(
            "backend-version",
            f"The running backend has {server.model_version}, the settings here name {own_model_version}.",
            "Run doctor with the backend's own settings (in its container, say), or start the backend again with "
            "these.",
        )
    return ok("backend-version", f"{server.version}, the same as here, and with the same settings")


def _ready(servers: Servers, server: Server) -> Finding:
    if not server.version:
        return skipped("backend-ready", "label-studio-ml's server does not tell.")
    try:
        servers.check_ready(server)
    except RefusedError as error:
        return problem("backend-ready", sentence(error), advice_for(error.reason))
    except BackendError as error:
        return problem("backend-ready", sentence(error), SEE_LOG)
    return ok("backend-ready", "its model is loaded")


def _check(response: Response, what: str) -> Response:
    """Return a good answer; raises RefusedError with what the backend says otherwise."""
    if response.status == 200:
        return response
    message = _read(response, _Error).message
    said = [part for part in dict.fromkeys([response.reason, message]) if part]
    raise RefusedError(f"{what} answers {response.status}: {', '.join(said)}", response.reason)


def _under(address: WebAddress, path: str) -> WebAddress:
    return address.join(address.path.rstrip("/") + path)


def shown(url: str) -> str:
    """Return an address for people, without its query."""
    return url.partition("?")[0].rstrip("/")


def _read(response: Response, answer: Any) -> Any:
    try:
        return msgspec.json.decode(response.data, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return answer()
