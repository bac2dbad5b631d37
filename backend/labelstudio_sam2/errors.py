"""The error catalogue: every way a request can fail, once.

Each error has a `code` for programs, an HTTP `status`, and a fixed ASCII `reason` for people. Label Studio throws the
body of an error answer away but keeps the reason phrase, so the reason must help on its own and must never contain
anything a user sent. The exception's message is the `detail`: it goes into the JSON body and the log.
"""

from typing import ClassVar


class BackendError(Exception):
    """Base of everything this backend refuses or fails at, on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    reason: ClassVar[str] = "Internal error"
    retry_seconds: ClassVar[int | None] = None
    """When the same request may well be served; None where it is no better then."""


class BadJsonError(BackendError):
    """The body is not a JSON object."""

    code = "bad_json"
    status = 400
    reason = "Request body is not valid JSON"


class UnauthorizedError(BackendError):
    """Basic auth is switched on and the credentials are missing or wrong."""

    code = "unauthorized"
    status = 401
    reason = "User name or password is missing or wrong"


class ApiKeyError(UnauthorizedError):
    """An API key is set for the SAM 2 API, and the request's is missing or wrong."""

    reason = "API key is missing or wrong"


class TooLargeError(BackendError):
    """The request body is over the limit."""

    code = "too_large"
    status = 413
    reason = "Request is too large"


class BadRequestError(BackendError):
    """A field of the request is missing or has the wrong type; the detail names it."""

    code = "bad_request"
    status = 422
    reason = "A field is missing or has the wrong type"


class UnknownModelError(BadRequestError):
    """The request asks for a model that is not served here; the detail names those that are."""

    reason = "This model is not served here"


class BadConfigError(BackendError):
    """The labeling configuration cannot be read, or has no image, or no tag that can take an answer."""

    code = "bad_config"
    status = 422
    reason = "Labeling configuration cannot be used"


class BadPromptError(BackendError):
    """The prompt is malformed: not finite, too many parts, a broken brush RLE, an unknown label."""

    code = "bad_prompt"
    status = 422
    reason = "Prompt is not valid"


class PromptOutsideError(BadPromptError):
    """The prompt lies outside the image."""

    reason = "Click lies outside the image"


class NoAnswerTagError(BadPromptError):
    """No control tag of the configuration accepts the clicked label."""

    reason = "No brush, polygon or rectangle tag accepts this label"


class UnsupportedError(BackendError):
    """The request is understood but not served, such as a prompt made with another tag."""

    code = "unsupported"
    status = 422
    reason = "This tag type is not supported"


class RotatedImageError(UnsupportedError):
    """The annotator turned the image in the editor."""

    reason = "Rotated images are not supported, turn the image back"


class SizeMismatchError(BackendError):
    """`original_width` and `original_height` of a region differ from the decoded, EXIF-turned picture."""

    code = "size_mismatch"
    status = 422
    reason = "Image size differs from the annotation's"


class UrlRefusedError(BackendError):
    """The picture's address is not one this backend may open."""

    code = "url_refused"
    status = 422
    reason = "Image address is not allowed"


class ImageUnreadableError(BackendError):
    """The bytes are not a picture of an accepted format."""

    code = "image_unreadable"
    status = 422
    reason = "File is not a readable image"


class ImageTooLargeError(BackendError):
    """The picture's file or its pixel count is over the limit; found before decoding."""

    code = "image_too_large"
    status = 413
    reason = "Image is too large"


class ImageUnavailableError(BackendError):
    """The picture's server cannot be reached or answered with an error."""

    code = "image_unavailable"
    status = 502
    reason = "Image server answered with an error"


class ImageForbiddenError(ImageUnavailableError):
    """The picture's server answered 401 or 403."""

    reason = "Image server refused access, check LABEL_STUDIO_API_KEY"


class ImageTimeoutError(BackendError):
    """The download did not end within its total deadline."""

    code = "image_timeout"
    status = 504
    reason = "Image download took too long"


class BusyError(BackendError):
    """Too many requests wait for the device or for downloads, or the server is shutting down."""

    code = "busy"
    status = 503
    reason = "Server is busy, try again"
    retry_seconds = 1


class ModelLoadingError(BackendError):
    """The weights are still being loaded."""

    code = "loading"
    status = 503
    reason = "Model is still loading"
    retry_seconds = 1


class ModelUnavailableError(BackendError):
    """The model could not be loaded; the detail says why, and it stays so until a restart."""

    code = "model_unavailable"
    status = 503
    reason = "Model could not be loaded, see /ready and the log"


class GpuMemoryError(BackendError):
    """The picture does not fit in GPU memory, even after the caches were emptied."""

    code = "gpu_memory"
    status = 503
    reason = "Not enough GPU memory for this image"


class DeviceLostError(BackendError):
    """The GPU failed in a way that this process cannot mend; `serve` ends it and starts a new one."""

    code = "device_lost"
    status = 503
    reason = "GPU failed, the server is starting again"
    retry_seconds = 30  # by then another process has begun: one that is young stays that long
