"""When a worker that lost its device ends; tests/reliability/test_faults.py has the real one."""

from typing import TYPE_CHECKING

import pytest

from labelstudio_sam2.errors import DeviceLostError
from labelstudio_sam2.ops.restart import FAREWELL_SECONDS, SHORTEST_LIFE_SECONDS, Restart

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("lived_seconds", "pause"), [(0.0, SHORTEST_LIFE_SECONDS), (SHORTEST_LIFE_SECONDS - 1, 1.0), (86_400.0, 0.0)]
)
def test_a_worker_ends_at_once_unless_it_is_young_and_in_any_case_soon_after(
    caplog: pytest.LogCaptureFixture, lived_seconds: float, pause: float
) -> None:
    now = 1000.0
    planned: list[tuple[float, Callable[[], object]]] = []
    done: list[str] = []
    restart = Restart(
        lambda: done.append("end"),
        at_last=lambda: done.append("at last"),
        clock=lambda: now,
        later=lambda seconds, call: planned.append((seconds, call)),
    )
    now += lived_seconds

    restart.after_losing_the_device("CUDA error: unspecified launch failure")

    for _, call in planned:
        call()
    assert [seconds for seconds, _ in planned] == [pause, pause + FAREWELL_SECONDS]
    assert done == ["end", "at last"]
    (record,) = caplog.records
    assert (record.levelname, vars(record)["reason"]) == ("CRITICAL", "CUDA error: unspecified launch failure")


def test_who_met_a_lost_gpu_is_asked_to_come_back_when_the_youngest_worker_has_ended() -> None:
    assert DeviceLostError.retry_seconds == SHORTEST_LIFE_SECONDS
