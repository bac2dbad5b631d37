"""Embeds pictures before anyone clicks on them: those of the task that is open, then those of the tasks after it."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol, TypeAlias

from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.labelstudio.assistant import Picture, Pictures
from labelstudio_sam2.labelstudio.label_config import ImageTag, LabelConfig, parse_label_config
from labelstudio_sam2.labelstudio.label_studio_tasks import Page
from labelstudio_sam2.labelstudio.wire import PROJECT_ID, Task
from labelstudio_sam2.ops.logging import request_id
from labelstudio_sam2.recently_used import RecentlyUsed
from labelstudio_sam2.stages import Stage, listening

logger = logging.getLogger(__name__)

STALE_SECONDS = 120.0
"""After so long it is no longer worth while: the annotator has clicked, or gone elsewhere."""
MAX_WAITING = 64
"""Steps that wait; the oldest goes when one more comes."""
MAX_PICTURES = 4
"""Of one task."""
MAX_REMEMBERED = 1024
"""Open tasks."""

OUTCOMES = ("done", "refused", "stale", "dropped")
"""Of a step: its picture has an embedding, or its tasks were listed; or not, which the log explains; it waited for
`STALE_SECONDS`; more than `MAX_WAITING` came after it."""

Key: TypeAlias = tuple[str, int]
"""Project and task."""
Work: TypeAlias = Callable[[], None]


class Segmenter(Protocol):
    """Embeds pictures when nobody else wants the device."""

    def check_ready(self) -> None:
        """Raise the catalogue's error if the model cannot be asked."""
        ...

    def prefetch(self, picture: Picture) -> None:
        """Embed a picture that nobody has asked for yet."""
        ...


class NextTasks(Protocol):
    """Knows which tasks follow."""

    def tasks_after(self, project: str, task_id: int, count: int) -> Page:
        """Return at most `count` tasks that an annotator gets after this one, in order."""
        ...


