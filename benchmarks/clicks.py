"""What Label Studio posts at a click, and what is in an answer."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.local_files import address_of
from benchmarks.pictures import PictureFile, blob
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle, encode_brush_rle
from labelstudio_sam2.segmenter.prompt import Mask

_FUR = 0.06
"""Logits within which an outline is furry, to give a mask the size of those that are drawn by hand."""
LABEL_CONFIG = """<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></RectangleLabels>
  <BrushLabels name="mask" toName="image" smart="false"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
</View>"""


def click_body(
    picture: PictureFile,
    at_percent: tuple[float, float],
    *,
    version: int = 0,
    existing: Sequence[dict[str, Any]] = (),
    task_id: int = 7,
) -> bytes:
    """Return the body of `POST /predict` for one click.

    Args:
        picture: What is clicked on.
        at_percent: x and y, 0..100.
        version: Of the picture's address: a picture that was never seen before has another one.
        existing: The regions on the annotator's screen; the editor saves them in a draft, and all of them are sent.
        task_id: Whose picture it is.
    """
    click = key_point(picture.size_wh, at_percent)
    return prompt_body(address_of(picture.name, version), [click], existing=existing, task_id=task_id)


def open_body(picture: PictureFile, *, version: int, task_id: int) -> bytes:
    """Return the body of `POST /predict` that Label Studio sends when somebody opens a task."""
    return prompt_body(address_of(picture.name, version), None, task_id=task_id)


def key_point(
    size_wh: tuple[int, int],
    at_percent: tuple[float, float],
    *,
    is_positive: bool = True,
    region_id: str = "tPMKg88kFA",
) -> dict[str, Any]:
    """Return a click as a region: x and y in percent, 0..100."""
    value = {"x": at_percent[0], "y": at_percent[1], "width": 0.26, "labels": ["Cat"], "keypointlabels": ["Cat"]}
    return _drawn(size_wh, "point", "keypointlabels", value) | {"is_positive": is_positive, "id": region_id}


def rectangle(size_wh: tuple[int, int], box_percent: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a box as a region: left, top, width and height in percent, 0..100."""
    x, y, width, height = box_percent
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["Cat"]}
    return _drawn(size_wh, "box", "rectanglelabels", value) | {"id": "rT0gYqJtbP"}


def _drawn(size_wh: tuple[int, int], from_name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    width, height = size_wh
    return {
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
        "from_name": from_name,
        "to_name": "image",
        "type": kind,
        "origin": "manual",
    }


def prompt_body(
    address: str,
    regions: Sequence[dict[str, Any]] | None,
    *,
    existing: Sequence[dict[str, Any]] = (),
    task_id: int = 7,
) -> bytes:
    """Return the body of `POST /predict` for whatever an annotator did.

    Args:
        address: Of the picture, as the task has it.
        regions: What was drawn to ask with; None when a task is opened.
        existing: See `click_body`.
        task_id: See `click_body`.
    """
    draft = {"id": 5, "user": "one@example.org", "annotation": None, "updated_at": "2026-11-22T11:39:40.000000Z"}
    drafts = [{**draft, "result": list(existing)}] if existing else []
    context = None if regions is None else {"result": list(regions)}
    task = {
        "id": task_id,
        "data": {"image": address},
        "drafts": drafts,
        "annotations": [],
        "predictions": [],
        "project": 6,
    }
    body = {
        "tasks": [task],
        "project": "6.1795342851",
        "label_config": LABEL_CONFIG,
        "params": {"login": None, "password": None, "context": context},
    }
    return json.dumps(body).encode()


def places(count: int, *, seed: int) -> list[tuple[float, float]]:
    """Return places to click on, x and y in percent, away from the edges."""
    drawn = np.random.default_rng(seed).uniform(20, 80, (count, 2))
    return [(float(x), float(y)) for x, y in drawn]


def existing_regions(count: int, size_wh: tuple[int, int]) -> list[dict[str, Any]]:
    """Return finished masks as the editor saves them, of some 43 kB each; the left tenth of the picture is free."""
    width, height = size_wh
    random = np.random.default_rng(1)
    logits = blob((height, width), radius=0.33)
    grain = np.repeat(random.normal(scale=0.6, size=(height, (width + 1) // 2)), 2, axis=1)[:, :width]
    furry: Mask = logits + np.where(np.abs(logits) < _FUR, grain, 0) > 0
    return [
        {
            "id": f"region{number:04}",
            "from_name": "mask",
            "to_name": "image",
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "origin": "prediction",
            "value": {
                "format": "rle",
                "rle": encode_brush_rle(np.roll(furry, _shift(random, size_wh), axis=(0, 1))).tolist(),
                "brushlabels": ["Cat"],
            },
        }
        for number in range(count)
    ]


def never_seen(regions: Sequence[dict[str, Any]], version: int) -> list[dict[str, Any]]:
    """Return finished masks in another text each: a number at the end of their RLE, where no reader looks.

    Args:
        regions: As `existing_regions` makes them.
        version: Which text.
    """
    ends = list((version % 2**32).to_bytes(4, "big"))
    return [{**region, "value": {**region["value"], "rle": region["value"]["rle"] + ends}} for region in regions]


def _shift(random: np.random.Generator, size_wh: tuple[int, int]) -> tuple[int, int]:
    """Return how far to move a mask, down and right in pixels, without leaving the picture."""
    width, height = size_wh
    return int(random.integers(-height // 12, height // 12)), int(random.integers(-width // 12, width // 12))


def mask_in(answer: bytes, size_wh: tuple[int, int]) -> Mask:
    """Return the mask of an answer, (H, W) bool; an empty one where the answer holds none."""
    width, height = size_wh
    results = json.loads(answer)["results"][0]["result"]
    if not results:
        return np.zeros((height, width), bool)
    return decode_brush_rle(results[0]["value"]["rle"], (height, width))


def agreement(one: Mask, other: Mask) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    together = int((one | other).sum())
    return int((one & other).sum()) / together if together else 1.0
