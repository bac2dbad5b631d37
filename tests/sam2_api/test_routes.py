"""The seed's HTTP routes on nano, in this process: the status of every kind of request, answers, credentials."""

import base64
import io
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from numpy.typing import NDArray
from pycocotools import mask as coco

from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.segmenter import Segmenter

# pycocotools' own, under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ON_DISC = {"points": [{"x": 200, "y": 180, "positive": True}]}
AROUND_BOX = {"box": {"x": 480, "y": 325, "width": 160, "height": 150}}
EMBED, SEGMENT = "/sam2/embed_image", "/sam2/segment_image"
KEY, PASSWORD = "k\u00e4y-1", "p\u00e4ss"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASIC_AUTH_USER", "BASIC_AUTH_PASS", "EXTRA_MODELS", "ALLOW_FILE_INPUTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def app(make_nano_app: Callable[..., Flask]) -> Flask:
    return make_nano_app()


@pytest.fixture(scope="module")
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def picture(disc_and_box: Any) -> dict[str, str]:
    return {"type": "base64", "value": base64.b64encode(disc_and_box.png()).decode()}


@pytest.fixture(scope="module")
def cached(client: FlaskClient, picture: dict[str, str]) -> str:
    """The id of a picture whose embedding is cached."""
    answer = client.post(EMBED, json={"image": picture, "image_id": "desk"})
    assert answer.status_code == 200
    return "desk"


def decoded(rle: Any) -> NDArray[np.bool_]:
    return np.asarray(coco.decode({**rle, "counts": rle["counts"].encode()}), bool)


