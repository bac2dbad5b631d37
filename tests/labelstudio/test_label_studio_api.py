"""How Label Studio's API is asked; the real one answers in `tests/e2e`."""

from typing import Any

import msgspec
import pytest

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.connection import Response
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi, read_answer
from labelstudio_sam2.settings import load_settings

TOKEN = "a1" * 20


class Version(msgspec.Struct):
    release: str


def api_of(url: str | None, token: str | None = TOKEN) -> LabelStudioApi:
    return LabelStudioApi(ImageSource(load_settings(label_studio_url=url, label_studio_api_key=token)).token)


def test_it_is_asked_under_its_own_path_with_the_token(picture_server: Any) -> None:
    picture_server.files["/label/api/version"] = b'{"release": "1.23.2", "more": 1}'

    answer = api_of(f"{picture_server.url}/label/").get("/api/version", Version, what="its version", query={"a": "b c"})

    assert answer.release == "1.23.2"
    assert picture_server.requests == [("/label/api/version?a=b+c", f"Token {TOKEN}")]


def test_the_token_is_left_out_where_it_is_not_wanted(picture_server: Any) -> None:
    api_of(picture_server.url).ask("/api/version", what="its version", signed=False)

    assert picture_server.requests == [("/api/version", None)]


def test_without_an_address_nobody_is_asked() -> None:
    with pytest.raises(ImageUnavailableError, match="LABEL_STUDIO_URL is not set"):
        api_of(None).ask("/api/version", what="its version")


@pytest.mark.parametrize(
    ("status", "error"), [(401, ImageForbiddenError), (403, ImageForbiddenError), (404, ImageUnavailableError)]
)
def test_a_refusal_says_its_status_and_what_was_asked_for(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"answered {status} when asked for its version"):
        read_answer(Response(status, {}, b"{}"), Version, "its version")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"release": 7}', b"\xff"])
def test_another_answer_is_an_error_of_the_catalogue(data: bytes) -> None:
    with pytest.raises(ImageUnavailableError, match="something else in Label Studio's answer than its version"):
        read_answer(Response(200, {}, data), Version, "its version")


def test_an_errors_body_is_handed_over_with_the_reason(picture_server: Any) -> None:
    response = api_of(picture_server.url).ask("/api/nothing", what="nothing", body={"a": 1})

    assert (response.status, response.reason) == (501, "Unsupported method ('POST')")  # the file store's own answer
    assert b"Unsupported method" in response.data
