"""`SegmentAnything2`: SAM 2 as the seed shows it, on the same segmenter as Label Studio's clicks."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike

from labelstudio_sam2.errors import BadRequestError
from labelstudio_sam2.recently_used import RecentlyUsed
from labelstudio_sam2.sam2_api.inputs import ArrayPicture, ImageInputs, is_empty
from labelstudio_sam2.sam2_api.logits import LogitsMemory
from labelstudio_sam2.sam2_api.prompts import mask_inputs_from, prompt_from_points, prompts_from
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.models import load_model
from labelstudio_sam2.segmenter.prompt import LOGITS_LIMIT, MASK_THRESHOLD, FloatArray, Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.segmenter.zoo import model_version, resolve

MAX_IDS = 10_000
"""Image ids of callers' own that are remembered; the longest unused goes first."""
MAX_ID_LENGTH = 256
MAX_WAITING = 10_000
WAIT_SECONDS = 3600.0
"""In a program of one's own everybody gets a turn, however long it takes."""
SURELY_ENOUGH_MB = 256
"""Of cache for one embedding: 32 of the official models', two of a model with four times their input size."""

_CONTENT_ID = re.compile(r"[0-9a-fA-F]{64}")

SizeHW: TypeAlias = tuple[int, int]


class ShownEmbedding(Protocol):
    """What this API shows of an embedding, beside what the segmenter asks of one."""

    @property
    def nbytes(self) -> int:
        """Memory it holds on the device."""
        ...

    @property
    def size_hw(self) -> SizeHW:
        """(H, W) of the original image."""
        ...

    @property
    def image_embed(self) -> Any:
        """(1, C, S/16, S/16) tensor."""
        ...

    @property
    def high_res_feats(self) -> Sequence[Any]:
        """(1, C/8, S/4, S/4) and (1, C/4, S/8, S/8) tensors."""
        ...


class EmbeddingDict(TypedDict):
    """An embedding as `embed_image` returns it: tensors on the model's device, to look at and not to write into.

    `image_embed` is (1, 256, 64, 64) for the official models, `high_res_feats` (1, 32, 256, 256) and
    (1, 64, 128, 128); float16, as the cache keeps them.
    """

    image_embed: Any
    high_res_feats: list[Any]


@dataclass(frozen=True)
class Predictor:
    """What is left of the predictor that the seed reaches into: `m.predictor.mask_threshold`."""

    mask_threshold: float = MASK_THRESHOLD


