"""Requests recorded from a real Label Studio 1.23.2, posted as they are to the real application with nano."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray

from labelstudio_sam2.app import create_app
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

Mask = NDArray[np.bool_]


class CountingModel:
    """Counts encoder runs of the model it stands before."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.embedded = 0

    def embed(self, image: Any, step_aside: Callable[[], None]) -> Any:
        self.embedded += 1
        return self._model.embed(image)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.fixture
def model(nano_model: Any) -> CountingModel:
    return CountingModel(nano_model)


@pytest.fixture
def client(model: CountingModel, picture_server: Any, disc_and_box: Any) -> FlaskClient:
    settings = load_settings(label_studio_url=picture_server.url, label_studio_api_key="a" * 40, model="nano")
    segmenter = Segmenter(
        lambda: model,
        model_version="nano@test",
        cache=EmbeddingCache(2**26),
        device=DeviceSchedule(max_waiting=8, wait_seconds=10),
    )
    segmenter.start().join()
    model.embedded = 0  # the warm-up is not a picture
    for path in (
        "/data/upload/6/1d637b21-t1.png",
        "/data/upload/6/b0dd0c7e-t2.png",
        "/data/upload/6/f206bfb7-t3.png",
        "/data/upload/6/36e72c4b-t4.png",
        "/data/upload/6/0124016e-t7.png",
        "/data/upload/11/8af4b0d0-test.png",
        "/data/upload/18/f389a85a-test.png",
    ):
        picture_server.files[path] = disc_and_box.png()
    source = ImageSource(settings)
    inputs = ImageInputs(source, ImageLimits.from_settings(settings))
    models = Models("nano", segmenter, extras={}, view=lambda each: SegmentAnything2.on(each, inputs))
    return create_app(Assistant(source, segmenter), segmenter, models, settings).test_client()


@pytest.mark.parametrize(
    ("request_name", "objects"),
    [
        ("kp1_positive", ["disc"]),
        ("kp2_second_positive", ["disc"]),
        ("kp3_negative", ["disc"]),
        ("kp_after_draft_reload", ["disc"]),
        ("kp_after_rect", ["box"]),  # the smart rectangle in the draft and the click ask for one object
        ("kp_autoaccept_1", ["disc"]),
        ("kp_autoaccept_2", ["box"]),
        ("rect1", ["box"]),
        ("rect2_second", ["box", "disc"]),  # two rectangles of one label: a mask each, in drawing order
        ("rect_alt", ["box"]),
        ("draft_brush_eraser", ["box"]),  # clicked beside the stroke: a new object
    ],
)
def test_a_recorded_request_gives_the_masks_of_what_it_points_at(
    client: FlaskClient,
    recorded: Callable[[str], Any],
    disc_and_box: Any,
    iou: Callable[[Mask, Mask], float],
    request_name: str,
    objects: list[str],
) -> None:
    body = recorded(request_name)

    answer = client.post("/predict", json=body)

    regions = regions_of(answer)
    prompt = body["params"]["context"]["result"][-1]
    assert [region["type"] for region in regions] == ["brushlabels"] * len(objects)
    assert {region["from_name"] for region in regions} == {"brush"}
    assert {tuple(region["value"]["brushlabels"]) for region in regions} == {tuple(prompt["value"][prompt["type"]])}
    assert [iou(mask_of(region), disc_and_box.masks[name]) for region, name in zip(regions, objects, strict=True)] == [
        pytest.approx(1.0, abs=0.1)
    ] * len(objects)


def test_a_labelled_plain_rectangle_is_answered_by_the_plain_brush_and_the_labels_tag(
    client: FlaskClient, recorded: Callable[[str], Any], disc_and_box: Any, iou: Callable[[Mask, Mask], float]
) -> None:
    answer = client.post("/predict", json=recorded("rect_plain_labels"))

    brush, labels = regions_of(answer)
    assert (brush["type"], brush["from_name"]) == ("brush", "brush")
    assert (labels["type"], labels["from_name"], labels["value"]["labels"]) == ("labels", "lab", ["Object"])
    assert labels["id"] == brush["id"]
    assert iou(mask_of(brush), disc_and_box.masks["box"]) >= 0.9


