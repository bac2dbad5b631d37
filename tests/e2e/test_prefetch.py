"""Pictures embedded before anyone clicks, with a real Label Studio that opens tasks and lists them."""

import json
import time
from typing import Any

import pytest

from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks, Page
from labelstudio_sam2.settings import load_settings

pytestmark = pytest.mark.label_studio

_AHEAD = 3
"""`PREFETCH_TASKS` unless told otherwise."""


def test_a_task_that_is_opened_is_embedded_and_then_those_after_it(demo: Any, make_project: Any) -> None:
    before = settled(demo)
    _, tasks = make_project()

    demo.get(f"/api/tasks/{tasks[0]}/")

    assert settled(demo) == before + 1 + _AHEAD


def test_the_first_click_on_a_task_after_the_open_one_embeds_nothing(demo: Any, make_project: Any) -> None:
    project_id, tasks = make_project(count=1 + _AHEAD)
    demo.get(f"/api/tasks/{tasks[0]}/")
    before = settled(demo)

    answer = demo.click(project_id, tasks[_AHEAD], (96, 64))

    assert answer["data"]["model_version"].startswith("nano@")
    assert embedded(demo) == before


def test_where_label_studio_retrieves_predictions_by_itself_it_goes_no_further(demo: Any, make_project: Any) -> None:
    before = settled(demo)
    _, tasks = make_project(evaluate_predictions_automatically=True)

    demo.get(f"/api/tasks/{tasks[0]}/")

    assert settled(demo) == before + 1 + _AHEAD


def test_where_predictions_are_not_used_to_prelabel_nobody_tells_that_a_task_was_opened(
    demo: Any, make_project: Any
) -> None:
    before = settled(demo)
    _, tasks = make_project(show_collab_predictions=False)

    demo.get(f"/api/tasks/{tasks[0]}/")

    assert settled(demo) == before


def test_the_tasks_that_follow_are_those_that_nobody_has_finished(demo: Any, make_project: Any) -> None:
    project_id, tasks = make_project()
    demo.finish([tasks[2]])
    settings = load_settings(label_studio_url=demo.state.label_studio_url, label_studio_api_key=demo.state.token)
    following = LabelStudioTasks(ImageSource(settings).token)

    found = following.tasks_after(str(project_id), tasks[0], 3)

    assert [task.id for task in found.tasks] == [tasks[1], tasks[3], tasks[4]]
    assert found.total == 4
    assert found.tasks[0].data == demo.get(f"/api/tasks/{tasks[1]}/")["data"]
    assert following.tasks_after(str(project_id), tasks[-1], 3) == Page([], 0)


def embedded(demo: Any) -> int:
    """Return how many pictures the backend has embedded so far."""
    lines = (demo.folder / "backend.log").read_text().splitlines()
    return sum(json.loads(line).get("message") == "embedded a picture" for line in lines if line.startswith("{"))


def settled(demo: Any) -> int:
    """Return how many pictures are embedded when for some time no further one was."""
    last, since = embedded(demo), time.monotonic()
    while time.monotonic() - since < 5:
        time.sleep(0.1)
        if embedded(demo) != last:
            last, since = embedded(demo), time.monotonic()
    return last
