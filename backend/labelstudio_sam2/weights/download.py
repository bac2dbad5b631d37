"""Downloads a file over HTTP, going on from what an earlier try left.

What came is kept in a file of its own, the part. Beside it lies its origin: the address, and the ETag or date by which
its server tells that the file has not changed since. Whether the bytes are right is for the caller to check.
"""

import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from labelstudio_sam2.weights.errors import WeightsError
from labelstudio_sam2.weights.progress import Report

TRIES = 5
"""After so many in a row that brought nothing it is given up; one that brought something starts the count again."""

CONNECT_SECONDS = 10
STALL_SECONDS = 30
STALL_BYTES = 64 * 1024
"""A server that sends less in STALL_SECONDS stalls: at that rate the smallest official file takes 20 hours."""

_TRY_AGAIN = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Part:
    """What is there of a file so far.

    Attributes:
        path: Where the bytes are kept; there may be none yet.
    """

    path: Path

    @property
    def origin(self) -> Path:
        """Where it is kept what the bytes came from."""
        return self.path.with_name(f"{self.path.name}-origin")

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self) -> None:
        """Forget what came."""
        self.path.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)

    def begin(self, url: str, headers: httpx.Headers) -> None:
        """Forget what came, and note where the bytes that follow come from."""
        self.remove()
        etag = headers.get("ETag", "")
        is_strong = etag.startswith('"')  # a weak one may not go with a range
        validator = etag if is_strong else headers.get("Last-Modified")
        if validator is not None and validator.isascii():  # or it could not be sent back
            self.origin.write_text(f"{url}\n{validator}\n", encoding="utf-8")

    def validator(self, url: str) -> str | None:
        """Return the ETag or the date of the file that the bytes are of, if they came from this address."""
        try:
            origin, validator = self.origin.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, ValueError):
            return None
        return validator if origin == url else None


def download(
    url: str,
    part: Part,
    size_bytes: int,
    report: Report,
    *,
    pause: Callable[[float], None] = time.sleep,
    stall_seconds: float = STALL_SECONDS,
    stall_bytes: int = STALL_BYTES,
) -> None:
    """Download a file until the part is whole; slow. Proxies and CA files of the environment are used, as httpx does.

    A connection that is cut or stalls, and a server that is overloaded, are tried again, ever later.

    Args:
        url: Where the file is; redirects are followed.
        part: What an earlier try left. It stays when this one fails or is interrupted, unless its bytes are wrong.
        size_bytes: The size that the file must have.
        report: Told how much there is, and why there is a pause.
        pause: Waits so many seconds.
        stall_seconds: How long the server may be silent, or send less than `stall_bytes`.
        stall_bytes: What a try that stalled must have brought, not to count as one that brought nothing.

    Raises:
        WeightsError: The file cannot be had there, or has another size.
        OSError: The part cannot be written, for want of space or permission.
    """
    failures = 0
    most = part.size_bytes
    with _client(stall_seconds) as client:
        if part.size_bytes > size_bytes:
            part.remove()
            most = 0
        while part.size_bytes < size_bytes:
            try:
                _download_on(client, url, part, size_bytes, report, _Pace(stall_seconds, stall_bytes))
            except _CutError as cut:
                enough = stall_bytes if isinstance(cut, _StallError) else 1
                failures = 0 if part.size_bytes - most >= enough else failures + 1
                most = max(most, part.size_bytes)
                if failures == TRIES:
                    raise WeightsError(f"{cut}, {TRIES} times in a row. {_IF_UNREACHABLE}") from None
                seconds = 2**failures
                report.say(f"{cut}; trying again in {seconds} s")
                pause(seconds)


class _CutError(Exception):
    """Another try may get further."""


class _StallError(_CutError):
    """The server is silent, or sends next to nothing."""


class _Pace:
    """Tells whether a download is too slow. Its clock starts when it is made.

    Args:
        seconds: In so many
        size_bytes: so much must come.
    """

    def __init__(self, seconds: float, size_bytes: int) -> None:
        self._seconds = seconds
        self._size_bytes = size_bytes
        self._since = time.monotonic()
        self._came = 0

    def is_too_slow(self, more_bytes: int) -> bool:
        """Take note of bytes that came, and return whether it was too few for too long."""
        self._came += more_bytes
        if self._came >= self._size_bytes:
            self._since = time.monotonic()
            self._came = 0
        return time.monotonic() - self._since > self._seconds


def _client(stall_seconds: float) -> httpx.Client:
    try:
        return httpx.Client(follow_redirects=True, timeout=httpx.Timeout(stall_seconds, connect=CONNECT_SECONDS))
    except OSError as error:
        raise WeightsError(f"The file that SSL_CERT_FILE names cannot be used: {error}") from error
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise WeightsError(
            f"A proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used: {error}"
        ) from error


