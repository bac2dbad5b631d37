"""The plain code and ours answer alike: a benchmark of a wrong answer is worth nothing."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.clicks import agreement, click_body, existing_regions, mask_in, never_seen
from benchmarks.contenders import Contenders, build_contenders
from benchmarks.crowd import Crowd, Question, ask_together, pauses
from benchmarks.pictures import disc_files, scene_file

from labelstudio_sam2.errors import ImageUnavailableError
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle
from labelstudio_sam2.segmenter import sam2_model

SIZE_WH = (480, 270)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def contenders(folder: Path) -> Contenders:
    return build_contenders("nano", folder, "cpu")


@pytest.mark.parametrize("number", range(3))
def test_both_find_the_same_disc_under_a_click(contenders: Contenders, folder: Path, number: int) -> None:
    picture, center = disc_files(folder, 3)[number]
    body = click_body(picture, center)

    plain, ours = (mask_in(click(body), picture.size_wh) for click in (contenders.plain.click, contenders.ours.click))

    x, y = int(center[0] / 100 * picture.size_wh[0]), int(center[1] / 100 * picture.size_wh[1])
    assert plain[y, x]
    assert agreement(plain, ours) >= 0.99


def test_both_answer_alike_on_a_scene(
    contenders: Contenders, folder: Path, resize_floats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ours resizes bytes, as fine textures show (docs/adr/0009); all else is the same
    monkeypatch.setattr(sam2_model, "_resize", resize_floats)
    contenders.ours.forget()
    body = click_body(scene_file(folder, SIZE_WH), (40, 60))

    plain, ours = (mask_in(click(body), SIZE_WH) for click in (contenders.plain.click, contenders.ours.click))

    assert plain.any()
    assert agreement(plain, ours) >= 0.99
    contenders.ours.forget()


def test_only_a_pictures_first_click_embeds_it(contenders: Contenders, folder: Path) -> None:
    body = click_body(scene_file(folder, SIZE_WH), (40, 60))
    contenders.ours.forget()

    first, second = contenders.our_click(body), contenders.our_click(body)

    assert first.answer != b""
    assert first.stages.encoder.wall > 0
    assert second.stages.encoder.wall == 0
    assert contenders.plain_click(body).stages.encoder.wall > 0


def test_a_new_version_of_an_address_is_asked_for_again(contenders: Contenders, folder: Path) -> None:
    picture = scene_file(folder, (320, 200))
    contenders.ours.click(click_body(picture, (50, 50), version=1))
    (folder / picture.name).rename(folder / "elsewhere.jpg")

    contenders.ours.click(click_body(picture, (50, 50), version=1))
    with pytest.raises(RuntimeError, match="our backend answered"):
        contenders.ours.click(click_body(picture, (50, 50), version=2))


def test_regions_never_seen_before_are_the_same_masks_in_another_text() -> None:
    (drawn,) = existing_regions(1, SIZE_WH)
    (one,), (other,) = never_seen([drawn], 1), never_seen([drawn], 2)

    assert one["value"]["rle"] != other["value"]["rle"]
    for region in (one, other):
        np.testing.assert_array_equal(
            decode_brush_rle(region["value"]["rle"], (270, 480)), decode_brush_rle(drawn["value"]["rle"], (270, 480))
        )


def test_existing_regions_do_not_change_a_click_beside_them(contenders: Contenders, folder: Path) -> None:
    picture = scene_file(folder, SIZE_WH)
    regions = existing_regions(4, SIZE_WH)
    alone, crowded = click_body(picture, (3, 50)), click_body(picture, (3, 50), existing=regions)

    for click in (contenders.plain.click, contenders.ours.click):
        assert agreement(mask_in(click(alone), SIZE_WH), mask_in(click(crowded), SIZE_WH)) == 1


def test_a_crowds_answers_are_counted_as_right_wrong_or_failed(contenders: Contenders, folder: Path) -> None:
    (first, first_center), (second, second_center) = disc_files(folder, 2)
    bodies = [click_body(first, first_center), click_body(second, second_center)]
    answers = [contenders.plain.click(body) for body in bodies]
    ask = [Question(body=body, size_wh=(640, 480), right_answer=answers[0]) for body in (*bodies, b"")]
    crowd = Crowd()

    def click(body: bytes) -> bytes:
        if not body:
            raise ImageUnavailableError("nothing there")
        return answers[bodies.index(body)]

    ask_together(click, [ask, ask], crowd)

    assert (crowd.asked, crowd.wrong, crowd.failed) == (6, 2, 2)
    assert crowd.share_wrong == 4 / 6
    assert len(crowd.seconds) == 6


def test_annotators_who_think_pause_before_each_click_and_do_not_count_it() -> None:
    ask = [Question(body=b"click", size_wh=(640, 480), right_answer=b"mask")] * 2
    crowd = Crowd()
    started = time.perf_counter()

    ask_together(lambda _: b"mask", [ask], crowd, [[0.1, 0.2]])

    assert sum(crowd.seconds) + 0.3 <= time.perf_counter() - started
    assert (crowd.asked, crowd.wrong, crowd.failed) == (2, 0, 0)


def test_pauses_are_of_the_mean_that_was_asked_for_and_the_same_in_every_run() -> None:
    drawn = pauses(16, 100, mean_seconds=0.5, seed=3)

    assert [len(own) for own in drawn] == [100] * 16
    assert 0.45 < np.mean(drawn) < 0.55
    assert drawn == pauses(16, 100, mean_seconds=0.5, seed=3)
