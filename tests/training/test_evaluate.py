import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from training.evaluate import MEASURES, PHOTOGRAPHS, Case, Measured, iou, main, measure, photograph_cases, with_grabcut
from typer import Typer
from typer.testing import CliRunner

from labelstudio_sam2.segmenter.prompt import FloatArray, Mask, Prompt


def block(top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((60, 80), bool)
    mask[top : top + height, left : left + width] = True
    return mask


TRUTH, OTHER = block(10, 10, 30, 20), block(10, 50, 30, 20)


def case(*, unwanted: Mask | None = OTHER) -> Case:
    image = np.full((60, 80, 3), 230, np.uint8)
    image[TRUTH], image[OTHER] = (200, 20, 20), (20, 20, 200)
    return Case(name="two blocks", image=image, truth=TRUTH, unwanted=unwanted, first_click=(20.0, 25.0))


class Knows:
    """Answers with the blocks that are asked for and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> tuple[Mask, FloatArray | None]:
        self.asked.append(prompt)
        mask = np.zeros_like(TRUTH)
        if prompt.box is not None or not len(prompt.point_labels):
            mask |= TRUTH
        for (x, y), label in zip(prompt.point_coords, prompt.point_labels, strict=True):
            for part in (TRUTH, OTHER):
                if label and part[int(y), int(x)]:
                    mask |= part
        return mask, np.zeros((1, 16, 16), np.float32)


def test_who_knows_the_truth_gets_full_marks() -> None:
    measured = Measured()

    measure(case(), Knows(), measured, 0)

    for name in ("click", "clicks_3", "clicks_3_logits", "box", "box_click", "refined", "negative"):
        assert measured.rows[name] == [1.0], name
    assert measured.rows["negative_raised"] == [0.0]
    rough = measured.rows["rough"][0]
    assert rough is not None
    assert 0.2 < rough < 1


def test_prompts_are_what_their_measure_says() -> None:
    knows = Knows()

    measure(case(), knows, Measured(), 0)

    click, second, third, second_back, third_back, box, box_click, both, negative, rough = knows.asked
    assert click.point_coords.tolist() == [[20, 25]]
    assert [len(prompt.point_labels) for prompt in (second, third, second_back, third_back)] == [2, 3, 2, 3]
    assert second.mask_input is None
    assert second_back.mask_input is not None
    assert box.box is not None
    assert box.box.tolist() == [10, 10, 30, 40]
    assert box_click.box is not None
    assert len(box_click.point_labels) == 1
    assert both.point_labels.tolist() == [1, 1]
    assert negative.point_labels.tolist() == [1, 0]
    assert rough.mask_input is not None
    assert len(rough.point_labels) == 0


def test_without_a_second_object_nothing_is_taken_away() -> None:
    measured = Measured()

    measure(case(unwanted=None), Knows(), measured, 0)

    assert measured.rows["negative"] == [None]
    assert measured.mean("negative") is None


def test_grabcut_finds_a_block_on_a_plain_ground() -> None:
    segments = with_grabcut(case().image)
    box = np.array([5, 5, 35, 45], np.float32)
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)

    mask, _ = segments(Prompt(point_coords=nothing[0], point_labels=nothing[1], box=box))

    assert iou(mask, TRUTH) > 0.95


def test_the_photographs_that_ship_are_whole() -> None:
    cases = list(photograph_cases(PHOTOGRAPHS))

    assert len(cases) >= 12
    assert len({case.name for case in cases}) == len(cases)
    for shown in cases:
        x, y = shown.first_click
        assert shown.truth.shape == shown.image.shape[:2]
        assert shown.truth[int(y), int(x)], shown.name
        assert shown.unwanted is None or not (shown.unwanted & shown.truth).any()


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    cv2.imwrite(str(folder / "blocks.png"), cv2.cvtColor(case().image, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "blocks.red.png"), TRUTH.astype(np.uint8) * 255)
    entry = {"photo": "blocks.png", "objects": [{"name": "red", "mask": "blocks.red.png", "click_xy": [20, 25]}]}
    (folder / "index.json").write_text(json.dumps([entry]))
    monkeypatch.setattr("training.evaluate.PHOTOGRAPHS", folder)
    return folder


def test_the_command_measures_nano_and_writes_table_and_pictures(
    store: Path, tmp_path: Path, photographs: Path
) -> None:
    app, output = Typer(), tmp_path / "evaluation"
    app.command()(main)

    arguments = ["--pictures", str(store), "--composites", "6", "--output", str(output)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert result.exit_code == 0
    table = (output / "table.md").read_text()
    assert "nano, 6 composites" in table
    assert "GrabCut, 1 photographs" in table
    report = json.loads((output / "report.json").read_text())
    assert report["photographs"]["nano"]["box"] > 0.8
    assert set(MEASURES) <= set(report["composites"]["GrabCut"])
    assert (output / "composites-nano-click.png").exists()
    assert (output / "photographs-nano-box.png").exists()
