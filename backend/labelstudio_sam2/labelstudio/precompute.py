"""Embeds the pictures of whole projects onto the disk tier, so that an annotating team never waits for the encoder."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from labelstudio_sam2.errors import BackendError, ImageTooLargeError
from labelstudio_sam2.labelstudio.assistant import Picture, Pictures
from labelstudio_sam2.labelstudio.label_config import LabelConfig, parse_label_config
from labelstudio_sam2.labelstudio.label_studio_tasks import Page
from labelstudio_sam2.labelstudio.prefetch import image_addresses, prompted_images
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.segmenter.embedding_disk import MAX_UNWRITTEN

logger = logging.getLogger(__name__)

THREADS = MAX_UNWRITTEN
"""Tasks that are worked on at once: one picture is embedded while others are downloaded, decoded and written. With
more, the disk tier would skip embeddings that wait to be written."""
PAGE_TASKS = 100
"""Tasks asked for at once; as many wait to be worked on, at most twice."""
MAX_DECODED_BYTES = 2**29
"""What the pixels of all pictures together may take that wait for the encoder: three of 50 megapixels."""


class Segmenter(Protocol):
    """Embeds pictures onto the disk tier."""

    def precompute(self, picture: Picture, *, before_embedding: Callable[[], None]) -> bool:
        """Have a picture's embedding on disk; return whether it had to be embedded. Raises OSError if it cannot."""
        ...


class Tasks(Protocol):
    """Knows projects and their tasks."""

    def label_config(self, project: str) -> str:
        """Return a project's labeling configuration, its XML."""
        ...

    def tasks_after(self, project: str, task_id: int, count: int, *, unfinished_only: bool) -> Page:
        """Return at most `count` tasks with greater ids, in order, and how many there are."""
        ...


@dataclass(frozen=True)
class Project:
    """A project to precompute.

    Attributes:
        id: As Label Studio gives it.
        config: Its labeling configuration.
        total: How many of its tasks are wanted.
    """

    id: str
    config: LabelConfig
    total: int

    @property
    def pictures(self) -> int:
        """How many pictures there are, as far as is known before the tasks are: a list counts as one."""
        return self.total * len(prompted_images(self.config))


