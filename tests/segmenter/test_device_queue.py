import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.segmenter.device_queue import DeviceQueue


def test_one_thread_at_a_time_has_the_device() -> None:
    queue = DeviceQueue(max_waiting=100, wait_seconds=10)
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with queue.turn():
            inside += 1
            most = max(most, inside)
            inside -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(500)))

    assert most == 1


def test_who_comes_when_too_many_wait_is_refused_at_once() -> None:
    queue = DeviceQueue(max_waiting=1, wait_seconds=10)
    with ThreadPoolExecutor(1) as threads:
        with queue.turn():
            waiting = threads.submit(_take, queue)
            _until(lambda: queue.waiting == 1)

            with pytest.raises(BusyError, match="1 requests already wait"):
                _take(queue)

        assert waiting.result(5)


def test_who_waits_too_long_gives_up() -> None:
    queue = DeviceQueue(max_waiting=5, wait_seconds=0.05)

    with queue.turn(), pytest.raises(BusyError, match="did not come free"):
        _take(queue)

    assert queue.waiting == 0


def test_an_error_on_the_device_gives_it_back() -> None:
    queue = DeviceQueue(max_waiting=5, wait_seconds=1)
    with pytest.raises(ZeroDivisionError), queue.turn():
        raise ZeroDivisionError

    assert _take(queue)


def _take(queue: DeviceQueue) -> bool:
    with queue.turn():
        return True


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came true")
