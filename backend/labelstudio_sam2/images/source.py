"""From the address in a task to a picture that is known by its content.

A small map remembers which content was found at an address, for one project of one Label Studio. Within
`IMAGE_REVALIDATE_SECONDS` that is believed without asking; afterwards the server is asked whether the file is still the
same, by its validators or, where it gives none (Label Studio's uploads), by comparing the file's hash.
"""

import base64
import binascii
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TypeAlias, TypeGuard
from urllib.parse import unquote_to_bytes

import httpcore

from labelstudio_sam2.errors import (
    ImageTooLargeError,
    ImageUnavailableError,
    ImageUnreadableError,
    UrlRefusedError,
)
from labelstudio_sam2.images.address import HostPolicy
from labelstudio_sam2.images.connection import GuardedHttp, Resolver, resolve_host
from labelstudio_sam2.images.deadline import Clock, Deadline
from labelstudio_sam2.images.decode import ImageLimits, decode_image, make_pillow_strict, read_size
from labelstudio_sam2.images.fetch import Download, DownloadLimits, Fetcher, Validators
from labelstudio_sam2.images.label_studio_token import LabelStudioToken
from labelstudio_sam2.images.place import Place, find_place
from labelstudio_sam2.recently_used import RecentlyUsed
from labelstudio_sam2.segmenter.prompt import Image
from labelstudio_sam2.settings import Settings
from labelstudio_sam2.single_flight import SingleFlight
from labelstudio_sam2.stages import stage

MAX_KNOWN = 4096
"""Addresses remembered; the longest unused goes first."""
MAX_HELD_BYTES = 64_000_000
"""Files kept between `find` and `load`, all together."""

Key: TypeAlias = tuple[str, str]
"""Project and the place's name. A source serves one Label Studio, so its origin need not be in it."""


@dataclass(frozen=True)
class Picture:
    """An image known by its content, not yet decoded.

    Attributes:
        sha256: Of the file's bytes, 64 hex digits.
        size_hw: (H, W) of the upright picture.
    """

    sha256: str
    size_hw: tuple[int, int]
    _read: Callable[[], bytes] = field(repr=False, compare=False)
    _limits: ImageLimits = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: bytes, limits: ImageLimits) -> Self:
        """Return the picture that a file's bytes are.

        Raises:
            ImageUnreadableError: They are none of an accepted format.
            ImageTooLargeError: They are over the limits.
        """
        return cls(hashlib.sha256(data).hexdigest(), read_size(data, limits), lambda: data, limits)

    def load(self) -> Image:
        """Return (H, W, 3) uint8 RGB, upright. Slow: decodes, and downloads again if the bytes are gone.

        Raises:
            ImageUnreadableError: The file is broken behind its header.
            ImageUnavailableError: The file has changed since it was found, or cannot be had any more.
            BackendError: As `ImageSource.find`.
        """
        data = self._read()
        with stage("decode"):
            return decode_image(data, self._limits)


