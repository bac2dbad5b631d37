"""What to do about each error of the catalogue, wherever its reason shows up."""

from labelstudio_sam2.errors import (
    BackendError,
    BadConfigError,
    BusyError,
    GpuMemoryError,
    ImageForbiddenError,
    ImageTimeoutError,
    ImageTooLargeError,
    ImageUnavailableError,
    ImageUnreadableError,
    ModelLoadingError,
    ModelUnavailableError,
    NoAnswerTagError,
    SizeMismatchError,
    UnauthorizedError,
    UrlRefusedError,
)

RESERVED = "reserved network address"
"""What Label Studio says of an address that its own guard refuses."""
SEE_LOG = "The backend's log has a line for it, with the reason."

_ADVICE: dict[type[BackendError], str] = {
    UnauthorizedError: "In the project's Settings > Model edit the connection: under Authentication, Basic auth with "
    "the backend's BASIC_AUTH_USER and BASIC_AUTH_PASS.",
    BadConfigError: "Mend the labeling configuration: docs/labeling-configurations.md has the rules and examples.",
    NoAnswerTagError: "Give the prompt tag and the answer tag the same labels.",
    UrlRefusedError: "Set LABEL_STUDIO_URL if Label Studio keeps the pictures; name other hosts in "
    "ALLOWED_IMAGE_HOSTS. Then start the backend again.",
    ImageForbiddenError: "Set LABEL_STUDIO_API_KEY to a token of a user who may see the project, and start the "
    "backend again.",
    ImageUnavailableError: "See that the file is still there, and that LABEL_STUDIO_URL is Label Studio's address as "
    "the backend sees it: in Docker http://label-studio:8080, not localhost.",
    ImageTimeoutError: "See why the picture's server is slow, or raise IMAGE_DOWNLOAD_SECONDS.",
    ImageTooLargeError: "Import a smaller picture, or raise MAX_IMAGE_MB and MAX_IMAGE_MEGAPIXELS.",
    ImageUnreadableError: "Import it as PNG, JPEG, WebP, GIF, BMP or TIFF.",
    SizeMismatchError: "The picture was replaced: import it as a new task.",
    BusyError: "Try again; if it stays so, the device is too slow for so many annotators.",
    ModelLoadingError: "Wait until GET /ready says READY, then try again.",
    ModelUnavailableError: "Mend what the message names; GET /ready and the page /status of the backend show it. Then "
    "start the backend again.",
    GpuMemoryError: "Take a smaller model (MODEL), or lower EMBEDDING_CACHE_MB.",
}


def advice_for(text: str) -> str:
    """Return what to do about a failure.

    Args:
        text: Carries the catalogue's reason, since Label Studio passes nothing else of an answer on, or its own error.
    """
    if RESERVED in text:
        return "See private-addresses."
    for error, advice in _ADVICE.items():
        if error.reason in text:
            return advice
    return SEE_LOG


def told(error: BackendError) -> str:
    """Return an error as a sentence: the catalogue's reason, and the detail."""
    return sentence(f"{error.reason} ({error})" if str(error) else error.reason)


def sentence(error: object) -> str:
    """Return an error's message as a sentence; names and addresses at its beginning stay as they are."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}." if text.partition(" ")[0].isalpha() else f"{text}."