class SegmentAnything2:
    """SAM 2 with embeddings that stay cached, by content or under ids of one's own. Thread-safe.

    Embeddings live in a cache bounded by bytes, the longest unused goes first; equal pictures at the same time are
    embedded once. A picture is whatever `ImageInputs.picture` takes: a path, bytes, an address, base64, a Pillow image
    or a numpy array **in BGR order**, as OpenCV reads it.

    An image id names the picture it was last given with. Given alone it stands for that picture, as long as its
    embedding is cached; without one, or with an empty one, the picture's content is its id: 64 hex digits, which never
    stand for another picture.

    Args:
        model_id: `nano`, `sam2/hiera_tiny`, `sam2/hiera_small`, `sam2/hiera_b_plus`, `sam2/hiera_large`, the same
            without `sam2/`, or the path of a checkpoint.
        model_config_file: Only for a checkpoint of one's own: its config (YAML), or the name of an official one.
        weights_dir: Folder with the official checkpoints.
        device: `auto` takes cuda, then mps, then cpu.
        precision: Of the image encoder: `fp32`, `fp16`, `bf16`; `auto` is bf16, else fp16, on cuda, fp32 elsewhere.
        embedding_cache_mb: Memory for embeddings on the device, in MiB, for one at least; 8 each for the official
            models.
        embedding_disk_dir: Folder where embeddings outlive the process, and are shared by all that name it; by default
            they are in memory only.
        embedding_disk_mb: What that folder may hold, in MiB.
        inputs: Limits, and which hosts may be asked; by default `ImageInputs.local()`.

    Attributes:
        predictor: Holds `mask_threshold`, 0.0, to compare logits with.

    Raises:
        ValueError: There is no such model, the message says which there are; or no embedding fits into the cache.
        ModelUnavailableError: Its checkpoint is missing or does not fit; the message says what to do.
    """

    def __init__(  # noqa: PLR0913  settings, all with a default and by name
        self,
        model_id: str = "sam2/hiera_large",
        *,
        model_config_file: Path | str | None = None,
        weights_dir: Path | str = "weights",
        device: str = "auto",
        precision: str = "auto",
        embedding_cache_mb: int = 2048,
        embedding_disk_dir: Path | str | None = None,
        embedding_disk_mb: int = 20480,
        inputs: ImageInputs | None = None,
    ) -> None:
        config = None if model_config_file is None else Path(model_config_file)
        spec = resolve(model_id, config)
        folder = None if embedding_disk_dir is None else Path(embedding_disk_dir)
        segmenter: Segmenter[Any] = Segmenter(
            lambda: load_model(spec, Path(weights_dir), device=device, precision=precision),
            model_version=model_version(spec, precision),
            cache=EmbeddingCache(embedding_cache_mb * 2**20),
            device=DeviceSchedule(max_waiting=MAX_WAITING, wait_seconds=WAIT_SECONDS),
            disk=None if folder is None else EmbeddingDisk(folder, embedding_disk_mb * 2**20),
            wait_seconds=WAIT_SECONDS,
        )
        segmenter.start().join()
        segmenter.check_ready()
        if embedding_cache_mb < SURELY_ENOUGH_MB:
            _check_one_fits(segmenter, embedding_cache_mb)
        self._take(segmenter, ImageInputs.local() if inputs is None else inputs)

    @classmethod
    def on(cls, segmenter: Segmenter[Any], inputs: ImageInputs) -> Self:
        """Return the API on a segmenter that is there, and on its cache; its model may still be loading.

        Args:
            segmenter: Whose embeddings are as `ShownEmbedding`.
            inputs: Which pictures are taken.
        """
        api = cls.__new__(cls)
        api._take(segmenter, inputs)  # noqa: SLF001 - its own
        return api

    def embed_image(self, image: object = None, image_id: str | None = None) -> tuple[EmbeddingDict, SizeHW, str]:
        """Embed a picture, so that `segment_image` is quick. Slow, once per picture.

        Args:
            image: The picture; may be left out where `image_id` names one whose embedding is cached.
            image_id: An id of one's own.

        Returns:
            The embedding, (H, W) of the upright picture, and its id.

        Raises:
            BackendError: As `segment`.
        """
        embedding, known_as = self._embedding(image, image_id)
        shown: EmbeddingDict = {
            "image_embed": embedding.image_embed,
            "high_res_feats": list(embedding.high_res_feats),
        }
        return shown, embedding.size_hw, known_as

    @overload
    def segment_image(
        self,
        image: object = None,
        image_id: str | None = None,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        *,
        prompts: None = None,
        multimask_output: bool = True,
        mask_input: ArrayLike | None = None,
        save_logits_to_cache: bool = False,
        load_logits_from_cache: bool = False,
        use_previous_mask: bool = True,
    ) -> tuple[FloatArray, FloatArray]: ...

    @overload
    def segment_image(
        self,
        image: object = None,
        image_id: str | None = None,
        point_coords: None = None,
        point_labels: None = None,
        *,
        prompts: object,
        multimask_output: bool = True,
        mask_input: ArrayLike | None = None,
        save_logits_to_cache: bool = False,
        load_logits_from_cache: bool = False,
        use_previous_mask: bool = True,
    ) -> tuple[FloatArray, FloatArray, FloatArray]: ...

    def segment_image(  # noqa: PLR0913 - two generations of one function
        self,
        image: object = None,
        image_id: str | None = None,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        *,
        prompts: object = None,
        multimask_output: bool = True,
        mask_input: ArrayLike | None = None,
        save_logits_to_cache: bool = False,
        load_logits_from_cache: bool = False,
        use_previous_mask: bool = True,
    ) -> tuple[FloatArray, FloatArray] | tuple[FloatArray, FloatArray, FloatArray]:
        """Return what the model sees at the prompt, as logits: `>= m.predictor.mask_threshold` is the object.

        Without `prompts` this is the seed's function: one prompt, and the mask of the last such call on the picture is
        this one's mask input, so that a negative point takes away from what was found before. With `prompts` it is
        today's: one prediction per prompt, and nothing remembered unless asked for.

        Args:
            image: The picture; may be left out where `image_id` names one whose embedding is cached.
            image_id: An id of one's own.
            point_coords: (N, 2) xy in pixels of the original image, or None; without any point the most prominent
                object is asked for.
            point_labels: (N,) 1 for foreground and 0 for background, or None.
            prompts: As `prompts_from`; to ask today's function for the most prominent object, give an empty list.
            multimask_output: Whether to choose the best of three masks; better for a single click.
            mask_input: As `mask_inputs_from`; goes before anything remembered.
            save_logits_to_cache: Remember each prompt's mask for `load_logits_from_cache`.
            load_logits_from_cache: Take as mask input the mask of a saved prompt with the same box and fewer points.
            use_previous_mask: Whether the seed's function takes the last call's mask.

        Returns:
            The seed's: masks (H, W) float32 and low-res logits (M, M) float32 in -32..32. Today's, for P prompts:
            masks (P, H, W) float32, scores (P,) float32 and low-res logits (P, M, M) float32 in -32..32. M is 256 for
            the official models.

        Raises:
            BackendError: As `segment`.
        """
        if prompts is not None:
            if point_coords is not None or point_labels is not None:
                raise BadRequestError("give prompts, or point_coords and point_labels, not both")
            _, found = self.segment(
                image,
                image_id,
                prompts,
                multimask_output=multimask_output,
                mask_input=mask_input,
                save_logits_to_cache=save_logits_to_cache,
                load_logits_from_cache=load_logits_from_cache,
            )
            masks = np.stack([segmentation.logits() for segmentation in found])
            scores = np.array([segmentation.score for segmentation in found], np.float32)
            return masks, scores, np.concatenate([_best_low_res(segmentation) for segmentation in found])
        prompt = _with_mask_inputs([prompt_from_points(point_coords, point_labels)], mask_input)[0]
        embedding, _ = self._embedding(image, image_id)
        if use_previous_mask and prompt.mask_input is None:
            prompt = dataclasses.replace(prompt, mask_input=self._logits.last(embedding))
        (segmentation,) = self._predict(
            embedding,
            [prompt],
            multimask_output=multimask_output,
            saves=save_logits_to_cache,
            loads=load_logits_from_cache,
        )
        low_res_logits = _best_low_res(segmentation)
        self._logits.put_last(embedding, low_res_logits)
        return segmentation.logits(), low_res_logits[0].copy()

    def segment(
        self,
        image: object = None,
        image_id: str | None = None,
        prompts: object = None,
        *,
        multimask_output: bool = True,
        mask_input: ArrayLike | None = None,
        save_logits_to_cache: bool = False,
        load_logits_from_cache: bool = False,
    ) -> tuple[str, list[Segmentation]]:
        """Return what the model sees at each prompt, before it is brought to the original size.

        Args:
            image: As for `segment_image`.
            image_id: As for `segment_image`.
            prompts: As `prompts_from`; None for the most prominent object.
            multimask_output: As for `segment_image`.
            mask_input: As for `segment_image`.
            save_logits_to_cache: As for `segment_image`.
            load_logits_from_cache: As for `segment_image`.

        Returns:
            The picture's id, and a segmentation per prompt, in their order.

        Raises:
            BadRequestError: Neither a picture nor the id of a cached one, or a part of the prompts is missing.
            BadPromptError: Prompts or mask input are malformed.
            BackendError: As `ImageInputs.picture` and `Segmenter.segment`.
        """
        asked = prompts_from(prompts)
        asked = _with_mask_inputs(asked, mask_input)
        embedding, known_as = self._embedding(image, image_id)
        return known_as, self._predict(
            embedding,
            asked,
            multimask_output=multimask_output,
            saves=save_logits_to_cache,
            loads=load_logits_from_cache,
        )

    def _take(self, segmenter: Segmenter[Any], inputs: ImageInputs) -> None:
        self.predictor = Predictor()
        self._segmenter = segmenter
        self._inputs = inputs
        self._ids: RecentlyUsed[str, str] = RecentlyUsed(MAX_IDS)  # own id -> SHA-256 of the content it stands for
        self._logits: LogitsMemory[Any] = LogitsMemory()

    def _embedding(self, image: object, image_id: str | None) -> tuple[ShownEmbedding, str]:
        """Return a picture's embedding and its id."""
        own_id = _checked_id(image_id)
        if own_id is not None and is_empty(image):
            return self._known(own_id), own_id
        if image is None:
            raise BadRequestError("an image is missing, or the image_id of one that was embedded before")
        picture = self._inputs.picture(image)
        if own_id is None or own_id == picture.sha256:
            return self._segmenter.embed(picture), picture.sha256
        if _CONTENT_ID.fullmatch(own_id):
            raise BadRequestError("image_id is that of another picture's content: choose one that is not 64 hex digits")
        embedding: ShownEmbedding = self._segmenter.embed(picture)
        self._ids.put(own_id, picture.sha256)
        return embedding, own_id

    def _known(self, image_id: str) -> ShownEmbedding:
        self._segmenter.check_ready()
        sha256 = image_id if _CONTENT_ID.fullmatch(image_id) else self._ids.get(image_id)
        embedding: ShownEmbedding | None = None if sha256 is None else self._segmenter.cached(sha256)
        if embedding is None:
            raise BadRequestError("no embedding is cached for this image_id: send the image along")
        return embedding

    def _predict(
        self, embedding: ShownEmbedding, prompts: Sequence[Prompt], *, multimask_output: bool, saves: bool, loads: bool
    ) -> list[Segmentation]:
        asked = [self._going_on(embedding, prompt) for prompt in prompts] if loads else prompts
        found = self._segmenter.predict(embedding, asked, multimask_output=multimask_output)
        if saves:
            for prompt, segmentation in zip(prompts, found, strict=True):
                self._logits.put(embedding, prompt, _best_low_res(segmentation))
        return found

    def _going_on(self, embedding: ShownEmbedding, prompt: Prompt) -> Prompt:
        """Return the prompt with the mask of a saved one that it goes on from, unless it has a mask already."""
        if prompt.mask_input is not None:
            return prompt
        return dataclasses.replace(prompt, mask_input=self._logits.before(embedding, prompt))


