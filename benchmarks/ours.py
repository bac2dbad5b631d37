"""Our backend as it is served: the Flask application, its downloads and its cache, without a socket."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.local_files import HOST, LocalFiles, resolve
from labelstudio_sam2.app import create_app
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.brush_extents import BrushExtents
from labelstudio_sam2.labelstudio.prefetch import Prefetch
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import CacheStats, EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.sam2_model import Sam2Embedding, Sam2Model
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

_LONG = 24 * 3600
"""Seconds for which a picture is believed unchanged: a slow contender must not make the other's next click a first."""


class OurBackend:
    """Answers clicks as `labelstudio-sam2 serve` does. Thread-safe.

    Args:
        net: A `SAM2Base`; it belongs to this backend from then on.
        folder: Where the pictures are.
        device: Where the model runs.

    Attributes:
        model: The model that is asked.
    """

    def __init__(self, net: torch.nn.Module, folder: Path, device: str) -> None:
        settings = load_settings(model="nano", label_studio_url=f"http://{HOST}", image_revalidate_seconds=_LONG)
        self.model = model = Sam2Model(net, device=device)
        self._cache: EmbeddingCache[Sam2Embedding] = EmbeddingCache(
            settings.embedding_cache_mb * 2**20, settings.prefetch_mb * 2**20
        )
        segmenter: Segmenter[Any] = Segmenter(
            lambda: model,
            model_version="benchmark",
            cache=self._cache,
            device=DeviceSchedule(max_waiting=settings.max_waiting, wait_seconds=settings.request_seconds),
        )
        source = ImageSource(settings, resolver=resolve, network=LocalFiles(folder), strict_pillow=False)
        inputs = ImageInputs(source, ImageLimits.from_settings(settings), allow_files=False)
        models = Models("nano", segmenter, extras={}, view=lambda each: SegmentAnything2.on(each, inputs))
        self._extents = BrushExtents()
        assistant = Assistant(source, segmenter, Prefetch(source, segmenter), extents=self._extents)
        self._app = create_app(assistant, segmenter, models, settings)
        segmenter.start().join()
        segmenter.check_ready()

    def click(self, body: bytes) -> bytes:
        """Answer the body of `POST /predict`.

        Raises:
            RuntimeError: It was refused; the message is the answer.
        """
        client = self._app.test_client(use_cookies=False)
        response = client.post("/predict", data=body, content_type="application/json")
        if response.status_code != 200:
            raise RuntimeError(f"our backend answered {response.status}: {response.text[:200]}")
        data: bytes = response.data
        return data

    @property
    def is_learning(self) -> bool:
        """Whether it still looks at the regions that came with a click."""
        return self._extents.is_learning

    def forget(self) -> None:
        """Empty the cache: the next click on any picture is its first."""
        self._cache.clear()

    def cache_stats(self) -> CacheStats:
        """Return the embedding cache's figures."""
        return self._cache.stats()
