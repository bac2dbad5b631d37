"""Training samples by index: a composite, its objects, and what a simulated annotator asks first.

An index names a sample for good, whatever process makes it, so a resumed training sees what an unbroken one would.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from training.composites import Mask, Uint8Array, compose
from training.pictures import Pictures
from training.prompts import MOST_POINTS, PADDING, PromptKind, first_prompt

PROMPTS_PER_IMAGE = 4
"""The encoder's work on an image serves as many prompts."""

_KINDS: dict[PromptKind, float] = {
    "click": 0.28,
    "box": 0.3,
    "box_click": 0.07,
    "clicks": 0.06,
    "click_negative": 0.1,
    "mask": 0.07,
    "edit": 0.09,
    "nothing": 0.03,
}
_KINDS_EASY: dict[PromptKind, float] = {"click": 0.4, "box": 0.2, "clicks": 0.1, "mask": 0.3}
"""At first a rough mask is often given: what it asks for is the easiest to learn."""


@dataclass(frozen=True, kw_only=True)
class Samples(Dataset[dict[str, torch.Tensor]]):
    """Samples of one stage. P is `PROMPTS_PER_IMAGE`, N `MOST_POINTS`, S the size.

    A sample is a dict of:
        image: (3, S, S) uint8 RGB.
        truth: (P, S/2, S/2) uint8, 0 or 1, each prompt's object.
        points: (P, N, 2) float32 xy in pixels of S, padded.
        labels: (P, N) int64, SAM's labels, padded with -1.
        mask_input: (P, S/4, S/4) float32 logits, zeros where there is none.
        has_mask: (P,) bool.
        scene: (2, S/4, S/4) uint8: any object's inside, any object's border.
    """

    pictures: Pictures
    size: int
    seed: int
    first: int
    count: int
    easy: bool

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, self.first + index])
        composite = compose(self.pictures, rng, self.size, easy=self.easy)
        kinds = _KINDS_EASY if self.easy else _KINDS
        quarter, half = self.size // 4, self.size // 2
        points = np.zeros((PROMPTS_PER_IMAGE, MOST_POINTS, 2), np.float32)
        labels = np.full((PROMPTS_PER_IMAGE, MOST_POINTS), PADDING, np.int64)
        mask_input = np.zeros((PROMPTS_PER_IMAGE, quarter, quarter), np.float32)
        has_mask = np.zeros(PROMPTS_PER_IMAGE, bool)
        truth = np.zeros((PROMPTS_PER_IMAGE, half, half), np.uint8)
        every = composite.masks.any(axis=0)
        order = rng.permutation(len(composite.masks))
        for slot in range(PROMPTS_PER_IMAGE):
            kind = list(kinds)[rng.choice(len(kinds), p=list(kinds.values()))]
            chosen = int(composite.masks.sum(axis=(1, 2)).argmax()) if kind == "nothing" else order[slot % len(order)]
            wanted = composite.masks[chosen]
            prompt = first_prompt(kind, wanted, every & ~wanted, rng, quarter)
            points[slot, : len(prompt.labels)] = prompt.points
            labels[slot, : len(prompt.labels)] = prompt.labels
            if prompt.mask_input is not None:
                mask_input[slot], has_mask[slot] = prompt.mask_input, True
            truth[slot] = _shrink(wanted, half)
        return {
            "image": torch.from_numpy(composite.image.transpose(2, 0, 1).copy()),
            "truth": torch.from_numpy(truth),
            "points": torch.from_numpy(points),
            "labels": torch.from_numpy(labels),
            "mask_input": torch.from_numpy(mask_input),
            "has_mask": torch.from_numpy(has_mask),
            "scene": torch.from_numpy(_scene(composite.masks, quarter)),
        }


def _shrink(mask: Mask, size: int, least_share: float = 0.5) -> Uint8Array:
    share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return (np.asarray(share) >= least_share).astype(np.uint8)


def _scene(masks: Mask, size: int) -> Uint8Array:
    number = np.zeros(masks.shape[1:], np.uint8)
    for index, mask in enumerate(masks, start=1):
        number[mask] = index
    kernel = np.ones((3, 3), np.uint8)
    border = cv2.dilate(number, kernel) != cv2.erode(number, kernel)
    return np.stack([_shrink(number > 0, size), _shrink(border, size, 0.25)])
