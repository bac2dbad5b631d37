"""A fake model whose answers tell which picture and which call they belong to, and the API on it and on nano."""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.prompt import Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class FakeEmbedding:
    """Remembers size and gray of its picture."""

    gray: int
    size_hw: tuple[int, int]
    nbytes: int = 100

    @property
    def image_embed(self) -> str:
        return f"image_embed of {self.gray}"

    @property
    def high_res_feats(self) -> tuple[str, str]:
        return f"fine of {self.gray}", f"coarse of {self.gray}"


@dataclass
class FakeModel:
    """The score is the picture's gray / 100. The logits of its n-th answer are all 10 n, and the best mask's.

    Attributes:
        embedded: The gray of every picture that was embedded.
        prompts: Everything that was asked.
        multimask: What each prediction was asked for.
    """

    embedded: list[int] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    multimask: list[bool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def embed(self, image: NDArray[np.uint8], step_aside: Callable[[], None]) -> FakeEmbedding:
        self.embedded.append(int(image[0, 0, 0]))
        return FakeEmbedding(int(image[0, 0, 0]), (image.shape[0], image.shape[1]))

    def predict(self, embedding: FakeEmbedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        with self.lock:
            self.prompts.append(prompt)
            self.multimask.append(multimask_output)
            answer = 10.0 * len(self.prompts)
        best = embedding.gray / 100
        logits = np.stack([np.full((4, 4), value, np.float32) for value in (-1, answer, -2)])
        scores = np.array([best / 2, best, best / 3], np.float32)
        kept = slice(None) if multimask_output else slice(1, 2)
        return Segmentation(low_res_logits=logits[kept], scores=scores[kept], size_hw=embedding.size_hw)

    def free_memory(self) -> None:
        """Nothing is held."""


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def make_segmenter() -> Callable[..., Segmenter[Any]]:
    """Return a function that puts a model behind a cache of so many bytes."""

    def make(model: Any, max_bytes: int = 2**30) -> Segmenter[Any]:
        segmenter: Segmenter[Any] = Segmenter(
            lambda: model,
            model_version="fake@1",
            cache=EmbeddingCache(max_bytes),
            device=DeviceSchedule(max_waiting=100, wait_seconds=10),
        )
        segmenter.start().join()
        return segmenter

    return make


@pytest.fixture
def segmenter(model: FakeModel, make_segmenter: Callable[..., Segmenter[Any]]) -> Segmenter[Any]:
    """A segmenter that has loaded the fake model and holds two of its embeddings."""
    segmenter = make_segmenter(model, max_bytes=250)
    for seen in (model.embedded, model.prompts, model.multimask):
        seen.clear()  # the warm-up is no picture
    return segmenter


@pytest.fixture
def inputs() -> ImageInputs:
    return ImageInputs.local(allowed_image_hosts=["127.0.0.1"], max_image_megapixels=1)


@pytest.fixture
def api(segmenter: Segmenter[Any], inputs: ImageInputs) -> SegmentAnything2:
    """The API on the fake model; two pictures fit into its cache."""
    return SegmentAnything2.on(segmenter, inputs)


@pytest.fixture
def nano_api(nano_model: Any, make_segmenter: Callable[..., Segmenter[Any]], inputs: ImageInputs) -> SegmentAnything2:
    """The API on nano, with an empty cache."""
    return SegmentAnything2.on(make_segmenter(nano_model), inputs)


@pytest.fixture
def png() -> Callable[[NDArray[np.uint8]], bytes]:
    """Return a function that writes RGB pixels as a PNG."""

    def write(image: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()

    return write


@pytest.fixture
def gray() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes a picture of one gray, 6 x 8 unless told otherwise."""
    return lambda value, size_hw=(6, 8): np.full((*size_hw, 3), value, np.uint8)