@dataclass(frozen=True)
class Failure:
    """A picture that could not be embedded.

    Attributes:
        project: Its project's id.
        task: Its task's id.
        reason: The catalogue's fixed text.
    """

    project: str
    task: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was done so far.

    Attributes:
        tasks: Tasks that are done with.
        embedded: Pictures that were embedded.
        there: Pictures that were on disk already.
        without_picture: Tasks that have no picture to prompt on.
        failures: Pictures that could not be had.
        is_full: The disk has no room for more.
        error: What ended the run before its time, or None.
    """

    tasks: int = 0
    embedded: int = 0
    there: int = 0
    without_picture: int = 0
    failures: tuple[Failure, ...] = ()
    is_full: bool = False
    error: Exception | None = None

    @property
    def pictures(self) -> int:
        """All that were looked at."""
        return self.embedded + self.there + len(self.failures)


def find_project(tasks: Tasks, project: str, *, unfinished_only: bool) -> Project:
    """Ask Label Studio for a project.

    Raises:
        BackendError: There is none, it cannot be asked, or its labeling configuration cannot be used.
    """
    config = parse_label_config(tasks.label_config(project))
    return Project(project, config, tasks.tasks_after(project, 0, 1, unfinished_only=unfinished_only).total)


class Precompute:
    """One run over some projects, in threads of its own.

    Tasks are begun in the order that annotators get them. A picture that cannot be had is noted and passed over; a disk
    that cannot be written to, or a Label Studio that lists no more tasks, ends the run.

    Nothing that it has made or found is evicted for what comes later: where the disk tier has no room for all pictures,
    it ends with those of the first tasks (docs/adr/0012).

    Args:
        tasks: Who is asked for them.
        pictures: Where pictures come from.
        segmenter: Who embeds them; its model is there.
        room: How many embeddings fit on disk.
        unfinished_only: Whether to leave out tasks that somebody has finished.
        threads: See `THREADS`.
    """

    def __init__(
        self,
        tasks: Tasks,
        pictures: Pictures,
        segmenter: Segmenter,
        *,
        room: int,
        unfinished_only: bool = True,
        threads: int = THREADS,
    ) -> None:
        self._tasks = tasks
        self._pictures = pictures
        self._segmenter = segmenter
        self._room = room
        self._unfinished_only = unfinished_only
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Project, Task]] = deque()
        self._is_listed = self._is_stopped = False
        self._tally = Tally()
        self._kept: set[str] = set()  # SHA-256 of pictures that have a place on disk
        self._decoded = _Allowance(MAX_DECODED_BYTES)
        self._threads = threads
        self._running = 0

    @property
    def tally(self) -> Tally:
        """The figures of this moment."""
        return self._tally

    def start(self, projects: Sequence[Project]) -> None:
        """Begin; returns at once."""
        self._running = self._threads + 1
        self._begin("list-tasks", partial(self._list, projects))
        for _ in range(self._threads):
            self._begin("precompute", self._work)

    def wait(self, seconds: float) -> bool:
        """Wait until the run has ended, but no longer than so; return whether it has.

        May be interrupted by Ctrl-C: unlike a thread's `join` in CPython 3.11, which then takes it for ended.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)

    def stop(self) -> None:
        """Begin nothing more; returns at once. What is being embedded or written is finished."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

        threading.Thread(target=run, name=name, daemon=True).start()

    def _list(self, projects: Sequence[Project]) -> None:
        try:
            for project in projects:
                for tasks in self._pages(project):
                    with self._changed:
                        self._waiting += [(project, task) for task in tasks]
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: len(self._waiting) <= PAGE_TASKS or self._has_ended())
                        if self._has_ended():
                            return
        except BackendError as error:
            self._note(error=error)
        except Exception as error:
            logger.exception("a bug: tasks could not be listed")
            self._note(error=error)
        finally:
            with self._changed:
                self._is_listed = True
                self._changed.notify_all()

    def _pages(self, project: Project) -> Iterator[list[Task]]:
        """Yield the tasks page by page, by their ids: what is finished or deleted meanwhile shifts none of them."""
        last, count = 0, PAGE_TASKS
        while True:
            try:
                page = self._tasks.tasks_after(project.id, last, count, unfinished_only=self._unfinished_only)
            except ImageTooLargeError:  # pictures, as data URLs, within the tasks
                if count == 1:
                    raise
                count = max(1, count // 4)
                continue
            yield page.tasks
            before, last = last, max((task.number or 0 for task in page.tasks), default=0)
            if page.total <= len(page.tasks) or last <= before:
                return

    def _work(self) -> None:
        while (following := self._next()) is not None:
            project, task = following
            try:
                self._do(project, task)
            except _StoppedError:
                return
            except OSError as error:
                self._note(error=error)
                self.stop()

    def _next(self) -> tuple[Project, Task] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_listed or self._has_ended())
            if self._has_ended() or not self._waiting:
                return None
            following = self._waiting.popleft()
            self._changed.notify_all()
            return following

    def _has_ended(self) -> bool:
        """Whether no further task is begun."""
        return self._is_stopped or self._tally.is_full

    def _do(self, project: Project, task: Task) -> None:
        addresses = list(image_addresses(task, project.config))
        for address in addresses:
            self._check_wanted()
            try:
                self._embed(address, project, task)
            except BackendError as error:
                logger.info("not precomputed: %s", error, extra={"code": error.code})
                self._note(failures=(Failure(project.id, task.number, error.reason),))
            except (OSError, _StoppedError):
                raise
            except Exception:
                logger.exception("a bug: a picture could not be precomputed")
                self._note(failures=(Failure(project.id, task.number, BackendError.reason),))
        self._note(tasks=1, without_picture=0 if addresses else 1)

    def _embed(self, address: str, project: Project, task: Task) -> None:
        picture = self._pictures.find(address, project=project.id, task_id=task.number)
        with self._place(picture.sha256), self._decoded.take(3 * picture.size_hw[0] * picture.size_hw[1]):
            was_embedded = self._segmenter.precompute(picture, before_embedding=self._check_wanted)
        self._note(embedded=int(was_embedded), there=int(not was_embedded))

    @contextmanager
    def _place(self, sha256: str) -> Iterator[None]:
        """Take a place on disk for a picture, which equal ones share, and give it back if nothing comes of it."""
        with self._changed:
            if sha256 not in self._kept and len(self._kept) >= self._room:
                self._tally = replace(self._tally, is_full=True)
                self._changed.notify_all()
                raise _StoppedError
            self._kept.add(sha256)
        try:
            yield
        except BaseException:
            with self._changed:
                self._kept.discard(sha256)
            raise

    def _check_wanted(self) -> None:
        if self._is_stopped:
            raise _StoppedError

    def _note(self, *, failures: tuple[Failure, ...] = (), error: Exception | None = None, **more: int) -> None:
        with self._changed:
            now = self._tally
            counts = {name: getattr(now, name) + number for name, number in more.items()}
            self._tally = replace(now, failures=now.failures + failures, error=now.error or error, **counts)


class _StoppedError(Exception):
    """The run is to end, or there is no more room."""


class _Allowance:
    """Something that threads take parts of, up to a sum; who wants more than all of it gets it alone. Thread-safe."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + amount <= self._total)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
