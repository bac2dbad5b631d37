"""The `segment` command: one picture, one object, from a shell."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from labelstudio_sam2.errors import BadPromptError, BadRequestError, PromptOutsideError
from labelstudio_sam2.overlay import draw_overlay
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.masks import masks2multipoly
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.prompt import MAX_COORDINATE, FloatArray, Image, Mask, Prompt, Segmentation
from labelstudio_sam2.settings import Settings

OVERLAY_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files to write; each may be left out.

    Attributes:
        mask: PNG, one channel: 255 where the object is, else 0.
        overlay: The picture with the mask and the prompt drawn onto it.
        polygons: JSON: the picture's width and height, the score, and the outer outline of each part of the mask.

    Raises:
        BadRequestError: A file has the wrong suffix, its folder is not there, or two are the same file.
    """

    mask: Path | None = None
    overlay: Path | None = None
    polygons: Path | None = None

    def __post_init__(self) -> None:
        _check_file(self.mask, "--out", (".png",))
        _check_file(self.overlay, "--overlay", OVERLAY_SUFFIXES)
        _check_file(self.polygons, "--polygons", (".json",))
        named: dict[Path, str] = {}
        for option, path in self._by_option().items():
            if path.resolve() in named:
                raise BadRequestError(f"{named[path.resolve()]} and {option} name the same file: {path}")
            named[path.resolve()] = option

    def spare(self, picture: str) -> None:
        """Make sure that the picture is not overwritten.

        Args:
            picture: A path or a web address, as `segment_picture` takes it.

        Raises:
            BadRequestError: One of the files is the picture.
        """
        for option, path in self._by_option().items():
            if path.resolve() == Path(picture).resolve():
                raise BadRequestError(f"{option}: {path} is the picture itself and would be overwritten")

    def paths(self) -> list[Path]:
        """Return the files that are wanted."""
        return list(self._by_option().values())

    def _by_option(self) -> dict[str, Path]:
        every = {"--out": self.mask, "--overlay": self.overlay, "--polygons": self.polygons}
        return {option: path for option, path in every.items() if path is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was found.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright: where it was looked for.
        prompt: What was asked, in its pixels.
        mask: (H, W) bool.
        score: The predicted IoU, 0..1.
    """

    image: Image
    prompt: Prompt
    mask: Mask
    score: float

    def summary(self) -> str:
        """Return score, area and box in three lines for people."""
        height, width = self.mask.shape
        area, ys, xs = int(self.mask.sum()), *np.nonzero(self.mask)
        box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}" if area else "none, nothing was found"
        share = f"{100 * area / self.mask.size:.1f} % of {width} x {height}"
        return f"score  {self.score:.3f}\narea   {area} pixels, {share}\nbox    {box}"

    def write(self, outputs: Outputs) -> list[Path]:
        """Write the files and return their paths.

        Raises:
            OSError: One cannot be written.
        """
        if outputs.mask is not None:
            PillowImage.fromarray(self.mask.astype(np.uint8) * np.uint8(255)).save(outputs.mask)
        if outputs.overlay is not None:
            PillowImage.fromarray(draw_overlay(self.image, self.mask, self.prompt)).save(outputs.overlay)
        if outputs.polygons is not None:
            outputs.polygons.write_text(json.dumps(self._polygons()) + "\n", encoding="utf-8")
        return outputs.paths()

    def _polygons(self) -> dict[str, object]:
        height, width = self.mask.shape
        polygons = [polygon.astype(int).tolist() for polygon in masks2multipoly(self.mask)[0] if len(polygon)]
        return {"width": width, "height": height, "score": round(self.score, 6), "polygons": polygons}


def prompt_of(points: Sequence[str], negatives: Sequence[str], box: str | None) -> Prompt:
    """Return the prompt that the options spell.

    Args:
        points: `x,y` each, on the object.
        negatives: `x,y` each, beside the object.
        box: `x0,y0,x1,y1`: left, top, right, bottom.

    Raises:
        BadPromptError: One is not that; the message names the option.
    """
    coords = [_numbers(text, "--point", "x,y") for text in points]
    coords += [_numbers(text, "--negative", "x,y") for text in negatives]
    corners = None if box is None else _numbers(box, "--box", "x0,y0,x1,y1")
    if corners is not None and not (corners[:2] < corners[2:]).all():
        raise BadPromptError(f"--box: left,top,right,bottom is wanted, left < right and top < bottom, got {box!r}")
    return Prompt(
        point_coords=np.array(coords, np.float32).reshape(-1, 2),
        point_labels=np.array([1] * len(points) + [0] * len(negatives), np.int32),
        box=corners,
    )


def segment_picture(picture: str, prompt: Prompt, settings: Settings) -> Found:
    """Find the prompted object in a picture; without a prompt the most prominent one. Slow: loads the model.

    Negative points alone are taken away from the most prominent object.

    Args:
        picture: A path or a web address.
        prompt: In pixels of the upright picture.
        settings: Say which model, from where and on which device; which private hosts may be asked, beside every
            public one; and the largest picture.

    Raises:
        PromptOutsideError: The prompt lies outside the picture.
        BackendError: The picture or the model cannot be had; the message says why.
        SettingsError: `ALLOWED_IMAGE_HOSTS` is malformed.
        ValueError: The settings name no model that is known.
    """
    inputs = ImageInputs.local(
        allowed_image_hosts=("*", *settings.allowed_image_hosts),
        max_image_mb=settings.max_image_mb,
        max_image_megapixels=settings.max_image_megapixels,
    )
    image = inputs.picture(picture).load()
    prompt = _inside(prompt, image.shape[:2])
    segmentation = _segment(_load_model(settings), image, prompt)
    return Found(image=image, prompt=prompt, mask=segmentation.mask(), score=segmentation.score)


def _load_model(settings: Settings) -> SegmentAnything2:
    # What goes wrong is raised, and printed once: without a handler Python would print the log's line too.
    logging.getLogger("labelstudio_sam2").addHandler(logging.NullHandler())
    return SegmentAnything2(
        settings.model,
        model_config_file=settings.model_config_file,
        weights_dir=settings.weights_dir,
        device=settings.device,
        precision=settings.precision,
    )


def _segment(model: SegmentAnything2, image: Image, prompt: Prompt) -> Segmentation:
    pillow_image = PillowImage.fromarray(image)
    if len(prompt.point_labels) and not prompt.point_labels.any() and prompt.box is None:
        _, (prominent,) = model.segment(pillow_image, prompts=[Prompt()])
        prompt = replace(prompt, mask_input=prominent.low_res_logits[prominent.best][None])
        multimask_output = True  # as the seed's walk-through, whose next step this is
    else:
        multimask_output = prompt.is_ambiguous
    _, (segmentation,) = model.segment(pillow_image, prompts=[prompt], multimask_output=multimask_output)
    return segmentation


def _inside(prompt: Prompt, size_hw: tuple[int, ...]) -> Prompt:
    """Return the prompt with its box cut to the picture.

    Raises:
        PromptOutsideError: A point, or the whole box, lies outside.
    """
    height, width = size_hw
    for x, y in prompt.point_coords:
        if not (0 <= x <= width and 0 <= y <= height):
            raise PromptOutsideError(f"the point {x:g},{y:g} lies outside the picture of {width} x {height} pixels")
    if prompt.box is None:
        return prompt
    box = np.clip(prompt.box, 0, np.array([width, height, width, height], np.float32))
    if not (box[:2] < box[2:]).all():
        corners = ",".join(f"{number:g}" for number in prompt.box)
        raise PromptOutsideError(f"the box {corners} lies outside the picture of {width} x {height} pixels")
    return replace(prompt, box=box)


def _numbers(text: str, option: str, wanted: str) -> FloatArray:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(wanted.split(",")) or not all(abs(number) <= MAX_COORDINATE for number in numbers):
        raise BadPromptError(f"{option}: {wanted} is wanted, numbers in pixels, got {text!r}")
    return np.array(numbers, np.float32)


def _check_file(path: Path | None, option: str, suffixes: tuple[str, ...]) -> None:
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise BadRequestError(f"{option}: the file's name must end in {' or '.join(suffixes)}, got {path.name}")
    if not path.parent.is_dir():
        raise BadRequestError(f"{option}: there is no folder {path.parent}")
