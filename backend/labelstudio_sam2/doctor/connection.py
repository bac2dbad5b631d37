"""How a project of Label Studio is connected with this backend, and whether Label Studio lets it be."""

from collections.abc import Iterator, Sequence

import msgspec

from labelstudio_sam2.doctor.advice import RESERVED, advice_for
from labelstudio_sam2.doctor.findings import Check, Finding, ok, problem, skipped, warning
from labelstudio_sam2.doctor.server import Server, Servers, shown
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.images.connection import Response
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi
from labelstudio_sam2.settings import Settings

STATE_SECONDS = 30.0
"""Label Studio asks every backend of a project before it lists them."""

_CONNECT = (
    "In the project's Settings > Model choose Connect Model: any name, the backend's address as Label Studio reaches "
    "it, and Interactive preannotations on."
)
_LET_IN = (
    "Start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (docker-compose.yml does), then "
    "connect the backend again."
)


class Connection(msgspec.Struct, frozen=True):
    """An ML backend of a project, as `GET /api/ml` lists it.

    Attributes:
        state: `CO` connected, `DI` disconnected, `ER` error; Label Studio has just found out.
        model_version: What the backend said when it was last set up.
    """

    id: int
    url: str
    title: str | None = None
    is_interactive: bool = False
    state: str = ""
    error_message: str | None = None
    auth_method: str = "NONE"
    basic_auth_user: str | None = None
    model_version: str | None = None

    @property
    def name(self) -> str:
        """Its title and address, for people."""
        return f"{self.title or 'an ML backend'} ({shown(self.url)})"


def connections_of(api: LabelStudioApi, project: int) -> list[Connection]:
    """Return a project's ML backends, in the order in which the editor looks for an interactive one.

    Raises:
        BackendError: As `LabelStudioApi.get`.
    """
    return api.get(
        "/api/ml", list[Connection], what="the project's ML backends", seconds=STATE_SECONDS, query={"project": project}
    )


def check_connection(
    connections: Sequence[Connection],
    servers: Servers,
    server: Server | None,
    settings: Settings,
    *,
    own_model_version: str,
) -> Check[Connection | None]:
    """See whether this backend is the one that the editor of a project will ask. Returns its connection.

    Args:
        connections: Of the project.
        servers: Tells what answers at their addresses.
        server: The running backend, if it was found.
        settings: This backend's.
        own_model_version: Of the model that the settings name.
    """
    if not connections:
        yield problem("connection", "The project has no ML backend.", _CONNECT)
        return None
    known = {own_model_version} if server is None else {own_model_version, server.model_version}
    ranked = [(rank, each) for each in connections if (rank := _likeness(each, servers, server, known)) is not None]
    if not ranked:
        yield problem(
            "connection",
            f"None of the project's ML backends is this one: {', '.join(each.name for each in connections)}.",
            f"Set the right address there, or connect this backend. {_CONNECT}",
        )
        return None
    rank, ours = min(ranked, key=lambda pair: pair[0])
    if rank == _OTHER_PROCESS and server is not None:
        yield warning(
            "connection",
            f"{ours.name} is another process than the backend at {shown(str(server.address))}.",
            "Set the address in the project's Settings > Model if it should be that one.",
        )
    else:
        yield ok("connection", ours.name)
    yield _state(ours, answers_here=isinstance(servers.look(ours.url), Server))
    yield _interactive(ours, connections)
    yield _auth(ours, settings)
    return ours


