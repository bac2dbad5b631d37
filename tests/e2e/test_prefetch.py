"""Pictures embedded before anyone clicks, with a real Label Studio that opens tasks and lists them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.demo.project import LABEL_CONFIG
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.settings import load_settings

pytestmark = pytest.mark.label_studio

_AHEAD = 3
"""`PREFETCH_TASKS` unless told otherwise."""


@pytest.fixture
def make_project(demo: Any, scenes: Any) -> Callable[..., tuple[int, list[int]]]:
    """Return a function that makes a project of pictures that nobody has seen, and returns it and its tasks."""

    def make(count: int = 6, **settings: object) -> tuple[int, list[int]]:
        project_id = int(demo.client.create_project("Test of prefetch", LABEL_CONFIG)["id"])
        noise = np.random.default_rng()
        images = [noise.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(count)]
        demo.client.import_scenes(project_id, [replace(scenes["fruit"], image=image) for image in images])
        demo.client.connect_backend(project_id, demo.state.backend_url)
        if settings:
            demo.client._http.patch(f"/api/projects/{project_id}/", json=settings).raise_for_status()
        return project_id, demo.task_ids(project_id)

    return make


def test_a_task_that_is_opened_is_embedded_and_then_those_after_it(demo: Any, make_project: Any) -> None:
    before = settled(demo)
    _, tasks = make_project()

    demo.get(f"/api/tasks/{tasks[0]}/")

    assert settled(demo) == before + 1 + _AHEAD


def test_the_first_click_on_a_task_after_the_open_one_embeds_nothing(demo: Any, make_project: Any) -> None:
    project_id, tasks = make_project(count=1 + _AHEAD)
    demo.get(f"/api/tasks/{tasks[0]}/")
    before = settled(demo)

    answer = click(demo, project_id, tasks[_AHEAD])

    assert answer["data"]["model_version"].startswith("nano@")
    assert embedded(demo) == before


def test_where_label_studio_retrieves_predictions_by_itself_it_goes_no_further(demo: Any, make_project: Any) -> None:
    before = settled(demo)
    _, tasks = make_project(evaluate_predictions_automatically=True)

    demo.get(f"/api/tasks/{tasks[0]}/")

    assert settled(demo) == before + 1 + _AHEAD


def test_the_tasks_that_follow_are_those_that_nobody_has_finished(demo: Any, make_project: Any) -> None:
    project_id, tasks = make_project()
    finish(demo, [tasks[2]])
    following = LabelStudioTasks(
        load_settings(label_studio_url=demo.state.label_studio_url, label_studio_api_key=demo.state.token)
    )

    found = following.tasks_after(str(project_id), tasks[0], 3)

    assert [task.id for task in found] == [tasks[1], tasks[3], tasks[4]]
    assert found[0].data == demo.get(f"/api/tasks/{tasks[1]}/")["data"]
    assert following.tasks_after(str(project_id), tasks[-1], 3) == []


def click(demo: Any, project_id: int, task_id: int) -> Any:
    """Click in the middle of a task's picture, through Label Studio; return what it answers the editor."""
    (backend,) = demo.get("/api/ml", project=project_id)
    region = {
        "id": "abc",
        "from_name": "point",
        "to_name": "image",
        "type": "keypointlabels",
        "original_width": 96,
        "original_height": 64,
        "image_rotation": 0,
        "is_positive": True,
        "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["Fruit"]},
    }
    asked = {"task": task_id, "context": {"result": [region]}}
    return (
        demo.client._http.post(f"/api/ml/{backend['id']}/interactive-annotating", json=asked).raise_for_status().json()
    )


def finish(demo: Any, task_ids: Sequence[int]) -> None:
    for task_id in task_ids:
        demo.client._http.post(f"/api/tasks/{task_id}/annotations/", json={"result": []}).raise_for_status()


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
