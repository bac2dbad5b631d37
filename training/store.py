"""The folder of pictures to train on: what gets in, in what size, and an index that says where it came from."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.original import Kind, Loader, Original, Source, draw

Bits: TypeAlias = NDArray[np.uint8]
Split: TypeAlias = Literal["train", "held_out"]

CUTOUT_SIDE = 224
BACKGROUND_SIDE = 640
SMALLEST_SIDE = 64
HELD_OUT_SHARE = 0.1
RECTANGLE_SHARE = 1 / 8
"""Of the cut-outs that fill their box, so many stay: there are books and boxes in the world, but not only those."""
DUPLICATE_BITS = 8
"""Pictures of one source whose fingerprints differ in no more bits than this are near-duplicates."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One entry of the index: a file of the store and what is known about it."""

    path: str
    kind: Kind
    source: str
    group: str
    split: Split
    author: str
    source_sha256: str


class Store:
    """Pictures in a folder, with `index.json` beside them.

    Args:
        folder: Holds `cutouts/`, `backgrounds/` and the index; it need not exist.
        never: SHA-256 of files that must not get in, and that leave if they are in.
    """

    def __init__(self, folder: Path, *, never: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self.sources: list[dict[str, str]] = []
        self.pictures: list[dict[str, str]] = []
        self._never = never
        self._index = folder / "index.json"
        if self._index.exists():
            content = json.loads(self._index.read_text())
            self.sources = content["sources"]
            self.pictures = [picture for picture in content["pictures"] if picture["source_sha256"] not in never]

    def holds(self, source: Source) -> bool:
        """Whether a source was added before, completely."""
        return any(known["name"] == source.name for known in self.sources)

    def add(self, source: Source, loaders: Iterable[Loader], *, version: str) -> Counter[str]:
        """Write the good pictures of one source, then the index; a run that is cut short leaves the old index.

        Returns:
            How many were "kept", and for each fault how many were not.
        """
        outcome: Counter[str] = Counter()
        pictures: list[Picture] = []
        seen = _Fingerprints()
        for load in loaders:
            original = load()
            prepared = self._prepare(original)
            if original is None or isinstance(prepared, str):
                outcome[str(prepared)] += 1
            elif not seen.add(fingerprint(prepared)):
                outcome["duplicate"] += 1
            else:
                pictures.append(self._write(source, original, prepared))
                outcome["kept"] += 1
        described = {name: value for name, value in asdict(source).items() if name != "extract"}
        self.sources = [known for known in self.sources if known["name"] != source.name]
        self.sources.append(described | {"version": version})
        self.pictures = [known for known in self.pictures if known["source"] != source.name]
        self.pictures += [asdict(picture) for picture in pictures]
        self.save()
        return outcome

    def save(self) -> None:
        """Write the index, all at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self._index.with_suffix(".new")
        new.write_text(json.dumps({"sources": self.sources, "pictures": self.pictures}, indent=1) + "\n")
        new.replace(self._index)

    def _prepare(self, original: Original | None) -> Image.Image | str:
        if original is None:
            return "unreadable"
        if original.sha256 in self._never:
            return "kept for evaluation"
        if original.kind == "background":
            picture = original.image.copy()
            picture.thumbnail((BACKGROUND_SIDE, BACKGROUND_SIDE), Image.Resampling.LANCZOS)
            return picture
        cutout = trim(original.image)
        if isinstance(cutout, str):
            return cutout
        fault = find_fault(cutout)
        if fault == "rectangle" and draw(original.id) < RECTANGLE_SHARE:
            return cutout
        return fault or cutout

    def _write(self, source: Source, original: Original, image: Image.Image) -> Picture:
        folder, suffix = ("cutouts", ".png") if original.kind == "cutout" else ("backgrounds", ".jpg")
        path = Path(folder, source.name, original.id + suffix)
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target, quality=90)
        return Picture(
            path=path.as_posix(),
            kind=original.kind,
            source=source.name,
            group=original.group,
            split=split_of(original.group),
            author=original.author or source.author,
            source_sha256=original.sha256,
        )


def split_of(group: str) -> Split:
    """Hold out a tenth of the groups, the same ones on every machine and in every run."""
    return "held_out" if draw(group) < HELD_OUT_SHARE else "train"


# --- what is a good cut-out


def trim(image: Image.Image) -> Image.Image | str:
    """Crop an RGBA picture to its object and scale it down to `CUTOUT_SIDE`; else say that it is "empty" or "small"."""
    alpha = np.asarray(image.getchannel("A")) > 8
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not len(rows):
        return "empty"
    cropped = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    longer = max(cropped.size)
    if longer < SMALLEST_SIDE:
        return "small"
    if longer <= CUTOUT_SIDE:
        return cropped
    width, height = (max(1, round(side * CUTOUT_SIDE / longer)) for side in cropped.size)
    return cropped.resize((width, height), Image.Resampling.LANCZOS)  # Pillow premultiplies alpha for this


def find_fault(cutout: Image.Image) -> str | None:
    """Name what makes a trimmed cut-out a poor object to learn from, None for a good one.

    "thin": less than 12 % of its box. "wash": mostly see-through. "rectangle": fills its box. "strokes": vanishes when
    opened with a disc of a twentieth of its length. "scattered": its largest part is less than 70 % of it.
    """
    alpha = np.asarray(cutout.getchannel("A"))
    inside = (alpha > 127).astype(np.uint8)
    area = int(inside.sum())
    width, height = cutout.size
    if area < 0.12 * alpha.size or min(width, height) < 0.15 * max(width, height):
        return "thin"
    if alpha[alpha > 8].mean() < 0.7 * 255:
        return "wash"
    if area > 0.97 * alpha.size:
        return "rectangle"
    side = max(3, round(0.05 * max(width, height)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    if int(cv2.morphologyEx(np.pad(inside, side), cv2.MORPH_OPEN, disc).sum()) < 0.6 * area:
        return "strokes"
    parts = cv2.connectedComponentsWithStats(inside, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return "scattered" if parts.max() < 0.7 * area else None


# --- near-duplicates


def fingerprint(image: Image.Image) -> Bits:
    """Compress what a picture looks like to (16,) uint8: is each of 8 x 8 fields darker than its neighbours?"""
    flat = Image.new("RGB", image.size, (127, 127, 127))
    flat.paste(image, mask=image if image.mode == "RGBA" else None)
    grey = np.asarray(flat.convert("L").resize((9, 9), Image.Resampling.BOX), np.int16)
    to_the_right, below = grey[:8, 1:] > grey[:8, :8] + 1, grey[1:, :8] > grey[:8, :8] + 1
    return np.packbits(np.concatenate([to_the_right.ravel(), below.ravel()]))


class _Fingerprints:
    """Those of the pictures kept so far; looking one up takes time in proportion to their number."""

    _BIT_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)

    def __init__(self) -> None:
        self._known: Bits = np.zeros((0, 16), np.uint8)

    def add(self, bits: Bits) -> bool:
        """Remember a fingerprint; False, and not remembered, if there is one like it."""
        if len(self._known) and self._BIT_COUNTS[self._known ^ bits].sum(axis=1).min() <= DUPLICATE_BITS:
            return False
        self._known = np.concatenate([self._known, bits[None]])
        return True
