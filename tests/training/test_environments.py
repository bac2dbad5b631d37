import numpy as np
import pytest
from numpy.typing import NDArray
from training.environments import perspective, repair_sun, tone_map


def sphere_with_a_dot(*, longitude: float, latitude: float) -> NDArray[np.uint8]:
    """Draw 360 x 180 pixels, one a degree, black but for 9 x 9 pixels."""
    sphere = np.zeros((180, 360, 3), np.uint8)
    row, column = round(90 - latitude), round(longitude + 180)
    rows, columns = np.arange(row - 4, row + 5), np.arange(column - 4, column + 5) % 360
    sphere[rows[:, None], columns] = 255
    return sphere


@pytest.mark.parametrize(
    ("yaw", "pitch", "longitude", "latitude"),
    [(180, 0, 0, 0), (270, 0, 90, 0), (0, 0, 180, 0), (180, 30, 0, 30), (225, -45, 45, -45)],
)
def test_what_lies_in_the_direction_of_the_view_is_in_its_middle(
    yaw: float, pitch: float, longitude: float, latitude: float
) -> None:
    sphere = sphere_with_a_dot(longitude=longitude, latitude=latitude)

    view = perspective(sphere, yaw=yaw, pitch=pitch, size_wh=(80, 60))

    rows, columns = np.nonzero(view[..., 0] > 128)
    assert (columns.mean(), rows.mean()) == pytest.approx((39.5, 29.5), abs=1.5)


def test_what_lies_to_the_right_is_on_the_right_and_what_lies_above_is_above() -> None:
    sphere = sphere_with_a_dot(longitude=20, latitude=15)

    view = perspective(sphere, yaw=180, pitch=0, size_wh=(80, 60))

    rows, columns = np.nonzero(view[..., 0] > 128)
    assert columns.mean() > 45
    assert rows.mean() < 25


def test_the_sun_becomes_white_and_the_order_of_brightness_stays() -> None:
    light = np.array([0.01, 0.1, 1, 10, 60000], np.float32)[None, :, None].repeat(3, axis=2)

    row = tone_map(light)[0, :, 0]

    assert row[-1] == 255
    assert (np.diff(row.astype(int)) > 0).all()


def test_the_blue_block_that_compression_makes_of_the_sun_becomes_white_and_the_sky_stays() -> None:
    light = np.full((20, 30, 3), (0.2, 0.4, 0.9), np.float32)
    light[8:10, 12:14] = 0
    light[8:10, 12:14, 2] = [[180, -960], [211, -8]]

    repaired = repair_sun(light)

    assert (repaired[8:10, 12:14] > 1000).all()
    np.testing.assert_array_equal(repaired[0, 0], light[0, 0])
