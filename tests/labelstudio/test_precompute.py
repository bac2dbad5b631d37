"""The job that embeds a project ahead, on fakes; `tests/commands/test_precompute.py` has the real parts."""

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from labelstudio_sam2.errors import (
    BackendError,
    ImageTooLargeError,
    ImageUnavailableError,
    ImageUnreadableError,
    UrlRefusedError,
)
from labelstudio_sam2.labelstudio import precompute
from labelstudio_sam2.labelstudio.label_config import parse_label_config
from labelstudio_sam2.labelstudio.label_studio_tasks import Page
from labelstudio_sam2.labelstudio.precompute import Failure, Precompute, Project, Tally
from labelstudio_sam2.labelstudio.wire import Task

LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <Image name="more" valueList="$more"/>
  <Image name="logo" value="$logo"/>
  <KeyPointLabels name="kp" toName="image,more" smart="true"><Label value="Cat"/></KeyPointLabels>
  <BrushLabels name="brush" toName="image,more"><Label value="Cat"/></BrushLabels>
  <RectangleLabels name="plain" toName="logo" smart="false"><Label value="Cat"/></RectangleLabels>
</View>
"""


@dataclass
class LabelStudio:
    """Stands for Label Studio: a project's tasks, by their ids.

    Attributes:
        tasks: Project 3's.
        asked: After which task, and how many, it was asked.
        failure: Raised when it is asked for what comes after this task.
        most: Tasks that fit in one answer.
    """

    tasks: list[Task]
    asked: list[tuple[int, int]] = field(default_factory=list)
    failure: tuple[int, BackendError] | None = None
    most: int = 1000

    def label_config(self, project: str) -> str:
        return LABEL_CONFIG

    def tasks_after(self, project: str, task_id: int, count: int, *, unfinished_only: bool) -> Page:
        self.asked.append((task_id, count))
        if self.failure is not None and task_id == self.failure[0]:
            raise self.failure[1]
        if count > self.most:
            raise ImageTooLargeError("made up")
        following = [each for each in self.tasks if (each.number or 0) > task_id]
        return Page(following[:count], len(following))


@dataclass
class Picture:
    sha256: str
    size_hw: tuple[int, int] = (6, 8)


@dataclass
class Addresses:
    """Stands for the source of pictures: an address is the picture's content. Those in `broken` cannot be had."""

    broken: dict[str, Exception] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    size_hw: tuple[int, int] = (6, 8)

    def find(self, address: str, *, project: str, task_id: int | None) -> Any:
        self.found.append(address)
        if address in self.broken:
            raise self.broken[address]
        return Picture(address, self.size_hw)


@dataclass
class Ahead:
    """Stands for the segmenter, whose disk has what is in `there`; holds each picture until the test lets it go on.

    Attributes:
        there: The pictures on disk.
        embedded: Which it embedded, in this order.
        pause: While it is set, a picture waits before its turn.
        go_on: Lets a waiting picture go on.
        inside: Pictures that wait now.
        unreadable: Pictures that cannot be decoded.
        failure: Raised instead of embedding.
    """

    there: set[str] = field(default_factory=set)
    embedded: list[str] = field(default_factory=list)
    pause: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    inside: list[str] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    failure: Exception | None = None
    device: threading.Lock = field(default_factory=threading.Lock)

    def precompute(self, picture: Any, *, before_embedding: Callable[[], None]) -> bool:
        self.inside.append(picture.sha256)
        if self.pause.is_set():
            assert self.go_on.acquire(timeout=60)
        self.inside.remove(picture.sha256)
        if picture.sha256 in self.unreadable:
            raise ImageUnreadableError("made up")
        with self.device:
            if picture.sha256 in self.there:
                return False
            before_embedding()
            if self.failure is not None:
                raise self.failure
            self.embedded.append(picture.sha256)
            self.there.add(picture.sha256)
        return True


@pytest.fixture
def ahead() -> Iterator[Ahead]:
    ahead = Ahead()
    yield ahead
    ahead.go_on.release(1000)  # lets no thread hang


@pytest.fixture
def addresses() -> Addresses:
    return Addresses()


def tasks_with(*numbers: int) -> list[Task]:
    return [Task(number, {"image": f"{number}.png"}) for number in numbers]


def begun(studio: LabelStudio, addresses: Addresses, ahead: Ahead, *, room: int = 1000, threads: int = 8) -> Precompute:
    run = Precompute(studio, addresses, ahead, room=room, threads=threads)
    run.start([Project("3", parse_label_config(LABEL_CONFIG), len(studio.tasks))])
    return run


