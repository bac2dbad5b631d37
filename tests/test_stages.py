"""Who listens learns which stage took how long; who does not is not slowed down."""

import threading
from collections.abc import Iterator

import pytest

from labelstudio_sam2.stages import StageTimes, listening, stage


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_stage_inside_another_stops_the_others_clock(clock: Clock) -> None:
    times = StageTimes(clock)

    for seconds, following in [(1, "embed"), (2, "queue"), (4, "embed"), (8, None), (16, "encode"), (32, None)]:
        clock.now += seconds
        times.change(following)  # type: ignore[arg-type]

    assert times.seconds == {"embed": 2 + 8, "queue": 4, "encode": 32}


def test_blocks_inside_one_another_go_back_to_the_stage_they_interrupted() -> None:
    with listening() as times:
        with stage("embed"):
            with stage("queue"):
                pass
            assert times.change("embed") == "embed"
        assert times.change(None) is None

    assert list(times.seconds) == ["embed", "queue"]


def test_a_stage_that_fails_has_ended() -> None:
    def fail() -> None:
        with stage("fetch"):
            raise OSError("no route")

    with listening() as times:
        with pytest.raises(OSError, match="no route"):
            fail()
        assert times.change(None) is None

    assert list(times.seconds) == ["fetch"]


def test_where_nobody_listens_a_stage_is_always_the_same_empty_block() -> None:
    assert stage("embed") is stage("fetch")
    with stage("embed"), stage("embed"):
        pass


def test_only_the_listeners_own_thread_is_heard() -> None:
    def work() -> None:
        with stage("embed"):
            pass

    with listening() as times:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert times.seconds == {}


def test_a_listener_hears_nothing_before_and_after_its_block_and_nothing_of_one_inside() -> None:
    def stages_of(blocks: Iterator[None]) -> list[str]:
        with listening() as times:
            for _ in blocks:
                with stage("encode"):
                    pass
        return list(times.seconds)

    def one_inside() -> Iterator[None]:
        with listening() as inner, stage("fetch"):
            pass
        assert list(inner.seconds) == ["fetch"]
        yield

    with stage("decode"):
        heard = stages_of(one_inside())

    assert heard == ["encode"]
