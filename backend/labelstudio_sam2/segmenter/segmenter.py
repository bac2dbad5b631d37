"""The one way to a mask: cached embedding, then one prediction per prompt."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from labelstudio_sam2.errors import (
    BackendError,
    BusyError,
    DeviceLostError,
    GpuMemoryError,
    ModelLoadingError,
    ModelUnavailableError,
)
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule, Urgency
from labelstudio_sam2.segmenter.embedding_cache import CacheStats, Embedding, EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.pixel_budget import PixelBudget
from labelstudio_sam2.segmenter.prompt import Image, Prompt, Segmentation
from labelstudio_sam2.single_flight import SingleFlight
from labelstudio_sam2.stages import stage

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=Embedding)
T = TypeVar("T")

_FILE_HEADER_BYTES = 1024
"""What a file on disk takes beside the embedding's numbers, at most."""


class Picture(Protocol):
    """An image known by its content, not yet decoded."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes, in hex."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) of the upright picture."""
        ...

    def load(self) -> Image:
        """Return the (H, W, 3) uint8 RGB image, upright. Slow: decodes, and may download."""
        ...


class Model(Protocol[E]):
    """A segmentation model without state: embeddings go in and out as values."""

    @property
    def embedding_format(self) -> str:
        """Names all that makes an embedding another one, beside picture and checkpoint; part of its key on disk."""
        ...

    def embed(self, image: Image, step_aside: Callable[[], None]) -> E:
        """Run the image encoder. Slow, once per picture.

        Calls `step_aside` now and then: other calls of the model may run meanwhile, in other threads. What that raises
        passes through. This method and the others raise `GpuMemoryError` if the device's memory is full and
        `DeviceLostError` if the device has failed for good.
        """
        ...

    def predict(self, embedding: E, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        """Run the prompt encoder and the mask decoder. Fast, once per prompt."""
        ...

    def to_bytes(self, embedding: E, key: str) -> bytes:
        """Return an embedding as a file's bytes, which also say under which key it is kept."""
        ...

    def from_bytes(self, data: bytes, key: str) -> E:
        """Return the embedding that `to_bytes` made into bytes; raises `DamagedEmbeddingError` if they are not it."""
        ...

    def free_memory(self) -> None:
        """Give unused device memory back."""
        ...


class Segmenter(Generic[E]):
    """Answers prompts on pictures. Thread-safe: no picture is held between calls, embeddings are values.

    Args:
        load_model: Loads the weights; called once, in the background, by `start`.
        model_version: Names model, checkpoint and precision; part of the embeddings' keys.
        cache: Where embeddings stay: the device tier.
        device: Decides who may use the device.
        disk: Where they also stay, if anywhere: the disk tier. Since that outlives the process, `model_version` must
            then tell one checkpoint from every other.
        wait_seconds: How long a request waits for others, all in all, where it does not say itself.
        pixels: Bounds the decoded pictures that are in memory at once.

    Attributes:
        model_version: As above.
        embedding_nbytes: What an embedding takes; 0 until the model is there.
    """

    def __init__(
        self,
        load_model: Callable[[], Model[E]],
        *,
        model_version: str,
        cache: EmbeddingCache[E],
        device: DeviceSchedule,
        disk: EmbeddingDisk | None = None,
        wait_seconds: float = 60,
        pixels: PixelBudget | None = None,
    ) -> None:
        self.model_version = model_version
        self.embedding_nbytes = 0
        self._load_model = load_model
        self._cache = cache
        self._device = device
        self._disk = disk
        self._wait_seconds = wait_seconds
        self._pixels = pixels or PixelBudget()
        self._model: Model[E] | None = None
        self._failure: str | None = None
        self._flights: SingleFlight[str, E] = SingleFlight()
        self._readings: SingleFlight[str, E | None] = SingleFlight()
        self._counting = threading.Lock()
        self._clicked: Counter[str] = Counter()  # requests that wait for a picture's embedding, by its key

    def start(self) -> threading.Thread:
        """Load the model in the background; until it is there `segment` raises `ModelLoadingError`."""
        thread = threading.Thread(target=self._load, name="load-model", daemon=True)
        thread.start()
        return thread

    @property
    def state(self) -> Literal["loading", "ready", "failed"]:
        """Whether the model can be asked."""
        if self._failure is not None or self._device.is_lost:
            return "failed"
        return "loading" if self._model is None else "ready"

    def check_ready(self) -> None:
        """Do nothing if the model can be asked.

        Raises:
            ModelLoadingError: Not yet.
            ModelUnavailableError: Never; the message says why.
            DeviceLostError: Not by this process; the message says why.
        """
        self._ready_model()

    def check_device(self) -> None:
        """Do nothing unless the device has failed for good; the model need not be there.

        Raises:
            DeviceLostError: It has; the message says why.
        """
        self._device.check()

    def cache_stats(self) -> Mapping[str, CacheStats]:
        """Return the figures of the tiers that embeddings are kept in: `device`, and `disk` if there is one."""
        tiers = {"device": self._cache.stats()}
        return tiers if self._disk is None else {**tiers, "disk": self._disk.stats()}

    def waiting(self) -> Mapping[str, int]:
        """Return how many threads wait for the device now, by what for."""
        return {urgency.name.lower(): count for urgency, count in self._device.waiting_by_urgency().items()}

    def segment(
        self,
        picture: Picture,
        prompts: Sequence[Prompt],
        *,
        multimask_output: bool | None = None,
        by: float | None = None,
    ) -> list[Segmentation]:
        """Return what the model sees at each prompt, in their order.

        Args:
            picture: Decoded only if its embedding is not cached.
            prompts: One per object.
            multimask_output: Whether to ask for three masks and their scores; by default only for a lone click, as
                SAM 2 advises: a click is ambiguous, more prompts are not.
            by: Until when to wait for others, on the monotonic clock; `wait_seconds` from now by default.

        Raises:
            ModelLoadingError: The weights are not there yet.
            ModelUnavailableError: They could not be loaded.
            BusyError: Too many requests wait, or the device or another request's work was not there in time.
            GpuMemoryError: The picture does not fit, even with an empty cache.
            DeviceLostError: The device has failed, now or before; no model on it can be asked any more.
        """
        by = self._until(by)
        return self.predict(self.embed(picture, by=by), prompts, multimask_output=multimask_output, by=by)

    def predict(
        self,
        embedding: E,
        prompts: Sequence[Prompt],
        *,
        multimask_output: bool | None = None,
        by: float | None = None,
    ) -> list[Segmentation]:
        """Return what the model sees at each prompt on a picture that was embedded before; otherwise as `segment`."""
        model = self._ready_model()
        by = self._until(by)
        segmentations: list[Segmentation] = []
        for prompt in prompts:
            if segmentations and time.monotonic() > by:
                raise BusyError(f"the time was over after {len(segmentations)} of {len(prompts)} objects")
            multimask = prompt.is_ambiguous if multimask_output is None else multimask_output
            with self._device.turn(lambda: Urgency.PREDICT, by=by), stage("predict"):
                segmentations.append(
                    self._with_memory(
                        partial(model.predict, embedding, prompt, multimask_output=multimask), is_clicked=lambda: True
                    )
                )
        return segmentations

    def embed(self, picture: Picture, *, by: float | None = None) -> E:
        """Return the picture's embedding, from a cache if it is in one. Equal concurrent calls embed once.

        On a disk tier, that holds for all processes that share it.

        Raises:
            BackendError: As `segment`.
        """
        key = self._key(picture.sha256)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        by = self._until(by)
        with self._waiting_for(key):
            return self._flights.do(key, lambda: self._find_or_embed(key, picture, by), timeout_seconds=_left(by))

    def prefetch(self, picture: Picture) -> None:
        """Embed a picture that nobody has asked for yet, when nobody else wants the device. Slow.

        Clicks go first, even while this embeds. A click on this very picture makes it as urgent as any other.

        Raises:
            BackendError: As `segment`; but where the device's memory is full, nothing is given up for this picture.
        """
        key = self._key(picture.sha256)
        if self._cache.peek(key) is None:
            work = partial(self._find_or_embed, key, picture, inf)
            self._flights.do(key, work, timeout_seconds=self._wait_seconds)

    def precompute(self, picture: Picture, *, before_embedding: Callable[[], None] = lambda: None) -> bool:
        """Have a picture's embedding on disk, for whoever is asked for it later. Slow.

        It ends when the embedding is written. Where several threads call it, pictures are decoded and written beside
        the one that is being embedded; they must be no more than the disk tier lets wait to be written. The device's
        tier is left alone. No other process embeds the same picture meanwhile.

        Args:
            picture: Decoded only if it has to be embedded.
            before_embedding: Called when it is this picture's turn on the device; what that raises passes through.

        Returns:
            Whether it had to be embedded.

        Raises:
            BackendError: As `prefetch`.
            OSError: The embedding could not be written, or there is no disk tier.
        """
        disk, model = self._disk, self._ready_model()
        if disk is None:
            raise OSError("there is no folder for embeddings")
        key = self._key(picture.sha256)
        disk_key, from_bytes = self._disk_key(key, model), partial(self._from_bytes, model, key)
        if disk.peek(disk_key, from_bytes) is not None:
            return False
        height, width = picture.size_hw
        with ExitStack() as until_written:
            with self._pixels.room_for(height * width):
                image = picture.load()
                with self._device.turn(lambda: Urgency.PREFETCH) as step_aside:
                    before_embedding()
                    # not before: who waits for it waits for one picture
                    until_written.enter_context(disk.alone(disk_key))
                    if disk.peek(disk_key, from_bytes) is not None:  # another process was faster, or an equal picture
                        return False
                    embedding = self._with_memory(lambda: model.embed(image, step_aside), lambda: False)
            disk.put(disk_key, partial(self._on_device, partial(model.to_bytes, embedding, disk_key))).result()
        return True

    def disk_room(self) -> int:
        """Return how many embeddings of this model the disk tier has room for, if all else that is there goes.

        Raises:
            BackendError: The model cannot be asked.
            OSError: There is no disk tier, or its folder is not there and cannot be made.
        """
        self._ready_model()
        if self._disk is None:
            raise OSError("there is no folder for embeddings")
        return self._disk.room_bytes() // (self.embedding_nbytes + _FILE_HEADER_BYTES)

    def cached(self, sha256: str) -> E | None:
        """Return the embedding of the picture with this content if it is cached, and mark it as just used.

        Raises:
            BusyError: Another request has not read it from disk in time.
            GpuMemoryError: As `segment`.
        """
        key = self._key(sha256)
        embedding = self._cache.get(key)
        if embedding is not None:
            return embedding
        with self._waiting_for(key):
            return self._kept(key, self._until(None))

    def _until(self, by: float | None) -> float:
        return time.monotonic() + self._wait_seconds if by is None else by

    def _key(self, sha256: str) -> str:
        return f"{self.model_version}:{sha256}"

    def _find_or_embed(self, key: str, picture: Picture, by: float) -> E:
        embedding = self._kept(key, by)
        if embedding is not None:
            return embedding
        model = self._ready_model()
        if self._disk is None:
            return self._embed(key, model, picture, by)
        disk_key = self._disk_key(key, model)
        with ExitStack() as until_written:
            if self._is_clicked(key):  # a prefetch waits for clicks of this process: others must not wait for it
                with stage("wait"):
                    until_written.enter_context(self._disk.alone(disk_key, by=by))
                with stage("read"):
                    embedding = self._disk.peek(disk_key, partial(self._from_bytes, model, key))
                if embedding is not None:  # another process was faster
                    self._keep(key, embedding)
                    return embedding
            embedding = self._embed(key, model, picture, by)
            to_bytes = partial(self._on_device, partial(model.to_bytes, embedding, disk_key))
            written = self._disk.put(disk_key, to_bytes)
            open_until_then = until_written.pop_all()
            written.add_done_callback(lambda _: open_until_then.close())
        return embedding

    def _embed(self, key: str, model: Model[E], picture: Picture, by: float) -> E:
        def urgency() -> Urgency:
            return Urgency.EMBED if self._is_clicked(key) else Urgency.PREFETCH

        height, width = picture.size_hw
        with self._pixels.room_for(height * width, by=by):
            image = picture.load()
            started = time.perf_counter()
            with self._device.turn(urgency, by=by) as step_aside, stage("embed"):
                embedding = self._with_memory(lambda: model.embed(image, step_aside), lambda: self._is_clicked(key))
        self._keep(key, embedding)
        logger.info("embedded a picture", extra={"seconds": round(time.perf_counter() - started, 3)})
        return embedding

    def _kept(self, key: str, by: float) -> E | None:
        """Return an embedding that came to the device meanwhile, or bring it there from disk, once for all threads."""
        if self._disk is None or self._model is None:
            return self._cache.peek(key)
        read = partial(self._read, self._disk, self._model, key)
        return self._readings.do(key, read, timeout_seconds=min(_left(by), self._wait_seconds))

    def _read(self, disk: EmbeddingDisk, model: Model[E], key: str) -> E | None:
        embedding = self._cache.peek(key)
        if embedding is not None:
            return embedding
        disk_key = self._disk_key(key, model)
        with stage("read"):
            embedding = disk.get(disk_key, partial(self._from_bytes, model, key))
        if embedding is not None:
            self._keep(key, embedding)
        return embedding

    def _keep(self, key: str, embedding: E) -> None:
        self._cache.put(key, embedding, prefetched=not self._is_clicked(key))

    @contextmanager
    def _waiting_for(self, key: str) -> Iterator[None]:
        """Say for the length of the block that a request waits for this embedding."""
        with self._counting:
            self._clicked[key] += 1
        try:
            yield
        finally:
            with self._counting:
                self._clicked[key] -= 1
                self._clicked += Counter()  # drops keys at 0

    def _is_clicked(self, key: str) -> bool:
        return self._clicked[key] > 0

    def _from_bytes(self, model: Model[E], key: str, data: bytes) -> E:
        disk_key = self._disk_key(key, model)
        return self._with_memory(lambda: model.from_bytes(data, disk_key), lambda: self._is_clicked(key))

    def _disk_key(self, key: str, model: Model[E]) -> str:
        return f"{model.embedding_format}:{key}"

    def _with_memory(self, call: Callable[[], T], is_clicked: Callable[[], bool]) -> T:
        """Make a call that needs device memory; once more with emptied caches if that was full and somebody waits."""
        try:
            return self._on_device(call)
        except GpuMemoryError:
            if not is_clicked():
                raise
            logger.warning("no GPU memory left, emptying the cache and trying again")
        self._cache.clear()
        self._on_device(self._ready_model().free_memory)
        return self._on_device(call)

    def _on_device(self, call: Callable[[], T]) -> T:
        """Make any call of the model: it tells everybody if the device turns out to be lost."""
        try:
            return call()
        except DeviceLostError as error:
            self._device.lose(str(error))
            raise

    def _ready_model(self) -> Model[E]:
        self._device.check()
        if self._model is not None:
            return self._model
        if self._failure is not None:
            raise ModelUnavailableError(self._failure)
        raise ModelLoadingError("the weights are still being loaded, /ready tells when they are there")

    def _load(self) -> None:
        started = time.perf_counter()
        try:
            model = self._on_device(self._load_model)
            with self._device.turn(lambda: Urgency.PREFETCH):
                self.embedding_nbytes = self._on_device(partial(_warm_up, model)).nbytes
            self._model = model
        except BackendError as error:
            self._failure = str(error)
            logger.error("the model cannot be used: %s", error)  # noqa: TRY400  it is the operator's to mend, no bug
        except Exception as error:
            self._failure = f"loading failed: {type(error).__name__}: {error}"
            logger.exception("the model could not be loaded")
        else:
            logger.info(
                "the model is ready",
                extra={"model_version": self.model_version, "seconds": round(time.perf_counter() - started, 3)},
            )


def _left(by: float) -> float:
    """Return the seconds until then, 0 if it is over."""
    return max(0.0, by - time.monotonic())


def _warm_up(model: Model[E]) -> E:
    """Make one prediction, so that the first click pays for no lazy set-up and a broken device shows at once.

    Returns the embedding: as large as any.
    """
    embedding = model.embed(np.zeros((48, 64, 3), np.uint8), lambda: None)
    click = Prompt(point_coords=np.array([[32, 24]], np.float32), point_labels=np.array([1], np.int32))
    model.predict(embedding, click, multimask_output=True)
    return embedding
