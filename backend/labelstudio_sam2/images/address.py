"""Web addresses, and which of them may be opened.

Only Label Studio's places for pictures and `ALLOWED_IMAGE_HOSTS` may be asked. The text of an address alone proves
nothing about where it leads, so `is_public` is asked again inside the connection, about the very address that is
connected to.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, TypeAlias
from urllib.parse import quote, unquote, urljoin, urlsplit

from labelstudio_sam2.errors import UrlRefusedError
from labelstudio_sam2.settings import Settings, SettingsError

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host, port."""

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_ADDRESS_LENGTH = 8192

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_KEPT_IN_PATH = "/%:@!$&'()*+,;=~"
_KEPT_IN_QUERY = _KEPT_IN_PATH + "?"
_OF_LABEL_STUDIO = re.compile(
    r"/(data/upload/.|data/local-files/|storage-data/uploaded/|(tasks|projects)/\d+/(presign|resolve)/)"
)


@dataclass(frozen=True)
class WebAddress:
    """An http or https address, checked and in one spelling.

    `str()` and `repr()` leave the query out: signatures in it are secrets.

    Attributes:
        scheme: http or https.
        host: Lower case ASCII (IDNA), an IPv6 address without brackets.
        port: Always given, also where it is the scheme's own.
        path: Starts with a slash, percent-encoded.
        query: Percent-encoded, without the question mark; may be empty.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an absolute address. The fragment is dropped.

        Raises:
            UrlRefusedError: Not http or https, with a user name or password, with control characters, or malformed.
        """
        check_text(text)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise UrlRefusedError("the image address is malformed") from None
        host = parts.hostname or ""
        if "[" in parts.netloc and ":" not in host:
            raise UrlRefusedError("the image address has a malformed IPv6 address in it")
        if parts.scheme not in DEFAULT_PORTS:
            raise UrlRefusedError("the image address must start with http:// or https://")
        if "@" in parts.netloc:
            raise UrlRefusedError("the image address has a user name or password in it")
        return cls(
            scheme=parts.scheme,
            host=_ascii_host(host),
            port=DEFAULT_PORTS[parts.scheme] if port is None else port,
            path=quote(parts.path or "/", safe=_KEPT_IN_PATH),
            query=quote(parts.query, safe=_KEPT_IN_QUERY),
        )

    @property
    def origin(self) -> Origin:
        """What decides who gets the token."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """Host and, unless it is the scheme's own, port: the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """Path and query: what the request line carries. Secret."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def url(self) -> str:
        """The whole address. Secret; `str()` is for people."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    def join(self, location: str) -> Self:
        """Return where a redirect from here leads.

        Raises:
            UrlRefusedError: As `parse`.
        """
        check_text(location)
        try:
            joined = urljoin(self.url, location)
        except ValueError:
            raise UrlRefusedError(f"{self.netloc} redirects to a malformed address") from None
        return self.parse(joined)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def check_text(text: str) -> None:
    """Check what every address must be: not too long, no control characters, no lone surrogates.

    Raises:
        UrlRefusedError: It is not.
    """
    if len(text) > MAX_ADDRESS_LENGTH:
        raise UrlRefusedError(f"the image address is longer than {MAX_ADDRESS_LENGTH} characters")
    if _CONTROL.search(text):
        raise UrlRefusedError("the image address has control characters in it")


class Reach(Enum):
    """Which network addresses a host name may lead to."""

    ANYWHERE = "anywhere"
    """An operator named the host, so it may be in the private network."""
    PUBLIC = "public"
    """Nobody vouches for the host, so it must lead to the public internet."""


@dataclass(frozen=True)
class HostPolicy:
    """Which hosts may be asked for pictures.

    Attributes:
        label_studio: `LABEL_STUDIO_URL`; where it keeps pictures may always be asked, wherever that is, and alone gets
            the token.
        allowed: (host, port) of `ALLOWED_IMAGE_HOSTS`; None stands for every port. They may be private.
        any_public: `ALLOWED_IMAGE_HOSTS` has a `*`: every host, as long as it leads to a public address.
    """

    label_studio: WebAddress | None
    allowed: frozenset[tuple[str, int | None]]
    any_public: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read `LABEL_STUDIO_URL` and `ALLOWED_IMAGE_HOSTS`.

        Raises:
            SettingsError: One of the two is malformed.
        """
        label_studio = None
        if settings.label_studio_url is not None:
            try:
                label_studio = WebAddress.parse(str(settings.label_studio_url))
            except UrlRefusedError as error:
                raise SettingsError(f"LABEL_STUDIO_URL: {error}") from None
        hosts = [host for host in settings.allowed_image_hosts if host != "*"]
        return cls(label_studio, frozenset(map(_allowed_host, hosts)), "*" in settings.allowed_image_hosts)

    def is_kept(self, address: WebAddress) -> bool:
        """Whether Label Studio keeps pictures there: all that gets its token.

        Scheme, host and port must be its own, and so must the path. What else is on its origin acts for whoever comes
        with a token, at a mere GET: it locks the next task, exports a project, logs out.
        """
        if self.label_studio is None or self.label_studio.origin != address.origin:
            return False
        base = self.label_studio.path.rstrip("/")
        is_place = address.path.startswith(base) and _OF_LABEL_STUDIO.match(address.path, len(base)) is not None
        return is_place and ".." not in unquote(unquote(address.path)).replace("\\", "/").split("/")

    def is_listed(self, address: WebAddress) -> bool:
        """Whether the operator named the host in `ALLOWED_IMAGE_HOSTS`."""
        return not self.allowed.isdisjoint({(address.host, None), (address.host, address.port)})

    def reach(self, address: WebAddress, *, signed: bool = False) -> Reach:
        """Return which network addresses the host may lead to.

        Args:
            address: What is to be opened.
            signed: Label Studio itself has just redirected to this address, to answer for a file in cloud storage.

        Raises:
            UrlRefusedError: It may not be asked at all; the message names the setting that would allow it.
        """
        if self.is_kept(address) or self.is_listed(address):
            return Reach.ANYWHERE
        if self.any_public or signed:
            return Reach.PUBLIC
        raise UrlRefusedError(f"{address.netloc} is not allowed: {self._advice(address)}")

    def _advice(self, address: WebAddress) -> str:
        if self.label_studio is None:
            return f"set LABEL_STUDIO_URL, or name {address.netloc} in ALLOWED_IMAGE_HOSTS"
        if self.label_studio.origin == address.origin:
            return (
                f"Label Studio keeps no pictures at {address.path}; name {address.netloc} in ALLOWED_IMAGE_HOSTS "
                "if some other server's pictures are there, to have them asked for without the token"
            )
        if self.label_studio.host == address.host:
            asked = f"{address.scheme}://{address.netloc}"
            return f"LABEL_STUDIO_URL has another scheme or port; if Label Studio is there, set it to {asked}"
        return f"name {address.netloc} in ALLOWED_IMAGE_HOSTS if pictures come from there"


