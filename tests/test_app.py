"""The application over HTTP: routes, errors, credentials. The pictures and the model behind it are fakes."""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from labelstudio_sam2 import errors
from labelstudio_sam2.app import READINESS, create_app
from labelstudio_sam2.errors import BackendError, BusyError, GpuMemoryError, ImageUnavailableError
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.ops.logging import RedactionFilter, request_id
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.prompt import Image, Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<KeyPointLabels name="kp" toName="image"><Label value="Cat"/></KeyPointLabels>'
    '<BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels></View>'
)
CLICK = {
    "id": "tPMKg88kFA",
    "type": "keypointlabels",
    "from_name": "kp",
    "to_name": "image",
    "original_width": 8,
    "original_height": 6,
    "value": {"x": 50, "y": 50, "keypointlabels": ["Cat"]},
}
REQUEST: dict[str, Any] = {
    "tasks": [{"id": 7, "data": {"image": "/data/upload/6/cat.png"}}],
    "project": "6.1795342851",
    "label_config": CONFIG,
    "params": {"context": {"result": [CLICK]}},
}


@dataclass(frozen=True)
class TinyPicture:
    sha256: str = "0" * 64
    size_hw: tuple[int, int] = (6, 8)

    def load(self) -> Image:
        return np.zeros((*self.size_hw, 3), np.uint8)


