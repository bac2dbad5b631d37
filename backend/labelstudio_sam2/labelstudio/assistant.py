"""One request of Label Studio from prompt to prediction: the order of the steps, and nothing else."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labelstudio_sam2.errors import BadRequestError
from labelstudio_sam2.labelstudio.brush_extents import BrushExtents
from labelstudio_sam2.labelstudio.editing import Edit, box_around, edit_prompt, edit_under
from labelstudio_sam2.labelstudio.label_config import AnswerTag, ImageTag, LabelConfig, parse_label_config
from labelstudio_sam2.labelstudio.limits import RequestLimits
from labelstudio_sam2.labelstudio.predictions import answer_regions, clicked_parts
from labelstudio_sam2.labelstudio.prompts import box_prompt, clicks_of, newest_prompts, prompts_of
from labelstudio_sam2.labelstudio.regions import DrawnRegion, check_size, drawn_regions
from labelstudio_sam2.labelstudio.wire import Context, PredictRequest, Region, Task, newest_draft
from labelstudio_sam2.segmenter.prompt import Image, Mask, Prompt, Segmentation
from labelstudio_sam2.stages import stage

logger = logging.getLogger(__name__)


class Picture(Protocol):
    """An image known by its content, not yet decoded."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes, in hex."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) upright."""
        ...

    def load(self) -> Image:
        """Return the (H, W, 3) uint8 RGB image, upright."""
        ...


class Pictures(Protocol):
    """Finds the picture behind an address in a task's data."""

    def find(self, address: str, *, project: str, task_id: int | None) -> Picture:
        """Return the picture; downloads it only if it is not known or has changed."""
        ...


class Segmenter(Protocol):
    """Answers prompts on pictures."""

    @property
    def model_version(self) -> str:
        """Names model, checkpoint and precision."""
        ...

    def check_ready(self) -> None:
        """Raise the catalogue's error if the model cannot be asked."""
        ...

    def segment(self, picture: Picture, prompts: Sequence[Prompt], *, by: float | None = None) -> list[Segmentation]:
        """Return what the model sees at each prompt, in their order; waits for others until then at the most."""
        ...


class Prefetch(Protocol):
    """Does what can be done before the next click."""

    def notice(self, task: Task, label_config: str, project: str) -> None:
        """Take note that somebody has a task open; returns at once."""
        ...


@dataclass(frozen=True, eq=False)
class Ask:
    """One object the annotator asks for, and where its mask goes.

    Attributes:
        prompt: For SAM 2.
        tags: Where the answer goes.
        edit: The region that the answer replaces, and how, or None for a new object.
    """

    prompt: Prompt
    tags: Sequence[AnswerTag]
    edit: Edit | None = None


class Assistant:
    """Turns Label Studio's requests into its predictions. Thread-safe; no request changes another one's answer.

    Args:
        pictures: Where pictures come from.
        segmenter: Who finds the masks.
        prefetch: Who is told which task is open, if anyone.
        limits: The most that one request may ask for.
        extents: What remembers where brush regions are; one of its own if none is given.
    """

    def __init__(
        self,
        pictures: Pictures,
        segmenter: Segmenter,
        prefetch: Prefetch | None = None,
        limits: RequestLimits | None = None,
        extents: BrushExtents | None = None,
    ) -> None:
        self._pictures = pictures
        self._segmenter = segmenter
        self._prefetch = prefetch
        self._limits = limits or RequestLimits()
        self._extents = extents if extents is not None else BrushExtents()

    @property
    def model_version(self) -> str:
        """Names model, checkpoint and precision; the same in `/setup` and in every prediction."""
        return self._segmenter.model_version

    def predict(self, request: PredictRequest) -> list[Any]:
        """Return one prediction per task, brush RLE in it as arrays of uint8: `wire.encode_answer` writes them.

        Without a context (a task was opened, predictions are retrieved) each is an empty list: Label Studio then stores
        nothing, while an empty result would become an empty prediction of every task.

        Raises:
            BackendError: Whatever the catalogue says.
        """
        by = time.monotonic() + self._limits.seconds
        self._limits.check(request)
        context = request.context
        project = request.project_id
        if context is None or not request.is_click:
            self._notice(request, project)
            return [[] for _ in request.tasks]
        self._segmenter.check_ready()  # before anything is downloaded for nothing
        config = parse_label_config(request.label_config)
        predictions = []
        try:
            for task in request.tasks:
                self._limits.check_time(by)
                predictions.append(self._answer(task, context, config, project, by))
        finally:
            self._extents.learn()
        self._notice(request, project)
        return predictions

    def _notice(self, request: PredictRequest, project: str) -> None:
        """Tell of a task that is open; several at once are a batch, which nobody looks at."""
        if self._prefetch is not None and len(request.tasks) == 1:
            self._prefetch.notice(request.tasks[0], request.label_config, project)

    def _answer(self, task: Task, context: Context, config: LabelConfig, project: str, by: float) -> dict[str, Any]:
        regions = newest_prompts(context)
        self._limits.check_objects(regions)
        newest = regions[-1]
        to_name, item_index = newest.image
        tags = config.answer_tags(to_name, newest.labels_from, newest.class_names)
        address = image_address(task, config.image(to_name), item_index)
        picture = self._pictures.find(address, project=project, task_id=task.number)
        for region in regions:
            check_size(region, picture.size_hw)
        on_screen = self._limits.on_screen(newest_draft(task))
        asks = _asks(on_screen, regions, config, tags, picture.size_hw, self._extents)
        segmentations = self._segmenter.segment(picture, [ask.prompt for ask in asks], by=by) if asks else []
        with stage("encode"):
            results, scores = self._results(picture, asks, segmentations, item_index, by)
        return {"result": results, "score": min(scores, default=0.0), "model_version": self.model_version}

    def _results(
        self,
        picture: Picture,
        asks: Sequence[Ask],
        segmentations: Sequence[Segmentation],
        item_index: int | None,
        by: float,
    ) -> tuple[list[dict[str, Any]], list[float]]:
        """Return the regions that answer the asks, and each ask's score."""
        results, scores = [], []
        for ask, segmentation in zip(asks, segmentations, strict=True):
            mask, score = segmentation.mask(), segmentation.score
            if ask.edit is not None:
                mask, score = self._edited(picture, ask.edit, mask, score, by)
            score = float(np.clip(score, 0.0, 1.0))
            scores.append(score)
            for tag in ask.tags:
                kept = mask if tag.parts == "all" else clicked_parts(mask, ask.prompt)
                region_id = ask.edit.region.id if ask.edit else None
                results += answer_regions(kept, score, tag, region_id=region_id, item_index=item_index)
        return results, scores

    def _edited(self, picture: Picture, edit: Edit, mask: Mask, score: float, by: float) -> tuple[Mask, float]:
        """Return the mask that an edit ends with, and its score.

        Where the answer ignores clicks, a second one is asked for, and kept if it ignores fewer.
        """
        mask = edit.limited(mask)
        ignored = edit.ignored_clicks(mask)
        if ignored and (prompt := edit.second_prompt) is not None:
            (second,) = self._segmenter.segment(picture, [prompt], by=by)
            second_mask = edit.limited(second.mask())
            if edit.ignored_clicks(second_mask) < ignored:
                return second_mask, second.score
        return mask, score


