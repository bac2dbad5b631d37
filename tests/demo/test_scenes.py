from itertools import combinations

import numpy as np
import pytest

from labelstudio_sam2.demo.scenes import Scene, draw_coins, draw_scenes


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return draw_scenes()


def test_the_pictures_differ_in_size_and_none_is_square(scenes: list[Scene]) -> None:
    sizes_hw = [scene.image.shape[:2] for scene in scenes]

    assert sizes_hw == [(600, 800), (480, 640), (768, 1024), (800, 600)]


def test_every_object_has_its_own_pixels(scenes: list[Scene]) -> None:
    for scene in scenes:
        for one, other in combinations(scene.masks.values(), 2):
            assert not (one & other).any()


def test_a_mask_covers_what_was_drawn(scenes: list[Scene]) -> None:
    fruit = scenes[0]

    apple = fruit.image[fruit.masks["apple"]].mean(axis=0)

    assert apple[0] > 2 * apple[1]  # red, the wall behind it is blue
    assert fruit.masks["apple"][352, 360]  # row, column of its center
    assert fruit.masks["apple"].sum() == pytest.approx(np.pi * 88 * 83, rel=0.1)


def test_a_coin_is_a_disc_of_its_radius() -> None:
    gold = draw_coins().masks["gold"]

    assert gold.sum() == pytest.approx(np.pi * 120**2, rel=0.001)
    assert gold[230, 240]
    assert not gold[230, 240 + 121]


def test_the_same_pixels_are_drawn_each_time() -> None:
    np.testing.assert_array_equal(draw_coins().image, draw_coins().image)
