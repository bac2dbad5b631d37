"""One HTTP request over a connection that checks where it leads.

The check is made after the name was resolved, about the address that is then connected to: a name server that answers
with a public address first and with 127.0.0.1 a moment later gets nobody in. Each request has a connection of its own,
so none is reused that was opened under other rules. Proxies of the environment are not used: through one, the
address connected to could not be checked.
"""

import ipaddress
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import httpcore

from labelstudio_sam2.errors import ImageTooLargeError, ImageUnavailableError, UrlRefusedError
from labelstudio_sam2.images.address import Reach, WebAddress, is_public
from labelstudio_sam2.images.deadline import Clock, Deadline

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""Host and port in, IP addresses out, best first. Raises OSError."""


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Ask the system for a host's IP addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True)
class Response:
    """A server's answer.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case; of a repeated one the first counts.
        data: The body of a 200 or 201; of another answer only where it was asked for, else empty.
        reason: The phrase beside the status, as the server wrote it; may be empty.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: bytes = field(repr=False)
    reason: str = field(default="", repr=False)


class GuardedHttp:
    """Sends single requests; thread-safe, holds nothing between them.

    Args:
        connect_seconds: Deadline to resolve, connect and shake hands.
        resolver: Turns a host into IP addresses.
        network: What connects to the checked IP address.
        clock: What deadlines are read from.
    """

    def __init__(
        self,
        *,
        connect_seconds: float,
        resolver: Resolver = resolve_host,
        network: httpcore.NetworkBackend | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.clock = clock
        self._connect_seconds = connect_seconds
        self._resolver = resolver
        self._network = network or httpcore.SyncBackend()
        # At DEBUG httpcore logs the headers of answers; the Location of a redirect is a signed address.
        logging.getLogger("httpcore").setLevel(logging.WARNING)

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        return httpcore.default_ssl_context()

    def request(
        self,
        method: str,
        address: WebAddress,
        *,
        reach: Reach,
        headers: Mapping[str, str],
        deadline: Deadline,
        max_bytes: int,
        body: bytes = b"",
        reads_errors: bool = False,
    ) -> Response:
        """Send one request and read its answer; redirects are not followed.

        Args:
            method: GET or POST.
            address: Where to.
            reach: Which network addresses its host may lead to.
            headers: Besides Host, User-Agent, Accept-Encoding and Connection.
            deadline: By when the whole answer must be here.
            max_bytes: The largest body to accept, in bytes.
            body: The request's body.
            reads_errors: Whether the body of an answer other than 200 and 201 is wanted, too.

        Raises:
            UrlRefusedError: The host leads to an address that `reach` does not allow.
            ImageUnavailableError: No connection, or a broken answer, such as one cut short.
            ImageTimeoutError: The deadline passed.
            ImageTooLargeError: The body is larger than `max_bytes`.
        """
        network = _GuardedNetwork(self._network, self._resolver, reach, deadline, self._connect_seconds)
        origin = httpcore.Origin(address.scheme.encode(), address.host.encode(), address.port)
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=address.target.encode())
        sent: list[tuple[bytes | str, bytes | str]] = [
            ("Host", address.netloc),
            ("User-Agent", "labelstudio-sam2"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *headers.items(),
        ]
        ssl_context = self._ssl_context if address.scheme == "https" else None
        try:
            with (
                httpcore.HTTPConnection(origin, ssl_context=ssl_context, network_backend=network) as connection,
                connection.stream(method, url, headers=sent, content=body or None) as answer,
            ):
                return _read(answer, address, max_bytes, reads_errors=reads_errors)
        except httpcore.TimeoutException:
            raise deadline.missed() from None
        except (httpcore.ConnectError, httpcore.ReadError, httpcore.WriteError) as error:
            raise ImageUnavailableError(f"{address.netloc} cannot be reached: {error}") from None
        except httpcore.ProtocolError:  # its text quotes what the server sent
            raise ImageUnavailableError(f"{address.netloc} broke off its answer, or it is not HTTP") from None


def _read(answer: httpcore.Response, address: WebAddress, max_bytes: int, *, reads_errors: bool) -> Response:
    headers: dict[str, str] = {}
    for name, value in answer.headers:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    reason = answer.extensions.get("reason_phrase", b"").decode("latin-1")
    if answer.status not in {200, 201} and not reads_errors:
        return Response(answer.status, headers, b"", reason)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ImageUnavailableError(f"{address.netloc} sent the file compressed though it was asked not to")
    too_large = ImageTooLargeError(f"the file at {address} is larger than {max_bytes:,} bytes")
    if int(headers.get("content-length", "0")) > max_bytes:  # h11 has checked that it is a number
        raise too_large
    data = bytearray()
    for chunk in answer.iter_stream():
        data += chunk
        if len(data) > max_bytes:
            raise too_large
    return Response(answer.status, headers, bytes(data), reason)


class _GuardedNetwork(httpcore.NetworkBackend):
    """Connects to IP addresses that it has checked, and to no others."""

    def __init__(
        self,
        network: httpcore.NetworkBackend,
        resolver: Resolver,
        reach: Reach,
        deadline: Deadline,
        connect_seconds: float,
    ) -> None:
        self._network = network
        self._resolver = resolver
        self._reach = reach
        self._deadline = deadline
        self._connect_seconds = connect_seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        connecting = self._deadline.within(self._connect_seconds, f"connecting to {host}")
        ips = _resolve(self._resolver, host, port, connecting)
        if self._reach is Reach.PUBLIC and not all(map(is_public, ips)):
            raise UrlRefusedError(
                f"{host} leads to a private or reserved network address; "
                f"name {host} in ALLOWED_IMAGE_HOSTS if pictures come from there"
            )
        for tries_left, ip in zip(range(len(ips), 0, -1), ips, strict=True):
            share = connecting.left() / tries_left
            try:
                stream = self._network.connect_tcp(ip, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline, connecting)
        raise connecting.missed() if isinstance(failure, httpcore.ConnectTimeout) else failure


def _resolve(resolver: Resolver, host: str, port: int, deadline: Deadline) -> Sequence[str]:
    """Resolve in a thread of its own: the system's resolver knows no deadline."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass  # a name
    answer: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolver(host, port))
        except (OSError, UnicodeError):
            answer.put([])

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        ips = answer.get(timeout=deadline.left())
    except queue.Empty:
        raise deadline.missed() from None
    if not ips:
        raise ImageUnavailableError(f"{host} cannot be resolved")
    return ips


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every read and write ends at one deadline, however many there are."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline, connecting: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._connecting = connecting

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline counts
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline counts
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, self._connecting.left())
        except httpcore.ConnectTimeout:
            raise self._connecting.missed() from None
        return _DeadlineStream(stream, self._deadline, self._connecting)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
