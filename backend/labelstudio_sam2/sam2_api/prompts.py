"""Prompts as this API's users write them become `Prompt` values. Pure."""

import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstudio_sam2.errors import BadPromptError, BadRequestError
from labelstudio_sam2.segmenter.prompt import MAX_COORDINATE, FloatArray, Prompt

MAX_PROMPTS = 256
"""In one request. Each is a prediction, and a mask in the answer."""

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def prompts_from(value: object) -> list[Prompt]:
    """Read prompts, leniently: numbers may be strings, truth may be 1 or "true", unknown keys are skipped.

    A prompt is `{"points": [{"x", "y", "positive"}, ...], "box": {"x", "y", "width", "height"}}`, both optional, in
    pixels of the original image. A box's x and y are its **center**. Prompts with boxes and prompts with points may
    stand side by side: each is a prediction of its own.

    Args:
        value: `{"prompts": [...]}`, a list of prompts, one prompt, or None. A `Prompt` may stand where a prompt may.

    Returns:
        One `Prompt` per prompt, in their order; a single empty one, for the most prominent object, where there is
        none.

    Raises:
        BadRequestError: A part has the wrong type or is missing; the message names the place.
        BadPromptError: A number is not finite or not one at all, or there are too many prompts or points; the message
            names the place.
    """
    if isinstance(value, Mapping) and "prompts" in value:
        value = value["prompts"]
    match value:
        case None:
            return [Prompt()]
        case Prompt() | Mapping():
            return [_prompt(value, "prompts")]
        case Sequence() if not isinstance(value, (str, bytes)):
            if len(value) > MAX_PROMPTS:
                raise BadPromptError(f"prompts takes at most {MAX_PROMPTS} prompts, got {len(value)}")
            return [_prompt(each, f"prompts[{index}]") for index, each in enumerate(value)] or [Prompt()]
        case _:
            raise BadRequestError(f"prompts must be a list of prompts or one prompt, got {_shown(value)}")


def prompt_from_points(point_coords: ArrayLike | None, point_labels: ArrayLike | None) -> Prompt:
    """Return the prompt of N clicks on one object; an empty one without any.

    Args:
        point_coords: (N, 2) xy in pixels of the original image, or None.
        point_labels: (N,) 1 for foreground and 0 for background, or None.

    Raises:
        BadPromptError: One is there without the other, or shapes or values are wrong.
    """
    if (point_coords is None) != (point_labels is None):
        raise BadPromptError("point_coords and point_labels go together: give both or none")
    if point_coords is None or point_labels is None:
        return Prompt()
    coords, labels = _numbers(point_coords, "point_coords"), _numbers(point_labels, "point_labels")
    if coords.size == 0 and labels.size == 0:
        return Prompt()
    if not np.isin(labels, (0, 1)).all():  # before the cast, which would make 0.5 a 0
        raise BadPromptError("point_labels must be 1 (foreground) or 0 (background)")
    if labels.ndim != 1:
        raise BadPromptError(f"point_labels must have shape (N,), got {labels.shape}")
    return Prompt(point_coords=coords.astype(np.float32), point_labels=labels.astype(np.int32))


def mask_inputs_from(value: ArrayLike, count: int) -> list[FloatArray]:
    """Return the mask input of each of `count` prompts, (1, M, M) float32 logits.

    Args:
        value: (M, M), (1, M, M) or (1, 1, M, M) for every prompt alike, (P, M, M) or (P, 1, M, M) for one each; lists
            too. What `segment_image` returned as low-res logits fits.
        count: P, the number of prompts.

    Raises:
        BadPromptError: Another shape, or something that is no number.
    """
    logits = _numbers(value, "mask_input")
    shape = logits.shape
    if logits.ndim == 2:
        logits = logits[None]
    if logits.ndim == 4 and shape[1] == 1:
        logits = logits[:, 0]
    if logits.ndim != 3 or logits.shape[1] != logits.shape[2] or len(logits) not in {1, count}:
        raise BadPromptError(
            f"mask_input must have shape (M, M), (1, M, M) or ({count}, M, M) for {count} prompts, got {shape}"
        )
    masks = logits.astype(np.float32)
    return [masks[:1] if len(masks) == 1 else masks[index : index + 1] for index in range(count)]


def _prompt(value: object, place: str) -> Prompt:
    if isinstance(value, Prompt):
        return value
    fields = _mapping(value, place)
    points = fields.get("points")
    if points is None:
        points = []
    if not isinstance(points, Sequence) or isinstance(points, (str, bytes)):
        raise BadRequestError(f"{place}.points must be a list, got {_shown(points)}")
    clicks = [_click(point, f"{place}.points[{index}]") for index, point in enumerate(points)]
    box = None if fields.get("box") is None else _box(fields["box"], f"{place}.box")
    try:
        return Prompt(
            point_coords=np.array([xy for xy, _ in clicks], np.float32).reshape(-1, 2),
            point_labels=np.array([label for _, label in clicks], np.int32),
            box=box,
        )
    except BadPromptError as error:
        raise BadPromptError(f"{place}: {error}") from None


def _click(value: object, place: str) -> tuple[tuple[float, float], int]:
    fields = _mapping(value, place)
    return (_number(fields, "x", place), _number(fields, "y", place)), int(_truth(fields, "positive", place))


def _box(value: object, place: str) -> FloatArray:
    """Return (4,) float32 xyxy of a box that is given by its center."""
    fields = _mapping(value, place)
    x, y, width, height = (_number(fields, name, place) for name in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        raise BadPromptError(f"{place} must not have a negative width or height")
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32)


def _mapping(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise BadRequestError(f"{place} must be an object, got {_shown(value)}")
    return value


def _number(fields: Mapping[str, object], name: str, place: str) -> float:
    value = _field(fields, name, place)
    try:
        number = float(value) if isinstance(value, (numbers.Real, str)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_COORDINATE:
        raise BadPromptError(f"{place}.{name} must be a number in pixels, got {_shown(value)}")
    return number


def _truth(fields: Mapping[str, object], name: str, place: str) -> bool:
    value = _field(fields, name, place)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Real) and value in {0, 1}:
        return value == 1
    text = value.lower() if isinstance(value, str) else ""
    if text not in _TRUE | _FALSE:
        raise BadPromptError(f"{place}.{name} must be true or false, got {_shown(value)}")
    return text in _TRUE


def _field(fields: Mapping[str, object], name: str, place: str) -> object:
    if name not in fields:
        raise BadRequestError(f"{place}.{name} is missing")
    return fields[name]


def _numbers(value: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadPromptError(f"{name} must be an array of numbers") from None
    if not (np.abs(array) <= MAX_COORDINATE).all():
        raise BadPromptError(f"{name} must be finite numbers")
    return array


def _shown(value: object) -> str:
    """Return what came, for a message: short, and never a text, which may hold anything."""
    is_short = value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64)
    return repr(value) if is_short else f"a {type(value).__name__}"
