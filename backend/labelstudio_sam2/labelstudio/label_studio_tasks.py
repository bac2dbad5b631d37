"""Asks Label Studio which tasks follow the one that is open."""

import json
import time
from urllib.parse import urlencode

import msgspec

from labelstudio_sam2.errors import ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.address import HostPolicy, Reach
from labelstudio_sam2.images.connection import GuardedHttp
from labelstudio_sam2.images.deadline import Clock, Deadline
from labelstudio_sam2.images.label_studio_token import LabelStudioToken
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.settings import Settings

ANSWER_SECONDS = 10.0
MAX_ANSWER_BYTES = 16_000_000


class LabelStudioTasks:
    """Label Studio's tasks, asked for at `LABEL_STUDIO_URL` with `LABEL_STUDIO_API_KEY`. Thread-safe.

    Args:
        settings: Where it is, and the token.
        clock: What the deadline is read from.

    Raises:
        SettingsError: One of the two is malformed.
    """

    def __init__(self, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        self._label_studio = HostPolicy.from_settings(settings).label_studio
        self._http = GuardedHttp(connect_seconds=settings.image_connect_seconds, clock=clock)
        self._token = LabelStudioToken(settings, self._label_studio, self._http)
        self._clock = clock
        self.can_ask = self._label_studio is not None and settings.label_studio_api_key is not None

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
            ImageTimeoutError: It took longer than `ANSWER_SECONDS`.
        """
        if self._label_studio is None:
            raise ImageUnavailableError("LABEL_STUDIO_URL is not set, so there is nobody to ask for the next tasks")
        filters = [
            {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": task_id},
            {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True},
        ]
        query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        # resolve_uri: an address of a cloud storage stays what it is in the requests to this backend
        parameters = {"project": project, "page_size": count, "resolve_uri": "false", "query": json.dumps(query)}
        path = f"{self._label_studio.path.rstrip('/')}/api/tasks?{urlencode(parameters)}"
        address = self._label_studio.join(path)
        deadline = Deadline.after(ANSWER_SECONDS, "listing the next tasks", self._clock)
        response = self._token.send(
            lambda signed: self._http.request(
                "GET", address, reach=Reach.ANYWHERE, headers=signed, deadline=deadline, max_bytes=MAX_ANSWER_BYTES
            ),
            deadline,
        )
        if response.status in {401, 403}:
            raise ImageForbiddenError(f"Label Studio answered {response.status} when asked for the next tasks")
        if response.status != 200:
            raise ImageUnavailableError(f"Label Studio answered {response.status} when asked for the next tasks")
        try:
            return msgspec.json.decode(response.data, type=_Page).tasks[:count]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ImageUnavailableError("Label Studio's answer lists no tasks") from None


class _Page(msgspec.Struct, frozen=True):
    """A page of `GET /api/tasks`, without what is not needed of it."""

    tasks: list[Task]