def image_address(task: Task, tag: ImageTag, item_index: int | None) -> str:
    """Return the address of the image that was prompted on.

    Raises:
        BadRequestError: The task has no such address, or does not say which of several is meant.
    """
    value = task.data.get(tag.data_key)
    where = f"tasks[0].data.{tag.data_key}"
    if tag.is_list:
        if not isinstance(value, list):
            raise BadRequestError(f"{where} must be a list of image addresses")
        if item_index is None and len(value) != 1:
            raise BadRequestError(f"{where} has {len(value)} images, a region must say which with item_index")
        if not 0 <= (item_index or 0) < len(value):
            raise BadRequestError(f"item_index is {item_index}, {where} has {len(value)} images")
        value = value[item_index or 0]
    if not isinstance(value, str) or not value:
        raise BadRequestError(f"{where} must be an image address")
    return value


def _asks(
    draft: Sequence[Region],
    regions: Sequence[DrawnRegion],
    config: LabelConfig,
    tags: Sequence[AnswerTag],
    size_hw: tuple[int, int],
    extents: BrushExtents,
) -> list[Ask]:
    if any(region.kind != "keypoint" for region in regions):
        return [Ask(prompt, tags) for prompt in prompts_of(regions, size_hw)]
    clicks = clicks_of(regions, size_hw)
    newest = regions[-1]
    values = set(config.label_values(newest.labels_from, newest.class_names))

    def is_same_class(region: DrawnRegion) -> bool:
        own_values = config.label_values(region.labels_from, region.class_names)
        return region.image == newest.image and set(own_values) == values

    on_screen = drawn_regions(draft)
    edited = edit_under(clicks.coords[0], on_screen, size_hw, is_wanted=is_same_class, extents=extents)
    if edited is not None:
        edit = edit_prompt(edited, clicks, size_hw)
        tag = _tag_of(edited.region, config)
        return [Ask(edit.prompt, [tag], edit)]
    answered = {tag.from_name for tag in tags}

    def is_box_to_prompt_with(region: DrawnRegion) -> bool:
        name = region.geometry.from_name
        return is_same_class(region) and config.is_smart(name) and name not in answered

    box = box_around(clicks.coords[0], on_screen, size_hw, is_wanted=is_box_to_prompt_with)
    if box is not None:
        return [Ask(box_prompt(box, size_hw, clicks), tags)]
    if not clicks.labels.any():
        logger.info("only negative clicks and nothing of the class under them: there is nothing to take away from")
        return []
    return [Ask(prompt, tags) for prompt in prompts_of(regions, size_hw)]


def _tag_of(region: DrawnRegion, config: LabelConfig) -> AnswerTag:
    """Return the answer tag that keeps a region where it is and what it is."""
    from_name, to_name = region.geometry.from_name, region.geometry.to_name
    parts, tolerance = config.attributes(from_name)
    return AnswerTag(
        from_name,
        to_name,
        "polygon" if region.kind == "polygon" else "brush",
        labels_from=region.labels_from if region.labels_from != from_name else None,
        class_names=region.class_names,
        parts=parts,
        tolerance=tolerance,
    )
