import pytest

from labelstudio_sam2.status import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.0004, "0.4 ms"),
        (0.00949, "9.5 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.46, "1.5 s"),
        (42.3, "42 s"),
    ],
)
def test_how_long_something_took(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.001, "1 ms"), (0.0025, "2.5 ms"), (0.25, "250 ms"), (1, "1 s"), (2.5, "2.5 s"), (60, "60 s")],
)
def test_the_bound_of_a_bucket_is_not_rounded(seconds: float, text: str) -> None:
    assert units.bound(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-0.2, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_how_long_ago_something_was(seconds: float, text: str) -> None:
    assert units.age(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 MiB"), (400_000, "0.4 MiB"), (8 * 2**20, "8.0 MiB"), (24 * 2**20, "24 MiB"), (20 * 2**30, "20,480 MiB")],
)
def test_sizes_are_mebibytes(nbytes: float, text: str) -> None:
    assert units.mebibytes(nbytes) == text


def test_moments_are_in_utc() -> None:
    assert units.moment(1_700_000_000.9) == "2023-11-14 22:13:20 UTC"


def test_thousands_are_told_apart() -> None:
    assert units.count(12_345.0) == "12,345"