def filled(polygons: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    corners = [np.array(polygon, np.int32) for polygon in polygons]
    return np.asarray(cv2.fillPoly(np.zeros(size_hw, np.uint8), corners, 1), bool)


def without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill everything that cannot be reached from the border."""
    padded = np.pad(mask, 1).astype(np.uint8)
    outside = cv2.floodFill(padded, None, (0, 0), 2)[1] == 2
    return np.asarray(~outside[1:-1, 1:-1], bool)


# answers


def test_embedding_a_picture_gives_its_id_and_the_time_it_took(client: FlaskClient, picture: dict[str, str]) -> None:
    answer = client.post(EMBED, json={"image": picture, "image_id": "mine"})

    assert answer.json is not None
    assert answer.json["image_id"] == "mine"
    assert answer.json["time"] > 0
    assert set(answer.json) == {"image_id", "time"}


def test_a_point_and_a_box_in_one_request_get_a_mask_each_in_their_order(
    client: FlaskClient, picture: dict[str, str], disc_and_box: Any, iou: Callable[..., float]
) -> None:
    body = {"image": picture, "prompts": {"prompts": [AROUND_BOX, ON_DISC]}, "format": "rle"}

    answer = client.post(SEGMENT, json=body)

    assert answer.json is not None
    box, disc = answer.json["predictions"]
    assert (box["format"], disc["format"]) == ("rle", "rle")
    assert box["masks"]["size"] == [480, 640]
    assert iou(decoded(box["masks"]), disc_and_box.masks["box"]) >= 0.9
    assert iou(decoded(disc["masks"]), disc_and_box.masks["disc"]) >= 0.9
    assert 0.5 < disc["confidence"] <= 1


def test_rle_polygons_and_npz_of_one_request_describe_the_same_mask(
    client: FlaskClient, picture: dict[str, str]
) -> None:
    body = {"image": picture, "prompts": [ON_DISC, AROUND_BOX, {}]}

    polygons = client.post(SEGMENT, json=body).get_json()["predictions"]
    rles = client.post(SEGMENT, json={**body, "format": "rle"}).get_json()["predictions"]
    binary = client.post(SEGMENT, json={**body, "format": "binary"})

    arrays = np.load(io.BytesIO(binary.data))
    assert binary.mimetype == "application/octet-stream"
    assert sorted(arrays) == ["low_res_masks", "masks"]
    assert (arrays["masks"].shape, arrays["masks"].dtype) == ((3, 480, 640), np.float32)
    assert arrays["low_res_masks"].shape[0] == 3
    assert np.abs(arrays["low_res_masks"]).max() <= 32
    for polygon, rle, logits in zip(polygons, rles, arrays["masks"], strict=True):
        mask = logits > 0
        np.testing.assert_array_equal(decoded(rle["masks"]), mask)
        np.testing.assert_array_equal(filled(polygon["masks"], (480, 640)), without_holes(mask))
        assert polygon["format"] == "polygon"
        assert polygon["confidence"] == rle["confidence"]


@pytest.mark.parametrize("prompts", [None, [], {}, [{}], {"prompts": []}, {"points": []}, [{"points": []}]], ids=repr)
def test_without_any_prompt_there_is_one_mask(client: FlaskClient, cached: str, prompts: Any) -> None:
    answer = client.post(SEGMENT, json={"image_id": cached, "prompts": prompts})

    assert len(answer.get_json()["predictions"]) == 1


@pytest.mark.parametrize(
    "prompts",
    [
        {"points": [{"x": "200", "y": "180.0", "positive": "true"}]},
        [{"points": [{"x": 200, "y": 180, "positive": 1, "color": "red"}], "box": None}],
    ],
    ids=["texts, a single prompt", "1 for true, unknown keys"],
)
def test_prompts_are_read_leniently(client: FlaskClient, cached: str, prompts: Any) -> None:
    strict = client.post(SEGMENT, json={"image_id": cached, "prompts": {"prompts": [ON_DISC]}})
    lenient = client.post(
        SEGMENT,
        json={"image_id": cached, "prompts": prompts, "multimask_output": "true", "id": "7", "source": "test"},
    )

    assert lenient.get_json()["predictions"] == strict.get_json()["predictions"]


def test_one_mask_instead_of_the_best_of_three_can_be_asked_for(client: FlaskClient, cached: str) -> None:
    body = {"image_id": cached, "prompts": [ON_DISC]}

    best, single = (
        client.post(SEGMENT, json={**body, "multimask_output": multimask}).get_json()["predictions"][0]["confidence"]
        for multimask in (True, False)
    )

    assert best != single


def test_logits_that_were_saved_are_where_a_longer_prompt_goes_on_from(
    client: FlaskClient, picture: dict[str, str]
) -> None:
    body = {"image": picture, "image_id": "logits", "format": "binary"}
    longer = {"points": [*ON_DISC["points"], {"x": 480, "y": 325, "positive": True}]}

    def masks(prompt: Any, **flags: bool) -> NDArray[np.float32]:
        answer = client.post(SEGMENT, json={**body, "prompts": [prompt], **flags})
        found: NDArray[np.float32] = np.load(io.BytesIO(answer.data))["masks"]
        return found

    fresh = masks(longer)
    nothing_saved = masks(longer, load_logits_from_cache=True)
    masks(ON_DISC, save_logits_to_cache=True)
    refined = masks(longer, load_logits_from_cache=True)

    np.testing.assert_array_equal(nothing_saved, fresh)
    assert np.abs(refined - fresh).max() > 0.1


def test_a_picture_is_embedded_once_whatever_is_asked_of_it(
    make_nano_app: Callable[..., Flask], picture: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_nano_app().test_client()
    caplog.set_level(logging.INFO)

    client.post(SEGMENT, json={"image": picture, "prompts": [ON_DISC]})
    client.post(EMBED, json={"image": picture, "image_id": "later"})
    client.post(SEGMENT, json={"image_id": "later", "prompts": [AROUND_BOX]})
    client.post(SEGMENT, json={"image": {**picture, "value": "data:image/png;base64," + picture["value"]}})

    assert [record.getMessage() for record in caplog.records].count("embedded a picture") == 1


@pytest.mark.parametrize(
    ("answer_format", "limit", "value"),
    [
        ("binary", "MAX_BINARY_BYTES", 4 * 640 * 480 * 2 - 1),
        ("json", "MAX_MASK_PIXELS", 640 * 480 * 2 - 1),
        ("rle", "MAX_MASK_PIXELS", 640 * 480 * 2 - 1),
    ],
)
def test_too_many_masks_for_their_size_are_refused_before_the_model_is_asked(
    client: FlaskClient, cached: str, nano_model: Any, answer_format: str, limit: str, value: int
) -> None:
    body = {"image_id": cached, "prompts": [ON_DISC] * 2, "format": answer_format}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"labelstudio_sam2.sam2_api.schema.{limit}", value)
        patch.setattr(nano_model, "predict", None)
        two = client.post(SEGMENT, json=body)
        patch.delattr(nano_model, "predict")
        two = client.post(SEGMENT, json=body)
        one = client.post(SEGMENT, json={**body, "prompts": [ON_DISC]})

    assert (two.status_code, one.status_code) == (400, 200)
    assert "2 masks of 640 x 480 pixels are too much" in two.get_json()["message"]


def test_a_body_of_the_first_server_is_read_as_one_prompt(client: FlaskClient, cached: str) -> None:
    today = client.post(SEGMENT, json={"image_id": cached, "prompts": [ON_DISC], "format": "rle"})
    first = client.post(
        SEGMENT, json={"image_id": cached, "point_coords": [[200, 180]], "point_labels": [1], "format": "rle"}
    )
    broken = client.post(SEGMENT, json={"image_id": cached, "point_coords": [[200, 180]]})

    assert first.get_json()["predictions"] == today.get_json()["predictions"]
    assert (broken.status_code, "go together" in broken.get_json()["message"]) == (400, True)


# 2.2 of the contract: the status of each kind of request

PICKLE = base64.b64encode(pickle.dumps(np.zeros((6, 8, 3), np.uint8))).decode()
MARK = "SECRET" * 20
"""Stands in pictures, which no refusal may show."""
HELD = {"type": "base64", "value": MARK}


@pytest.mark.parametrize(
    "image",
    [
        {"type": "base64", "value": MARK + "*"},
        {"type": "base64", "value": base64.b64encode(MARK.encode()).decode()},
        {"type": "base64", "value": ""},
        {"type": "base64", "value": "data:image/png;base64,"},
        {"type": "base64", "value": 5},
        {"type": "base64", "value": [MARK]},
        {"type": "multipart", "value": MARK},
        {"type": "nonsense", "value": MARK},
        {"type": 5, "value": MARK},
        {"value": MARK},
        {"type": "url", "value": "http://169.254.169.254/latest/meta-data"},
        {"type": "url", "value": "http://127.0.0.1:1/x.png"},
        {"type": "url", "value": "file:///etc/passwd"},
        {"type": "url", "value": "http://["},
        {"type": "url", "value": "/etc/passwd"},
        {"type": "file", "value": "/etc/hostname"},
        {"type": "file"},
        {"type": "numpy", "value": PICKLE},
        {"type": "numpy_object", "value": [[1, 2], [3, 4]]},
        {"type": "pil", "value": MARK},
        {},
        [HELD],
        [],
        MARK,
        "/etc/hostname",
        5,
        True,
    ],
    ids=lambda image: repr(image)[:60],
)
@pytest.mark.parametrize("path", [EMBED, SEGMENT])
def test_a_picture_that_cannot_be_had_is_the_clients_fault(client: FlaskClient, path: str, image: Any) -> None:
    answer = client.post(path, json={"image": image})

    assert answer.status_code == 400
    assert answer.get_json()["message"]
    assert MARK not in answer.text
    assert PICKLE[:40] not in answer.text


def test_a_cached_picture_is_segmented_without_its_value(client: FlaskClient, cached: str) -> None:
    body = {"image_id": cached, "image": {"type": "base64"}, "prompts": [ON_DISC]}

    assert client.post(SEGMENT, json=body).status_code == 200


@pytest.mark.parametrize("image", [{}, {"image": None}], ids=["left out", "null"])
@pytest.mark.parametrize("path", [EMBED, SEGMENT])
def test_a_cached_picture_needs_only_its_id(
    client: FlaskClient, cached: str, path: str, image: dict[str, None]
) -> None:
    answer = client.post(path, json={"image_id": cached, **image})

    assert answer.status_code == 200
    assert answer.get_json()["image_id"] == cached


@pytest.mark.parametrize("path", [EMBED, SEGMENT])
@pytest.mark.parametrize("image", [{}, {"image": None}, {"image": {"type": "base64"}}, {"image": {}}], ids=repr)
@pytest.mark.parametrize("image_id", [{}, {"image_id": None}, {"image_id": ""}, {"image_id": "who"}], ids=repr)
def test_neither_a_picture_nor_a_known_id_is_the_clients_fault(
    client: FlaskClient, path: str, image: Any, image_id: Any
) -> None:
    answer = client.post(path, json={**image, **image_id})

    assert answer.status_code == 400
    assert answer.get_json()["message"]


@pytest.mark.parametrize(
    "field",
    [
        {"format": "png"},
        {"format": None},
        {"format": 1},
        {"sam2_version_id": "hiera_huge"},
        {"sam2_version_id": "hiera_tiny"},
        {"sam2_version_id": None},
        {"sam2_version_id": ""},
        {"model_id": "sam2/hiera_large"},
        {"model_id": 7},
        {"image_id": 5},
        {"image_id": ["desk"]},
        {"multimask_output": "maybe"},
        {"multimask_output": None},
        {"save_logits_to_cache": 2},
        {"api_key": {}},
        {"prompts": "x"},
        {"prompts": [MARK]},
        {"prompts": [[]]},
        {"prompts": 1},
        {"prompts": {"points": {}}},
        {"prompts": {"points": [{"x": 1, "y": 2}]}},
        {"prompts": {"points": [{"x": 1, "y": 2, "positive": 2}]}},
        {"prompts": {"points": [{"x": "NaN", "y": 2, "positive": True}]}},
        {"prompts": {"points": [{"x": float("nan"), "y": 2, "positive": True}]}},
        {"prompts": {"points": [{"x": float("inf"), "y": 2, "positive": True}]}},
        {"prompts": {"points": [{"x": 1e300, "y": 2, "positive": True}]}},
        {"prompts": {"points": [{"x": 10**400, "y": 2, "positive": True}]}},
        {"prompts": {"box": {"x": 1, "y": 2, "width": 3}}},
        {"prompts": {"box": {"x": 1, "y": 2, "width": -3, "height": 1}}},
        {"prompts": [{}] * 257},
        {"prompts": {"points": [{"x": 1, "y": 1, "positive": True}] * 257}},
    ],
    ids=lambda field: repr(field)[:70],
)
def test_a_wrong_field_is_the_clients_fault_and_never_shows_the_picture(
    client: FlaskClient, cached: str, picture: dict[str, str], field: dict[str, Any]
) -> None:
    body = {"image": picture, "image_id": cached, **field}

    answer = client.post(SEGMENT, json=body)

    assert answer.status_code == 400
    assert answer.get_json()["message"] == answer.get_json()["detail"]
    assert picture["value"][:40] not in answer.text
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b'{"image":' * 100_000, b"\xff\xfe{", b'{"x":\xff}']
)
@pytest.mark.parametrize("path", [EMBED, SEGMENT, "/model/add", "/model/remove"])
def test_what_is_no_json_object_is_the_clients_fault(client: FlaskClient, path: str, body: bytes) -> None:
    answer = client.post(path, data=body, content_type="application/json")

    assert (answer.status_code, answer.get_json()["error"]) == (400, "bad_json")


def test_the_content_type_of_a_body_does_not_matter(client: FlaskClient, cached: str) -> None:
    body = json.dumps({"image_id": cached}).encode()

    statuses = {
        kind: client.post(SEGMENT, data=body, content_type=kind).status_code
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "")
    }

    assert set(statuses.values()) == {200}


def test_a_body_over_the_limit_is_refused(make_nano_app: Callable[..., Flask]) -> None:
    client = make_nano_app(max_request_mb=1).test_client()

    answer = client.post(SEGMENT, json={"image": {"type": "base64", "value": "A" * 1_000_001}})

    assert (answer.status_code, answer.get_json()["message"]) == (413, "the body is larger than 1 MB")


@pytest.mark.parametrize("path", [EMBED, SEGMENT, "/model/add", "/model/remove", "/model/clear"])
def test_another_method_is_told_which_one_is_right(client: FlaskClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert answer.get_json()["message"]


@pytest.mark.parametrize("path", [f"/{SEGMENT}", f"{SEGMENT}/", "//sam2//segment_image//"])
def test_doubled_and_trailing_slashes_are_served_without_a_redirect(
    client: FlaskClient, cached: str, path: str
) -> None:
    answer = client.post(json={"image_id": cached}, environ_overrides={"PATH_INFO": path})

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/sam2", "/sam2/", "/sam2/../sam2/embed_image", "/sam2/segment_imagex"])
def test_other_paths_are_left_as_they_are(client: FlaskClient, path: str) -> None:
    assert client.post(json={}, environ_overrides={"PATH_INFO": path}).status_code in {308, 404}


# files of this machine


def test_files_are_read_only_where_the_operator_lets_them(
    make_nano_app: Callable[..., Flask], disc_and_box: Any, tmp_path: Any
) -> None:
    file = tmp_path / "desk.png"
    file.write_bytes(disc_and_box.png())
    body = {"image": {"type": "file", "value": str(file)}}

    off = make_nano_app().test_client().post(EMBED, json=body)
    on = make_nano_app(allow_file_inputs=True).test_client().post(EMBED, json=body)

    assert (off.status_code, on.status_code) == (400, 200)
    assert str(file) not in off.text


def test_a_picture_is_fetched_from_a_host_that_is_allowed(
    make_nano_app: Callable[..., Flask], picture_server: Any, disc_and_box: Any
) -> None:
    picture_server.files["/desk.png"] = disc_and_box.png()
    host = picture_server.url.removeprefix("http://")
    client = make_nano_app(allowed_image_hosts=host).test_client()

    found = client.post(EMBED, json={"image": {"type": "URL", "value": f"{picture_server.url}/desk.png"}})
    missing = client.post(EMBED, json={"image": {"type": "url", "value": f"{picture_server.url}/none.png"}})

    assert (found.status_code, missing.status_code) == (200, 502)


# several models


def test_models_are_loaded_listed_asked_and_taken_away(
    make_nano_app: Callable[..., Flask], nano_model: Any, cached: str, picture: dict[str, str]
) -> None:
    client = make_nano_app(extras={"sam2/hiera_tiny": lambda: _segmenter(lambda: nano_model)}).test_client()

    def ids(answer: Any) -> list[str]:
        assert answer.status_code == 200, answer.text
        return [model["model_id"] for model in answer.get_json()["models"]]

    before = ids(client.get("/model/registry"))
    added = ids(client.post("/model/add", json={"model_id": "hiera_tiny", "model_type": None}))
    asked = client.post(SEGMENT, json={"image": picture, "sam2_version_id": "hiera_tiny"})
    by_model_id = client.post(SEGMENT, json={"image": picture, "model_id": "sam2/hiera_tiny"})
    removed = ids(client.post("/model/remove", json={"model_id": "sam2/hiera_tiny"}))
    cleared = ids(client.post("/model/clear"))

    assert before == removed == cleared == ["nano"]
    assert added == ["nano", "sam2/hiera_tiny"]
    assert asked.status_code == by_model_id.status_code == 200


@pytest.mark.parametrize("path", ["/model/add", "/model/remove"])
def test_a_model_that_is_not_served_is_refused_and_those_that_are_are_named(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json={"model_id": "yolov8n-640"})

    assert answer.status == "400 This model is not served here"
    assert answer.get_json()["message"] == "this model is not served here, ask for one of: nano"


def test_a_model_that_cannot_be_loaded_is_no_passing_fault(make_nano_app: Callable[..., Flask]) -> None:
    def fail() -> Any:
        raise ModelUnavailableError("weights/tiny.pt is missing")

    client = make_nano_app(extras={"sam2/hiera_tiny": lambda: _segmenter(fail)}).test_client()

    answer = client.post(SEGMENT, json={"image_id": "x", "sam2_version_id": "hiera_tiny"})

    assert (answer.status_code, answer.get_json()["message"]) == (500, "weights/tiny.pt is missing")
    assert "Retry-After" not in answer.headers


def _segmenter(load: Callable[[], Any]) -> Segmenter[Any]:
    return Segmenter(
        load,
        model_version="tiny@test",
        cache=EmbeddingCache(2**26),
        device=DeviceSchedule(max_waiting=2, wait_seconds=5),
    )


# the server about itself


def test_the_server_tells_its_name_version_and_that_it_is_well(client: FlaskClient) -> None:
    info = client.get("/info").get_json()

    assert info["name"] == "labelstudio-sam2"
    assert set(info) == {"name", "version", "uuid"}
    assert client.get("/info/").get_json() == info
    assert client.get("/healthz").get_json() == {"status": "healthy"}
    assert client.get("/readiness").get_json() == {"status": "ready"}


# credentials


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + key.encode().decode("latin-1")}


GUARDED = [("POST", SEGMENT), ("POST", EMBED), ("POST", "/model/add"), ("POST", "/model/remove")]
WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "body": lambda key: {"json": {"image_id": "x", "model_id": "nano", "api_key": key}},
    "address": lambda key: {"json": {"image_id": "x", "model_id": "nano"}, "query_string": {"api_key": key}},
    "header": lambda key: {"json": {"image_id": "x", "model_id": "nano"}, "headers": bearer(key)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_the_key_is_taken_from_the_body_the_address_and_the_header(
    make_nano_app: Callable[..., Flask], method: str, path: str, way: str
) -> None:
    client = make_nano_app(api_key=KEY).test_client()

    right, wrong, almost, empty = (
        client.open(path, method=method, **WAYS[way](key)) for key in (KEY, "x", KEY[:-1], "")
    )

    assert right.status_code != 401
    assert wrong.status_code == almost.status_code == empty.status_code == 401
    assert wrong.status == "401 API key is missing or wrong"
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert KEY not in wrong.text


def test_without_any_key_only_what_gives_nothing_away_is_served(make_nano_app: Callable[..., Flask]) -> None:
    client = make_nano_app(api_key=KEY).test_client()
    asked = [*GUARDED, ("POST", "/model/clear"), ("GET", "/model/registry")]

    guarded = [client.open(path, method=method, json={"model_id": "nano"}).status_code for method, path in asked]
    odd = client.post(json={"image_id": "x"}, environ_overrides={"PATH_INFO": "//sam2/segment_image/"})
    null = client.post(SEGMENT, json={"image_id": "x", "api_key": None})
    opened = [client.get(path).status_code for path in ("/info", "/healthz", "/readiness", "/openapi.json")]

    assert set(guarded) == {401}
    assert odd.status_code == null.status_code == 401
    assert set(opened) == {200}


@pytest.mark.parametrize("api_key", [None, KEY])
def test_an_address_that_is_no_utf_8_is_no_bug(make_nano_app: Callable[..., Flask], api_key: str | None) -> None:
    client = make_nano_app(api_key=api_key).test_client()
    with_key = f"a=\x80&api_key={quote(KEY)}"

    statuses = [
        client.get("/model/registry", environ_overrides={"QUERY_STRING": query}).status_code
        for query in ("\x80", "api_key=\xff", with_key)
    ]

    assert statuses == ([200, 200, 200] if api_key is None else [401, 401, 200])


def test_a_key_that_the_operator_did_not_set_is_ignored(client: FlaskClient, cached: str) -> None:
    for way in WAYS.values():
        answer = client.post(SEGMENT, **{**way("anything"), "json": {"image_id": cached, "api_key": "anything"}})

        assert answer.status_code == 200


@pytest.fixture
def both(make_nano_app: Callable[..., Flask]) -> Iterator[FlaskClient]:
    with make_nano_app(api_key=KEY, basic_auth_user="sam", basic_auth_pass=PASSWORD).test_client() as client:
        yield client


def test_where_both_are_set_either_opens_this_api_and_only_basic_auth_label_studios(both: FlaskClient) -> None:
    body = {"image_id": "who"}

    by_key = both.post(SEGMENT, json={**body, "api_key": KEY})
    by_password = both.post(SEGMENT, json=body, headers=basic("sam", PASSWORD))
    by_nothing = both.post(SEGMENT, json=body)
    by_wrong_password = both.post(SEGMENT, json=body, headers=basic("sam", "x"))
    label_studio_by_key = both.post("/setup", json={"api_key": KEY}, headers=bearer(KEY))
    label_studio_by_password = both.post("/setup", headers=basic("sam", PASSWORD))

    assert (by_key.status_code, by_password.status_code) == (400, 400)  # let in: the id is not known
    assert "who" in by_key.get_json()["message"] or "image" in by_key.get_json()["message"]
    assert (by_nothing.status_code, by_wrong_password.status_code) == (401, 401)
    assert (label_studio_by_key.status_code, label_studio_by_password.status_code) == (401, 200)


def test_with_basic_auth_alone_this_api_needs_it_too(make_nano_app: Callable[..., Flask]) -> None:
    client = make_nano_app(basic_auth_user="sam", basic_auth_pass=PASSWORD).test_client()

    refused = [
        client.post(SEGMENT, json={"image_id": "x", "api_key": "x"}).status_code,
        client.get("/model/registry").status_code,
        client.post("/model/clear").status_code,
    ]
    let_in = client.post(SEGMENT, json={"image_id": "x"}, headers=basic("sam", PASSWORD)).status_code

    assert (refused, let_in) == ([401, 401, 401], 400)
    assert client.get("/healthz").status_code == 200


class Unread(io.RawIOBase):
    """A body that must not be read, as a client's that sends it slowly or never."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: Any) -> int:
        pytest.fail("the body was read")


def post_unread(client: FlaskClient, path: str, headers: dict[str, str], query: str = "") -> tuple[int, str]:
    answer = client.post(
        path,
        query_string=query,
        headers={**headers, "Content-Length": "1000"},
        environ_overrides={"wsgi.input": Unread()},
    )
    return answer.status_code, answer.get_json()["error"]


@pytest.mark.parametrize("path", [path for _, path in GUARDED])
@pytest.mark.parametrize(
    ("has_key", "has_basic", "headers", "query"),
    [
        (False, True, {}, ""),
        (False, True, basic("sam", "x"), ""),
        (False, True, bearer("x"), "api_key=x"),
        (True, False, bearer("x"), ""),
        (True, False, {}, "api_key=x"),
        (True, True, bearer("x"), ""),
    ],
)
def test_strangers_are_refused_before_their_body_is_read_and_take_no_place(
    make_nano_app: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    has_key: bool,  # noqa: FBT001
    has_basic: bool,  # noqa: FBT001
    headers: dict[str, str],
    query: str,
) -> None:
    monkeypatch.setattr("threading.BoundedSemaphore.acquire", lambda *_, **__: pytest.fail("a place was taken"))
    keys = {"api_key": KEY} if has_key else {}
    passwords = {"basic_auth_user": "sam", "basic_auth_pass": PASSWORD} if has_basic else {}
    client = make_nano_app(**keys, **passwords).test_client()

    assert post_unread(client, path, headers, query) == (401, "unauthorized")


def test_a_key_in_the_body_gets_a_place_like_any_other_once_it_is_read(make_nano_app: Callable[..., Flask]) -> None:
    app = make_nano_app(api_key=KEY, threads=4)  # so there are two places
    begun, over = threading.Semaphore(0), threading.Event()
    answers: list[tuple[int, str]] = []

    class Slow(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            begun.release()
            assert over.wait(60)
            return super().readinto(buffer)

    def post(body: Any, headers: dict[str, str]) -> tuple[int, str]:
        answer = app.test_client().post(EMBED, headers=headers, **body)
        return answer.status_code, answer.get_json()["error"]

    def post_slowly() -> None:
        answers.append(post({"input_stream": Slow(b"{}"), "content_length": 2}, bearer(KEY)))

    known = [threading.Thread(target=post_slowly) for _ in range(2)]
    for thread in known:
        thread.start()
        begun.acquire(timeout=60)
    by_body, by_nobody = (post({"json": {"image_id": "x", **keys}}, {}) for keys in ({"api_key": KEY}, {}))
    over.set()
    for thread in known:
        thread.join()

    assert by_body == (503, "busy")
    assert by_nobody == (401, "unauthorized")
    assert answers == [(400, "bad_request")] * 2
    assert post({"json": {"image_id": "x", "api_key": KEY}}, {}) == (400, "bad_request")


@pytest.mark.parametrize(
    ("has_key", "has_basic", "headers", "is_told"),
    [
        (False, False, {}, True),
        (True, False, {}, False),
        (True, False, bearer("x"), False),
        (True, False, bearer(KEY), True),
        (False, True, {}, False),
        (False, True, basic("sam", PASSWORD), True),
        (True, True, {}, False),
        (True, True, bearer(KEY), True),
        (True, True, basic("sam", PASSWORD), True),
    ],
)
def test_a_model_that_cannot_be_loaded_is_503_to_probes_and_why_is_not_for_strangers(
    make_nano_app: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
    has_key: bool,  # noqa: FBT001
    has_basic: bool,  # noqa: FBT001
    headers: dict[str, str],
    is_told: bool,  # noqa: FBT001
) -> None:
    def fail(_: Any) -> None:
        raise ModelUnavailableError("/srv/weights/tiny.pt is missing")

    keys = {"api_key": KEY} if has_key else {}
    passwords = {"basic_auth_user": "sam", "basic_auth_pass": PASSWORD} if has_basic else {}
    client = make_nano_app(**keys, **passwords).test_client()
    monkeypatch.setattr("labelstudio_sam2.segmenter.segmenter.Segmenter.check_ready", fail)

    answer = client.get("/readiness", headers=headers)

    assert answer.status_code == 503
    assert ("/srv/weights" in answer.text) == is_told
