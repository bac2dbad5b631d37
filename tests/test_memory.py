"""A server that has seen many pictures keeps no more of them than its caches may hold."""

import gc
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from labelstudio_sam2.app import create_app
from labelstudio_sam2.images import source
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio import prefetch
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.prefetch import Prefetch
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.prompt import Image, Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

PICTURES = int(os.environ.get("MEMORY_PICTURES", "2000"))
SETTLED = PICTURES // 2
"""From here on every cache is full."""


class KilobyteEmbedding:
    """Takes memory that is seen when it is not given back."""

    nbytes = 1000

    def __init__(self) -> None:
        self.numbers = bytes(self.nbytes)


class QuickModel:
    """Sees the left half of every picture at once."""

    embedding_format = "quick"

    def embed(self, image: Image, step_aside: Callable[[], None]) -> KilobyteEmbedding:
        return KilobyteEmbedding()

    def predict(self, embedding: KilobyteEmbedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        logits = np.full((1, 8, 8), -1.0, np.float32)
        logits[:, :, :4] = 1.0
        return Segmentation(low_res_logits=logits, scores=np.array([0.5], np.float32), size_hw=(6, 8))

    def to_bytes(self, embedding: KilobyteEmbedding, key: str) -> bytes:
        raise NotImplementedError  # there is no disk tier

    def from_bytes(self, data: bytes, key: str) -> KilobyteEmbedding:
        raise NotImplementedError

    def free_memory(self) -> None:
        """Hold none."""


@pytest.fixture(autouse=True)
def _caches_that_are_full_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_KNOWN", SETTLED // 2)
    monkeypatch.setattr(source, "MAX_HELD_BYTES", 100_000)
    monkeypatch.setattr(prefetch, "MAX_REMEMBERED", SETTLED // 2)


@pytest.fixture
def click(picture_server: Any, recorded: Any) -> Callable[[int], None]:
    """Return a function that opens the numbered task, whose picture is like no other, and clicks on it."""
    segmenter: Segmenter[KilobyteEmbedding] = Segmenter(
        QuickModel,
        model_version="quick@1",
        cache=EmbeddingCache(200_000, prefetch_max_bytes=50_000),
        device=DeviceSchedule(max_waiting=4, wait_seconds=5),
    )
    segmenter.start().join()
    settings = load_settings(label_studio_url=picture_server.url)
    pictures = ImageSource(settings)
    models = Models("quick", segmenter, extras={}, view=lambda each: SegmentAnything2.on(each, ImageInputs.local()))
    assistant = Assistant(pictures, segmenter, Prefetch(pictures, segmenter))
    client = create_app(assistant, segmenter, models, settings).test_client()
    body = recorded("kp1_positive")

    def ask(number: int) -> None:
        path = f"/data/upload/6/{number}.png"
        picture_server.files[path] = _png(number)
        task = {"id": number, "data": {"image": path}}
        for region in body["params"]["context"]["result"]:
            region.update(original_width=8, original_height=6)
        for context in (None, body["params"]["context"]):
            asked = {**body, "tasks": [task], "params": {"context": context}}
            answer = client.post("/predict", data=json.dumps(asked), content_type="application/json")
            assert answer.status_code == 200, answer.text
        del picture_server.files[path]
        picture_server.requests.clear()

    return ask


@pytest.mark.timeout(900)
def test_memory_is_flat_after_thousands_of_pictures(click: Callable[[int], None]) -> None:
    click(0)
    tracemalloc.start()
    try:
        for number in range(1, SETTLED):
            click(number)
        settled = _in_use()
        for number in range(SETTLED, PICTURES):
            click(number)
        grown = _in_use() - settled
    finally:
        tracemalloc.stop()

    assert grown < 100 * (PICTURES - SETTLED)  # bytes: a tenth of an embedding, less than one address for each picture


def _in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _png(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
