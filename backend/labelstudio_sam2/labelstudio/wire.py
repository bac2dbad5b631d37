"""Label Studio's requests as types. Unknown fields are skipped, what a click does not need stays undecoded bytes.

Label Studio posts the whole task with every draft, prediction and annotation on each click, megabytes of brush RLE
among them. `msgspec.Raw` keeps the RLE of a draft as a view of the body until a click needs one of them.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.errors import BadJsonError, BadPromptError, BadRequestError
from labelstudio_sam2.labelstudio.byte_list import read_byte_list, write_byte_list

PROJECT_ID = re.compile(r"\d{1,18}", re.ASCII)

_NOTHING = msgspec.Raw(b"null")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, and for parts of a body that were skipped before."""


class Touch(msgspec.Struct, rename="camel", frozen=True):
    """One drag of the brush or the eraser inside a brush region of a draft.

    Attributes:
        type: `add` or `eraser`.
        relative_points: x, y, x, y, … in percent of the original image.
        relative_stroke_width: In percent of the image's width.
    """

    type: str
    relative_points: list[float] = []
    relative_stroke_width: float = 0.0


class RegionValue(msgspec.Struct, frozen=True):
    """Where a region is and which classes it has; each kind of region fills its own part.

    Attributes:
        x: Percent of the original width; of the point, or of the rectangle's first corner.
        y: Percent of the original height.
        width: Percent of the original width; of a key point only the dot's size on screen.
        height: Percent of the original height.
        rotation: Degrees clockwise around the first corner.
        points: x, y pairs in percent, a polygon's corners.
        rle: Brush RLE, left undecoded.
        touches: The strokes of a brush region in a draft.
    """

    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0.0
    points: list[tuple[float, float]] | None = None
    rle: msgspec.Raw = _NOTHING
    touches: list[Touch] | None = None
    labels: list[str] | None = None
    keypointlabels: list[str] | None = None
    rectanglelabels: list[str] | None = None
    brushlabels: list[str] | None = None
    polygonlabels: list[str] | None = None


class Region(msgspec.Struct, frozen=True):
    """One entry of a `result`.

    Attributes:
        is_positive: False for a click with Alt; missing on clicks that were saved in a draft and loaded again.
        item_index: Which image of a `valueList`, or None.
    """

    id: str
    type: str
    from_name: str
    to_name: str
    value: RegionValue
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None
    is_positive: bool | None = None
    item_index: int | None = None


class Context(msgspec.Struct, frozen=True):
    """What the annotator just did: every prompt so far of one kind and class, the newest last."""

    result: list[Region] = []


class Params(msgspec.Struct, frozen=True):
    """The part of a request that tells an interactive one from a batch."""

    context: Context | None = None


class Draft(msgspec.Struct, frozen=True):
    """What an annotator has on screen and has not submitted."""

    result: list[Region] = []
    updated_at: str = ""


class _AnyTask(msgspec.Struct, frozen=True):
    id: int | str | None = None
    data: dict[str, Any] = {}


class Task(_AnyTask, frozen=True):
    """One task. Drafts are only those of the annotator who clicks."""

    drafts: list[Draft] | None = None

    @property
    def number(self) -> int | None:
        """The id as a number; None where it is none."""
        if isinstance(self.id, str):
            return int(self.id) if self.id.isdecimal() and len(self.id) < 19 else None
        return self.id


class _AnyRequest(msgspec.Struct, frozen=True, kw_only=True):
    label_config: str = ""
    project: str | int | None = None
    params: Params | None = None


class PredictRequest(_AnyRequest, frozen=True, kw_only=True):
    """The body of `POST /predict`. `project` reads `<id>.<created>`."""

    tasks: list[Task]

    @property
    def project_id(self) -> str:
        """The project's number, in digits; empty where there is none, as outside of Label Studio."""
        number = str(self.project or "").partition(".")[0]
        return number if PROJECT_ID.fullmatch(number) else ""

    @property
    def is_click(self) -> bool:
        """Whether an annotator asks for masks; else a task was opened, or predictions are retrieved."""
        return self.context is not None and bool(self.context.result)

    @property
    def context(self) -> Context | None:
        """What the annotator just did; None in a batch, and when a task is opened."""
        return self.params.context if self.params is not None else None


def decode_predict_request(body: bytes) -> PredictRequest:
    """Read the body of `POST /predict`.

    Raises:
        BadJsonError: Not UTF-8, not JSON, too deep, or no object.
        BadRequestError: A field is missing or has the wrong type; the detail names it.
    """
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise BadJsonError("the body must be a JSON object")
    return _decode(body)


