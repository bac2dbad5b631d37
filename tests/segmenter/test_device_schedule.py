import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from labelstudio_sam2.errors import BusyError, DeviceLostError
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule, Urgency
from labelstudio_sam2.stages import listening, stage


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def wait_for(
    threads: ThreadPoolExecutor, until: Callable[[Callable[[], object]], None]
) -> Callable[[DeviceSchedule, Urgency, Callable[[], object]], Future[None]]:
    """Return a function that lets a thread ask for the device, and returns when it waits."""

    def start(schedule: DeviceSchedule, urgency: Urgency, work: Callable[[], object]) -> Future[None]:
        before = schedule.waiting

        def take() -> None:
            with schedule.turn(lambda: urgency):
                work()

        turn = threads.submit(take)
        until(lambda: schedule.waiting == before + 1)
        return turn

    return start


def test_one_thread_at_a_time_has_the_device(threads: ThreadPoolExecutor) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10)
    inside, most = 0, 0

    def work(number: int) -> None:
        nonlocal inside, most
        with schedule.turn(lambda: Urgency(number % 3)) as step_aside:
            for _ in range(3):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0003)
                inside -= 1
                step_aside()

    list(threads.map(work, range(300)))

    assert (most, schedule.waiting) == (1, 0)


def test_who_comes_when_too_many_wait_is_refused_at_once(threads: ThreadPoolExecutor, until: Any) -> None:
    schedule = DeviceSchedule(max_waiting=1, wait_seconds=10)
    with schedule.turn(_predict):
        waiting = threads.submit(_take, schedule)
        until(lambda: schedule.waiting == 1)

        with pytest.raises(BusyError, match="1 requests already wait"):
            _take(schedule)

    assert waiting.result(5)


def test_who_waits_too_long_gives_up() -> None:
    schedule = DeviceSchedule(max_waiting=5, wait_seconds=0.05)

    with schedule.turn(_predict), pytest.raises(BusyError, match="did not come free"):
        _take(schedule)

    assert schedule.waiting == 0
    assert _take(schedule)


def test_an_error_on_the_device_gives_it_back() -> None:
    schedule = DeviceSchedule(max_waiting=5, wait_seconds=1)
    with pytest.raises(ZeroDivisionError), schedule.turn(_predict):
        raise ZeroDivisionError

    assert _take(schedule)


def test_the_most_urgent_goes_first_and_of_equals_the_first_to_come(threads: ThreadPoolExecutor, wait_for: Any) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10)
    order: list[str] = []
    with schedule.turn(_predict):
        turns = [
            wait_for(schedule, urgency, partial(order.append, name))
            for urgency, name in [
                (Urgency.PREFETCH, "ahead"),
                (Urgency.EMBED, "picture 1"),
                (Urgency.PREDICT, "click 1"),
                (Urgency.EMBED, "picture 2"),
                (Urgency.PREDICT, "click 2"),
            ]
        ]
    for turn in turns:
        turn.result(5)

    assert order == ["click 1", "click 2", "picture 1", "picture 2", "ahead"]


def test_what_is_clicked_on_while_it_waits_becomes_as_urgent_as_a_click_on_it(
    threads: ThreadPoolExecutor, until: Any, wait_for: Any
) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10)
    order: list[str] = []
    urgency = Urgency.PREFETCH

    def ahead() -> None:
        with schedule.turn(lambda: urgency):
            order.append("ahead")

    with schedule.turn(_predict):
        first = threads.submit(ahead)
        until(lambda: schedule.waiting == 1)
        second = wait_for(schedule, Urgency.EMBED, lambda: order.append("another"))
        urgency = Urgency.EMBED
    first.result(5)
    second.result(5)

    assert order == ["ahead", "another"]


def test_long_work_steps_aside_for_the_more_urgent_only(threads: ThreadPoolExecutor, wait_for: Any) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10)
    order: list[str] = []
    with schedule.turn(lambda: Urgency.EMBED) as step_aside:
        step_aside()
        other = wait_for(schedule, Urgency.EMBED, lambda: order.append("another picture"))
        click = wait_for(schedule, Urgency.PREDICT, lambda: order.append("click"))
        order.append("half of it")
        step_aside()
        order.append("the other half")
    click.result(5)
    other.result(5)

    assert order == ["half of it", "click", "the other half", "another picture"]


def test_a_picture_that_was_begun_lets_one_click_go_first_at_a_time(threads: ThreadPoolExecutor, wait_for: Any) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10)
    order: list[str] = []
    with schedule.turn(lambda: Urgency.EMBED) as step_aside:
        clicks = [wait_for(schedule, Urgency.PREDICT, partial(order.append, name)) for name in ("click 1", "click 2")]
        for part in ("first part", "second part", "third part"):
            order.append(part)
            step_aside()
    for click in clicks:
        click.result(5)

    assert order == ["first part", "click 1", "second part", "click 2", "third part"]


