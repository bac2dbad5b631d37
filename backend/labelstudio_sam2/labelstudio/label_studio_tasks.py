"""Asks Label Studio for tasks: those that follow the one that is open, and the first one of a project."""

import json
import time
from collections.abc import Sequence

import msgspec

from labelstudio_sam2.images.deadline import Clock
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.settings import Settings


class LabelStudioTasks:
    """Label Studio's tasks, asked for at `LABEL_STUDIO_URL` with `LABEL_STUDIO_API_KEY`. Thread-safe.

    Args:
        settings: Where it is, and the token.
        clock: What the deadline is read from.

    Raises:
        SettingsError: One of the two is malformed.
    """

    def __init__(self, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        self._api = LabelStudioApi(settings, clock=clock)

    @property
    def can_ask(self) -> bool:
        """Whether both an address and a token are set."""
        return self._api.can_ask

    def tasks_after(self, project: str, task_id: int, count: int) -> list[Task]:
        """Return the tasks that an annotator gets after this one, in order: the next by id that nobody has finished.

        Label Studio gives them in this order unless the project samples at random.

        Args:
            project: The project's id.
            task_id: Of the task that is open.
            count: How many at most.

        Raises:
            ImageForbiddenError: The token is refused, or its user may not see the project.
            ImageUnavailableError: No answer, or none that lists tasks.
            ImageTimeoutError: It took longer than `label_studio_api.ANSWER_SECONDS`.
        """
        filters = [
            {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": task_id},
            {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True},
        ]
        return tasks_of(self._api, project, count, filters, what="the next tasks")


def tasks_of(
    api: LabelStudioApi, project: str | int, count: int, filters: Sequence[object] = (), *, what: str
) -> list[Task]:
    """Return a project's tasks by id.

    Args:
        api: Label Studio.
        project: The project's id.
        count: How many at most.
        filters: Of Label Studio's data manager; all must hold.
        what: What is asked for, in an error's words.

    Raises:
        BackendError: As `LabelStudioApi.get`.
    """
    query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
    # resolve_uri: an address of a cloud storage stays what it is in the requests to this backend
    parameters = {"project": project, "page_size": count, "resolve_uri": "false", "query": json.dumps(query)}
    return api.get("/api/tasks", _Page, what=what, query=parameters).tasks[:count]


class _Page(msgspec.Struct, frozen=True):
    """A page of `GET /api/tasks`, without what is not needed of it."""

    tasks: list[Task]
