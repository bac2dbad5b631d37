"""What is asked of Label Studio's API; the real one answers in `tests/e2e/test_prefetch.py`."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.settings import load_settings

TOKEN = "a1" * 20


def tasks_of(url: str | None, token: str | None = TOKEN) -> LabelStudioTasks:
    return LabelStudioTasks(ImageSource(load_settings(label_studio_url=url, label_studio_api_key=token)).token)


def test_the_next_tasks_are_asked_for_with_the_token(picture_server: Any) -> None:
    answer = {"total": 9, "tasks": [{"id": 5, "data": {"image": "5.png"}, "drafts": []}, {"id": 8, "data": {}}]}
    picture_server.files["/label/api/tasks"] = json.dumps(answer).encode()

    following = tasks_of(f"{picture_server.url}/label/").tasks_after("6", 4, 2)

    assert [(task.id, task.data) for task in following.tasks] == [(5, {"image": "5.png"}), (8, {})]
    assert following.total == 9
    ((path, authorization),) = picture_server.requests
    asked = parse_qs(urlsplit(path).query)
    assert authorization == f"Token {TOKEN}"
    assert (asked["project"], asked["page_size"], asked["resolve_uri"]) == (["6"], ["2"], ["false"])
    query = json.loads(asked["query"][0])
    assert query["ordering"] == ["tasks:id"]
    assert [(item["filter"], item["operator"], item["value"]) for item in query["filters"]["items"]] == [
        ("filter:tasks:id", "greater", 4),
        ("filter:tasks:completed_at", "empty", True),
    ]


def test_finished_tasks_are_asked_for_too_where_all_are_wanted(picture_server: Any) -> None:
    picture_server.files["/api/tasks"] = b'{"tasks": [], "total": 0}'

    tasks_of(picture_server.url).tasks_after("6", 0, 2, unfinished_only=False)

    ((path, _),) = picture_server.requests
    query = json.loads(parse_qs(urlsplit(path).query)["query"][0])
    assert [item["filter"] for item in query["filters"]["items"]] == ["filter:tasks:id"]


def test_a_projects_labeling_configuration_is_asked_for_with_the_token(picture_server: Any) -> None:
    picture_server.files["/label/api/projects/6/"] = b'{"id": 6, "label_config": "<View/>", "title": "Cats"}'

    label_config = tasks_of(f"{picture_server.url}/label").label_config("6")

    assert label_config == "<View/>"
    assert picture_server.requests == [("/label/api/projects/6/", f"Token {TOKEN}")]


def test_what_is_no_project_is_an_error_of_the_catalogue(picture_server: Any) -> None:
    picture_server.files["/api/projects/6/"] = b"<html>"

    with pytest.raises(ImageUnavailableError, match="something else in Label Studio's answer than project 6"):
        tasks_of(picture_server.url).label_config("6")


def test_no_more_tasks_are_taken_than_were_asked_for(picture_server: Any) -> None:
    picture_server.files["/api/tasks"] = json.dumps(
        {"total": 9, "tasks": [{"id": number} for number in range(9)]}
    ).encode()

    assert len(tasks_of(picture_server.url).tasks_after("6", 4, 3).tasks) == 3


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"tasks": 7}', b'{"tasks": [7]}', b"[" * 10_000, b"\xff"])
def test_an_answer_without_tasks_is_an_error_of_the_catalogue(picture_server: Any, answer: bytes) -> None:
    picture_server.files["/api/tasks"] = answer

    with pytest.raises(
        ImageUnavailableError, match="something else in Label Studio's answer than the tasks of project 6"
    ):
        tasks_of(picture_server.url).tasks_after("6", 4, 3)


def test_a_refusal_says_its_status(picture_server: Any) -> None:
    with pytest.raises(
        ImageUnavailableError, match="answered 404 when asked for the tasks of project 6: there is none"
    ):
        tasks_of(picture_server.url).tasks_after("6", 4, 3)


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "LABEL_STUDIO_API_KEY is no token of it"), (403, "may not see it"), (502, "answered 502")],
)
def test_a_refusal_tells_what_to_look_at(monkeypatch: pytest.MonkeyPatch, status: int, told: str) -> None:
    tasks = tasks_of("http://127.0.0.1:9")
    monkeypatch.setattr(tasks._api.token.http, "request", lambda *_, **__: type("Response", (), {"status": status}))

    with pytest.raises(ImageUnavailableError, match=told) as raised:
        tasks.tasks_after("6", 4, 3)

    assert isinstance(raised.value, ImageForbiddenError) is (status != 502)


@pytest.mark.parametrize(
    ("url", "token", "can_ask"), [(None, None, False), ("http://a", None, False), ("http://a", TOKEN, True)]
)
def test_nobody_is_asked_without_address_and_token(url: str | None, token: str | None, can_ask: bool) -> None:  # noqa: FBT001
    tasks = tasks_of(url, token)

    assert tasks.can_ask is can_ask
    if url is None:
        with pytest.raises(ImageUnavailableError, match="LABEL_STUDIO_URL is not set"):
            tasks.tasks_after("6", 4, 3)
