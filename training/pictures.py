"""The cut-outs and backgrounds on disk, in memory: what composites are made of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8Array = NDArray[np.uint8]
Split = Literal["train", "held_out"]

SOURCE_WEIGHTS = {"sweethome3d-furniture": 2.0, "fluent-emoji-3d": 2.0, "openclipart": 1.5}
"""How much oftener than others a source's cut-outs are taken: shaded and varied ones look most like photographs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """The pictures of one split.

    Attributes:
        cutouts: By source, each a list of (h, w, 4) uint8 RGBA, not premultiplied, cropped to what is visible.
        backgrounds: (h, w, 3) uint8 RGB.
    """

    cutouts: dict[str, list[Uint8Array]]
    backgrounds: list[Uint8Array]

    @classmethod
    def load(cls, folder: Path, split: Split) -> Self:
        """Read one split of what `python -m training.sources` has written. About 700 MB and a minute.

        Raises:
            FileNotFoundError: There is no store in the folder.
        """
        index = json.loads((folder / "index.json").read_text())
        cutouts: dict[str, list[Uint8Array]] = {}
        backgrounds: list[Uint8Array] = []
        for entry in sorted(index["pictures"], key=lambda entry: str(entry["path"])):
            if entry["split"] != split:
                continue
            if entry["kind"] == "cutout":
                cutouts.setdefault(entry["source"], []).append(_read(folder / entry["path"], "RGBA"))
            else:
                backgrounds.append(_read(folder / entry["path"], "RGB"))
        return cls(cutouts=cutouts, backgrounds=backgrounds)

    @property
    def sources(self) -> tuple[Sequence[str], NDArray[np.float64]]:
        """The names of the cut-outs' sources and the probability with which each is taken."""
        names = list(self.cutouts)
        weights = np.array([SOURCE_WEIGHTS.get(name, 1.0) * np.sqrt(len(self.cutouts[name])) for name in names])
        return names, weights / weights.sum()


def _read(path: Path, mode: Literal["RGB", "RGBA"]) -> Uint8Array:
    pixels: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if mode == "RGBA" else cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise FileNotFoundError(f"{path} is in the index but cannot be read; run `python -m training.sources` again")
    if mode == "RGBA":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return np.asarray(pixels, np.uint8)