class Pictures:
    """Finds one picture, or raises what a test put in."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def find(self, address: str, *, project: str, task_id: int | None) -> TinyPicture:
        if self.error is not None:
            raise self.error
        return TinyPicture()


class TinyEmbedding:
    nbytes = 1


class TinyModel:
    """Sees the left half of every picture."""

    embedding_format = "tiny"

    def embed(self, image: Image, step_aside: Callable[[], None]) -> TinyEmbedding:
        return TinyEmbedding()

    def predict(self, embedding: TinyEmbedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        logits = np.full((1, 8, 8), -1.0, np.float32)
        logits[:, :, :4] = 1.0
        return Segmentation(low_res_logits=logits, scores=np.array([0.5], np.float32), size_hw=(6, 8))

    def to_bytes(self, embedding: TinyEmbedding, key: str) -> bytes:
        raise NotImplementedError  # there is no disk tier

    def from_bytes(self, data: bytes, key: str) -> TinyEmbedding:
        raise NotImplementedError

    def free_memory(self) -> None:
        """Hold none."""


def make_segmenter(load_model: Callable[[], TinyModel]) -> Segmenter[TinyEmbedding]:
    return Segmenter(
        load_model,
        model_version="tiny@1",
        cache=EmbeddingCache(100),
        device=DeviceSchedule(max_waiting=4, wait_seconds=5),
    )


def make_models(segmenter: Segmenter[TinyEmbedding]) -> Models[TinyEmbedding, SegmentAnything2]:
    return Models("tiny", segmenter, extras={}, view=lambda each: SegmentAnything2.on(each, ImageInputs.local()))


def make_app(pictures: Pictures, load_model: Callable[[], TinyModel] = TinyModel, **settings: object) -> Flask:
    segmenter = make_segmenter(load_model)
    segmenter.start().join()
    return create_app(Assistant(pictures, segmenter), segmenter, make_models(segmenter), load_settings(**settings))


@pytest.fixture(autouse=True)
def no_credentials_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASIC_AUTH_USER", raising=False)
    monkeypatch.delenv("BASIC_AUTH_PASS", raising=False)


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture
def client(pictures: Pictures) -> FlaskClient:
    return make_app(pictures).test_client()


@pytest.fixture
def guarded(pictures: Pictures) -> FlaskClient:
    return make_app(pictures, basic_auth_user="sam", basic_auth_pass="p\u00e4ss:w\u00f6rd").test_client()


def without_ids(answer: Any) -> Any:
    for prediction in answer["results"]:
        for region in prediction["result"]:
            del region["id"]
    return answer


def test_a_click_is_answered(client: FlaskClient) -> None:
    response = client.post("/predict", json=REQUEST)

    (prediction,) = response.get_json()["results"]
    assert (response.status, response.mimetype) == ("200 OK", "application/json")
    assert prediction["result"][0]["type"] == "brushlabels"
    assert prediction["score"] == 0.5


def test_a_batch_gets_one_empty_list_per_task(client: FlaskClient) -> None:
    response = client.post("/predict", json={**REQUEST, "tasks": REQUEST["tasks"] * 3, "params": {"context": None}})

    assert response.get_json() == {"results": [[], [], []]}


def test_setup_and_predictions_and_versions_name_one_model_version(client: FlaskClient) -> None:
    setup = client.post("/setup", json={"project": "6.1", "schema": CONFIG, "access_token": "a" * 40})
    prediction = client.post("/predict", json=REQUEST).get_json()["results"][0]
    versions = client.get("/versions")

    assert setup.get_json() == {"model_version": prediction["model_version"]} == {"model_version": "tiny@1"}
    assert versions.get_json() == {"versions": ["tiny@1"]}


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff"])
def test_setup_and_webhook_do_not_read_their_bodies(client: FlaskClient, body: bytes) -> None:
    assert client.post("/setup", data=body).status_code == 200
    assert client.post("/webhook", data=body).status_code == 200


def test_while_the_model_loads_label_studio_is_answered_and_predict_says_to_try_again(pictures: Pictures) -> None:
    loaded = threading.Event()

    def load() -> TinyModel:
        assert loaded.wait(timeout=10)
        return TinyModel()

    segmenter = make_segmenter(load)
    client = create_app(
        Assistant(pictures, segmenter), segmenter, make_models(segmenter), load_settings()
    ).test_client()

    thread = segmenter.start()
    try:
        statuses = [client.get(path).status_code for path in ("/health", "/versions", "/", "/metrics")]
        setup, early, predict = client.post("/setup"), client.get("/ready"), client.post("/predict", json=REQUEST)
    finally:
        loaded.set()
        thread.join(timeout=10)
    late = client.get("/ready")

    assert [*statuses, setup.status_code] == [200] * 5
    assert early.status == predict.status == "503 Model is still loading"
    assert predict.get_json()["error"] == "loading"
    assert (late.status_code, late.get_json()) == (200, {"status": "READY", "model_version": "tiny@1"})
    assert client.post("/predict", json=REQUEST).status_code == 200


def test_a_model_that_cannot_be_loaded_is_told_by_ready_and_predict_but_not_by_health(pictures: Pictures) -> None:
    def fail() -> TinyModel:
        raise errors.ModelUnavailableError("weights/tiny.pt is missing")

    client = make_app(pictures, fail).test_client()

    ready, predict = client.get("/ready"), client.post("/predict", json=REQUEST)

    assert client.get("/health").status_code == 200
    assert ready.status == predict.status == "503 Model could not be loaded, see /ready and the log"
    assert ready.get_json()["detail"] == "weights/tiny.pt is missing"


def every_error(error: type[BackendError] = BackendError) -> Iterator[type[BackendError]]:
    yield error
    for kind in error.__subclasses__():
        yield from every_error(kind)


CATALOGUE = {  # for programs
    "internal": 500,
    "bad_json": 400,
    "unauthorized": 401,
    "too_large": 413,
    "bad_request": 422,
    "bad_config": 422,
    "bad_prompt": 422,
    "unsupported": 422,
    "size_mismatch": 422,
    "url_refused": 422,
    "image_unreadable": 422,
    "image_too_large": 413,
    "image_unavailable": 502,
    "image_timeout": 504,
    "busy": 503,
    "loading": 503,
    "model_unavailable": 503,
    "gpu_memory": 503,
    "device_lost": 503,
}


RETRY_AFTER = {"busy": "1", "loading": "1", "device_lost": "30"}  # what passes, and when


def test_the_catalogue_is_complete() -> None:
    assert {error.code: error.status for error in every_error()} == CATALOGUE


@pytest.mark.parametrize("error", [*every_error()], ids=lambda error: error.__name__)
def test_every_error_of_the_catalogue_is_its_status_its_reason_and_its_code(
    client: FlaskClient, pictures: Pictures, error: type[BackendError]
) -> None:
    pictures.error = error("what a user sent: \u00e4\r\nX-Evil: 1")

    response = client.post("/predict", json=REQUEST)

    body = response.get_json()
    assert response.status == f"{CATALOGUE[error.code]} {error.reason}"
    assert error.reason.isascii()
    assert error.reason.isprintable()
    assert (body["error"], body["detail"]) == (error.code, "what a user sent: \u00e4\r\nX-Evil: 1")
    assert "user sent" not in response.status + str(response.headers)
    assert response.mimetype == "application/json"
    assert response.headers.get("Retry-After") == RETRY_AFTER.get(error.code)


@pytest.mark.parametrize("path", ["/health", "/ready", "/versions", "/"])
def test_no_get_is_ever_asked_to_come_back_later(pictures: Pictures, path: str) -> None:
    def fail() -> TinyModel:
        raise GpuMemoryError("none left")

    response = make_app(pictures, fail).test_client().get(path)

    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"\xff\xfe{", b""])
def test_what_is_no_json_object_is_a_bad_request(client: FlaskClient, body: bytes) -> None:
    response = client.post("/predict", data=body, content_type="application/json")

    assert (response.status, response.get_json()["error"]) == ("400 Request body is not valid JSON", "bad_json")


def test_a_wrong_field_is_named_in_the_body_and_not_in_the_reason(client: FlaskClient) -> None:
    response = client.post("/predict", json={**REQUEST, "tasks": "secret"})

    assert response.status == "422 A field is missing or has the wrong type"
    assert "$.tasks" in response.get_json()["detail"]
    assert "secret" not in response.text


def test_an_unknown_route_is_told_in_json(client: FlaskClient) -> None:
    response = client.get("/train")

    assert (response.status_code, response.get_json()["error"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["", "/", "//", "//health", "/health/", "/model//registry"])
def test_no_path_is_redirected_to_another(client: FlaskClient, path: str) -> None:
    response = client.get("/", environ_overrides={"PATH_INFO": path})

    assert (response.status_code, response.mimetype) == (200, "application/json")


@pytest.mark.parametrize(("method", "path"), [("GET", "/train"), ("GET", "/predict")], ids=["unknown", "wrong method"])
def test_what_no_route_answers_has_a_request_id_too(client: FlaskClient, method: str, path: str) -> None:
    assert len(client.open(path, method=method).get_json()["request_id"]) == 12


def test_a_wrong_method_is_told_in_json_with_the_right_ones(client: FlaskClient) -> None:
    response = client.get("/predict")

    assert (response.status_code, response.get_json()["error"]) == (405, "method_not_allowed")
    assert response.mimetype == "application/json"
    assert "POST" in response.headers["Allow"]


def test_a_bug_is_an_internal_error_with_a_request_id_and_no_traceback(
    client: FlaskClient, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    pictures.error = ZeroDivisionError("secret of the house")

    response = client.post("/predict", json=REQUEST)

    body = response.get_json()
    assert response.status == "500 Internal error"
    assert body["error"] == "internal"
    assert len(body["request_id"]) == 12
    assert body["request_id"] in body["detail"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


def test_every_answer_names_its_request_as_its_body_and_its_log_lines_do(
    client: FlaskClient, pictures: Pictures, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    writes_ids = RedactionFilter()
    caplog.handler.addFilter(writes_ids)
    request.addfinalizer(lambda: caplog.handler.removeFilter(writes_ids))  # the handler is every test's
    caplog.set_level(logging.DEBUG, "labelstudio_sam2")
    pictures.error = ImageUnavailableError("502")

    refused = client.post("/predict", json=REQUEST)
    others = [client.get("/health"), client.get("/unknown"), client.get("/predict"), client.get("/ready")]

    ids = [response.headers["X-Request-ID"] for response in (refused, *others)]
    logged: Any = caplog.records
    assert refused.get_json()["request_id"] == ids[0]
    assert [line.request_id for line in logged] == [ids[0], *ids]  # the refusal is a line of its own
    assert len(set(ids)) == 5
    assert request_id.get() == ""  # of no request


def test_an_id_that_a_request_brings_along_is_not_used(client: FlaskClient) -> None:
    response = client.get("/health", headers={"X-Request-ID": "mine"})

    assert response.headers["X-Request-ID"] != "mine"


def test_while_the_server_shuts_down_ready_says_so_and_what_still_comes_is_answered(pictures: Pictures) -> None:
    app = make_app(pictures)
    client = app.test_client()

    app.extensions[READINESS].withdraw(BusyError("the server is shutting down"))

    for path in ("/ready", "/readiness"):
        response = client.get(path)
        assert response.status == "503 Server is busy, try again"
        assert response.get_json()["detail"] == "the server is shutting down"
    assert client.get("/health").status_code == 200
    assert client.post("/predict", json=REQUEST).status_code == 200
    assert "labelstudio_sam2_model_ready 0.0" in client.get("/metrics").text


def test_each_request_has_an_id_of_its_own(client: FlaskClient, pictures: Pictures) -> None:
    pictures.error = ImageUnavailableError("502")

    ids = {client.post("/predict", json=REQUEST).get_json()["request_id"] for _ in range(5)}

    assert len(ids) == 5


@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 100_000,
        json.dumps({**REQUEST, "label_config": "<View>"}).encode(),
        json.dumps({**REQUEST, "params": {"context": {"result": [{**CLICK, "value": {"x": 1e300, "y": 1}}]}}}).encode(),
        json.dumps({**REQUEST, "params": {"context": {"result": [{**CLICK, "original_width": 9}]}}}).encode(),
    ],
    ids=["json", "config", "prompt", "size"],
)
def test_after_a_bad_request_a_good_one_is_answered_as_before(client: FlaskClient, bad: bytes) -> None:
    before = client.post("/predict", json=REQUEST).get_json()

    refused = client.post("/predict", data=bad)

    after = client.post("/predict", json=REQUEST).get_json()
    assert refused.status_code in {400, 422}
    assert without_ids(after) == without_ids(before)


def basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


RIGHT = "sam:p\u00e4ss:w\u00f6rd"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        basic(b""),
        basic(b"sam:"),
        basic(b":"),
        basic(b"sam"),
        basic(b"sam:wrong"),
        basic(b"Sam:p\xc3\xa4ss:w\xc3\xb6rd"),
        basic(RIGHT.encode() + b"x"),
        basic(b"\xff\xfe\x00:\xff"),
        basic("sam:\u6f22\u5b57".encode()),
        "Bearer " + base64.b64encode(RIGHT.encode()).decode(),
        "Token " + "a" * 40,
        "Digest username=sam",
        "B\u00e4sic \u00e4\u00f6",
        base64.b64encode(RIGHT.encode()).decode(),
    ],
    ids=repr,
)
def test_wrong_credentials_are_refused_in_json(guarded: FlaskClient, header: str | None) -> None:
    response = guarded.post("/predict", json=REQUEST, headers={} if header is None else {"Authorization": header})

    assert response.status == "401 User name or password is missing or wrong"
    assert response.get_json()["error"] == "unauthorized"
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_strangers_fill_no_log_with_warnings(guarded: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    for _ in range(5):
        guarded.post("/predict", json=REQUEST)
    guarded.post("/predict", data=b"{", headers={"Authorization": basic(RIGHT.encode())})

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    requests = [record for record in caplog.records if record.getMessage() == "POST /predict"]
    assert [vars(record)["code"] for record in warnings] == ["unauthorized", "bad_json"]
    assert [vars(record)["status"] for record in requests] == [401] * 5 + [400]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_right_credentials_are_let_in_as_curl_and_as_label_studio_write_them(
    guarded: FlaskClient, encoding: str
) -> None:
    headers = {"Authorization": basic(RIGHT.encode(encoding))}

    statuses = [
        guarded.post("/predict", json=REQUEST, headers=headers).status_code,
        guarded.post("/setup", headers=headers).status_code,
        guarded.get(
            "/versions", headers={"Authorization": headers["Authorization"].replace("Basic", "bASIC")}
        ).status_code,
    ]

    assert statuses == [200, 200, 200]


def test_a_password_that_latin_1_cannot_write_lets_no_question_mark_in(pictures: Pictures) -> None:
    client = make_app(pictures, basic_auth_user="sam", basic_auth_pass="\u6f22").test_client()

    assert client.get("/versions", headers={"Authorization": basic(b"sam:?")}).status_code == 401
    assert client.get("/versions", headers={"Authorization": basic("sam:\u6f22".encode())}).status_code == 200


def test_with_credentials_set_only_what_needs_none_stays_open(guarded: FlaskClient) -> None:
    asked: Sequence[tuple[str, str]] = [
        ("GET", "/health"),
        ("GET", "/ready"),
        ("POST", "/webhook"),
        ("GET", "/"),
        ("GET", "/versions"),
        ("POST", "/setup"),
        ("POST", "/predict"),
        ("GET", "/unknown"),
        ("GET", "//health"),
        ("GET", "/health/"),
    ]

    statuses = {path: guarded.open(path, method=method).status_code for method, path in asked}

    assert [path for path, status in statuses.items() if status != 401] == ["/health", "/ready", "/webhook"]
    assert statuses["/health"] == statuses["/ready"] == statuses["/webhook"] == 200


def test_without_credentials_set_everyone_is_served(client: FlaskClient) -> None:
    assert client.get("/versions").status_code == 200
    assert client.get("/versions", headers={"Authorization": "Bearer x"}).status_code == 200