def check_private_addresses(api: LabelStudioApi, url: str) -> Iterator[Finding]:
    """See whether Label Studio lets an ML backend and its webhook be at an address. Changes nothing.

    It judges the address before anything else. So each is asked for with something that it refuses in any case: a
    backend without a project, a webhook for an action that does not exist.

    Args:
        api: Label Studio.
        url: The backend's, as Label Studio reaches it.
    """
    webhook = f"{url.rstrip('/')}/webhook"
    try:
        answers = {
            "ML_BLOCK_LOCAL_IP": api.ask("/api/ml", what="leave for an ML backend", body={"url": url}),
            "SSRF_PROTECTION_ENABLED": api.ask(
                "/api/webhooks", what="leave for its webhook", body={"url": webhook, "actions": ["none"]}
            ),
        }
    except BackendError as error:
        yield _untold(str(error))
        return
    details = {setting: _detail(response) for setting, response in answers.items()}
    refusing = [setting for setting, detail in details.items() if RESERVED in detail]
    if "ML_BLOCK_LOCAL_IP" in refusing:
        yield problem(
            "private-addresses",
            f"Label Studio refuses a backend at {shown(url)}: {' and '.join(refusing)} "
            f"{'is' if len(refusing) == 1 else 'are'} on.",
            _LET_IN,
        )
    elif refusing:
        yield warning(
            "private-addresses",
            f"Label Studio lets a backend be at {shown(url)}, but not its webhook: connecting one answers 403 although "
            "it is then connected.",
            "Start Label Studio with SSRF_PROTECTION_ENABLED=false, too.",
        )
    elif any("resolve hostname" in detail for detail in details.values()):
        yield problem(
            "private-addresses",
            f"Label Studio cannot resolve the name in {shown(url)}.",
            "Connect the backend under a name that Label Studio's machine or container knows.",
        )
    elif all(response.status == 400 for response in answers.values()):
        yield ok("private-addresses", f"Label Studio lets a backend be at {shown(url)}")
    else:
        statuses = " and ".join(str(response.status) for response in answers.values())
        yield _untold(f"Label Studio answers {statuses} when asked")


_SAME_PROCESS, _OTHER_PROCESS, _SAME_MODEL = range(3)
"""How sure it is that a connection is this backend's, the surest first."""


def _likeness(connection: Connection, servers: Servers, server: Server | None, known: set[str]) -> int | None:
    there = servers.look(connection.url)
    if isinstance(there, Server):
        is_same = server is not None and (
            there.address == server.address or (there.process != "" and there.process == server.process)
        )
        return _SAME_PROCESS if is_same else _OTHER_PROCESS
    return _SAME_MODEL if connection.model_version in known else None


def _state(ours: Connection, *, answers_here: bool) -> Finding:
    if ours.state == "ER":
        said = ours.error_message or "no more than that"
        return problem("connection-state", f"Label Studio had an error with it: {said}.", advice_for(said))
    if ours.state == "DI":
        first = "" if answers_here else "It does not answer here either: see that it runs. "
        return problem(
            "connection-state",
            f"Label Studio cannot reach it at {shown(ours.url)}.",
            f"{first}If private-addresses is well, see that HOST lets it listen to more than its own machine (0.0.0.0) "
            "and that Label Studio's machine or container reaches the address: in Docker not localhost.",
        )
    return ok("connection-state", "Label Studio reaches it")


def _interactive(ours: Connection, connections: Sequence[Connection]) -> Finding:
    if not ours.is_interactive:
        return problem(
            "interactive",
            "Interactive preannotations are off: the editor has no Auto-Annotation switch for it.",
            "In the project's Settings > Model edit the connection and switch on Interactive preannotations.",
        )
    first = next(each for each in connections if each.is_interactive)
    if first.id != ours.id:
        return problem(
            "interactive",
            f"The editor asks the first interactive backend, which is {first.name}.",
            "Switch off Interactive preannotations of that one.",
        )
    return ok("interactive", "the editor asks this backend")


def _auth(ours: Connection, settings: Settings) -> Finding:
    if settings.basic_auth_user is None:
        return ok("connection-auth", "the backend wants no credentials")
    how = "In the project's Settings > Model edit the connection's Authentication: BASIC_AUTH_USER and BASIC_AUTH_PASS."
    if ours.auth_method != "BASIC_AUTH":
        return problem("connection-auth", "The backend wants Basic auth, and Label Studio sends none.", how)
    if ours.basic_auth_user != settings.basic_auth_user:
        return problem("connection-auth", "Label Studio sends another user name than BASIC_AUTH_USER.", how)
    return ok("connection-auth", "Label Studio sends the user name that the backend wants")


def _untold(why: str) -> Finding:
    return skipped(
        "private-addresses",
        f"Whether Label Studio lets a backend be at a private address could not be told: {why}. Connecting "
        "one answers 403 if it does not.",
    )


class _Refusal(msgspec.Struct, frozen=True):
    """What Label Studio answers with an error."""

    detail: str = ""


def _detail(response: Response) -> str:
    try:
        return msgspec.json.decode(response.data, type=_Refusal).detail
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
