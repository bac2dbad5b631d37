"""The SAM 2 API's settings reach what they are settings of, in the application as it is served."""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from labelstudio_sam2.app import build_app, check_settings
from labelstudio_sam2.segmenter.zoo import resolve
from labelstudio_sam2.settings import load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "EMBEDDING_DISK_DIR",
        "EMBEDDING_DISK_MB",
        "API_KEY",
        "BASIC_AUTH_USER",
        "BASIC_AUTH_PASS",
        "EXTRA_MODELS",
        "ALLOW_FILE_INPUTS",
    ):
        monkeypatch.delenv(name, raising=False)


def ready_client(**settings: object) -> FlaskClient:
    client = build_app(load_settings(model="nano", device="cpu", **settings)).test_client()
    deadline = time.monotonic() + 60
    while client.get("/readiness").status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.get("/readiness").status_code == 200
    return client


def test_extra_models_key_and_files_are_as_they_were_set(tmp_path: Path, disc_and_box: Any) -> None:
    picture = tmp_path / "desk.png"
    picture.write_bytes(disc_and_box.png())
    client = ready_client(extra_models="hiera_tiny, nano", api_key="key", allow_file_inputs=True, weights_dir=tmp_path)
    body = {"image": {"type": "file", "value": str(picture)}, "api_key": "key"}

    keyless = client.post("/sam2/embed_image", json={**body, "api_key": "other"})
    served = client.post("/sam2/embed_image", json={**body, "model_id": "nano"})
    without_weights = client.post("/sam2/embed_image", json={**body, "sam2_version_id": "hiera_tiny"})
    unknown = client.post("/sam2/embed_image", json={**body, "sam2_version_id": "hiera_large"})

    assert (keyless.status_code, served.status_code) == (401, 200)
    assert without_weights.status_code == 500
    assert f"{tmp_path / 'sam2.1_hiera_tiny.pt'} is missing" in without_weights.get_json()["message"]
    assert unknown.get_json()["message"] == "this model is not served here, ask for one of: nano, sam2/hiera_tiny"


def test_an_extra_model_that_is_removed_gives_its_memory_back_and_the_served_one_keeps_its_pictures(
    monkeypatch: pytest.MonkeyPatch, disc_and_box: Any
) -> None:
    nano, freed = resolve("nano"), list[int]()
    monkeypatch.setattr("labelstudio_sam2.app.extra_specs", lambda _: {"other": replace(nano, model_id="other")})
    monkeypatch.setattr("labelstudio_sam2.segmenter.sam2_model.Sam2Model.free_memory", lambda _: freed.append(1))
    client = ready_client()
    image = {"type": "base64", "value": _base64(disc_and_box)}
    for model_id in ("nano", "other"):
        answer = client.post("/sam2/embed_image", json={"image": image, "image_id": "desk", "model_id": model_id})
        assert answer.status_code == 200

    client.post("/model/remove", json={"model_id": "other"})

    statuses = [
        client.post("/sam2/embed_image", json={"image_id": "desk", "model_id": model_id}).status_code
        for model_id in ("nano", "other")
    ]
    assert (freed, statuses) == ([1], [200, 400])


def test_a_server_on_the_folder_of_an_earlier_one_answers_without_embedding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disc_and_box: Any
) -> None:
    body = {"image": {"type": "base64", "value": _base64(disc_and_box)}, "prompts": {"prompts": [DISC]}}
    before = ready_client(embedding_disk_dir=tmp_path).post("/sam2/segment_image", json=body)
    _wait_until(lambda: list(tmp_path.glob("*.safetensors")))
    later = ready_client(embedding_disk_dir=tmp_path)
    monkeypatch.setattr("labelstudio_sam2.segmenter.sam2_model.Sam2Model.embed", lambda *_: pytest.fail("embedded"))

    after = later.post("/sam2/segment_image", json=body)

    assert (before.status_code, after.status_code) == (200, 200)
    assert before.get_json()["predictions"] == after.get_json()["predictions"]


def test_a_folder_that_cannot_be_written_to_costs_no_request(
    disc_and_box: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = ready_client(embedding_disk_dir="/proc/embeddings")

    answers = [
        client.post("/sam2/segment_image", json={"image": {"type": "base64", "value": _base64(picture)}})
        for picture in (disc_and_box, replace(disc_and_box, image=disc_and_box.image[::-1]))
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    _wait_until(lambda: "EMBEDDING_DISK_DIR" in caplog.text)
    assert caplog.text.count("EMBEDDING_DISK_DIR") == 1


def test_while_the_served_model_loads_readiness_and_requests_say_to_try_again(
    monkeypatch: pytest.MonkeyPatch, disc_and_box: Any
) -> None:
    monkeypatch.setattr("labelstudio_sam2.segmenter.segmenter.Segmenter.start", lambda _: None)
    client = build_app(load_settings(model="nano", allow_file_inputs=True)).test_client()

    ready, health = client.get("/readiness"), client.get("/healthz")
    answer = client.post(
        "/sam2/embed_image", json={"image": {"type": "base64", "value": disc_and_box.png().hex()}, "model_id": "nano"}
    )
    picture = client.post("/sam2/segment_image", json={"image": {"type": "base64", "value": _base64(disc_and_box)}})

    assert (ready.status, health.status_code) == ("503 Model is still loading", 200)
    assert answer.status_code == 400  # what is wrong with a request is told before
    assert picture.status == "503 Model is still loading"
    assert picture.headers["Retry-After"] == "1"


def test_an_extra_model_that_is_not_known_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRA_MODELS", "hiera_tiny,hiera_huge")

    with pytest.raises(ValueError, match=r"^EXTRA_MODELS: 'hiera_huge' is not a known model"):
        check_settings(load_settings(model="nano"))


def test_the_key_does_not_show_when_settings_are_printed() -> None:
    assert "s3cret" not in repr(load_settings(api_key="s3cret"))


DISC = {"points": [{"x": 200, "y": 180, "positive": True}]}


def _wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _base64(picture: Any) -> str:
    return base64.b64encode(picture.png()).decode()
