"""How many pixels are decoded at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from labelstudio_sam2.errors import BusyError
from labelstudio_sam2.segmenter.pixel_budget import PixelBudget


def soon() -> float:
    return time.monotonic() + 0.05


def test_pictures_are_let_in_until_the_budget_is_used_up() -> None:
    budget = PixelBudget(100)

    with budget.room_for(60), budget.room_for(40), pytest.raises(BusyError), budget.room_for(1, by=soon()):
        pass
    with budget.room_for(100, by=soon()):
        pass


def test_one_that_is_larger_than_all_of_it_is_let_in_alone() -> None:
    budget = PixelBudget(100)

    with budget.room_for(1), pytest.raises(BusyError), budget.room_for(5000, by=soon()):
        pass
    with budget.room_for(5000, by=soon()), pytest.raises(BusyError), budget.room_for(1, by=soon()):
        pass


def test_a_large_picture_is_not_passed_by_small_ones_for_ever() -> None:
    budget = PixelBudget(100)
    order: list[str] = []

    def take(name: str, pixels: int) -> None:
        with budget.room_for(pixels):
            order.append(name)

    with ThreadPoolExecutor(2) as threads:
        with budget.room_for(50):
            large = threads.submit(take, "large", 80)
            while not budget.waiting:
                time.sleep(0.005)
            small = threads.submit(take, "small", 10)
            while budget.waiting < 2:
                time.sleep(0.005)
            assert order == []
        large.result(10)
        small.result(10)

    assert order == ["large", "small"]


def test_who_gave_up_leaves_no_gap_in_the_line() -> None:
    budget = PixelBudget(100)
    entered = threading.Event()

    def take() -> None:
        with budget.room_for(30):
            entered.set()

    with budget.room_for(60), ThreadPoolExecutor(2) as threads:
        with pytest.raises(BusyError), budget.room_for(80, by=time.monotonic() + 0.2):
            pass
        threads.submit(take).result(10)

    assert entered.is_set()


def test_an_error_in_the_block_gives_the_room_back() -> None:
    budget = PixelBudget(100)

    with pytest.raises(ZeroDivisionError), budget.room_for(100):
        raise ZeroDivisionError
    with budget.room_for(100, by=soon()):
        pass
