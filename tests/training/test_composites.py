from pathlib import Path

import numpy as np
import pytest
from training.composites import compose
from training.pictures import Pictures


@pytest.mark.parametrize("easy", [True, False])
def test_every_object_is_there_to_be_seen_and_no_pixel_belongs_to_two(pictures: Pictures, *, easy: bool) -> None:
    for number in range(30):
        composite = compose(pictures, np.random.default_rng(number), 96, easy=easy)

        assert composite.image.shape == (96, 96, 3)
        assert composite.image.dtype == np.uint8
        assert len(composite.masks) >= 1
        assert composite.masks.sum(axis=(1, 2)).min() >= 0.0025 * 96 * 96
        assert composite.masks.sum(axis=0).max() <= 1


def test_a_generator_names_a_composite_for_good(pictures: Pictures) -> None:
    first, again, other = (compose(pictures, np.random.default_rng(seed), 96) for seed in (5, 5, 6))

    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)


def test_the_mask_lies_on_the_object(pictures: Pictures) -> None:
    """Red discs alone on gray: what the mask covers must be redder than what it does not."""
    red = Pictures(cutouts={"drawn": pictures.cutouts["drawn"][:1]}, backgrounds=[])
    redder = []
    for number in range(40):
        composite = compose(red, np.random.default_rng(number), 96, easy=True)
        covered = composite.masks.any(axis=0)
        redness = composite.image[..., 0].astype(float) - composite.image[..., 1:].mean(axis=2)
        redder.append(redness[covered].mean() > redness[~covered].mean())

    assert np.mean(redder) > 0.8  # some objects are drawn shapes of any color


def test_what_is_held_out_is_never_read_for_training(store: Path) -> None:
    train, held_out = (Pictures.load(store, split) for split in ("train", "held_out"))

    assert len(train.cutouts["drawn"]) == len(held_out.cutouts["drawn"]) == 2
    assert len(train.backgrounds) == len(held_out.backgrounds) == 1


def test_cutouts_are_read_as_rgba(store: Path, pictures: Pictures) -> None:
    read = Pictures.load(store, "train").cutouts["drawn"][0]

    np.testing.assert_array_equal(read, pictures.cutouts["drawn"][0])