def _download_on(client: httpx.Client, url: str, part: Part, size_bytes: int, report: Report, pace: _Pace) -> None:
    """Get what is missing of the file, in one request.

    Raises:
        _CutError: Not all of it came.
    """
    host = httpx.URL(url).host
    try:
        with client.stream("GET", url, headers=_headers(part, url)) as response:
            _check_status(response, url, part)
            start = _start(response, part, size_bytes, report)
            if start == 0:
                part.begin(url, response.headers)
            _write(response, part, start, size_bytes, report, pace)
    except httpx.TimeoutException:
        raise _StallError(f"{host} is silent") from None
    except httpx.ProxyError as error:
        raise WeightsError(f"The proxy before {host} refuses: {error}. See HTTPS_PROXY and NO_PROXY.") from error
    except httpx.TransportError as error:
        if isinstance(error, httpx.ConnectError) and _is_tls(error):  # later it is a line that breaks
            raise WeightsError(f"The encrypted connection to {host} failed: {error}. {_IF_TLS_FAILS}") from error
        raise _CutError(f"The connection to {host} failed: {str(error) or type(error).__name__}") from None
    except httpx.TooManyRedirects as error:
        raise WeightsError(f"{url} leads nowhere: {error}") from error


def _headers(part: Part, url: str) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # the bytes of the file, not of an archive of it
    if part.size_bytes:
        headers["Range"] = f"bytes={part.size_bytes}-"
        validator = part.validator(url)
        if validator is not None:
            headers["If-Range"] = validator
    return headers


def _check_status(response: httpx.Response, url: str, part: Part) -> None:
    status = response.status_code
    answer = f"{status} {response.reason_phrase}".strip()
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.remove()
        raise _CutError("The file on the server is shorter than what came before")
    if response.is_server_error or status in _TRY_AGAIN:
        raise _CutError(f"{response.url.host} answers {answer}")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise WeightsError(f"{url} is refused: {answer}. {_IF_REFUSED}")
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise WeightsError(f"There is no {url}: {answer}. {_IF_NOT_THERE}")
    if status not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        raise WeightsError(f"{url} cannot be downloaded: {answer}. {_IF_REFUSED}")


def _start(response: httpx.Response, part: Part, size_bytes: int, report: Report) -> int:
    """Return the place in the file at which the answer's bytes begin.

    Raises:
        WeightsError: The server's file has another size.
        _CutError: They are not what was asked for.
    """
    if response.status_code == httpx.codes.OK:
        _check_size(response, response.headers.get("Content-Length"), size_bytes)
        if part.size_bytes:
            report.say("the server does not go on from what is there, beginning anew")
        return 0
    content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start, total = content_range.groups() if content_range else ("-1", "*")
    _check_size(response, None if total == "*" else total, size_bytes)
    if int(start) != part.size_bytes:
        part.remove()
        raise _CutError(f"{response.url.host} sends another part of the file than it was asked for")
    return int(start)


def _check_size(response: httpx.Response, found: str | None, size_bytes: int) -> None:
    if found is not None and found != str(size_bytes):
        raise WeightsError(f"{response.url} has {found} bytes, {size_bytes} are wanted: {_IF_ANOTHER_FILE}")


def _write(response: httpx.Response, part: Part, start: int, size_bytes: int, report: Report, pace: _Pace) -> None:
    size = start
    with part.path.open("r+b" if start else "wb") as file:
        file.seek(start)
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > size_bytes:
                break
            file.write(chunk)
            report.at(size)
            if pace.is_too_slow(len(chunk)) and size < size_bytes:
                raise _StallError(f"{response.url.host} sends next to nothing")
    if size > size_bytes:
        part.remove()
        raise WeightsError(f"{response.url} has more than the {size_bytes} bytes that are wanted: {_IF_ANOTHER_FILE}")
    if size < size_bytes:
        raise _CutError(f"{response.url.host} ended the connection too early")
    if part.size_bytes != size_bytes:  # or the next try would take this one for a success, and so on for ever
        raise _CutError(f"{part.path.name} was changed by another process")


def _is_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


_BY_HAND = "Or bring the file by hand: --file."
_IF_UNREACHABLE = f"What came is kept, the same command goes on from there. Behind a proxy set HTTPS_PROXY. {_BY_HAND}"
_IF_TLS_FAILS = (
    "If a proxy of your company opens such connections, name a file with its CA, beside the public ones, "
    f"in SSL_CERT_FILE. {_BY_HAND}"
)
_IF_REFUSED = f"A proxy or a mirror may want something of you; one that wants a password is not supported. {_BY_HAND}"
_IF_NOT_THERE = f"WEIGHTS_URL, if you set it, must be the folder that holds this file. {_BY_HAND}"
_IF_ANOTHER_FILE = "it is another file, or a proxy's answer instead. See WEIGHTS_URL and HTTPS_PROXY, or use --file."
