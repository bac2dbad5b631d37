"""Label Studio's requests as types: what is read, what is skipped, and what is refused by name."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstudio_sam2.errors import BackendError, BadJsonError, BadPromptError, BadRequestError
from labelstudio_sam2.labelstudio.wire import (
    Region,
    Task,
    decode_predict_request,
    decode_rle,
    encode_answer,
    newest_draft,
    plain_answer,
    predict_request,
)

DEEP = 100_000


def region(**more: Any) -> dict[str, Any]:
    return {"id": "a", "type": "brushlabels", "from_name": "brush", "to_name": "image", "value": {}, **more}


def with_context(*regions: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"tasks": [], "params": {"context": {"result": regions}}})


def brush_region(rle: bytes) -> Region:
    body = b'{"id":"a","type":"brushlabels","from_name":"b","to_name":"i","value":{"rle":' + rle + b"}}"
    return msgspec.json.decode(body, type=Region)


def first_task(body: bytes) -> Task:
    return decode_predict_request(body).tasks[0]


def test_a_recorded_request_is_read(recorded: Any) -> None:
    body = recorded("kp3_negative")

    request = decode_predict_request(msgspec.json.encode(body.get("predict_request", {}).get("body", body)))

    assert request.context is not None
    assert [region.is_positive for region in request.context.result][-1] is False
    assert request.project == "6.1795342851"
    assert request.tasks[0].data["image"].startswith("/data/upload/6/")


def test_a_null_context_is_a_batch() -> None:
    for params in (b"null", b"{}", b'{"context":null}'):
        assert decode_predict_request(b'{"tasks":[],"params":' + params + b"}").context is None


def test_the_rle_of_existing_regions_stays_undecoded_bytes() -> None:
    task = first_task(msgspec.json.encode({"tasks": [{"drafts": [{"result": [region(value={"rle": "no list"})]}]}]}))

    assert task.drafts is not None
    assert bytes(task.drafts[0].result[0].value.rle) == b'"no list"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * DEEP,
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b"{",
        b'{"tasks":[]} trailing',
        b'\xef\xbb\xbf{"tasks":[]}',  # a byte order mark
        b'{"tasks":[{"data":{"image":"\xff"}}]}',  # not UTF-8
        '{"tasks":[]}'.encode("utf-16"),
        b'{"a":' * DEEP,
        b'{"tasks":[],"unknown":' + b"[" * DEEP,
        b'{"tasks":[{"drafts":' + b"[" * DEEP + b"]" * DEEP + b"}]}",
        b'{"tasks":[{"data":{"image":' + b"[" * DEEP + b"]" * DEEP + b"}}]}",
        b'{"tasks":[],"label_config":"\\ud800"}',  # half a surrogate pair
        b'{"tasks":[],"params":{"context":{"result":[{"value":{"x":NaN}}]}}}',
        b'{"tasks":[],"params":{"context":{"result":[{"value":{"x":-Infinity}}]}}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_json_object_is_bad_json(body: bytes) -> None:
    with pytest.raises(BadJsonError):
        decode_predict_request(body)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{}", "tasks"),
        (b'{"tasks":{}}', "$.tasks"),
        (b'{"tasks":[7]}', "$.tasks[0]"),
        (b'{"tasks":[{"data":[]}]}', "$.tasks[0].data"),
        (b'{"tasks":[{"id":1.5}]}', "$.tasks[0].id"),
        (b'{"tasks":[{"id":' + b"9" * 5000 + b"}]}", "$.tasks[0].id"),
        (b'{"tasks":[],"label_config":7}', "$.label_config"),
        (b'{"tasks":[],"project":[]}', "$.project"),
        (b'{"tasks":[],"params":[]}', "$.params"),
        (b'{"tasks":[],"params":{"context":{"result":{}}}}', "$.params.context.result"),
        (with_context(region(value={"x": "1"})), "$.params.context.result[0].value.x"),
        (with_context(region(value={"points": [[1, 2, 3]]})), "$.params.context.result[0].value.points[0]"),
        (with_context(region(value={"touches": [{}]})), "$.params.context.result[0].value.touches[0]"),
        (with_context(region(), region(is_positive="yes")), "$.params.context.result[1].is_positive"),
        (with_context(region(item_index=0.5)), "$.params.context.result[0].item_index"),
        (with_context({"id": "a"}), "type"),
        (b'{"tasks":[],"params":{"context":{"result":[{"value":{"x":1e999}}]}}}', "result[0].value.x"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_wrong_field_is_named(body: bytes, named: str) -> None:
    with pytest.raises(BadRequestError) as error:
        decode_predict_request(body)

    assert named in str(error.value)


def test_the_newest_draft_counts() -> None:
    task = first_task(
        msgspec.json.encode(
            {
                "tasks": [
                    {
                        "drafts": [
                            {"updated_at": "2026-11-22T11:39:41Z", "result": [region(id="new")]},
                            {"updated_at": "2026-11-22T11:39:40Z", "result": [region(id="old")]},
                        ]
                    }
                ]
            }
        )
    )

    regions = newest_draft(task)

    assert regions is not None
    assert [found.id for found in regions] == ["new"]


@pytest.mark.parametrize("drafts", [b"null", b"[]"])
def test_without_a_draft_there_is_none(drafts: bytes) -> None:
    assert newest_draft(first_task(b'{"tasks":[{"drafts":' + drafts + b"}]}")) == []
    assert newest_draft(first_task(b'{"tasks":[{}]}')) == []


def test_a_draft_of_nothing_is_not_no_draft() -> None:
    assert newest_draft(first_task(b'{"tasks":[{"drafts":[{"result":[]}]}]}')) == []


def test_regions_of_other_tags_and_other_shapes_are_left_out_of_a_draft() -> None:
    results = [
        {"id": "t", "type": "textarea", "from_name": "text", "to_name": "image", "value": {"text": ["a"]}},
        {"id": "r", "type": "relation", "from_id": "a", "to_id": "b"},
        "nonsense",
        region(id="broken", value={"x": "not a number"}),
        region(id="good"),
    ]
    task = first_task(msgspec.json.encode({"tasks": [{"drafts": [{"result": results}]}]}))

    regions = newest_draft(task)

    assert [found.id for found in regions or []] == ["good"]


@pytest.mark.parametrize(
    "drafts",
    [
        b'[{"updated_at":"\xff"}]',
        b'[{"result":[{"type":"\xff"}]}]',
        b'[{"result":[{"type":"brush","to_name":"i","id":"\xff"}]}]',
        b"7",
        b'[{"result":null}]',
    ],
)
def test_an_unreadable_draft_does_not_keep_a_click_from_being_answered(drafts: bytes) -> None:
    task = first_task(b'{"tasks":[{"drafts":' + drafts + b"}]}")

    assert not newest_draft(task)


def test_rle_is_a_list_of_bytes() -> None:
    assert np.concatenate([*decode_rle(brush_region(b"[0, 255]"))]).tolist() == [0, 255]
    for broken in (
        b"[0, 256]",
        b"[0, -1]",
        b'["1"]',
        b"[1.5]",
        b"[true]",
        b"{}",
        b'"AAA="',
        b"[1e999]",
        b'["\xff"]',
        b"[" * 900 + b"]" * 900,
    ):
        with pytest.raises(BadPromptError):
            [*decode_rle(brush_region(broken))]


def test_an_answer_is_the_same_text_whether_its_rle_is_an_array_or_a_list() -> None:
    def predictions(rle: Any) -> list[Any]:
        return [{"result": [{"value": {"format": "rle", "rle": rle}, "score": 0.5}], "model_version": "fake@1"}, []]

    numbers = [0, 255, 10, 7]
    as_lists, as_arrays = predictions(numbers), predictions(np.array(numbers, np.uint8))

    assert encode_answer(as_arrays) == msgspec.json.encode({"results": as_lists})
    assert plain_answer(as_arrays) == as_lists


@pytest.mark.parametrize("write", [encode_answer, plain_answer])
@pytest.mark.parametrize("value", [np.float32(0.5), np.bool_(1), object()], ids=lambda value: type(value).__name__)
def test_what_is_no_array_is_not_taken_for_rle(write: Any, value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        write([{"result": [], "score": value}])


def test_plain_objects_make_the_same_request_as_the_body() -> None:
    tasks = [{"id": 7, "data": {"image": "a.png"}, "meta": {"big": 2**70}}]
    context = {"result": [region()]}
    body = {"tasks": tasks, "label_config": "<View/>", "project": "6.1", "params": {"context": context}}

    from_plain = predict_request(tasks, "<View/>", "6.1", context)
    from_body = decode_predict_request(msgspec.json.encode(body))

    assert from_plain.context == from_body.context
    assert (from_plain.label_config, from_plain.project) == (from_body.label_config, from_body.project)
    assert from_plain.tasks[0].data == from_body.tasks[0].data


@pytest.mark.parametrize("value", ["\ud800", object(), {(1, 2): 3}])
def test_plain_objects_that_are_no_json_are_a_bad_request(value: object) -> None:
    with pytest.raises(BadRequestError):
        predict_request([{"data": {"image": value}}], "<View/>")


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tasks", "params", "context", "result", "value", "x", "id"]), parts, max_size=4
        )
    ),
    max_leaves=20,
)


@given(any_json | st.fixed_dictionaries({"tasks": any_json, "params": st.fixed_dictionaries({"context": any_json})}))
def test_any_json_is_read_or_refused_by_the_catalogue(value: Any) -> None:
    try:
        request = decode_predict_request(msgspec.json.encode(value))
    except BackendError as error:
        assert error.code in {"bad_json", "bad_request"}  # noqa: PT017  either way is right
    else:
        assert isinstance(request.tasks, list)


@given(st.binary(max_size=200).map(lambda tail: b'{"tasks":[{"id":' + tail))
def test_any_bytes_are_read_or_refused_by_the_catalogue(body: bytes) -> None:
    try:
        request = decode_predict_request(body)
    except BackendError as error:
        assert error.code in {"bad_json", "bad_request"}  # noqa: PT017  either way is right
    else:
        assert len(request.tasks) >= 1