def is_public(ip: str) -> bool:
    """Whether an IP address is on the public internet, and of no use to reach anything private.

    False for loopback, link-local, private, shared (CGNAT), multicast and reserved addresses, and for every IPv6
    address that carries an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo).
    """
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# IANA's special-purpose registries; `is_global` differs from one Python to the next (192.0.0.0/24 in 3.11.7).
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared (CGNAT)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host of the virtual machine, by a public number
        "169.254.0.0/16",  # link-local, clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)


def _ascii_host(host: str) -> str:
    if ":" in host:
        try:
            ip = ipaddress.IPv6Address(host)
        except ValueError:
            raise UrlRefusedError("the image address has a malformed IPv6 address in it") from None
        if ip.scope_id is not None:
            raise UrlRefusedError("the image address has an IPv6 zone in it")
        return str(ip)
    try:
        name = host.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UrlRefusedError("the image address has a malformed host name") from None
    if not _HOST_NAME.fullmatch(name):
        raise UrlRefusedError("the image address has a malformed host name")
    return name


def _allowed_host(text: str) -> tuple[str, int | None]:
    refused = SettingsError(f"ALLOWED_IMAGE_HOSTS: {text!r} is not a host, host:port or *")
    try:
        parts = urlsplit(f"//{text}")
        host, port = _ascii_host(parts.hostname or ""), parts.port
    except (ValueError, UrlRefusedError):
        raise refused from None
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise refused
    return host, port