def predict_request(
    tasks: list[dict[str, Any]],
    label_config: str,
    project: str | int | None = None,
    context: dict[str, Any] | None = None,
) -> PredictRequest:
    """Make a request from plain objects, as label-studio-ml hands them over.

    Raises:
        BadRequestError: A field is missing or has the wrong type; the detail names it.
    """
    plain = {"tasks": tasks, "label_config": label_config, "project": project, "params": {"context": context}}
    try:
        body = msgspec.json.encode(plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequestError(f"the request cannot be written as JSON: {error}") from None
    return _decode(body)


def encode_answer(predictions: list[Any]) -> bytes:
    """Return the body that answers `POST /predict`: predictions with brush RLE as arrays of uint8 in them.

    Raises:
        TypeError: Something else in them is no plain value.
    """
    return msgspec.json.encode({"results": predictions}, enc_hook=lambda rle: msgspec.Raw(write_byte_list(_array(rle))))


def plain_answer(predictions: list[Any]) -> list[Any]:
    """Return the same predictions as plain objects, with brush RLE as lists, for another server's JSON.

    Raises:
        TypeError: Something else in them is no plain value.
    """
    plain: list[Any] = msgspec.to_builtins(predictions, enc_hook=lambda rle: _array(rle).tolist())
    return plain


def has_rle(region: Region) -> bool:
    """Return whether a region carries a brush RLE, without decoding it: a stroke of a draft has none."""
    return bytes(memoryview(region.value.rle)[:4]) != b"null"


def rle_digest(region: Region) -> bytes:
    """Return what a region's brush RLE is known by: equal digests, equal text.

    BLAKE2 takes some 0.7 ms for a megabyte; SHA-256 a third less where the processor has instructions for it, and twice
    as much where it has none.
    """
    return hashlib.blake2b(region.value.rle, digest_size=16).digest()


def decode_rle(region: Region) -> Iterator[NDArray[np.uint8]]:
    """Yield a region's brush RLE as numbers piece by piece, (N,) uint8; what is not asked for is not read.

    Args:
        region: One that `has_rle`.

    Raises:
        BadPromptError: It is no list of whole numbers 0..255.
    """
    try:
        yield from read_byte_list(bytes(region.value.rle))
    except ValueError:
        raise BadPromptError("a brush region's rle must be a list of whole numbers 0..255") from None


def newest_draft(task: Task) -> list[Region]:
    """Return the regions of the annotator's newest draft; none where nothing was saved yet.

    Regions of tags that have nothing to do with images are left out.
    """
    newest = max(task.drafts or [Draft()], key=lambda draft: draft.updated_at)
    return [region for region in newest.result if region.type in _GEOMETRIES]


def _array(rle: object) -> NDArray[np.uint8]:
    if not isinstance(rle, np.ndarray):
        raise TypeError(f"an answer takes plain values and brush RLE as arrays, got {type(rle).__name__}")
    return rle


_GEOMETRIES = frozenset(
    {
        "labels",
        "brush",
        "brushlabels",
        "keypoint",
        "keypointlabels",
        "polygon",
        "polygonlabels",
        "rectangle",
        "rectanglelabels",
    }
)


class _RawDraft(msgspec.Struct, frozen=True):
    """A draft in which not all reads as a region."""

    result: list[msgspec.Raw] = []
    updated_at: str = ""


class _RawTask(_AnyTask, frozen=True):
    drafts: msgspec.Raw = _NOTHING


class _RawRequest(_AnyRequest, frozen=True, kw_only=True):
    tasks: list[_RawTask]


def _decode(body: bytes) -> PredictRequest:
    """Read a request in one pass over its megabytes; in several only where something in a draft cannot be read.

    Regions that read otherwise than Label Studio writes them are left out: what else is in a draft must not keep a
    click from being answered.
    """
    try:
        return msgspec.json.decode(body, type=PredictRequest)
    except _UNREADABLE:
        pass
    try:
        raw = msgspec.json.decode(body, type=_RawRequest)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error)) from None
    except _UNREADABLE as error:
        raise BadJsonError(str(error)) from None
    tasks = [Task(task.id, task.data, _readable_drafts(task.drafts)) for task in raw.tasks]
    return PredictRequest(tasks=tasks, label_config=raw.label_config, project=raw.project, params=raw.params)


def _readable_drafts(raw: msgspec.Raw) -> list[Draft]:
    """Return the drafts with those of their regions that can be read."""
    try:
        drafts = msgspec.json.decode(raw, type=list[_RawDraft] | None)
    except _UNREADABLE:
        return []
    return [Draft([*_readable_regions(draft)], draft.updated_at) for draft in drafts or []]


def _readable_regions(draft: _RawDraft) -> Iterator[Region]:
    for raw in draft.result:
        try:
            yield msgspec.json.decode(raw, type=Region)
        except _UNREADABLE:
            continue