class Prefetch:
    """Does what can be done before a click, in one thread of its own. Thread-safe.

    What was noticed last is done first, one picture after the other, and what has waited for too long is dropped. A
    picture that cannot be had is logged and passed over: the click on it says what is wrong.

    Args:
        pictures: Where pictures come from.
        segmenter: Who embeds them.
        next_tasks: Who is asked for the tasks that follow; None where there is no token to ask with.
        count: How many of those.
        observe: Told what each step took, in seconds by stage.
        clock: What waiting is measured with, in seconds.
    """

    def __init__(
        self,
        pictures: Pictures,
        segmenter: Segmenter,
        next_tasks: NextTasks | None = None,
        *,
        count: int = 0,
        observe: Callable[[Mapping[Stage, float]], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pictures = pictures
        self._segmenter = segmenter
        self._next_tasks = next_tasks
        self._count = count
        self._observe = observe
        self._clock = clock
        self._steps: deque[_Step] = deque(maxlen=MAX_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._noticed: RecentlyUsed[Key, float] = RecentlyUsed(MAX_REMEMBERED)
        self._listed: Key | None = None
        self._outcomes = Counter(dict.fromkeys(OUTCOMES, 0))

    @property
    def waiting(self) -> int:
        """Steps that are still to be done: a picture each, or a list of tasks."""
        return len(self._steps)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Steps by what became of them, since the start: each of `OUTCOMES`."""
        return dict(self._outcomes)

    def notice(self, task: Task, label_config: str, project: str) -> None:
        """Take note that somebody has a task open; returns at once.

        Args:
            task: The task.
            label_config: Of its project.
            project: Its project's id.
        """
        try:
            self._segmenter.check_ready()
            key = (project, task.number) if task.number is not None and PROJECT_ID.fullmatch(project) else None
            if key is None or not (self._is_listed(key) or self._is_noticed(key)):
                self._plan(task, label_config, project, key)
        except BackendError as error:
            logger.info("not prefetched: %s", error, extra={"code": error.code})
        except Exception:  # what comes next must not cost the answer that is ready
            logger.exception("a bug: a task could not be noticed")

    def _plan(self, task: Task, label_config: str, project: str, key: Key | None) -> None:
        steps = self._pictures_of(task, parse_label_config(label_config), project)
        if self._next_tasks is not None and self._count and key is not None:
            steps.append(partial(self._look_ahead, self._next_tasks, label_config, key))
        self._add(steps)

    def _is_listed(self, key: Key) -> bool:
        """Whether Label Studio may be opening a task because it is being asked for those after another."""
        return self._listed is not None and self._listed[0] == key[0] and self._listed[1] < key[1]

    def _is_noticed(self, key: Key) -> bool:
        """Whether a task was noticed just before: it is opened twice at once, and each click comes by here."""
        noticed, now = self._noticed.get(key), self._clock()
        if noticed is not None and now - noticed < STALE_SECONDS:
            return True
        self._noticed.put(key, now)
        return False

    def _look_ahead(self, next_tasks: NextTasks, label_config: str, key: Key) -> None:
        # Where a project retrieves predictions by itself, listing tasks makes Label Studio open them all, from within
        # this very request: what comes meanwhile of later tasks was opened by nobody.
        self._listed = key
        try:
            following = next_tasks.tasks_after(*key, self._count).tasks
        finally:
            self._listed = None
        config, steps = parse_label_config(label_config), []
        for task in following:
            steps += self._pictures_of(task, config, key[0])
        self._add(steps)

    def _pictures_of(self, task: Task, config: LabelConfig, project: str) -> list[Work]:
        addresses = islice(image_addresses(task, config), MAX_PICTURES)
        return [partial(self._embed, address, project, task.number) for address in addresses]

    def _embed(self, address: str, project: str, task_id: int | None) -> None:
        self._segmenter.prefetch(self._pictures.find(address, project=project, task_id=task_id))

    def _add(self, steps: Sequence[Work]) -> None:
        """Have steps done next, in this order, before everything that waits already."""
        with self._changed:
            self._outcomes["dropped"] += max(0, len(self._steps) + len(steps) - MAX_WAITING)
            self._steps += [_Step(work, self._clock(), request_id.get()) for work in reversed(steps)]
            if self._thread is None:  # not before: gunicorn forks
                self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._steps)
                step = self._steps.pop()
            request_id.set(step.request_id)
            with listening() as times:
                outcome = self._outcome(step)
            with self._changed:
                self._outcomes[outcome] += 1
            self._observe(times.seconds)

    def _outcome(self, step: "_Step") -> str:
        """Do a step and return what became of it."""
        if self._clock() - step.since >= STALE_SECONDS:
            return "stale"
        try:
            self._segmenter.check_ready()
            step.work()
        except BackendError as error:
            logger.info("not prefetched: %s", error, extra={"code": error.code})
        except Exception:
            logger.exception("a bug: a picture could not be prefetched")
        else:
            return "done"
        return "refused"


@dataclass(frozen=True)
class _Step:
    """A picture to embed, or tasks to ask for.

    Attributes:
        work: Does it.
        since: On the clock, when it was added.
        request_id: Of the request that led to it, for the log.
    """

    work: Work
    since: float
    request_id: str


def image_addresses(task: Task, config: LabelConfig) -> Iterator[str]:
    """Yield the addresses of the images that can be prompted on, in the configuration's order."""
    for tag in prompted_images(config):
        value = task.data.get(tag.data_key)
        for address in value if isinstance(value, list) else [value]:
            if isinstance(address, str) and address:
                yield address


def prompted_images(config: LabelConfig) -> list[ImageTag]:
    """Return the image tags that some smart control tag works on."""
    smart = {name for control in config.controls.values() if control.is_smart for name in control.to_names}
    return [tag for name, tag in config.images.items() if name in smart]
