"""The unmodified inference-sdk from the package index, in a process of its own, against the real server."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

PYTHON = Path(__file__).parents[2] / ".venv-inference-sdk/bin/python"
DRIVER = Path(__file__).with_name("drive_inference_sdk.py")
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>'
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels></View>'
)


@dataclass(frozen=True)
class Session:
    """A click through Label Studio, then everything that inference-sdk can ask, of one server.

    Attributes:
        click: Status, reason and JSON of the answer to the click.
        answers: By call, what the SDK's user got.
        log: What the server logged.
    """

    click: tuple[int, str, Any]
    answers: dict[str, Any]
    log: list[dict[str, Any]]


@pytest.fixture(scope="module")
def session(
    disc_and_box: Any,
    start_backend: Callable[..., AbstractContextManager[Any]],
    serving_pictures: Callable[[], AbstractContextManager[Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Session]:
    if not PYTHON.exists():
        if os.environ.get("CI") or os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("inference-sdk is not installed: make .venv-inference-sdk/installed")
        pytest.skip("inference-sdk is not installed: make .venv-inference-sdk/installed")
    picture = tmp_path_factory.mktemp("sdk") / "desk.png"
    picture.write_bytes(disc_and_box.png())
    with ExitStack() as running:
        pictures = running.enter_context(serving_pictures())
        pictures.files["/data/upload/1/desk.png"] = disc_and_box.png()
        backend = running.enter_context(
            start_backend(LABEL_STUDIO_URL=pictures.url, LABEL_STUDIO_API_KEY="a" * 40, LOG_LEVEL="DEBUG", API_KEY="")
        )
        click = backend.predict(json.dumps(_click_on_the_disc()).encode())
        done = subprocess.run(
            [PYTHON, DRIVER, backend.url, picture], capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        yield Session(click, json.loads(done.stdout), backend.log())


@pytest.mark.parametrize("kind", ["path", "numpy", "pil", "base64", "data url"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_every_kind_of_picture_is_segmented(
    session: Session, disc_and_box: Any, iou: Callable[..., float], how: str, kind: str
) -> None:
    answer = session.answers[f"{how} {kind}"]

    (prediction,) = answer["predictions"]
    assert prediction["format"] == "polygon"
    assert iou(_filled(prediction["masks"]), disc_and_box.masks["disc"]) >= 0.9
    assert 0.5 < prediction["confidence"] <= 1


@pytest.mark.parametrize("how", ["sync", "async"])
def test_lists_come_back_as_the_sdk_promises(session: Session, how: str) -> None:
    two, one, none = (session.answers[f"{how} {kind}"] for kind in ("list", "list of one", "empty list"))

    assert [len(answer["predictions"]) for answer in two] == [1, 1]
    assert len(one["predictions"]) == 1
    assert none == []


@pytest.mark.parametrize("call", ["sync no prompts", "sync empty prompts"])
def test_without_prompts_there_is_one_mask(session: Session, call: str) -> None:
    assert len(session.answers[call]["predictions"]) == 1


def test_a_box_and_a_click_in_one_call_get_a_mask_each(
    session: Session, disc_and_box: Any, iou: Callable[..., float]
) -> None:
    box, disc = session.answers["sync mixed prompts"]["predictions"]

    assert iou(_filled(box["masks"]), disc_and_box.masks["box"]) >= 0.9
    assert iou(_filled(disc["masks"]), disc_and_box.masks["disc"]) >= 0.9


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own, under numpy 2
@pytest.mark.parametrize("how", ["sync", "async"])
def test_run_lengths_are_those_of_coco(
    session: Session, disc_and_box: Any, iou: Callable[..., float], how: str
) -> None:
    (prediction,) = session.answers[f"{how} rle"]["predictions"]

    mask = np.asarray(coco.decode({**prediction["masks"], "counts": prediction["masks"]["counts"].encode()}), bool)
    assert iou(mask, disc_and_box.masks["disc"]) >= 0.9


def test_the_binary_answer_reaches_an_async_caller(session: Session) -> None:
    shapes = session.answers["async binary"]

    assert shapes["masks"] == [1, 480, 640]
    assert shapes["low_res_masks"][0] == 1


@pytest.mark.parametrize("call", ["sync trailing slash", "sync no key", "sync key in header", "sync one mask"])
def test_other_ways_to_set_up_the_client_work_too(session: Session, call: str) -> None:
    assert len(session.answers[call]["predictions"]) == 1


def test_the_server_and_its_models_are_told_and_the_served_model_stays(session: Session) -> None:
    nano = {"model_id": "nano", "task_type": "unsupervised-segmentation"}
    calls = ("load_model", "list_loaded_models", "unload_model", "unload_all_models", "async list_loaded_models")

    found = {call: session.answers[call]["models"] for call in calls}

    assert session.answers["info"]["name"] == "labelstudio-sam2"
    assert all(len(models) == 1 and models[0].items() >= nano.items() for models in found.values()), found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sync mistyped path", "could not load input image: malformed base64"),
        ("sync unknown version", "this model is not served here, ask for one of: nano"),
        ("load_model unknown", "this model is not served here, ask for one of: nano"),
        ("async mistyped path", "File is not a readable image"),
        ("async unknown version", "This model is not served here"),
    ],
)
def test_a_mistake_is_told_to_the_user_at_once(session: Session, call: str, message: str) -> None:
    assert session.answers[call] == {"error": "HTTPCallErrorError", "status": 400, "message": message}


def test_a_click_through_label_studio_and_every_call_here_on_the_same_file_embed_it_once(session: Session) -> None:
    status, _, _ = session.click
    embedded = [line["request_id"] for line in session.log if line["message"] == "embedded a picture"]
    first_request = next(line["request_id"] for line in session.log if line["message"] == "POST /predict")

    assert status == 200
    assert embedded[0] == first_request
    assert len(embedded) == 3  # the file, and what the SDK makes of an array and of Pillow's picture: two other files


def test_no_key_and_no_picture_reaches_the_log(session: Session) -> None:
    text = json.dumps(session.log)

    assert "POST /sam2/segment_image" in text
    assert "api_key" not in text
    assert "iVBORw0KGgo" not in text


def _filled(polygons: Any) -> NDArray[np.bool_]:
    corners = [np.array(polygon, np.int32) for polygon in polygons]
    return np.asarray(cv2.fillPoly(np.zeros((480, 640), np.uint8), corners, 1), bool)


def _click_on_the_disc() -> dict[str, Any]:
    region = {
        "id": "aaaaaaaaaa",
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "value": {"x": 31.25, "y": 37.5, "width": 0.3, "keypointlabels": ["Cat"]},
        "is_positive": True,
    }
    task = {"id": 1, "data": {"image": "/data/upload/1/desk.png"}}
    return {"tasks": [task], "project": "1.17", "label_config": CONFIG, "params": {"context": {"result": [region]}}}
