"""What tests of Label Studio's dialect share: regions as the editor writes them, and fakes around the assistant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest
from label_studio_sdk.converter import brush as untyped_brush

from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.regions import DrawnRegion, drawn_regions
from labelstudio_sam2.labelstudio.wire import PredictRequest, Region, Task, decode_predict_request
from labelstudio_sam2.segmenter.prompt import Image, Mask, Prompt, Segmentation

brush: Any = untyped_brush
SIZE_HW = (100, 200)
"""Of the picture in these tests: one percent is 2 pixels to the right and 1 pixel down."""


class Draw:
    """Writes regions as Label Studio's editor does; places are percent of the image, x first."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)

    def click(self, x: float, y: float, label: str | None = "Cat", **more: Any) -> dict[str, Any]:
        """Return a positive click; `is_positive=False` for one with Alt."""
        value = {"x": x, "y": y, "width": 0.26}
        return self.region("keypoint", value, label, **{"from_name": "kp", "is_positive": True, **more})

    def rectangle(
        self, x: float, y: float, width: float, height: float, *, rotation: float = 0, label: str = "Cat", **more: Any
    ) -> dict[str, Any]:
        value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
        return self.region("rectangle", value, label, **{"from_name": "rect", **more})

    def polygon(self, points: Sequence[tuple[float, float]], **more: Any) -> dict[str, Any]:
        return self.region("polygon", {"points": points, "closed": True}, "Cat", **{"from_name": "poly", **more})

    def mask(self, mask: Mask, **more: Any) -> dict[str, Any]:
        """Return a finished brush region, its RLE written by label-studio-sdk."""
        rle = brush.mask2rle(mask.astype(np.uint8) * 255)
        return self.region("brush", {"format": "rle", "rle": rle}, "Cat", **{"from_name": "brush", **more})

    def strokes(self, *touches: dict[str, Any], rle: list[int] | None = None, **more: Any) -> dict[str, Any]:
        """Return a brush region as a draft has it, with its strokes."""
        value = {"format": "rle", "touches": touches, **({} if rle is None else {"rle": rle})}
        return self.region("brush", value, "Cat", **{"from_name": "brush", **more})

    def stroke(self, *points: float, kind: str = "add", width: float = 2.0) -> dict[str, Any]:
        """Return one drag along x, y, x, y, …; its width is percent of the image's width."""
        return {"type": kind, "relativePoints": points, "relativeStrokeWidth": width}

    def region(self, kind: str, value: dict[str, Any], label: str | None, **more: Any) -> dict[str, Any]:
        labels = {} if label is None else {f"{kind}labels": [label]}
        return {
            "id": f"region{next(self._numbers):04}",
            "type": kind if label is None else f"{kind}labels",
            "to_name": "image",
            "original_width": SIZE_HW[1],
            "original_height": SIZE_HW[0],
            "image_rotation": 0,
            "origin": "manual",
            "value": {**value, **labels},
            **more,
        }

    def results(self, *regions: dict[str, Any]) -> list[Region]:
        return [msgspec.json.decode(msgspec.json.encode(region), type=Region) for region in regions]

    def drawn(self, *regions: dict[str, Any]) -> list[DrawnRegion]:
        return drawn_regions(self.results(*regions))

    def task(self, *, draft: Sequence[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        drafts = [] if draft is None else [{"result": draft, "updated_at": "2026-11-22T11:39:40Z"}]
        return {"id": 7, "data": {"image": "/data/upload/6/cat.png"}, "drafts": drafts, **more}

    def to_task(self, task: dict[str, Any]) -> Task:
        return msgspec.json.decode(msgspec.json.encode(task), type=Task)


@dataclass(frozen=True)
class FakePicture:
    """A picture of a known size that nobody has to decode."""

    size_hw: tuple[int, int] = SIZE_HW
    sha256: str = "0" * 64

    def load(self) -> Image:
        raise AssertionError("the assistant must not decode pictures")


@dataclass
class FakePictures:
    """Finds one picture at every address, and remembers who asked."""

    picture: FakePicture = field(default_factory=FakePicture)
    found: list[tuple[str, str, int | None]] = field(default_factory=list)
    error: Exception | None = None

    def find(self, address: str, *, project: str, task_id: int | None) -> FakePicture:
        if self.error is not None:
            raise self.error
        self.found.append((address, project, task_id))
        return self.picture


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenSegmentation(Segmentation):
    """A mask that a test chose, to the pixel."""

    chosen: Mask

    def mask(self, index: int | None = None) -> Mask:
        return self.chosen


@dataclass
class FakeSegmenter:
    """Records prompts, and answers each with the next mask and score a test chose; the last ones stay."""

    masks: list[Mask]
    failure: Exception | None = None
    scores: list[float] = field(default_factory=lambda: [0.75])
    model_version: str = "fake@1"
    prompts: list[Prompt] = field(default_factory=list)
    ends: list[float | None] = field(default_factory=list)

    def check_ready(self) -> None:
        if self.failure is not None:
            raise self.failure

    def segment(self, picture: Any, prompts: Sequence[Prompt], *, by: float | None = None) -> list[Segmentation]:
        answered = len(self.prompts)
        self.prompts += prompts
        self.ends.append(by)
        return [self._answer(index, picture.size_hw) for index in range(answered, len(self.prompts))]

    def _answer(self, index: int, size_hw: tuple[int, int]) -> Segmentation:
        return ChosenSegmentation(
            low_res_logits=np.zeros((1, 4, 4), np.float32),
            scores=np.array([self.scores[min(index, len(self.scores) - 1)]], np.float32),
            size_hw=size_hw,
            chosen=self.masks[min(index, len(self.masks) - 1)],
        )


@dataclass
class Annotator:
    """Sends requests as Label Studio does, and gets the assistant's predictions."""

    assistant: Assistant
    label_config: str

    def request(self, *context: dict[str, Any], tasks: Sequence[dict[str, Any]]) -> PredictRequest:
        body = {
            "tasks": tasks,
            "project": "6.1795342851",
            "label_config": self.label_config,
            "params": {"login": None, "password": None, "context": {"result": context}},
        }
        return decode_predict_request(msgspec.json.encode(body))

    def ask(self, *context: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
        """Return the prediction for one task."""
        (prediction,) = self.assistant.predict(self.request(*context, tasks=[task]))
        assert isinstance(prediction, dict)
        return prediction


LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></RectangleLabels>
  <PolygonLabels name="poly" toName="image"><Label value="Cat"/><Label value="Dog"/></PolygonLabels>
  <BrushLabels name="brush" toName="image"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
</View>
"""


@pytest.fixture
def draw() -> Draw:
    return Draw()


@pytest.fixture
def pictures() -> FakePictures:
    return FakePictures()


@pytest.fixture
def square() -> Mask:
    """A 20 x 20 square at (60, 30) of the 200 x 100 picture: percent 30..40 to the right, 30..50 down."""
    mask = np.zeros(SIZE_HW, bool)
    mask[30:50, 60:80] = True
    return mask


@pytest.fixture
def segmenter(square: Mask) -> FakeSegmenter:
    return FakeSegmenter([square])


@pytest.fixture
def annotator(pictures: FakePictures, segmenter: FakeSegmenter) -> Annotator:
    return Annotator(Assistant(pictures, segmenter), LABEL_CONFIG)
