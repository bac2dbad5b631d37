"""The harness's arithmetic, on numbers one can check by hand."""

import time

import pytest
from benchmarks.timings import Spread, Times, Took, in_turns, ratio, timed


def took(cpu: float, wall: float | None = None) -> Took:
    return Took(cpu=cpu, wall=2 * cpu if wall is None else wall)


def test_a_spread_is_the_median_the_least_and_the_greatest() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(low=1, median=2, high=5)
    assert Spread.of([1.0, 2.0, 4.0, 10.0]) == Spread(low=1, median=3, high=10)


def test_a_ratio_is_of_the_medians_and_its_spread_of_the_rounds() -> None:
    plain, ours = [took(10), took(30), took(20)], [took(1), took(2), took(4)]

    # medians 20 and 2; rounds 10 / 1, 30 / 2, 20 / 4
    assert ratio(plain, ours, "cpu") == Spread(low=5, median=10, high=15)


def test_a_ratio_keeps_to_its_clock() -> None:
    plain, ours = [took(10, wall=8)], [took(1, wall=2)]

    assert ratio(plain, ours, "cpu").median == 10
    assert ratio(plain, ours, "wall").median == 4


def test_a_ratio_of_unequal_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([took(1), took(2)], [took(1)], "cpu")


def test_times_summarize_both_clocks() -> None:
    times = Times.of([took(1, wall=9), took(3, wall=5), took(2, wall=7)])

    assert times == Times(cpu=Spread(low=1, median=2, high=3), wall=Spread(low=5, median=7, high=9))


def test_times_are_added_taken_away_and_shared_out() -> None:
    assert (took(6, wall=9) - took(2, wall=1) + took(0, wall=4)) / 4 == took(1, wall=3)


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []

    plain, ours = in_turns(
        lambda number: calls.append(f"plain {number}"),
        lambda number: calls.append(f"ours {number}"),
        rounds=2,
        warm_ups=1,
        ours_times=2,
    )

    assert calls == [
        *("plain -1", "ours -1", "ours -1"),
        *("plain 0", "ours 0", "ours 0"),
        *("plain 1", "ours 1", "ours 1"),
    ]
    assert (len(plain), len(ours)) == (2, 2)


def test_sleeping_takes_time_on_the_wall_and_none_of_the_cpus() -> None:
    answer, time_of_one = timed(lambda: time.sleep(0.02), times=3)

    assert answer is None
    assert time_of_one.wall >= 0.02
    assert time_of_one.cpu < time_of_one.wall
