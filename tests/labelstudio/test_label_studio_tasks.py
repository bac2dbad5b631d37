"""What is asked of Label Studio's API; the real one answers in `tests/e2e/test_prefetch.py`."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.settings import load_settings

TOKEN = "a1" * 20


def tasks_of(url: str, token: str | None = TOKEN) -> LabelStudioTasks:
    return LabelStudioTasks(load_settings(label_studio_url=url, label_studio_api_key=token))


def test_the_next_tasks_are_asked_for_with_the_token(picture_server: Any) -> None:
    answer = {"total": 9, "tasks": [{"id": 5, "data": {"image": "5.png"}, "drafts": []}, {"id": 8, "data": {}}]}
    picture_server.files["/label/api/tasks"] = json.dumps(answer).encode()

    following = tasks_of(f"{picture_server.url}/label/").tasks_after("6", 4, 2)

    assert [(task.id, task.data) for task in following] == [(5, {"image": "5.png"}), (8, {})]
    ((path, authorization),) = picture_server.requests
    asked = parse_qs(urlsplit(path).query)
    assert authorization == f"Token {TOKEN}"
    assert (asked["project"], asked["page_size"], asked["resolve_uri"]) == (["6"], ["2"], ["false"])
    assert json.loads(asked["query"][0])["ordering"] == ["tasks:id"]


def test_no_more_tasks_are_taken_than_were_asked_for(picture_server: Any) -> None:
    picture_server.files["/api/tasks"] = json.dumps({"tasks": [{"id": number} for number in range(9)]}).encode()

    assert len(tasks_of(picture_server.url).tasks_after("6", 4, 3)) == 3


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"tasks": 7}', b'{"tasks": [7]}', b"[" * 10_000, b"\xff"])
def test_an_answer_without_tasks_is_an_error_of_the_catalogue(picture_server: Any, answer: bytes) -> None:
    picture_server.files["/api/tasks"] = answer

    with pytest.raises(ImageUnavailableError, match="something else in Label Studio's answer than the next tasks"):
        tasks_of(picture_server.url).tasks_after("6", 4, 3)


def test_a_refusal_says_its_status(picture_server: Any) -> None:
    with pytest.raises(ImageUnavailableError, match="answered 404 when asked for the next tasks"):
        tasks_of(picture_server.url).tasks_after("6", 4, 3)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    tasks = tasks_of("http://127.0.0.1:9")
    monkeypatch.setattr(tasks._api._http, "request", lambda *_, **__: type("Response", (), {"status": status}))

    with pytest.raises(ImageForbiddenError, match=f"answered {status}"):
        tasks.tasks_after("6", 4, 3)


@pytest.mark.parametrize(
    ("url", "token", "can_ask"), [(None, None, False), ("http://a", None, False), ("http://a", TOKEN, True)]
)
def test_nobody_is_asked_without_address_and_token(url: str | None, token: str | None, can_ask: bool) -> None:  # noqa: FBT001
    tasks = LabelStudioTasks(load_settings(label_studio_url=url, label_studio_api_key=token))

    assert tasks.can_ask is can_ask
    if url is None:
        with pytest.raises(ImageUnavailableError, match="LABEL_STUDIO_URL is not set"):
            tasks.tasks_after("6", 4, 3)
