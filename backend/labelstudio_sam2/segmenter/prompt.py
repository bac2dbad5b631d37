"""What is asked of SAM 2 and what comes back, as values."""

from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio_sam2.errors import BadPromptError

FloatArray: TypeAlias = NDArray[np.float32]
Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, upright."""
Mask: TypeAlias = NDArray[np.bool_]
"""(H, W) bool, in the original image's size."""

MAX_POINTS = 256
MAX_COORDINATE = 1e9
"""Beyond this nothing is a pixel any more, and float32 comes to its end."""
MASK_THRESHOLD = 0.0
"""Logits above this are foreground, as `SAM2ImagePredictor.mask_threshold`."""
LOGITS_LIMIT = 32.0
"""Low-res logits that may come back as a mask input lie between minus this and this: SAM 2 was trained with such, and
`SAM2ImagePredictor` clamps what it returns."""


def _no_points() -> FloatArray:
    return np.zeros((0, 2), np.float32)


def _no_labels() -> NDArray[np.int32]:
    return np.zeros((0,), np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One object to segment, in pixels of the original image; without any of these the most prominent one.

    N is the number of clicks. Arrays keep the names of `SAM2ImagePredictor.predict`. Pixel centers lie at half
    coordinates: (0, 0) is the outer corner of the top left pixel, (W, H) that of the bottom right one.

    Attributes:
        point_coords: (N, 2) float32, xy in pixels, unrounded, origin at the top left.
        point_labels: (N,) int32, 1 for foreground, 0 for background.
        box: (4,) float32, xyxy in pixels, or None.
        mask_input: (1, M, M) float32 logits over the whole image squeezed to a square, or None. A model resizes it to
            its own low resolution (256 for the official models).

    Raises:
        BadPromptError: Shapes disagree, a value is not finite, or there are more than `MAX_POINTS` points.
    """

    point_coords: FloatArray = field(default_factory=_no_points)
    point_labels: NDArray[np.int32] = field(default_factory=_no_labels)
    box: FloatArray | None = None
    mask_input: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.point_labels)
        if self.point_coords.shape != (n, 2):
            raise BadPromptError(
                f"point_coords must have shape ({n}, 2) to match point_labels, got {self.point_coords.shape}"
            )
        if n > MAX_POINTS:
            raise BadPromptError(f"a prompt takes at most {MAX_POINTS} points, got {n}")
        if not np.isin(self.point_labels, (0, 1)).all():
            raise BadPromptError("point_labels must be 1 (foreground) or 0 (background)")
        if self.box is not None and self.box.shape != (4,):
            raise BadPromptError(f"box must have shape (4,), got {self.box.shape}")
        if self.mask_input is not None and (
            self.mask_input.ndim != 3
            or self.mask_input.shape[0] != 1
            or self.mask_input.shape[1] != self.mask_input.shape[2]
        ):
            raise BadPromptError(f"mask_input must have shape (1, M, M), got {self.mask_input.shape}")
        arrays = (self.point_coords, self.box, self.mask_input)
        if not all(np.isfinite(array).all() for array in arrays if array is not None):
            raise BadPromptError("a prompt must be finite numbers")

    @property
    def is_ambiguous(self) -> bool:
        """Whether SAM 2 should choose among three masks: a lone click, or none, may mean the part or the whole."""
        return len(self.point_labels) <= 1 and self.box is None and self.mask_input is None


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What SAM 2 answers to one prompt.

    K is 3 where several masks were asked for and 1 otherwise; M is the model's low resolution (256 for the official
    models).

    Attributes:
        low_res_logits: (K, M, M) float32 logits over the whole image squeezed to a square, unclamped; `> 0` is
            foreground.
        scores: (K,) float32, the model's predicted IoU of each, 0..1.
        size_hw: (H, W) of the original image.
    """

    low_res_logits: FloatArray
    scores: FloatArray
    size_hw: tuple[int, int]

    @property
    def best(self) -> int:
        """Index of the mask with the highest score."""
        return int(np.argmax(self.scores))

    @property
    def score(self) -> float:
        """The best mask's predicted IoU, 0..1."""
        return float(self.scores[self.best])

    def logits(self, index: int | None = None) -> FloatArray:
        """Return one mask's logits in the original size, (H, W) float32; the best one's without an index.

        Bilinear with half-pixel centers, as `torch.nn.functional.interpolate(align_corners=False)`.
        """
        low_res = self.low_res_logits[self.best if index is None else index]
        height, width = self.size_hw
        resized: Any = cv2.resize(low_res, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)

    def mask(self, index: int | None = None) -> Mask:
        """Return one mask in the original size, (H, W) bool; the best one without an index.

        To the pixel `logits(index) > MASK_THRESHOLD`, but only as far as there is a mask: a part of the picture is
        resized and compared, and no logits of the picture's size are made.
        """
        low_res = self.low_res_logits[self.best if index is None else index]
        if min(self.size_hw) < 2 * len(low_res):  # a part that OpenCV rounds to its own size it would copy, not resize
            return self.logits(index) > MASK_THRESHOLD
        mask = np.zeros(self.size_hw, np.bool_)
        inside = low_res > MASK_THRESHOLD
        if inside.any():
            first_row, last_row = np.flatnonzero(inside.any(axis=1))[[0, -1]].tolist()
            first_column, last_column = np.flatnonzero(inside.any(axis=0))[[0, -1]].tolist()
            scale_y, scale_x = (length / len(low_res) for length in self.size_hw)
            # From the first row and column on: a part that begins elsewhere OpenCV would weigh a rounding error apart.
            resized: Any = cv2.resize(
                low_res[: last_row + 4, : last_column + 4],
                None,
                fx=scale_x,
                fy=scale_y,
                interpolation=cv2.INTER_LINEAR,
            )
            reached = _reached(first_row, last_row, scale_y), _reached(first_column, last_column, scale_x)
            logits = resized[: self.size_hw[0], : self.size_hw[1]][reached]
            np.greater(logits, MASK_THRESHOLD, out=mask[reached])
        return mask


def _reached(first: int, last: int, scale: float) -> slice:
    """Return the pixels, as rows or columns, that the low-res pixels `first` to `last` have a say in, and some more."""
    return slice(max(int((first - 1) * scale) - 1, 0), ceil((last + 2) * scale) + 1)
