"""Downloads a picture's file under guard.

Redirects are followed by hand, so that each hop is judged anew: whether it may be opened, and whether it gets the
token. The whole download, with all hops and waiting, has one deadline.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from labelstudio_sam2.errors import (
    BusyError,
    ImageForbiddenError,
    ImageTimeoutError,
    ImageUnavailableError,
    UrlRefusedError,
)
from labelstudio_sam2.images.address import HostPolicy, Origin, Reach, WebAddress
from labelstudio_sam2.images.connection import GuardedHttp, Response
from labelstudio_sam2.images.deadline import Deadline
from labelstudio_sam2.images.label_studio_token import LabelStudioToken
from labelstudio_sam2.settings import Settings

MAX_VALIDATOR_LENGTH = 512

# Where Label Studio passes on a file of a storage without ETags, it answers with one made of its user's id alone.
_ETAG_OF_A_USER = re.compile(r'(W/)?"\d{0,12}(True|False)?"')


@dataclass(frozen=True)
class Validators:
    """What a server gave to ask later whether its file is still the same.

    Attributes:
        origin: Who gave them; nobody else is shown them.
        etag: As sent, or None.
        last_modified: As sent, or None.
    """

    origin: Origin
    etag: str | None
    last_modified: str | None

    def headers(self) -> dict[str, str]:
        """Return the conditional request's headers."""
        if self.etag is not None:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified is not None else {}


@dataclass(frozen=True)
class Download:
    """What came of asking for a file.

    Attributes:
        data: The file's bytes, or None if it is the one the validators were given for (304).
        validators: To ask with the next time, or None if the server gave none.
    """

    data: bytes | None = field(repr=False)
    validators: Validators | None


@dataclass(frozen=True)
class DownloadLimits:
    """What one download may take, and all of them together.

    Attributes:
        max_bytes: Of a file.
        max_redirects: In one download.
        at_once: Downloads at the same time.
        per_host: Of these, from one host.
    """

    max_bytes: int
    max_redirects: int
    at_once: int
    per_host: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read `MAX_IMAGE_MB`, `MAX_REDIRECTS`, `MAX_DOWNLOADS` and `MAX_DOWNLOADS_PER_HOST`."""
        return cls(
            max_bytes=settings.max_image_mb * 1_000_000,
            max_redirects=settings.max_redirects,
            at_once=settings.max_downloads,
            per_host=settings.max_downloads_per_host,
        )


class Fetcher:
    """Downloads files, no more at once than its limits say; thread-safe.

    Args:
        policy: Who may be asked.
        token: Label Studio's.
        http: Sends the requests.
        limits: What a download may take.
    """

    def __init__(self, policy: HostPolicy, token: LabelStudioToken, http: GuardedHttp, limits: DownloadLimits) -> None:
        self._policy = policy
        self._token = token
        self._http = http
        self._limits = limits
        self._slots = _Slots(limits.at_once, limits.per_host)

    def fetch(
        self, address: WebAddress, *, deadline: Deadline, validators: Validators | None = None, signs: bool = False
    ) -> Download:
        """Download a file, or learn that it has not changed.

        Args:
            address: Where to begin.
            deadline: By when all must be over.
            validators: Of the file that is known already.
            signs: The address is one where Label Studio redirects to a signed address of a cloud storage. Label Studio
                has authorised that one hop, so its host need not be listed; it must lead to a public address then.

        Raises:
            UrlRefusedError: This address, or one it redirects to, may not be opened.
            ImageForbiddenError: 401, 403, or Label Studio's login page.
            ImageUnavailableError: Any other answer than the file, a broken one, or none.
            ImageTimeoutError: The deadline passed.
            ImageTooLargeError: The file is over the limit.
            BusyError: The deadline passed while other downloads had all places.
        """
        reach = self._policy.reach(address)
        for _ in range(self._limits.max_redirects + 1):
            response = self._ask(address, reach, validators, deadline)
            if response.status not in {301, 302, 303, 307, 308}:
                return self._download(address, response, validators)
            target = self._redirect(address, response)
            reach = self._policy.reach(target, signed=signs and self._policy.is_kept(address))
            address = target
        raise ImageUnavailableError(f"{address.netloc} redirects more than {self._limits.max_redirects} times")

    def _ask(self, address: WebAddress, reach: Reach, validators: Validators | None, deadline: Deadline) -> Response:
        headers = validators.headers() if validators is not None and validators.origin == address.origin else {}
        if not self._policy.is_kept(address):
            return self._send(address, reach, headers, deadline)
        return self._token.send(lambda signed: self._send(address, reach, {**headers, **signed}, deadline), deadline)

    def _send(self, address: WebAddress, reach: Reach, headers: Mapping[str, str], deadline: Deadline) -> Response:
        with self._slots.take(address.host, deadline):
            return self._http.request(
                "GET", address, reach=reach, headers=headers, deadline=deadline, max_bytes=self._limits.max_bytes
            )

    def _redirect(self, address: WebAddress, response: Response) -> WebAddress:
        location = response.headers.get("location")
        if not location:
            raise ImageUnavailableError(f"{address.netloc} answered {response.status} without a Location")
        target = address.join(location)
        if address.scheme == "https" and target.scheme == "http":
            raise UrlRefusedError(f"{address.netloc} redirects from https to http")
        if self._policy.is_kept(address) and "/user/login" in target.path:
            raise ImageForbiddenError(f"{address.netloc} redirects to its login page; {self._advice(address)}")
        return target

    def _download(self, address: WebAddress, response: Response, validators: Validators | None) -> Download:
        status = response.status
        if status == 304 and validators is not None and validators.origin == address.origin:
            return Download(None, validators)
        if status == 200:
            return Download(response.data, _validators(address, response))
        if status in {401, 403}:
            raise ImageForbiddenError(f"{address} answered {status}; {self._advice(address)}")
        raise ImageUnavailableError(f"{address} answered {status}")

    def _advice(self, address: WebAddress) -> str:
        if not self._policy.is_kept(address):
            return "LABEL_STUDIO_API_KEY is sent to LABEL_STUDIO_URL's own places for pictures only"
        return "check that LABEL_STUDIO_API_KEY is set and that its user may see the project"


def _validators(address: WebAddress, response: Response) -> Validators | None:
    etag = response.headers.get("etag")
    if etag is not None and (len(etag) > MAX_VALIDATOR_LENGTH or _ETAG_OF_A_USER.fullmatch(etag)):
        return None
    last_modified = response.headers.get("last-modified")
    if last_modified is not None and len(last_modified) > MAX_VALIDATOR_LENGTH:
        return None
    if etag is None and last_modified is None:
        return None
    return Validators(address.origin, etag, last_modified)


class _Slots:
    """Places for downloads: so many in all, and so many from one host."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._taken: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, host: str, deadline: Deadline) -> Iterator[None]:
        with self._changed:
            while self._taken.total() >= self._total or self._taken[host] >= self._per_host:
                try:
                    self._changed.wait(deadline.left())
                except ImageTimeoutError:
                    raise BusyError(f"other downloads, some from {host}, have all places") from None
            self._taken[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[host] -= 1
                self._taken += Counter()  # drops hosts at 0
                self._changed.notify_all()