def ended(run: Precompute) -> Tally:
    assert run.wait(60)
    return run.tally


def test_every_page_of_tasks_is_asked_for_and_each_picture_embedded_once_in_their_order(
    addresses: Addresses, ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute, "PAGE_TASKS", 3)
    studio = LabelStudio(tasks_with(2, 5, 6, 9, 11, 12, 20))

    tally = ended(begun(studio, addresses, ahead, threads=1))

    assert studio.asked == [(0, 3), (6, 3), (12, 3)]
    assert ahead.embedded == ["2.png", "5.png", "6.png", "9.png", "11.png", "12.png", "20.png"]
    assert tally == Tally(tasks=7, embedded=7)


def test_several_threads_begin_pictures_in_the_tasks_order(addresses: Addresses, ahead: Ahead, until: Any) -> None:
    ahead.pause.set()
    run = begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, threads=4)

    until(lambda: len(ahead.inside) == 4)
    first = sorted(addresses.found)
    ahead.go_on.release(1000)

    assert first == ["1.png", "2.png", "3.png", "4.png"]
    assert ended(run).embedded == 29


def test_no_more_pictures_are_had_ahead_than_there_are_threads_and_no_more_tasks_than_two_pages(
    addresses: Addresses, ahead: Ahead, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute, "PAGE_TASKS", 5)
    ahead.pause.set()
    studio = LabelStudio(tasks_with(*range(1, 101)))
    run = begun(studio, addresses, ahead, threads=3)

    until(lambda: len(ahead.inside) == 3 and len(studio.asked) == 2)
    for number in range(20):
        ahead.go_on.release()
        until(lambda: len(addresses.found) == 3 + number + 1)  # noqa: B023  called at once
        assert len(run._waiting) <= 10
    ahead.go_on.release(1000)

    assert ended(run).embedded == 100


def test_pixels_of_pictures_that_wait_stay_within_their_bound_and_a_larger_one_goes_alone(
    ahead: Ahead, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute, "MAX_DECODED_BYTES", 2 * 3 * 6 * 8)
    ahead.pause.set()
    for size_hw, together in [((6, 8), 2), ((60, 80), 1)]:
        addresses, ahead.there = Addresses(size_hw=size_hw), set()
        run = begun(LabelStudio(tasks_with(*range(1, 9))), addresses, ahead, threads=6)
        until(lambda: len(addresses.found) == 6)  # noqa: B023  called at once

        for _ in range(8 - together):
            until(lambda: len(ahead.inside) == together)  # noqa: B023  called at once
            ahead.go_on.release()
        ahead.go_on.release(together)

        assert ended(run).embedded == 8


def test_a_picture_that_cannot_be_had_is_noted_with_its_task_and_the_others_are_embedded(
    addresses: Addresses, ahead: Ahead
) -> None:
    addresses.broken["5.png"] = UrlRefusedError("https://pictures.example/5.png?token=secret is not allowed")
    addresses.broken["9.png"] = ValueError("a bug with a secret")

    tally = ended(begun(LabelStudio(tasks_with(2, 5, 6, 9)), addresses, ahead, threads=1))

    assert ahead.embedded == ["2.png", "6.png"]
    assert tally.failures == (
        Failure("3", 5, "Image address is not allowed"),
        Failure("3", 9, "Internal error"),
    )
    assert (tally.tasks, tally.embedded) == (4, 2)


def test_what_is_on_disk_already_is_counted_as_such(addresses: Addresses, ahead: Ahead) -> None:
    ahead.there = {"2.png", "6.png"}

    tally = ended(begun(LabelStudio(tasks_with(2, 5, 6)), addresses, ahead))

    assert ahead.embedded == ["5.png"]
    assert (tally.embedded, tally.there) == (1, 2)


def test_every_image_that_can_be_prompted_on_is_embedded(addresses: Addresses, ahead: Ahead) -> None:
    data = {"image": "a.png", "more": ["b.png", "c.png"], "logo": "logo.png", "text": "no picture"}
    studio = LabelStudio([Task(1, data), Task(2, {"text": "none at all"}), Task(3, {"image": None})])

    tally = ended(begun(studio, addresses, ahead, threads=1))

    assert ahead.embedded == ["a.png", "b.png", "c.png"]
    assert (tally.tasks, tally.without_picture) == (3, 2)


def test_the_pictures_that_are_expected_are_those_of_every_prompted_tag() -> None:
    assert Project("3", parse_label_config(LABEL_CONFIG), 10).pictures == 20


