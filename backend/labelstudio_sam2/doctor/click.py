"""One click in the middle of a picture, as Label Studio's editor sends it, and what must come back."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.labelstudio.label_config import ControlTag, LabelConfig
from labelstudio_sam2.labelstudio.predictions import fresh_region_id
from labelstudio_sam2.labelstudio.regions import area_mask, check_size, drawn_regions
from labelstudio_sam2.labelstudio.wire import Region, Task


class BadAnswerError(Exception):
    """An answer is none that Label Studio could show; the message says why."""


@dataclass(frozen=True)
class Click:
    """What an annotator would do: click in the middle, or drag a rectangle around it where there are no points.

    Attributes:
        task: Where.
        project: Its project's id.
        label_config: The project's, as XML.
        regions: The prompt.
        label: What was clicked with; empty for an unlabelled prompt.
    """

    task: Task
    project: int
    label_config: str
    regions: list[dict[str, Any]]
    label: str

    @property
    def context(self) -> dict[str, Any]:
        """What the editor tells Label Studio."""
        return {"result": self.regions}

    def body(self) -> bytes:
        """Return the body of `POST /predict`."""
        request = {
            "tasks": [{"id": self.task.id, "data": self.task.data, "drafts": []}],
            "project": str(self.project),
            "label_config": self.label_config,
            "params": {"login": None, "password": None, "context": self.context},
        }
        return msgspec.json.encode(request)


def image_to_click(config: LabelConfig) -> str:
    """Return the name of the first image tag that can be prompted on."""
    return next(name for name in config.images if config.prompt_tags(name))


def click_in_the_middle(
    task: Task, project: int, label_config: str, config: LabelConfig, size_hw: tuple[int, int]
) -> Click:
    """Return a click with the first label of the first point tag.

    Args:
        task: With the picture.
        project: Its id.
        label_config: As XML.
        config: The same, read.
        size_hw: (H, W) of the picture.
    """
    to_name = image_to_click(config)
    tags = config.prompt_tags(to_name)
    tag = next((each for each in tags if each.plain == "keypoint"), tags[0])
    naming, label = next(iter(config.prompt_classes(tag)), (tag.name, ""))
    height, width = size_hw
    common = {
        "id": fresh_region_id(),
        "to_name": to_name,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "origin": "manual",
        **({"item_index": 0} if config.images[to_name].is_list else {}),
    }
    place = {"x": 50.0, "y": 50.0, "width": 0.3}
    if tag.plain == "rectangle":
        place = {"x": 25.0, "y": 25.0, "width": 50.0, "height": 50.0, "rotation": 0.0}
    regions = [_region(tag, {**common, "is_positive": True}, place, label if naming == tag.name else "")]
    if naming != tag.name:
        regions.append({**common, "from_name": naming, "type": "labels", "value": {**place, "labels": [label]}})
    return Click(task, project, label_config, regions, label)


def covered(answer: bytes, config: LabelConfig, size_hw: tuple[int, int]) -> float:
    """Return which share of the picture the mask in an answer to `POST /predict` covers, 0..1.

    Args:
        answer: Its body.
        config: Where the answer goes.
        size_hw: (H, W) of the picture.

    Raises:
        BadAnswerError: There is none, or one that Label Studio could not show as it is meant.
    """
    try:
        predictions = msgspec.json.decode(answer, type=_Answer).results
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswerError("the answer is none of an ML backend") from None
    if not predictions:
        raise BadAnswerError("the answer has no prediction")
    return covered_by(predictions[0], config, size_hw)


def covered_by(prediction: msgspec.Raw, config: LabelConfig, size_hw: tuple[int, int]) -> float:
    """Return which share of the picture a prediction's mask covers; otherwise as `covered`."""
    try:
        regions = msgspec.json.decode(prediction, type=_Prediction).result
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswerError("the prediction's regions cannot be read") from None
    mask = np.zeros(size_hw, np.bool_)
    try:
        for region in regions:
            _check_place(region, config)
        for drawn in drawn_regions(regions):
            check_size(drawn, size_hw)
            mask |= area_mask(drawn, size_hw)
    except BackendError as error:
        raise BadAnswerError(str(error)) from None
    if not mask.any():
        raise BadAnswerError("the answer has no mask in it")
    return float(mask.mean())


class _Answer(msgspec.Struct, frozen=True):
    results: list[msgspec.Raw]


class _Prediction(msgspec.Struct, frozen=True):
    result: list[Region]


def _region(tag: ControlTag, common: dict[str, Any], place: dict[str, Any], label: str) -> dict[str, Any]:
    kind = tag.tag.lower()
    value = {**place, kind: [label]} if label else place
    return {**common, "from_name": tag.name, "type": kind, "value": value}


def _check_place(region: Region, config: LabelConfig) -> None:
    """See that a region is one that its tag can hold."""
    tag = config.controls.get(region.from_name)
    if tag is None or region.to_name not in tag.to_names:
        raise BadAnswerError(f"the answer goes to a tag {region.from_name!r} that the configuration does not have")
    if region.type != tag.tag.lower():
        raise BadAnswerError(f"the answer is a {region.type} region of <{tag.tag} name={tag.name!r}>")
    for class_name in getattr(region.value, region.type, None) or []:
        if class_name not in tag.classes and not tag.accepts_any:
            raise BadAnswerError(f"<{tag.tag} name={tag.name!r}> has no label {class_name!r}")
