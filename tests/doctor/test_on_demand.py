import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labelstudio_sam2.doctor.findings import Finding, ok
from labelstudio_sam2.doctor.on_demand import Examinations
from labelstudio_sam2.errors import UrlRefusedError

Until = Callable[[Callable[[], object]], None]


def ended(examinations: Examinations) -> bool:
    return examinations.last is not None and not examinations.last.is_running


def names(examinations: Examinations) -> list[str]:
    assert examinations.last is not None
    return [finding.name for finding in examinations.last.findings]


def test_nothing_is_examined_before_somebody_asks(until: Until) -> None:
    begun = threading.Event()

    def examine() -> Iterator[Finding]:
        begun.set()
        yield ok("settings", "fine")

    examinations = Examinations(examine, now=lambda: 1700.0)

    assert examinations.last is None
    assert not begun.is_set()
    examinations.begin()
    until(lambda: ended(examinations))
    assert names(examinations) == ["settings"]
    assert examinations.last is not None
    assert (examinations.last.began_at, examinations.last.is_cut) == (1700.0, False)


def test_what_is_found_is_there_while_it_goes_on_and_nobody_begins_a_second_one(until: Until) -> None:
    go_on, begun = threading.Event(), []

    def examine() -> Iterator[Finding]:
        begun.append(1)
        yield ok("settings", "fine")
        assert go_on.wait(10)
        yield ok("token", "fine")

    examinations = Examinations(examine)
    examinations.begin()
    until(lambda: names(examinations) == ["settings"])
    for _ in range(5):
        examinations.begin()

    assert not ended(examinations)
    go_on.set()
    until(lambda: ended(examinations))
    assert names(examinations) == ["settings", "token"]
    assert len(begun) == 1


def test_another_one_takes_the_place_of_the_last(until: Until) -> None:
    found = iter(["first", "second"])
    examinations = Examinations(lambda: iter([ok(next(found), "fine")]))

    for name in ("first", "second"):
        examinations.begin()
        until(lambda: ended(examinations))
        assert names(examinations) == [name]


def test_after_its_time_no_further_check_is_begun(clock: Any, until: Until) -> None:
    def examine() -> Iterator[Finding]:
        yield ok("settings", "fine")
        clock.now += 61
        yield ok("token", "fine")
        yield ok("projects", "fine")

    examinations = Examinations(examine, seconds=60, clock=clock)
    examinations.begin()
    until(lambda: ended(examinations))

    assert names(examinations) == ["settings", "token"]
    assert examinations.last is not None
    assert examinations.last.is_cut


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (ValueError("LABEL_STUDIO_URL: no address"), "settings", "LABEL_STUDIO_URL: no address."),
        (UrlRefusedError("the address is malformed"), "settings", "The address is malformed."),
        (ZeroDivisionError("secret of the house"), "doctor", "It ended with a bug."),
    ],
)
def test_one_that_breaks_says_so_and_the_next_can_begin(error: Exception, name: str, text: str, until: Until) -> None:
    def examine() -> Iterator[Finding]:
        yield ok("weights", "fine")
        raise error

    examinations = Examinations(examine)
    for _ in range(2):
        examinations.begin()
        until(lambda: ended(examinations))

    assert examinations.last is not None
    fine, broken = examinations.last.findings
    assert fine.name == "weights"
    assert (broken.name, broken.outcome, broken.text) == (name, "problem", text)
