import json
from pathlib import Path

import numpy as np
from benchmarks.clicks import agreement, click_body, existing_regions, mask_in, places
from benchmarks.pictures import PictureFile, disc_files, ragged, scene_file
from benchmarks.plain import answer
from PIL import Image

from labelstudio_sam2.images.decode import ImageLimits, read_size
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle
from labelstudio_sam2.labelstudio.wire import decode_predict_request, newest_draft

PICTURE = PictureFile("scene.jpg", (200, 100))


def test_a_click_reads_as_label_studio_writes_it() -> None:
    request = decode_predict_request(click_body(PICTURE, (12.5, 50)))

    assert request.context is not None
    (region,) = request.context.result
    assert (region.type, region.value.x, region.value.y, region.is_positive) == ("keypointlabels", 12.5, 50, True)
    assert (region.original_width, region.original_height) == (200, 100)


def test_existing_regions_are_in_the_draft_and_leave_the_left_tenth_free() -> None:
    regions = existing_regions(3, (400, 200))
    request = decode_predict_request(click_body(PICTURE, (3, 50), existing=regions))

    assert [region.id for region in newest_draft(request.tasks[0])] == ["region0000", "region0001", "region0002"]
    for region in regions:
        mask = decode_brush_rle(region["value"]["rle"], (200, 400))
        assert mask.any()
        assert not mask[:, :40].any()


def test_a_hundred_regions_in_full_hd_make_a_body_of_some_four_megabytes() -> None:
    regions = existing_regions(2, (1920, 1080))

    assert 3.5e6 < 50 * len(json.dumps(regions)) < 5e6


def test_places_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    assert places(2, seed=1) == places(2, seed=1)
    assert places(2, seed=1) != places(2, seed=2)
    assert all(20 <= percent <= 80 for place in places(50, seed=0) for percent in place)


def test_the_mask_of_an_answer_is_read_back() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 4:7] = True

    assert agreement(mask_in(answer(mask, 0.5, ["Cat"]), (8, 6)), mask) == 1


def test_an_answer_without_a_region_is_an_empty_mask() -> None:
    assert not mask_in(b'{"results": [{"result": []}]}', (8, 6)).any()


def test_agreement_is_intersection_over_union() -> None:
    one, other = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    one[0, :3], other[0, 1:] = True, True

    assert agreement(one, other) == 2 / 4
    assert agreement(one & False, other & False) == 1


def test_a_scene_is_drawn_once_in_the_size_it_says(tmp_path: Path) -> None:
    picture = scene_file(tmp_path, (300, 200))
    drawn_at = (tmp_path / picture.name).stat().st_mtime_ns

    assert scene_file(tmp_path, (300, 200)) == picture
    assert (tmp_path / picture.name).stat().st_mtime_ns == drawn_at
    limits = ImageLimits(max_bytes=10**6, max_pixels=10**6)
    assert read_size((tmp_path / picture.name).read_bytes(), limits) == (200, 300)
    assert picture.megapixels == 0.06


def test_a_disc_lies_where_it_is_said_to(tmp_path: Path) -> None:
    for picture, (x, y) in disc_files(tmp_path, 4):
        with Image.open(tmp_path / picture.name) as file:
            image = np.array(file)

        assert image[int(y * 4.8), int(x * 6.4)].tolist() != image[5, 5].tolist()


def test_a_ragged_mask_has_many_parts_and_is_the_same_again() -> None:
    mask = ragged((60, 80), seed=0)

    assert 0.1 < mask.mean() < 0.9
    np.testing.assert_array_equal(mask, ragged((60, 80), seed=0))
