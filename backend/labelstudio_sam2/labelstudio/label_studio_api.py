"""Asks Label Studio's REST API, with the guard, the deadline and the token that pictures are fetched with."""

import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.address import Reach
from labelstudio_sam2.images.connection import Response
from labelstudio_sam2.images.deadline import Clock, Deadline
from labelstudio_sam2.images.label_studio_token import LabelStudioToken

T = TypeVar("T")

ANSWER_SECONDS = 10.0
MAX_ANSWER_BYTES = 16_000_000


class LabelStudioApi:
    """Label Studio's API at `LABEL_STUDIO_URL`, asked with `LABEL_STUDIO_API_KEY`. Thread-safe.

    Args:
        token: Where Label Studio is, and what it is asked with.
        clock: What deadlines are read from.

    Attributes:
        address: Where it is, or None where no address is set.
        token: What it is asked with.
        can_ask: Whether both an address and a token are set.
    """

    def __init__(self, token: LabelStudioToken, *, clock: Clock = time.monotonic) -> None:
        self.address = token.label_studio
        self.token = token
        self.can_ask = token.can_ask
        self._clock = clock

    def ask(
        self,
        path: str,
        *,
        what: str,
        body: object = None,
        signed: bool = True,
        seconds: float = ANSWER_SECONDS,
        query: Mapping[str, object] | None = None,
    ) -> Response:
        """Send one request and return its answer, whatever its status; redirects are not followed.

        Args:
            path: Such as `/api/version`; the path that Label Studio is served under comes before it.
            what: What is asked for, as in "asked for the next tasks".
            body: To be posted as JSON; None for a GET.
            signed: Whether the token is sent.
            seconds: Deadline of the whole.
            query: Parameters of the address.

        Raises:
            ImageForbiddenError: Label Studio does not take the personal access token.
            ImageUnavailableError: No address is set, or there is no answer.
            ImageTimeoutError: It took longer than `seconds`.
            ImageTooLargeError: The answer is larger than `MAX_ANSWER_BYTES`.
        """
        if self.address is None:
            raise ImageUnavailableError(f"LABEL_STUDIO_URL is not set, so there is nobody to ask for {what}")
        address = self.address.join(self.address.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else ""))
        deadline = Deadline.after(seconds, f"asking Label Studio for {what}", self._clock)

        def send(headers: Any) -> Response:
            return self.token.http.request(
                "GET" if body is None else "POST",
                address,
                reach=Reach.ANYWHERE,
                headers={**headers, **({} if body is None else {"Content-Type": "application/json"})},
                body=b"" if body is None else msgspec.json.encode(body),
                deadline=deadline,
                max_bytes=MAX_ANSWER_BYTES,
                reads_errors=True,
            )

        return self.token.send(send, deadline) if signed else send({})

    def get(
        self,
        path: str,
        answer: type[T],
        *,
        what: str,
        seconds: float = ANSWER_SECONDS,
        query: Mapping[str, object] | None = None,
    ) -> T:
        """Return what a GET answers, as a type.

        Args:
            path: As `ask`.
            answer: What is in it.
            what: As `ask`.
            seconds: As `ask`.
            query: As `ask`.

        Raises:
            BackendError: As `ask`.
            ImageForbiddenError: The token is refused, or its user may not see this.
            ImageUnavailableError: The answer is another one.
        """
        return read_answer(self.ask(path, what=what, seconds=seconds, query=query), answer, what)


def read_answer(response: Response, answer: type[T], what: str) -> T:
    """Return the body of a 200 or 201 as a type.

    Args:
        response: Label Studio's answer.
        answer: What is in it; unknown fields are skipped.
        what: What was asked for.

    Raises:
        ImageForbiddenError: It is 401 or 403.
        ImageUnavailableError: It has another status, or something else in it.
    """
    if response.status not in {200, 201}:
        raise _refusal(response.status, what)
    try:
        return msgspec.json.decode(response.data, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ImageUnavailableError(f"there is something else in Label Studio's answer than {what}") from None


def _refusal(status: int, what: str) -> ImageUnavailableError:
    answered = f"Label Studio answered {status} when asked for {what}"
    match status:
        case 401:
            return ImageForbiddenError(f"{answered}: LABEL_STUDIO_API_KEY is no token of it, or one that has expired")
        case 403:
            return ImageForbiddenError(f"{answered}: the user of LABEL_STUDIO_API_KEY may not see it")
        case 404:
            return ImageUnavailableError(
                f"{answered}: there is none, or none that the user of LABEL_STUDIO_API_KEY may see; "
                "or LABEL_STUDIO_URL leads elsewhere"
            )
    return ImageUnavailableError(answered)