def _check_one_fits(segmenter: Segmenter[Any], embedding_cache_mb: int) -> None:
    """Raise ValueError unless the cache holds an embedding; one is as large as another, so a small picture tells."""
    one = segmenter.embed(ArrayPicture.of(np.zeros((48, 64, 3), np.uint8)))
    if one.nbytes > embedding_cache_mb * 2**20:
        raise ValueError(
            f"embedding_cache_mb={embedding_cache_mb} holds no embedding of this model: "
            f"it must be at least {math.ceil(one.nbytes / 2**20)}"
        )


def _checked_id(image_id: object) -> str | None:
    """Return the id, or None where there is none: an empty text is none."""
    if image_id is None:
        return None
    if not isinstance(image_id, str):
        raise BadRequestError(f"image_id must be a text, got a {type(image_id).__name__}")
    if len(image_id) > MAX_ID_LENGTH:
        raise BadRequestError(f"image_id may have {MAX_ID_LENGTH} characters, got {len(image_id)}")
    return image_id or None


def _with_mask_inputs(prompts: Sequence[Prompt], mask_input: ArrayLike | None) -> list[Prompt]:
    if mask_input is None:
        return list(prompts)
    masks = mask_inputs_from(mask_input, len(prompts))
    return [dataclasses.replace(prompt, mask_input=mask) for prompt, mask in zip(prompts, masks, strict=True)]


def _best_low_res(segmentation: Segmentation) -> FloatArray:
    """Return the best mask's low-res logits as they are given out: (1, M, M) float32 in -32..32, a copy."""
    best = segmentation.low_res_logits[segmentation.best]
    clipped: FloatArray = np.clip(best[None], -LOGITS_LIMIT, LOGITS_LIMIT)
    return clipped