def test_a_picture_is_not_interrupted_by_another_however_long_that_waited(
    threads: ThreadPoolExecutor, wait_for: Any
) -> None:
    now = 0.0
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10, patience_seconds=5, clock=lambda: now)
    order: list[str] = []
    with schedule.turn(lambda: Urgency.EMBED) as step_aside:
        other = wait_for(schedule, Urgency.EMBED, partial(order.append, "another picture"))
        now = 30.0
        order.append("half of it")
        step_aside()
        order.append("a half more")
        click = wait_for(schedule, Urgency.PREDICT, partial(order.append, "click"))
        step_aside()
        order.append("the end")
    click.result(5)
    other.result(5)

    assert order == ["half of it", "a half more", "click", "the end", "another picture"]


def test_prefetch_waits_for_as_long_as_it_takes_and_takes_nobodys_place(
    threads: ThreadPoolExecutor, wait_for: Any
) -> None:
    schedule = DeviceSchedule(max_waiting=1, wait_seconds=0.2)
    order: list[str] = []
    with schedule.turn(_predict):
        ahead = wait_for(schedule, Urgency.PREFETCH, partial(order.append, "ahead"))
        click = wait_for(schedule, Urgency.PREDICT, partial(order.append, "click"))
        with pytest.raises(BusyError):
            click.result(5)
    ahead.result(5)

    assert order == ["ahead"]


def test_an_interrupted_thread_leaves_no_turn_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = DeviceSchedule(max_waiting=5, wait_seconds=1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with schedule.turn(_predict), monkeypatch.context() as interrupted:
        interrupted.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _take(schedule)

    assert schedule.waiting == 0
    assert _take(schedule)


def test_who_stepped_aside_and_waits_too_long_gives_up_without_the_device(
    threads: ThreadPoolExecutor, wait_for: Any
) -> None:
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=0.1)
    leave = threading.Event()
    with schedule.turn(lambda: Urgency.EMBED) as step_aside:
        click = wait_for(schedule, Urgency.PREDICT, leave.wait)
        with pytest.raises(BusyError):
            step_aside()
    leave.set()
    click.result(5)

    assert _take(schedule)


def test_a_picture_does_not_wait_behind_clicks_for_ever_but_prefetch_does(
    threads: ThreadPoolExecutor, wait_for: Any
) -> None:
    now = 0.0
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10, patience_seconds=5, clock=lambda: now)
    order: list[str] = []
    with schedule.turn(_predict):
        turns = [
            wait_for(schedule, Urgency.PREFETCH, lambda: order.append("ahead")),
            wait_for(schedule, Urgency.EMBED, lambda: order.append("picture")),
        ]
        now = 5.0
        turns.append(wait_for(schedule, Urgency.PREDICT, lambda: order.append("click")))
    for turn in turns:
        turn.result(5)

    assert order == ["picture", "click", "ahead"]


def _predict() -> Urgency:
    return Urgency.PREDICT


def _take(schedule: DeviceSchedule) -> bool:
    with schedule.turn(_predict):
        return True


def test_it_tells_who_waits_by_urgency_as_it_is_now(wait_for: Any) -> None:
    schedule = DeviceSchedule(max_waiting=9, wait_seconds=10)
    with schedule.turn(_predict):
        turns = [wait_for(schedule, each, lambda: None) for each in (Urgency.EMBED, Urgency.PREDICT, Urgency.PREDICT)]
        busy = schedule.waiting_by_urgency()

    for turn in turns:
        turn.result(5)
    assert busy == {Urgency.PREDICT: 2, Urgency.EMBED: 1, Urgency.PREFETCH: 0}
    assert schedule.waiting_by_urgency() == dict.fromkeys(Urgency, 0)


def test_waiting_for_the_device_is_a_stage_of_its_own_also_in_the_middle_of_an_embedding(wait_for: Any) -> None:
    schedule = DeviceSchedule(max_waiting=9, wait_seconds=10)

    with listening() as times, schedule.turn(lambda: Urgency.EMBED) as step_aside, stage("embed"):
        click = wait_for(schedule, Urgency.PREDICT, lambda: time.sleep(0.2))
        before = times.seconds["queue"]
        step_aside()
        after = times.seconds["queue"]

    click.result(5)
    assert after - before >= 0.1
    assert list(times.seconds) == ["queue", "embed"]


def test_a_lost_device_is_given_to_nobody_also_not_to_those_who_wait(
    threads: ThreadPoolExecutor, wait_for: Any
) -> None:
    reasons: list[str] = []
    schedule = DeviceSchedule(max_waiting=100, wait_seconds=10, on_lost=reasons.append)
    with schedule.turn(lambda: Urgency.EMBED):
        waiting = [wait_for(schedule, urgency, lambda: None) for urgency in Urgency]
        schedule.lose("CUDA error: unspecified launch failure")
        schedule.lose("CUDA error: what came of it")

    for refused in (*waiting, threads.submit(schedule.check)):
        with pytest.raises(DeviceLostError, match="unspecified launch failure"):
            refused.result(10)
    with pytest.raises(DeviceLostError), schedule.turn(lambda: Urgency.PREDICT):
        pass
    assert schedule.is_lost
    assert schedule.waiting == 0
    assert reasons == ["CUDA error: unspecified launch failure"]
