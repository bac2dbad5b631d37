import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from labelstudio_sam2.errors import ImageUnavailableError, ModelLoadingError
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.label_studio_tasks import Page
from labelstudio_sam2.labelstudio.prefetch import MAX_PICTURES, MAX_WAITING, STALE_SECONDS, Prefetch
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.ops.logging import request_id
from labelstudio_sam2.stages import stage

LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels>
  <BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>
</View>
"""


@dataclass
class Addresses:
    """Stands for the source of pictures: an address is its own picture. What is in `broken` cannot be had."""

    broken: set[str] = field(default_factory=set)
    found: list[tuple[str, str, int | None]] = field(default_factory=list)

    def find(self, address: str, *, project: str, task_id: int | None) -> Any:
        self.found.append((address, project, task_id))
        if address in self.broken:
            raise ImageUnavailableError("made up")
        return address


@dataclass
class Ahead:
    """Stands for the segmenter; holds each picture until the test lets it go on.

    Attributes:
        embedded: Which pictures, in this order.
        pause: While it is set, a picture waits.
        failure: Raised instead of being ready.
    """

    embedded: list[str] = field(default_factory=list)
    pause: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failure: Exception | None = None

    def check_ready(self) -> None:
        if self.failure is not None:
            raise self.failure

    def prefetch(self, picture: Any) -> None:
        self.embedded.append(picture)
        if self.pause.is_set():
            assert self.go_on.acquire(timeout=10)


@dataclass
class Project:
    """Stands for Label Studio: tasks 1 to 9."""

    asked: list[tuple[str, int, int]] = field(default_factory=list)
    while_asked: Callable[[], object] = lambda: None

    def tasks_after(self, project: str, task_id: int, count: int) -> Page:
        self.asked.append((project, task_id, count))
        self.while_asked()
        following = [task(number) for number in range(task_id + 1, 10)]
        return Page(following[:count], len(following))


@pytest.fixture
def addresses() -> Addresses:
    return Addresses()


@pytest.fixture
def ahead() -> Ahead:
    return Ahead()


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture
def now() -> list[float]:
    """The time in seconds; change it by index 0."""
    return [0.0]


@pytest.fixture
def prefetch(addresses: Addresses, ahead: Ahead, project: Project, now: list[float]) -> Prefetch:
    return Prefetch(addresses, ahead, project, count=2, clock=lambda: now[0])


def task(number: int, **data: object) -> Task:
    return Task(id=number, data=data or {"image": f"{number}.png"})


def test_an_open_task_and_those_after_it_are_embedded_in_their_order(
    prefetch: Prefetch,
    addresses: Addresses,
    ahead: Ahead,
    project: Project,
    until: Any,
) -> None:
    prefetch.notice(task(4), LABEL_CONFIG, "6")

    until(lambda: len(ahead.embedded) == 3)
    assert addresses.found == [("4.png", "6", 4), ("5.png", "6", 5), ("6.png", "6", 6)]
    assert project.asked == [("6", 4, 2)]


def test_a_task_that_was_noticed_just_now_is_not_noticed_again_but_later_is(
    prefetch: Prefetch,
    ahead: Ahead,
    project: Project,
    now: list[float],
    until: Any,
) -> None:
    for _ in range(5):
        prefetch.notice(task(4), LABEL_CONFIG, "6")
    until(lambda: len(ahead.embedded) == 3)

    now[0] += STALE_SECONDS
    prefetch.notice(task(4), LABEL_CONFIG, "6")

    until(lambda: len(ahead.embedded) == 6)
    assert len(project.asked) == 2


def test_the_same_number_in_another_project_is_another_task(prefetch: Prefetch, ahead: Ahead, until: Any) -> None:
    prefetch.notice(task(9), LABEL_CONFIG, "6")
    prefetch.notice(task(9), LABEL_CONFIG, "7")

    until(lambda: len(ahead.embedded) == 2)


def test_what_was_opened_last_goes_before_what_comes_next_elsewhere(
    prefetch: Prefetch, ahead: Ahead, until: Any
) -> None:
    ahead.pause.set()
    prefetch.notice(task(1), LABEL_CONFIG, "6")
    until(lambda: ahead.embedded == ["1.png"])
    prefetch.notice(task(5), LABEL_CONFIG, "6")
    ahead.pause.clear()
    ahead.go_on.release()

    until(lambda: len(ahead.embedded) == 6)
    assert ahead.embedded == ["1.png", "5.png", "6.png", "7.png", "2.png", "3.png"]


def test_what_waited_too_long_is_dropped(prefetch: Prefetch, ahead: Ahead, now: list[float], until: Any) -> None:
    ahead.pause.set()
    prefetch.notice(task(1), LABEL_CONFIG, "6")
    until(lambda: ahead.embedded == ["1.png"])
    now[0] += STALE_SECONDS
    ahead.pause.clear()
    ahead.go_on.release()
    prefetch.notice(task(9), LABEL_CONFIG, "6")

    until(lambda: prefetch.waiting == 0)
    until(lambda: len(ahead.embedded) == 2)
    assert ahead.embedded == ["1.png", "9.png"]


def test_no_more_waits_than_can_be_done_and_the_oldest_goes(addresses: Addresses, ahead: Ahead, until: Any) -> None:
    prefetch = Prefetch(addresses, ahead)
    ahead.pause.set()
    prefetch.notice(task(0), LABEL_CONFIG, "6")
    until(lambda: ahead.embedded == ["0.png"])
    for number in range(1, MAX_WAITING + 11):
        prefetch.notice(task(number), LABEL_CONFIG, "6")
    assert prefetch.waiting == MAX_WAITING
    ahead.pause.clear()
    ahead.go_on.release()

    until(lambda: prefetch.waiting == 0 and len(ahead.embedded) == MAX_WAITING + 1)
    assert ahead.embedded[1:] == [f"{number}.png" for number in range(MAX_WAITING + 10, 10, -1)]


def test_a_picture_that_cannot_be_had_is_passed_over(
    prefetch: Prefetch, addresses: Addresses, ahead: Ahead, until: Any
) -> None:
    addresses.broken.add("5.png")

    prefetch.notice(task(4), LABEL_CONFIG, "6")

    until(lambda: len(ahead.embedded) == 2)
    assert ahead.embedded == ["4.png", "6.png"]


def test_a_bug_in_one_picture_does_not_end_it(
    prefetch: Prefetch,
    ahead: Ahead,
    project: Project,
    caplog: pytest.LogCaptureFixture,
    until: Any,
) -> None:
    project.while_asked = lambda: 1 / 0

    prefetch.notice(task(4), LABEL_CONFIG, "6")
    prefetch.notice(task(7), LABEL_CONFIG, "6")

    until(lambda: sorted(ahead.embedded) == ["4.png", "7.png"] and len(project.asked) == 2)
    until(lambda: "ZeroDivisionError" in caplog.text)


def test_nothing_is_downloaded_before_the_model_is_there(
    prefetch: Prefetch,
    addresses: Addresses,
    ahead: Ahead,
    caplog: pytest.LogCaptureFixture,
    until: Any,
) -> None:
    caplog.set_level("INFO")
    ahead.failure = ModelLoadingError("not yet")
    prefetch.notice(task(4), LABEL_CONFIG, "6")
    assert "not prefetched: not yet" in caplog.text
    assert (addresses.found, prefetch.waiting) == ([], 0)

    ahead.failure = None
    prefetch.notice(task(4), LABEL_CONFIG, "6")
    until(lambda: len(ahead.embedded) == 3)


def test_tasks_that_label_studio_opens_while_it_lists_them_are_opened_by_nobody(
    prefetch: Prefetch,
    ahead: Ahead,
    project: Project,
    until: Any,
) -> None:
    def opens() -> None:
        prefetch.notice(task(5), LABEL_CONFIG, "6")
        prefetch.notice(task(6), LABEL_CONFIG, "6")

    project.while_asked = opens

    prefetch.notice(task(4), LABEL_CONFIG, "6")

    until(lambda: len(ahead.embedded) == 3)
    until(lambda: prefetch.waiting == 0)
    assert project.asked == [("6", 4, 2)]
    project.while_asked = lambda: None
    prefetch.notice(task(5), LABEL_CONFIG, "6")
    until(lambda: project.asked[1:] == [("6", 5, 2)])


def test_without_somebody_to_ask_only_the_open_task_is_embedded(addresses: Addresses, ahead: Ahead, until: Any) -> None:
    Prefetch(addresses, ahead, None, count=2).notice(task(4), LABEL_CONFIG, "6")

    until(lambda: ahead.embedded == ["4.png"])


def test_a_task_without_an_id_is_embedded_too(prefetch: Prefetch, ahead: Ahead, project: Project, until: Any) -> None:
    prefetch.notice(Task(data={"image": "x.png"}), LABEL_CONFIG, "6")

    until(lambda: ahead.embedded == ["x.png"])
    assert project.asked == []


@pytest.mark.parametrize(
    ("images", "data", "expected"),
    [
        ('<Image name="image" valueList="$pages"/>', {"pages": ["1.png", "2.png"]}, ["1.png", "2.png"]),
        ('<Image name="image" valueList="$pages"/>', {"pages": [f"{n}.png" for n in range(9)]}, None),
        ('<Image name="image" value="$a"/><Image name="other" value="$b"/>', {"a": "a.png", "b": "b.png"}, ["a.png"]),
        ('<Image name="image" value="$a"/>', {"a": 7}, []),
        ('<Image name="image" value="$a"/>', {}, []),
    ],
)
def test_the_pictures_of_a_task_are_those_that_can_be_prompted_on(
    addresses: Addresses,
    ahead: Ahead,
    images: str,
    data: dict[str, Any],
    expected: list[str] | None,
    until: Any,
) -> None:
    config = LABEL_CONFIG.replace('<Image name="image" value="$image"/>', images)
    prefetch = Prefetch(addresses, ahead)

    prefetch.notice(Task(id=1, data=data), config, "6")
    prefetch.notice(Task(id=2, data={"a": "last.png", "pages": ["last.png"]}), config, "6")

    until(lambda: "last.png" in ahead.embedded and prefetch.waiting == 0)
    embedded = [picture for picture in ahead.embedded if picture != "last.png"]
    assert embedded == ([f"{n}.png" for n in range(MAX_PICTURES)] if expected is None else expected)


def test_a_labeling_configuration_that_cannot_be_read_prefetches_nothing(
    prefetch: Prefetch, addresses: Addresses, project: Project
) -> None:
    prefetch.notice(task(4), "<View>", "6")

    assert (prefetch.waiting, project.asked, addresses.found) == (0, [], [])


@pytest.mark.parametrize("project_id", ["", "x", "6" * 40])
def test_tasks_of_no_project_are_not_asked_for(
    prefetch: Prefetch,
    ahead: Ahead,
    project: Project,
    project_id: str,
    until: Any,
) -> None:
    prefetch.notice(task(4), LABEL_CONFIG, project_id)

    until(lambda: ahead.embedded == ["4.png"] and prefetch.waiting == 0)
    assert project.asked == []


def test_tasks_before_the_listed_one_are_opened_by_somebody(
    prefetch: Prefetch, ahead: Ahead, project: Project, until: Any
) -> None:
    def opens() -> None:
        if len(project.asked) == 1:
            prefetch.notice(task(2), LABEL_CONFIG, "6")

    project.while_asked = opens

    prefetch.notice(task(4), LABEL_CONFIG, "6")

    until(lambda: project.asked == [("6", 4, 2), ("6", 2, 2)])
    until(lambda: "2.png" in ahead.embedded)


def test_a_bug_in_noticing_costs_no_answer(
    prefetch: Prefetch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefetch, "_plan", lambda *_: 1 / 0)

    prefetch.notice(task(4), LABEL_CONFIG, "6")

    assert "ZeroDivisionError" in caplog.text


@dataclass
class Notes:
    """Remembers which tasks were open."""

    noticed: list[tuple[int | None, str]] = field(default_factory=list)

    def notice(self, task: Task, label_config: str, project: str) -> None:
        assert task.data
        assert "<View>" in label_config
        self.noticed.append((task.number, project))


def test_opening_a_task_and_clicking_on_it_are_noticed_but_a_batch_is_not(
    pictures: Any, segmenter: Any, annotator: Any, draw: Any
) -> None:
    notes = Notes()
    annotator.assistant = Assistant(pictures, segmenter, notes)
    opened = annotator.request(tasks=[draw.task()])

    assert annotator.assistant.predict(opened) == [[]]
    assert notes.noticed == [(7, "6")]

    annotator.ask(draw.click(35, 40), task=draw.task(id="8"))
    assert notes.noticed == [(7, "6"), (8, "6")]

    annotator.assistant.predict(annotator.request(tasks=[draw.task(), draw.task()]))
    assert len(notes.noticed) == 2


def test_what_became_of_each_step_is_counted(
    prefetch: Prefetch, addresses: Addresses, ahead: Ahead, now: list[float], until: Any
) -> None:
    addresses.broken.add("7.png")
    prefetch.notice(task(7), LABEL_CONFIG, "6")  # 7 is refused; the list, 8 and 9 are done
    until(lambda: prefetch.outcomes == {"done": 3, "refused": 1, "stale": 0, "dropped": 0})
    ahead.pause.set()
    prefetch.notice(task(30), LABEL_CONFIG, "7")
    until(lambda: len(ahead.embedded) == 3)

    for number in range(MAX_WAITING):
        prefetch.notice(task(100 + number), LABEL_CONFIG, "no number")
    now[0] += STALE_SECONDS
    ahead.go_on.release()

    until(lambda: prefetch.outcomes == {"done": 4, "refused": 1, "stale": MAX_WAITING, "dropped": 1})


def test_it_tells_what_each_step_took_and_logs_under_the_id_of_the_request_that_led_to_it(
    addresses: Addresses, until: Any
) -> None:
    ids: list[str] = []
    told: list[list[str]] = []

    class Staged(Ahead):
        def prefetch(self, picture: Any) -> None:
            ids.append(request_id.get())
            with stage("embed"):
                pass

    prefetch = Prefetch(addresses, Staged(), observe=lambda seconds: told.append(list(seconds)))
    for name in ("r-1", "r-2"):
        token = request_id.set(name)
        prefetch.notice(task(4), LABEL_CONFIG, name)
        request_id.reset(token)

    until(lambda: len(told) == 2)
    assert (sorted(ids), told) == (["r-1", "r-2"], [["embed"], ["embed"]])
