import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from labelstudio_sam2.errors import BusyError, ImageUnavailableError
from labelstudio_sam2.single_flight import SingleFlight


def test_equal_work_at_the_same_time_is_done_once() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    runs, everybody_is_here = [], threading.Barrier(10)

    def work() -> int:
        threading.Event().wait(0.2)
        runs.append(1)
        return 7

    def ask(_: int) -> int:
        everybody_is_here.wait(5)
        return flights.do("picture", work, timeout_seconds=5)

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(ask, range(10)))

    assert answers == [7] * 10
    assert len(runs) == 1


def test_work_of_another_key_does_not_wait() -> None:
    flights: SingleFlight[str, str] = SingleFlight()

    def outer() -> str:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(flights.do, "b", lambda: "b is done", timeout_seconds=1).result(5)

    assert flights.do("a", outer, timeout_seconds=1) == "b is done"


def test_a_failure_reaches_who_asked_and_is_not_remembered() -> None:
    flights: SingleFlight[str, int] = SingleFlight()

    def fail() -> int:
        raise ImageUnavailableError("down")

    with pytest.raises(ImageUnavailableError):
        flights.do("picture", fail, timeout_seconds=1)

    assert flights.do("picture", lambda: 7, timeout_seconds=1) == 7


def test_who_follows_gives_up_at_its_own_deadline() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    begun, release = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        release.wait(5)
        return 7

    with ThreadPoolExecutor(1) as thread:
        leader = thread.submit(flights.do, "picture", slow, timeout_seconds=5)
        begun.wait(5)
        with pytest.raises(BusyError):
            flights.do("picture", lambda: 8, timeout_seconds=0.05)
        release.set()

        assert leader.result(5) == 7