class ImageSource:
    """Finds pictures by the addresses in tasks; thread-safe.

    Args:
        settings: Who may be asked, with which token, within which limits.
        resolver: Turns a host into IP addresses.
        network: What connects to the checked IP address.
        clock: What deadlines and ages are read from.
        strict_pillow: Whether Pillow's warnings become errors, in the whole process: not where it is somebody else's.

    Attributes:
        token: What Label Studio is asked with.

    Raises:
        SettingsError: `LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY` or `ALLOWED_IMAGE_HOSTS` is malformed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolver: Resolver = resolve_host,
        network: httpcore.NetworkBackend | None = None,
        clock: Clock = time.monotonic,
        strict_pillow: bool = True,
    ) -> None:
        if strict_pillow:
            make_pillow_strict()
        self._clock = clock
        self._seconds = settings.image_download_seconds
        self._fresh_seconds = settings.image_revalidate_seconds
        self._limits = ImageLimits.from_settings(settings)
        self._policy = HostPolicy.from_settings(settings)
        http = GuardedHttp(
            connect_seconds=settings.image_connect_seconds, resolver=resolver, network=network, clock=clock
        )
        self.token = LabelStudioToken(settings, self._policy.label_studio, http)
        self._fetcher = Fetcher(self._policy, self.token, http, DownloadLimits.from_settings(settings))
        self._known: RecentlyUsed[Key, _Known] = RecentlyUsed(MAX_KNOWN)
        self._held = _HeldFiles(MAX_HELD_BYTES)
        self._flights: SingleFlight[Key, Picture] = SingleFlight()

    def find(self, address: str, *, project: str, task_id: int | None) -> Picture:
        """Return the picture that is at an address now, or was so within `IMAGE_REVALIDATE_SECONDS`.

        Threads that ask for the same at once share one download. A failure is not remembered.

        Args:
            address: As in the task's data: a path of Label Studio, an s3, gs or azure-blob address, an http(s)
                address, or a base64 data URL.
            project: Whose task it is. What one project has seen is not believed in another.
            task_id: The task, which Label Studio needs for addresses of a cloud storage.

        Raises:
            UrlRefusedError: The address may not be opened.
            ImageUnreadableError: There is no picture of an accepted format.
            ImageTooLargeError: The file or the picture is over the limit.
            ImageForbiddenError: The server wants other credentials.
            ImageUnavailableError: The server answered with an error, or not at all.
            ImageTimeoutError: It took longer than `IMAGE_DOWNLOAD_SECONDS`.
            BusyError: Too many downloads, or the one of another thread did not end in time.
        """
        if address[:5].lower() == "data:":
            return Picture.of(_data_url_bytes(address, self._limits.max_bytes), self._limits)
        place = find_place(address, self._policy, task_id)
        key = (project, place.name)
        known = self._known.get(key)
        if self._is_fresh(known):
            return self._picture(place, known.sha256, known.size_hw)
        deadline = self._deadline()
        return self._flights.do(key, lambda: self._look(place, key, deadline), timeout_seconds=self._seconds)

    def _is_fresh(self, known: "_Known | None") -> "TypeGuard[_Known]":
        return known is not None and self._clock() - known.checked_at < self._fresh_seconds

    def _look(self, place: Place, key: Key, deadline: Deadline) -> Picture:
        known = self._known.get(key)
        if self._is_fresh(known):  # another thread's look ended just before this one began
            return self._picture(place, known.sha256, known.size_hw)
        asked_at = self._clock()
        download = self._download(place, deadline, known.validators if known else None)
        if download.data is None and known is not None:  # 304
            self._known.put(key, _Known(known.sha256, known.size_hw, download.validators, asked_at))
            return self._picture(place, known.sha256, known.size_hw)
        data = download.data or b""
        sha256 = hashlib.sha256(data).hexdigest()
        same = known is not None and known.sha256 == sha256
        size_hw = known.size_hw if known is not None and same else read_size(data, self._limits)
        self._known.put(key, _Known(sha256, size_hw, download.validators, asked_at))
        self._held.put(sha256, data)
        return self._picture(place, sha256, size_hw, data)

    def _picture(self, place: Place, sha256: str, size_hw: tuple[int, int], data: bytes | None = None) -> Picture:
        def read() -> bytes:
            held = data if data is not None else self._held.get(sha256)
            return held if held is not None else self._download_again(place, sha256)

        return Picture(sha256, size_hw, read, self._limits)

    def _download_again(self, place: Place, sha256: str) -> bytes:
        download = self._download(place, self._deadline())
        data = download.data or b""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageUnavailableError(f"the file at {place.address} has just changed, try again")
        self._held.put(sha256, data)
        return data

    def _download(self, place: Place, deadline: Deadline, validators: Validators | None = None) -> Download:
        with stage("fetch"):
            return self._fetcher.fetch(place.address, signs=place.signs, deadline=deadline, validators=validators)

    def _deadline(self) -> Deadline:
        return Deadline.after(self._seconds, "the download", self._clock)


def _data_url_bytes(address: str, max_bytes: int) -> bytes:
    """Return the content of `data:image/…;base64,…`."""
    head, comma, text = address.partition(",")
    if not comma or not head.lower().startswith("data:image/") or not head.lower().endswith(";base64"):
        raise UrlRefusedError("a data address must start with data:image/ and be base64")
    if len(text) > 4 * max_bytes:  # percent-encoded at worst
        raise ImageTooLargeError(f"the file is larger than {max_bytes:,} bytes")
    try:
        return base64.b64decode(unquote_to_bytes(text), validate=True)
    except (binascii.Error, ValueError):
        raise ImageUnreadableError("the data address is not valid base64") from None


@dataclass(frozen=True)
class _Known:
    """What was found at an address.

    Attributes:
        sha256: Of the file.
        size_hw: (H, W), upright.
        validators: To ask with whether it changed, or None if the server gave none.
        checked_at: On the source's clock, before the server was last asked.
    """

    sha256: str
    size_hw: tuple[int, int]
    validators: Validators | None
    checked_at: float


class _HeldFiles:
    """Files by hash, bounded by bytes; the longest unused go first. One larger than the bound is not held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes | None:
        with self._lock:
            if sha256 in self._files:
                self._files.move_to_end(sha256)
            return self._files.get(sha256)

    def put(self, sha256: str, data: bytes) -> None:
        with self._lock:
            if sha256 in self._files or len(data) > self._max_bytes:
                return
            self._files[sha256] = data
            self._bytes += len(data)
            while self._bytes > self._max_bytes:
                _, dropped = self._files.popitem(last=False)
                self._bytes -= len(dropped)
