from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from labelstudio_sam2.ops.recent_errors import MAX_KINDS, RecentErrors

Add = Callable[..., None]


@pytest.fixture
def errors(clock: Any) -> RecentErrors:
    return RecentErrors(clock)


@pytest.fixture
def add(errors: RecentErrors) -> Add:
    """Return a function that adds a `busy` of `POST /predict`; what differs goes in by name."""
    known = {"code": "busy", "reason": "Server is busy, try again", "method": "POST", "route": "/predict"}

    def add_one(**differing: Any) -> None:
        errors.add(**{**known, "status": 503, "request_id": "aaaa", **differing})

    return add_one


def test_the_newest_comes_first_with_its_text_its_time_and_its_request(
    errors: RecentErrors, add: Add, clock: Any
) -> None:
    add(request_id="aaaa")
    clock.now += 5
    add(code="loading", reason="Model is still loading", request_id="bbbb")

    newest, oldest = errors.newest_first()

    assert (newest.code, newest.reason, newest.last_at) == ("loading", "Model is still loading", 1005.0)
    assert (newest.method, newest.route, newest.status) == ("POST", "/predict", 503)
    assert newest.request_id == "bbbb"
    assert (oldest.code, oldest.last_at, oldest.request_id) == ("busy", 1000.0, "aaaa")


def test_what_comes_again_is_counted_and_becomes_the_newest(errors: RecentErrors, add: Add, clock: Any) -> None:
    add()
    add(code="loading")
    clock.now += 5
    add(request_id="cccc")

    newest, other = errors.newest_first()

    assert (newest.code, newest.times, newest.last_at, newest.request_id) == ("busy", 2, 1005.0, "cccc")
    assert (other.code, other.times) == ("loading", 1)


@pytest.mark.parametrize(
    "differing",
    [{"code": "x"}, {"reason": "x"}, {"method": "GET"}, {"route": "/sam2/segment_image"}, {"status": 500}],
)
def test_errors_that_differ_in_anything_lasting_are_of_two_kinds(
    errors: RecentErrors, add: Add, differing: dict[str, Any]
) -> None:
    add()
    add(**differing)

    assert [error.times for error in errors.newest_first()] == [1, 1]


def test_the_kind_that_came_last_the_longest_ago_goes_to_make_room(errors: RecentErrors, add: Add) -> None:
    for number in range(MAX_KINDS):
        add(route=f"/{number}")
    add(route="/0")
    add(route="/one-more")

    kept = [error.route for error in errors.newest_first()]

    assert len(kept) == MAX_KINDS
    assert kept[:2] == ["/one-more", "/0"]
    assert "/1" not in kept


def test_no_error_is_lost_between_threads(errors: RecentErrors, add: Add) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda _: add(), range(2000)):
            pass

    (error,) = errors.newest_first()
    assert error.times == 2000
