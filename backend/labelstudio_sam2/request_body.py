"""The body of a request: the one place where it is read."""

from flask import request
from werkzeug.exceptions import ClientDisconnected

from labelstudio_sam2.errors import BadJsonError


def read_body() -> bytes:
    """Return all of the current request's body.

    Raises:
        BadJsonError: It has no end: its framing is malformed, or the client hung up, fell silent or took too long.
        RequestEntityTooLarge: It is larger than the application's `MAX_CONTENT_LENGTH`.
    """
    try:
        body = request.get_data(cache=False)
        request.stream.read(1)  # werkzeug cuts a streamed body at the limit; only asking for more raises its 413
    except ClientDisconnected:
        raise BadJsonError("the body was cut short, malformed in its framing, or too slow") from None
    return body
