"""Runs examples/sam2.py, what the seed document calls and the Python of docs/sam2-api.md, and measures their masks."""

import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-inference-sdk" / "bin" / "python"
PICTURE = ROOT / "examples" / "sam2" / "hand.png"
EVERY_CALL_OF_THE_SEED = """
import os

os.environ["API_KEY"] = "not needed here"
import numpy as np
import supervision as sv
from PIL import Image

from labelstudio_sam2 import SegmentAnything2, masks2poly

picture = "./examples/sam2/hand.png"
model = SegmentAnything2(model_id="nano")
embedding, size_hw, known_as = model.embed_image(picture)
whole, whole_low_res = model.segment_image(picture)
whole = whole >= model.predictor.mask_threshold
assert len(masks2poly(whole)) == 1
fist, fist_low_res = model.segment_image(picture, point_coords=[[250, 800]], point_labels=[0])
fist = fist >= model.predictor.mask_threshold

pixels = np.array(Image.open(picture).convert("RGB"))
for mask, file in ((whole, "sam.png"), (fist, "sam_negative_prompted.png")):
    found = sv.Detections(xyxy=np.array([[0, 0, 100, 100]]), mask=np.array([mask]))
    found.class_id = [index for index in range(len(found))]
    drawn = sv.MaskAnnotator().annotate(pixels.copy(), found)
    dot = sv.Detections(xyxy=np.array([[249, 799, 251, 801]]), class_id=np.array([1]))
    Image.fromarray(sv.DotAnnotator().annotate(drawn, dot)).save(file)
"""
"""What the seed document calls, in its order and with its arguments, in a script of our own."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def drawn() -> tuple[Pixels, dict[str, Mask]]:
    """The picture as its program draws it, and the truth about it."""
    draw_hand: Callable[[], Any] = runpy.run_path(str(ROOT / "examples" / "draw_hand.py"))["draw_hand"]
    image, masks = draw_hand()
    return image, masks


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the walk-through ran."""
    folder = tmp_path_factory.mktemp("walk-through")
    walk(folder, ROOT / "examples" / "sam2.py", "--model", "nano")
    return folder


def test_the_picture_is_the_one_that_its_program_draws(drawn: tuple[Pixels, dict[str, Mask]]) -> None:
    image, _ = drawn

    difference = np.abs(pixels(PICTURE).astype(int) - image)

    assert image.shape == (1000, 750, 3)
    assert (difference > 2).mean() < 0.001


def test_the_most_prominent_mask_is_the_fist_with_its_sleeve(
    walked: Path, drawn: tuple[Pixels, dict[str, Mask]], iou: Callable[[Mask, Mask], float]
) -> None:
    _, truth = drawn

    mask = tinted(walked / "sam.png")

    assert iou(mask, truth["fist"] | truth["sleeve"]) >= 0.93


def test_the_negative_point_leaves_the_fist_alone(
    walked: Path, drawn: tuple[Pixels, dict[str, Mask]], iou: Callable[[Mask, Mask], float]
) -> None:
    _, truth = drawn

    mask = tinted(walked / "sam_negative_prompted.png")

    mask[780:821, 230:271] = False  # the dot at (250, 800)
    assert iou(mask, truth["fist"]) >= 0.95
    assert mask[truth["sleeve"]].mean() <= 0.03


def test_the_negative_point_is_drawn_where_it_was_given(walked: Path) -> None:
    dot = tinted(walked / "sam_negative_prompted.png")[780:821, 230:271]

    rows, columns = np.nonzero(dot)

    assert (columns.mean() + 230, rows.mean() + 780) == pytest.approx((250, 800), abs=1)


@pytest.mark.parametrize("name", ["sam.png", "sam_negative_prompted.png"])
def test_the_pictures_in_the_documents_are_what_the_walk_through_draws(walked: Path, name: str) -> None:
    drawn_now, shown = pixels(walked / name), pixels(ROOT / "docs" / "images" / name)

    assert (np.abs(drawn_now.astype(int) - shown) > 8).any(axis=2).mean() < 0.01


def test_every_call_of_the_seed_document_works_as_it_shows(
    tmp_path: Path, drawn: tuple[Pixels, dict[str, Mask]], iou: Callable[[Mask, Mask], float]
) -> None:
    _, truth = drawn
    (tmp_path / "walkthrough.py").write_text(EVERY_CALL_OF_THE_SEED)
    (tmp_path / "examples" / "sam2").mkdir(parents=True)
    shutil.copy(PICTURE, tmp_path / "examples" / "sam2")

    walk(tmp_path, tmp_path / "walkthrough.py")

    whole, fist = tinted(tmp_path / "sam.png"), tinted(tmp_path / "sam_negative_prompted.png")
    fist[780:821, 230:271] = False  # the dot at (250, 800)
    assert iou(whole, truth["fist"] | truth["sleeve"]) >= 0.93
    assert iou(fist, truth["fist"]) >= 0.95


def test_the_python_in_the_document_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "docs" / "sam2-api.md").read_text().partition("## Python")[2].partition("## HTTP")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "document.py").write_text("\n".join(blocks).replace("sam2/hiera_small", "nano"))
    Image.open(PICTURE).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)

    names = runpy.run_path("document.py")

    assert len(blocks) == 4
    assert (names["height"], names["width"]) == names["mask"].shape == (1000, 750)
    assert names["masks"].shape == (2, 1000, 750)
    assert [len(names["scores"]), len(names["polygons"])] == [2, 2]
    assert names["outline"].shape[1] == 2


def walk(folder: Path, script: Path, *arguments: str) -> None:
    """Run a script in a folder with the Python that has supervision, a warning being an error."""
    if not PYTHON.exists():
        message = "supervision is not installed: make .venv-inference-sdk/installed"
        if os.environ.get("CI") == "true" or os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    command = [str(PYTHON), "-W", "error", str(script), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def pixels(path: Path) -> Pixels:
    return np.array(Image.open(path).convert("RGB"))


def tinted(path: Path) -> Mask:
    """Return where a drawing differs from the picture, (H, W) bool."""
    return np.asarray((pixels(path) != pixels(PICTURE)).any(axis=2))
