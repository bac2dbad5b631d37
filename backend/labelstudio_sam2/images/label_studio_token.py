"""The Authorization header for Label Studio, from either kind of its tokens.

A legacy token (40 hex digits) is sent as it is. A personal access token is a JWT that Label Studio accepts nowhere but
at /api/token/refresh/, where it buys an access token for five minutes; that one is sent, and bought again in time.
"""

import base64
import binascii
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.address import Reach, WebAddress
from labelstudio_sam2.images.connection import GuardedHttp, Response
from labelstudio_sam2.images.deadline import Deadline
from labelstudio_sam2.settings import Settings, SettingsError

ACCESS_SECONDS = 300.0
"""How long an access token is good for, where it does not say so itself."""
MAX_ANSWER_BYTES = 65536

TokenKind: TypeAlias = Literal["none", "legacy", "personal", "access"]
"""No token at all, a legacy token, a personal access token, or what that one buys for five minutes."""


@dataclass(frozen=True)
class _Access:
    """An access token and when, on the monotonic clock, to buy the next one."""

    token: str = field(repr=False)
    renew_at: float


class LabelStudioToken:
    """Gives the Authorization header; thread-safe. The token is in no message and no repr.

    Args:
        settings: `LABEL_STUDIO_API_KEY`.
        label_studio: `LABEL_STUDIO_URL`, where access tokens are bought.
        http: Sends the request for one.

    Attributes:
        label_studio: As above.
        http: As above.
        can_ask: Whether there are both an address and a token.

    Raises:
        SettingsError: The key cannot be one.
    """

    def __init__(self, settings: Settings, label_studio: WebAddress | None, http: GuardedHttp) -> None:
        key = settings.label_studio_api_key.get_secret_value().strip() if settings.label_studio_api_key else ""
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise SettingsError("LABEL_STUDIO_API_KEY: has a space or another character that no token has")
        self._key = key
        self.label_studio = label_studio
        self.http = http
        self.can_ask = label_studio is not None and bool(key)
        self._claims = _jwt_claims(key)
        self._lock = threading.Lock()
        self._access: _Access | None = None

    @property
    def kind(self) -> TokenKind:
        """What the key is, by its looks."""
        if not self._key:
            return "none"
        if self._claims is None:
            return "legacy"
        return "access" if self._claims.get("token_type") == "access" else "personal"

    @property
    def expires_at(self) -> float | None:
        """When the key itself expires, by its own word, in seconds since 1970; None where it does not say."""
        match (self._claims or {}).get("exp"):
            case (int() | float()) as seconds:
                return float(seconds)
            case _:
                return None

    def send(self, request: Callable[[Mapping[str, str]], Response], deadline: Deadline) -> Response:
        """Send a request to Label Studio with the token; once more with a new one where it is refused.

        Args:
            request: Sends it with these headers added.
            deadline: By when all must be over.

        Raises:
            BackendError: As `authorization`, and whatever `request` raises.
        """
        authorization = self.authorization(deadline)
        response = request(_header(authorization))
        if response.status == 401 and self._forget(authorization):
            response = request(_header(self.authorization(deadline)))
        return response

    def authorization(self, deadline: Deadline) -> str | None:
        """Return the header's value, or None where no key is set.

        Raises:
            ImageForbiddenError: Label Studio does not take the personal access token.
            ImageUnavailableError: Label Studio cannot be asked for an access token.
            ImageTimeoutError: It took too long.
        """
        match self.kind:
            case "none":
                return None
            case "legacy":
                return f"Token {self._key}"
            case "access":
                return f"Bearer {self._key}"
        if not self._lock.acquire(timeout=deadline.left()):
            raise deadline.missed()
        try:
            if self._access is None or self.http.clock() >= self._access.renew_at:
                self._access = self._buy(deadline)
            return f"Bearer {self._access.token}"
        finally:
            self._lock.release()

    def _forget(self, authorization: str | None) -> bool:
        """Drop an access token that Label Studio refused; return whether another one can be had."""
        if self.kind != "personal":
            return False
        with self._lock:
            if self._access is not None and authorization == f"Bearer {self._access.token}":
                self._access = None
        return True

    def _buy(self, deadline: Deadline) -> _Access:
        if self.label_studio is None:
            raise ImageForbiddenError("LABEL_STUDIO_URL is not set, so there is nobody to use the token with")
        asked_at = self.http.clock()
        response = self.http.request(
            "POST",
            self.label_studio.join(self.label_studio.path.rstrip("/") + "/api/token/refresh/"),
            reach=Reach.ANYWHERE,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"refresh": self._key}).encode(),
            deadline=deadline,
            max_bytes=MAX_ANSWER_BYTES,
        )
        if response.status in {400, 401, 403}:
            raise ImageForbiddenError(
                f"Label Studio answered {response.status} to LABEL_STUDIO_API_KEY: "
                "the personal access token is expired or revoked"
            )
        if response.status not in {200, 201}:
            raise ImageUnavailableError(f"Label Studio answered {response.status} when asked for an access token")
        access = _access_of(response.data)
        lifetime = _lifetime(access)
        return _Access(access, asked_at + lifetime - min(30.0, lifetime / 4))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _header(authorization: str | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization}


def _jwt_claims(token: str) -> dict[str, Any] | None:
    """Read what a JWT says of itself, unverified; None if it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _lifetime(access: str) -> float:
    """Return for how many seconds an access token is good, by its own clock: ours may differ."""
    claims = _jwt_claims(access) or {}
    match claims.get("iat"), claims.get("exp"):
        case (int() | float()) as issued, (int() | float()) as expires if expires > issued:
            return float(expires - issued)
        case _:
            return ACCESS_SECONDS


def _access_of(data: bytes) -> str:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    access = answer.get("access") if isinstance(answer, dict) else None
    if not isinstance(access, str) or not access.isascii() or not access.isprintable() or not access:
        raise ImageUnavailableError("Label Studio's answer has no access token in it")
    return access
