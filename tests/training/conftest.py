"""Pictures enough to compose from, drawn on the spot."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from training.pictures import Pictures


def disc(color: tuple[int, int, int], side: int = 80) -> NDArray[np.uint8]:
    pixels = np.zeros((side, side, 4), np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side // 2 - 2, (*color, 255), -1)
    return pixels


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    backgrounds: list[NDArray[np.uint8]] = [np.full((90, 120, 3), shade, np.uint8) for shade in (40, 120, 200)]
    return Pictures(cutouts={"drawn": [disc((220, 30, 30)), disc((30, 200, 60))]}, backgrounds=backgrounds)


@pytest.fixture
def store(tmp_path: Path, pictures: Pictures) -> Path:
    """The same pictures on disk, in both splits."""
    entries = []
    for split in ("train", "held_out"):
        for number, cutout in enumerate(pictures.cutouts["drawn"]):
            path = f"cutouts/drawn/{split}-{number}.png"
            entries.append({"path": path, "kind": "cutout", "source": "drawn", "group": path, "split": split})
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / path), cv2.cvtColor(cutout, cv2.COLOR_RGBA2BGRA))
        path = f"backgrounds/drawn/{split}.jpg"
        entries.append({"path": path, "kind": "background", "source": "drawn", "group": path, "split": split})
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / path), pictures.backgrounds[0])
    (tmp_path / "index.json").write_text(json.dumps({"sources": [], "pictures": entries}))
    return tmp_path