def test_an_unlabelled_click_is_answered_by_an_unlabelled_region(
    client: FlaskClient, recorded: Callable[[str], Any], disc_and_box: Any, iou: Callable[[Mask, Mask], float]
) -> None:
    answer = client.post("/predict", json=recorded("kp_plain_nolabel"))

    (region,) = regions_of(answer)
    assert (region["type"], region["from_name"]) == ("brush", "brush")
    assert iou(mask_of(region), disc_and_box.masks["disc"]) >= 0.9


def test_a_click_with_another_label_is_answered_with_that_label_and_what_lies_there(
    client: FlaskClient,
    recorded: Callable[[str], Any],
    picture_server: Any,
    disc_and_box: Any,
    iou: Callable[[Mask, Mask], float],
) -> None:
    coin = cv2.circle(np.zeros((480, 640), np.uint8), (330, 390), 45, 1, thickness=-1).astype(bool)
    image = np.where(coin[..., None], np.array([60, 120, 40], np.uint8), disc_and_box.image)
    picture_server.files["/data/upload/6/1d637b21-t1.png"] = replace(disc_and_box, image=image).png()

    answer = client.post("/predict", json=recorded("kp4_other_label"))

    (region,) = regions_of(answer)
    assert region["value"]["brushlabels"] == ["Background"]
    assert iou(mask_of(region), coin) >= 0.85


def test_the_second_click_neither_downloads_nor_embeds(
    client: FlaskClient, recorded: Callable[[str], Any], model: CountingModel, picture_server: Any
) -> None:
    client.post("/predict", json=recorded("kp1_positive"))
    client.post("/predict", json=recorded("kp2_second_positive"))
    client.post("/predict", json=recorded("kp3_negative"))

    assert model.embedded == 1
    assert [path for path, _ in picture_server.requests] == ["/data/upload/6/1d637b21-t1.png"]


@pytest.mark.parametrize("name", ["rest_retrieve_predictions", "rest_task_get", "rest_predict_test"])
def test_without_a_click_there_is_an_empty_list_per_task(
    client: FlaskClient, recorded: Callable[[str], Any], model: CountingModel, name: str
) -> None:
    body = recorded(name)

    answer = client.post("/predict", json=body)

    assert answer.json == {"results": [[]] * len(body["tasks"])}
    assert model.embedded == 0


@pytest.mark.parametrize(
    "name",
    [
        "webhook_annotation_created",
        "webhook_annotation_updated",
        "webhook_annotation_deleted",
        "webhook_project_updated",
        "webhook_tasks_created",
        "rest_train",
    ],
)
def test_a_recorded_webhook_is_accepted(client: FlaskClient, recorded: Callable[[str], Any], name: str) -> None:
    assert client.post("/webhook", json=recorded(name)).status_code == 200


def test_a_recorded_click_on_the_recorded_stroke_turns_the_stroke_into_the_mask(
    client: FlaskClient, recorded: Callable[[str], Any], disc_and_box: Any, iou: Callable[[Mask, Mask], float]
) -> None:
    body = recorded("draft_brush_eraser")
    (stroke,) = body["tasks"][0]["drafts"][0]["result"]
    stroke["value"]["touches"] = stroke["value"]["touches"][:1]  # the recorded eraser went over the disc, too
    x, y, *_ = stroke["value"]["touches"][0]["relativePoints"]
    body["params"]["context"]["result"][0]["value"] |= {"x": x, "y": y}

    answer = client.post("/predict", json=body)

    (region,) = regions_of(answer)
    assert (region["id"], region["from_name"]) == (stroke["id"], stroke["from_name"])
    assert iou(mask_of(region), disc_and_box.masks["disc"]) >= 0.9


def test_the_recorded_setup_is_answered_with_the_models_version(
    client: FlaskClient, recorded: Callable[[str], Any]
) -> None:
    assert client.post("/setup", json=recorded("rest_add_backend")).json == {"model_version": "nano@test"}


def regions_of(answer: Any) -> list[dict[str, Any]]:
    """Return the regions that answer an interactive request."""
    assert answer.status_code == 200, answer.data
    regions: list[dict[str, Any]] = answer.json["results"][0]["result"]
    return regions


def mask_of(region: dict[str, Any]) -> Mask:
    """Decode a brush region with Label Studio's own decoder."""
    flat = decode_rle(region["value"]["rle"])
    mask: Mask = flat.reshape(region["original_height"], region["original_width"], 4)[:, :, 3] > 127
    return mask
