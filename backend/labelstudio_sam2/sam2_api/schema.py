"""The bodies of this API's requests as types, and the answers it can be asked for.

Numbers and truths are read as leniently as the seed's server reads them; unknown fields are skipped. A message names
the field and what was wanted, and never shows what came: that may be a whole picture.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from labelstudio_sam2.errors import BadJsonError, BadRequestError
from labelstudio_sam2.sam2_api.masks import coco_rle, masks2multipoly
from labelstudio_sam2.segmenter.prompt import Segmentation

T = TypeVar("T")

FORMATS = ("json", "rle", "binary")
MAX_BINARY_BYTES = 2**29
"""Of full-size logits in one binary answer; they take four bytes per pixel and prompt."""

_LOGITS_LIMIT = 32.0
"""Low-res logits go out as SAM 2 clamps those that may come back as a mask input."""


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
        format: One of `FORMATS`.
        multimask_output: Whether to choose the best of three masks per prompt.
        save_logits_to_cache: Whether to remember the answer's logits for a later, longer prompt.
        load_logits_from_cache: Whether to start from what was remembered for a shorter prompt.
    """

    prompts: Any = None
    format: str = "json"
    multimask_output: bool = True
    save_logits_to_cache: bool = False
    load_logits_from_cache: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}")


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

    Above 0 is foreground. Each is the best of its prompt. The low-res ones are clamped to -32..32.

    Raises:
        BadRequestError: The masks would be larger than `MAX_BINARY_BYTES`.
    """
    height, width = segmentations[0].size_hw
    if 4 * height * width * len(segmentations) > MAX_BINARY_BYTES:
        raise BadRequestError(
            f"{len(segmentations)} masks of {width} x {height} pixels are too much for the format binary, "
            "ask for rle or json, or for fewer prompts at once"
        )
    low_res = np.stack([segmentation.low_res_logits[segmentation.best] for segmentation in segmentations])
    file = io.BytesIO()
    np.savez(
        file,
        masks=np.stack([segmentation.logits() for segmentation in segmentations]),
        low_res_masks=np.clip(low_res, -_LOGITS_LIMIT, _LOGITS_LIMIT),
    )
    return file.getvalue()
