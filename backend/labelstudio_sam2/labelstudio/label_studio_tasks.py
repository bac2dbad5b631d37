"""Asks Label Studio for a project's labeling configuration and for its tasks."""

import json
import time
from dataclasses import dataclass

import msgspec

from labelstudio_sam2.images.deadline import Clock
from labelstudio_sam2.images.label_studio_token import LabelStudioToken
from labelstudio_sam2.labelstudio.label_studio_api import ANSWER_SECONDS, LabelStudioApi
from labelstudio_sam2.labelstudio.wire import Task


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
        self._api = LabelStudioApi(token, clock=clock)
        self._answer_seconds = answer_seconds
        self.can_ask = token.can_ask

    def label_config(self, project: str) -> str:
        """Return a project's labeling configuration, its XML.

        Args:
            project: The project's id.

        Raises:
            BackendError: As `tasks_after`.
        """
        path, what = f"/api/projects/{project}/", f"project {project}"
        return self._api.get(path, _Project, what=what, seconds=self._answer_seconds).label_config

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
        what = f"the tasks of project {project}"
        page = self._api.get("/api/tasks", _Page, what=what, seconds=self._answer_seconds, query=parameters)
        return Page(page.tasks[:count], page.total)


@dataclass(frozen=True)
class Page:
    """Some of the tasks that were asked for.

    Attributes:
        tasks: The first of them.
        total: How many there are in all.
    """

    tasks: list[Task]
    total: int


class _Project(msgspec.Struct, frozen=True):
    """`GET /api/projects/<id>/`, without what is not needed of it."""

    label_config: str


class _Page(msgspec.Struct, frozen=True):
    """A page of `GET /api/tasks`, without what is not needed of it."""

    tasks: list[Task]
    total: int
