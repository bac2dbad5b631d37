"""Who may use this API: whoever sends the API key, or Basic auth's user name and password, where these are set."""

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labelstudio_sam2.errors import ApiKeyError, UnauthorizedError


@dataclass(frozen=True)
class Access:
    """The operator's settings for who may use this API.

    Clients of the seed's server send one key with every request and know no Basic auth, so that key is enough where
    both are set. Without a key of the operator's, the one they send is not looked at.

    Attributes:
        api_key: The operator's key, or None.
        is_basic: Tells whether the current request carries Basic auth's user name and password; None where they are
            not set.
    """

    api_key: str | None = field(default=None, repr=False)
    is_basic: Callable[[], bool] | None = None

    def check_before_body(self, keys: Iterable[str | None]) -> bool:
        """Return whether the current request is let in; if not, it may still be by a key in its body.

        Args:
            keys: Wherever the request carries one outside its body; a wrong one there is not made good by the body's.

        Raises:
            UnauthorizedError: As `check`.
        """
        sent = [key for key in keys if key is not None]
        if self.api_key is None or sent:
            self.check(sent)
            return True
        return self.lets_in(())

    def lets_in(self, keys: Iterable[str | None]) -> bool:
        """Tell whether `check` does nothing."""
        try:
            self.check(keys)
        except UnauthorizedError:
            return False
        return True

    def check(self, keys: Iterable[str | None]) -> None:
        """Do nothing if the current request is let in.

        Args:
            keys: Wherever the request carries one.

        Raises:
            ApiKeyError: A key is set, and neither it nor Basic auth's credentials came.
            UnauthorizedError: Only Basic auth is set, and its credentials did not come.
        """
        if self.is_basic is not None and self.is_basic():
            return
        if self.api_key is not None:
            matches = [_equal(key, self.api_key) for key in keys if key is not None]
            if not any(matches):
                raise ApiKeyError("send API_KEY as api_key in the body or the address, or as a Bearer token")
        elif self.is_basic is not None:
            raise UnauthorizedError("Basic auth is on: send BASIC_AUTH_USER and BASIC_AUTH_PASS")


def bearer_token(authorization: str) -> str | None:
    """Return the key in an Authorization header, or None where it carries something else.

    Args:
        authorization: As WSGI hands it over, its bytes read as Latin-1.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    return token.strip().encode("latin-1", "replace").decode("utf-8", "replace")


def _equal(one: str, other: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
