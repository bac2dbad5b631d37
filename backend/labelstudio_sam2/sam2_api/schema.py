"""The bodies of this API's requests as types, and the answers it can be asked for.

Numbers and truths are read as leniently as the seed's server reads them; unknown fields are skipped. A message names
the field and what was wanted, and never shows what came: that may be a whole picture.
"""

import io
import itertools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from labelstudio_sam2.errors import BadJsonError, BadRequestError
from labelstudio_sam2.sam2_api.masks import coco_rle, masks2multipoly
from labelstudio_sam2.sam2_api.prompts import prompt_from_points, prompts_from
from labelstudio_sam2.segmenter.prompt import LOGITS_LIMIT, FloatArray, Prompt, Segmentation

T = TypeVar("T")

FORMATS = ("json", "rle", "binary")
MAX_BINARY_BYTES = 2**27
"""Of full-size logits in one binary answer, which is held in memory; they take four bytes per pixel and prompt."""
MAX_MASK_PIXELS = 2**28
"""Of all masks of one answer together, in the other formats; they are made one after the other."""


class Request(msgspec.Struct, frozen=True):
    """What every request may carry.

    Attributes:
        api_key: Compared only where the operator has set one.
    """

    api_key: str | None = None


class ModelRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /model/add` and `POST /model/remove`."""

    model_id: str


class EmbedRequest(Request, frozen=True):
    """The body of `POST /sam2/embed_image`.

    Attributes:
        image: `{"type": "base64" or "url", "value": ...}`.
        image_id: Names the picture in later requests, which may then leave it out.
        sam2_version_id: The model, such as `hiera_large`; unset is the served one.
        model_id: The same, such as `sam2/hiera_large`, for requests without `sam2_version_id`.
    """

    image: Any = None
    image_id: str | None = None
    sam2_version_id: str | msgspec.UnsetType = msgspec.UNSET
    model_id: str | None = None

    @property
    def model(self) -> str | None:
        """The model that is asked for, or None for the served one."""
        return self.model_id if self.sam2_version_id is msgspec.UNSET else self.sam2_version_id

    @property
    def picture(self) -> Mapping[str, object] | None:
        """The picture as `ImageInputs.picture` takes it, or None where only the id names one.

        Raises:
            BadRequestError: It is neither; a text is not taken either, which might be meant as a path.
        """
        if self.image is not None and not isinstance(self.image, dict):
            raise BadRequestError("image must be one object with type and value; send a request per picture")
        return self.image


class SegmentRequest(EmbedRequest, frozen=True):
    """The body of `POST /sam2/segment_image`.

    Attributes:
        prompts: As `prompts_from` reads them.
        point_coords: The one prompt of the seed's own server, as `prompt_from_points` reads it, instead of `prompts`.
        point_labels: Goes with it.
        format: One of `FORMATS`.
        multimask_output: Whether to choose the best of three masks per prompt.
        save_logits_to_cache: Whether to remember the answer's logits for a later, longer prompt.
        load_logits_from_cache: Whether to start from what was remembered for a shorter prompt.
    """

    prompts: Any = None
    point_coords: Any = None
    point_labels: Any = None
    format: str = "json"
    multimask_output: bool = True
    save_logits_to_cache: bool = False
    load_logits_from_cache: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}")

    @property
    def one_or_more_prompts(self) -> list[Prompt]:
        """The prompts, whichever way they came.

        Raises:
            BadRequestError: They came both ways; otherwise as `prompts_from`.
            BadPromptError: As `prompts_from` and `prompt_from_points`.
        """
        if self.point_coords is None and self.point_labels is None:
            return prompts_from(self.prompts)
        if self.prompts is not None:
            raise BadRequestError("give prompts, or point_coords and point_labels, not both")
        return [prompt_from_points(self.point_coords, self.point_labels)]


def decode(body: bytes, wanted: type[T]) -> T:
    """Read a request's body.

    Raises:
        BadJsonError: Not UTF-8, not JSON, too deep, or no object.
        BadRequestError: A field is missing or has the wrong type; the detail names it.
    """
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise BadJsonError("the body must be a JSON object")
    try:
        return msgspec.json.decode(body, type=wanted, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJsonError(str(error)) from None


def check_size(size_hw: tuple[int, int], count: int, answer_format: str) -> None:
    """Do nothing if `count` masks of (H, W) pixels can be answered in this format.

    Raises:
        BadRequestError: They are over `MAX_BINARY_BYTES`, or `MAX_MASK_PIXELS`.
    """
    height, width = size_hw
    pixels = height * width * count
    too_much = f"{count} masks of {width} x {height} pixels are too much for one answer"
    if answer_format == "binary" and 4 * pixels > MAX_BINARY_BYTES:
        raise BadRequestError(f"{too_much} in the format binary, ask for rle or json, or for fewer prompts at once")
    if pixels > MAX_MASK_PIXELS and count > 1:
        raise BadRequestError(f"{too_much}, ask for fewer prompts at once")


def predictions(segmentations: Sequence[Segmentation], answer_format: str) -> list[dict[str, Any]]:
    """Return each prompt's best mask and its score, for a JSON answer.

    The masks are outer contours with whole-numbered corners, so holes are filled, or COCO's compressed run lengths.

    Args:
        segmentations: One per prompt.
        answer_format: `json` or `rle`.
    """
    answers = []
    for segmentation in segmentations:
        mask = segmentation.mask()
        if answer_format == "rle":
            answers.append({"masks": coco_rle(mask), "confidence": segmentation.score, "format": "rle"})
        else:
            (polygons,) = masks2multipoly(mask[None])
            corners = [polygon.astype(int).tolist() for polygon in polygons]
            answers.append({"masks": corners, "confidence": segmentation.score, "format": "polygon"})
    return answers


def npz(segmentations: Sequence[Segmentation]) -> bytes:
    """Return logits as a file for `numpy.load`: masks (P, H, W) and low_res_masks (P, M, M), float32.

    Above 0 is foreground. Each is the best of its prompt. The low-res ones are clamped to -32..32. Needs the memory of
    the answer and of one mask; `check_size` first.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        _write_npy(archive, "masks", len(segmentations), (each.logits() for each in segmentations))
        low_res = (each.low_res_logits[each.best] for each in segmentations)
        clamped = (np.clip(logits, -LOGITS_LIMIT, LOGITS_LIMIT) for logits in low_res)
        _write_npy(archive, "low_res_masks", len(segmentations), clamped)
    return file.getvalue()  # shares the file's memory


def _write_npy(archive: zipfile.ZipFile, name: str, count: int, arrays: Iterator[FloatArray]) -> None:
    """Write `count` arrays of one shape as a single one, without having more than one at a time."""
    first = next(arrays)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *first.shape)}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for array in itertools.chain([first], arrays):
            member.write(np.ascontiguousarray(array, "<f4").data)