def test_after_a_stop_nothing_is_begun_and_what_is_being_embedded_is_finished(
    addresses: Addresses, ahead: Ahead, until: Any
) -> None:
    ahead.pause.set()
    run = begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, threads=2)
    until(lambda: len(ahead.inside) == 2)
    with ahead.device:  # both have got their pictures, and wait for their turn
        ahead.go_on.release(2)
        until(lambda: not ahead.inside)
        run.stop()

    tally = ended(run)

    assert (ahead.embedded, len(addresses.found)) == ([], 2)
    assert (tally.tasks, tally.embedded, tally.failures) == (0, 0, ())


def test_where_the_disk_is_too_small_the_first_tasks_are_kept_and_nothing_is_pushed_out(
    addresses: Addresses, ahead: Ahead
) -> None:
    tally = ended(begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, room=4, threads=1))

    assert ahead.embedded == ["1.png", "2.png", "3.png", "4.png"]
    assert (tally.embedded, tally.is_full, tally.failures) == (4, True, ())


def test_several_threads_do_not_pass_the_room_either(addresses: Addresses, ahead: Ahead) -> None:
    tally = ended(begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, room=4))

    assert (len(ahead.embedded), tally.embedded, tally.is_full) == (4, 4, True)
    assert set(ahead.embedded) <= {f"{number}.png" for number in range(1, 4 + 8)}


def test_a_second_run_on_a_disk_that_is_too_small_embeds_nothing(addresses: Addresses, ahead: Ahead) -> None:
    ended(begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, room=4, threads=1))

    tally = ended(begun(LabelStudio(tasks_with(*range(1, 30))), addresses, ahead, room=4, threads=1))

    assert (tally.embedded, tally.there, tally.is_full) == (0, 4, True)


def test_equal_pictures_share_their_place_and_one_that_failed_takes_none(addresses: Addresses, ahead: Ahead) -> None:
    ahead.unreadable.add("2.png")
    same = [Task(number, {"image": "same.png"}) for number in range(3, 9)]
    studio = LabelStudio([*tasks_with(1, 2), *same])

    tally = ended(begun(studio, addresses, ahead, room=2, threads=1))

    assert ahead.embedded == ["1.png", "same.png"]
    assert (tally.tasks, tally.there, tally.is_full) == (8, 5, False)


def test_a_disk_that_cannot_be_written_to_ends_the_run_and_is_told(addresses: Addresses, ahead: Ahead) -> None:
    ahead.failure = OSError(28, "No space left on device")

    tally = ended(begun(LabelStudio(tasks_with(*range(1, 99))), addresses, ahead, threads=2))

    assert str(tally.error) == "[Errno 28] No space left on device"
    assert len(addresses.found) <= 4
    assert tally.failures == ()


def test_where_label_studio_lists_no_more_tasks_those_it_listed_are_embedded_and_the_error_is_told(
    addresses: Addresses, ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute, "PAGE_TASKS", 3)
    failure = ImageUnavailableError("Label Studio answered 502")

    tally = ended(begun(LabelStudio(tasks_with(*range(1, 9)), failure=(3, failure)), addresses, ahead))

    assert tally.error is failure
    assert sorted(ahead.embedded) == ["1.png", "2.png", "3.png"]


def test_tasks_that_are_too_large_together_are_asked_for_in_smaller_pages(addresses: Addresses, ahead: Ahead) -> None:
    studio = LabelStudio(tasks_with(*range(1, 9)), most=6)

    assert ended(begun(studio, addresses, ahead)).embedded == 8
    assert studio.asked == [(0, 100), (0, 25), (0, 6), (6, 6)]


def test_one_task_that_is_too_large_alone_is_an_error(addresses: Addresses, ahead: Ahead) -> None:
    tally = ended(begun(LabelStudio(tasks_with(1), most=0), addresses, ahead))

    assert isinstance(tally.error, ImageTooLargeError)


def test_a_wait_that_ctrl_c_breaks_off_takes_nothing_for_ended(addresses: Addresses, ahead: Ahead, until: Any) -> None:
    ahead.pause.set()
    run = begun(LabelStudio(tasks_with(1, 2)), addresses, ahead, threads=2)
    until(lambda: len(ahead.inside) == 2)

    for _ in range(5):
        threading.Timer(0.05, signal.pthread_kill, [threading.get_ident(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            run.wait(30)

    assert not run.wait(0.01)
    ahead.go_on.release(2)
    assert ended(run) == Tally(tasks=2, embedded=2)
