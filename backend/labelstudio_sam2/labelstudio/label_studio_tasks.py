"""Asks Label Studio for a project's labeling configuration and for its tasks."""

import json
import time
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.address import Reach
from labelstudio_sam2.images.deadline import Clock, Deadline
from labelstudio_sam2.images.label_studio_token import LabelStudioToken
from labelstudio_sam2.labelstudio.wire import Task

ANSWER_SECONDS = 10.0
MAX_ANSWER_BYTES = 16_000_000

T = TypeVar("T")


class LabelStudioTasks:
    """Label Studio's projects and tasks, asked for with `LABEL_STUDIO_API_KEY`. Thread-safe.

    Args:
        token: Where Label Studio is, and what it is asked with.
        answer_seconds: How long it may take to answer.
        clock: What the deadline is read from.
    """

    def __init__(
        self, token: LabelStudioToken, *, answer_seconds: float = ANSWER_SECONDS, clock: Clock = time.monotonic
    ) -> None:
        self._token = token
        self._answer_seconds = answer_seconds
        self._clock = clock
        self.can_ask = token.can_ask

    def label_config(self, project: str) -> str:
        """Return a project's labeling configuration, its XML.

        Args:
            project: The project's id.

        Raises:
            BackendError: As `tasks_after`.
        """
        path, what = f"/api/projects/{project}/", f"project {project}"
        return self._ask(path, what, _Project, "is no project").label_config

    def tasks_after(self, project: str, task_id: int, count: int, *, unfinished_only: bool = True) -> "Page":
        """Return the tasks that an annotator gets after this one, in order: the next by id that nobody has finished.

        Label Studio gives them in this order unless the project samples at random.

        Args:
            project: The project's id.
            task_id: Of the task that is open; 0 is before the first.
            count: How many at most.
            unfinished_only: Whether to leave out those that somebody has finished.

        Raises:
            ImageForbiddenError: The token is refused, or its user may not see the project.
            ImageUnavailableError: No answer, or none that lists tasks; or there is no such project.
            ImageTooLargeError: The tasks' data together are larger than `MAX_ANSWER_BYTES`.
            ImageTimeoutError: It took too long.
        """
        filters: list[dict[str, object]] = [
            {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": task_id}
        ]
        if unfinished_only:
            completed = {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True}
            filters.append(completed)
        query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        # resolve_uri: an address of a cloud storage stays what it is in the requests to this backend
        parameters = {"project": project, "page_size": count, "resolve_uri": "false", "query": json.dumps(query)}
        path, what = f"/api/tasks?{urlencode(parameters)}", f"the tasks of project {project}"
        page = self._ask(path, what, _Page, "lists no tasks")
        return Page(page.tasks[:count], page.total)

    def _ask(self, path: str, what: str, kind: type[T], otherwise: str) -> T:
        label_studio, http = self._token.label_studio, self._token.http
        if label_studio is None:
            raise ImageUnavailableError(f"LABEL_STUDIO_URL is not set, so there is nobody to ask for {what}")
        address = label_studio.join(label_studio.path.rstrip("/") + path)
        deadline = Deadline.after(self._answer_seconds, f"Label Studio's answer about {what}", self._clock)
        response = self._token.send(
            lambda signed: http.request(
                "GET", address, reach=Reach.ANYWHERE, headers=signed, deadline=deadline, max_bytes=MAX_ANSWER_BYTES
            ),
            deadline,
        )
        if response.status != 200:
            raise _refusal(response.status, what)
        try:
            return msgspec.json.decode(response.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ImageUnavailableError(f"Label Studio's answer {otherwise}") from None


@dataclass(frozen=True)
class Page:
    """Some of the tasks that were asked for.

    Attributes:
        tasks: The first of them.
        total: How many there are in all.
    """

    tasks: list[Task]
    total: int


def _refusal(status: int, what: str) -> ImageUnavailableError:
    answered = f"Label Studio answered {status} when asked for {what}"
    match status:
        case 401:
            return ImageForbiddenError(f"{answered}: LABEL_STUDIO_API_KEY is no token of it, or one that has expired")
        case 403:
            return ImageForbiddenError(f"{answered}: the user of LABEL_STUDIO_API_KEY may not see it")
        case 404:
            return ImageUnavailableError(
                f"{answered}: there is none, or none that the user of LABEL_STUDIO_API_KEY may see; "
                "or LABEL_STUDIO_URL leads elsewhere"
            )
    return ImageUnavailableError(answered)


class _Project(msgspec.Struct, frozen=True):
    """`GET /api/projects/<id>/`, without what is not needed of it."""

    label_config: str


class _Page(msgspec.Struct, frozen=True):
    """A page of `GET /api/tasks`, without what is not needed of it."""

    tasks: list[Task]
    total: int
