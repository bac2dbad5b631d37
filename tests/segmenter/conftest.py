"""Fakes for what a GPU would do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import DamagedEmbeddingError, EmbeddingCache
from labelstudio_sam2.segmenter.prompt import Image, Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class FakeEmbedding:
    """Remembers which gray the picture had."""

    gray: int
    nbytes: int = 100


@dataclass
class FakeModel:
    """Answers with a score that is the picture's gray / 100, so that a mix-up shows.

    Attributes:
        embedded: The gray of every picture that was embedded.
        multimask: What each prediction was asked for.
        on_embed: Called before each embedding.
        on_predict: Called before each prediction.
        on_to_bytes: Called before an embedding is made into bytes.
        on_from_bytes: Called before bytes are made into an embedding.
        embedding_format: As a model's.
        freed: How often memory was given back.
        inside: Calls of the model that run now; more than one at a time is an error of the schedule.
    """

    embedded: list[int] = field(default_factory=list)
    multimask: list[bool] = field(default_factory=list)
    on_embed: Callable[[], object] = lambda: None
    on_predict: Callable[[], object] = lambda: None
    on_to_bytes: Callable[[], object] = lambda: None
    on_from_bytes: Callable[[], object] = lambda: None
    embedding_format: str = "fake"
    freed: int = 0
    inside: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))

    def embed(self, image: Image, step_aside: Callable[[], None]) -> FakeEmbedding:
        with self._alone():
            self.on_embed()
        step_aside()
        with self._alone():
            self.embedded.append(int(image[0, 0, 0]))
        return FakeEmbedding(int(image[0, 0, 0]))

    def predict(self, embedding: FakeEmbedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        with self._alone():
            self.on_predict()
            self.multimask.append(multimask_output)
        score = np.array([embedding.gray / 100], np.float32)
        return Segmentation(low_res_logits=np.zeros((1, 4, 4), np.float32), scores=score, size_hw=(6, 8))

    def to_bytes(self, embedding: FakeEmbedding, key: str) -> bytes:
        self.on_to_bytes()
        return f"{key} {embedding.gray}".encode()

    def from_bytes(self, data: bytes, key: str) -> FakeEmbedding:
        self.on_from_bytes()
        found, _, gray = data.decode().partition(" ")
        if found != key:
            raise DamagedEmbeddingError("made up in a test")
        return FakeEmbedding(int(gray))

    def free_memory(self) -> None:
        self.freed += 1

    @contextmanager
    def _alone(self) -> Iterator[None]:
        assert self.inside.acquire(blocking=False), "two threads on the device"
        try:
            yield
        finally:
            self.inside.release()


@dataclass
class FakePicture:
    """A picture of one gray.

    Attributes:
        loaded: How often it was decoded.
    """

    gray: int
    loaded: int = 0
    size_hw: tuple[int, int] = (6, 8)

    @property
    def sha256(self) -> str:
        return f"{self.gray:064d}"

    def load(self) -> Image:
        self.loaded += 1
        return np.full((*self.size_hw, 3), self.gray, np.uint8)


@pytest.fixture
def make_picture() -> type[FakePicture]:
    return FakePicture


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def segmenter(model: FakeModel) -> Segmenter[FakeEmbedding]:
    """A segmenter that has loaded the fake model and holds ten of its embeddings."""
    segmenter: Segmenter[FakeEmbedding] = Segmenter(
        lambda: model,
        model_version="fake@1",
        cache=EmbeddingCache(1000, prefetch_max_bytes=300),
        device=DeviceSchedule(max_waiting=100, wait_seconds=10),
    )
    segmenter.start().join()
    model.embedded.clear()  # the warm-up is not a picture
    model.multimask.clear()
    return segmenter
