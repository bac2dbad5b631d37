"""`labelstudio-sam2 demo` prepares what it says, and what it tells the visitor to do works."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.sync_api import Page

from labelstudio_sam2.demo.scenes import Scene
from labelstudio_sam2.demo.state import FILE_NAME, DemoState
from labelstudio_sam2.segmenter.prompt import Mask

pytestmark = [pytest.mark.browser, pytest.mark.label_studio]


def test_a_visitor_can_label_the_first_picture_the_way_the_demo_tells(
    demo: Any,
    page: Page,
    editor_module: ModuleType,
    scenes: dict[str, Scene],
    mask_of: Callable[[Any], Mask],
    iou: Callable[[Mask, Mask], float],
    tmp_path: Path,
) -> None:
    task_id = demo.task_ids(demo.state.project_id)[0]
    page.set_viewport_size({"width": 1440, "height": 900})
    editor = editor_module.Editor(page, demo.get, demo.state.label_studio_url, demo.state.project_id, task_id)

    editor.pick("rectangle", "Fruit")
    editor.box(33, 46, 57, 72.5)
    editor.accept()
    editor.pick("rectangle", "Fruit")
    editor.box(5.5, 28, 27, 72.5)
    editor.accept()
    editor.pick("point", "Fruit")
    editor.click(53.8, 88.3)
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path)) / "editor.png"
    page.screenshot(path=picture)
    editor.accept()
    stored = editor.submit()

    truth = scenes["fruit"].masks
    reached = [
        iou(mask_of(region), truth[name]) for region, name in zip(stored, ("apple", "pear", "lemon"), strict=True)
    ]
    assert min(reached) >= 0.85, reached
    assert picture.stat().st_size > 100_000


def test_it_tells_where_to_click_and_with_which_password(demo: Any) -> None:
    told = re.sub(r"[│\s]+", " ", demo.command("--detach"))

    assert f"{demo.state.label_studio_url}/projects/{demo.state.project_id}/data" in told
    assert demo.state.password in told
    assert f"{demo.state.backend_url}/status" in told
    assert "running already" in told


def test_only_the_owner_can_read_the_password(demo: Any) -> None:
    mode = stat.S_IMODE((demo.folder / FILE_NAME).stat().st_mode)

    assert mode == 0o600


def test_a_second_start_keeps_the_project_and_its_annotations(demo: Any) -> None:
    task_id = demo.task_ids(demo.state.project_id)[1]
    demo.client._http.post(f"/api/tasks/{task_id}/annotations/", json={"result": []}).raise_for_status()

    demo.command("--stop")
    demo.command("--detach")

    assert DemoState.load(demo.folder) == demo.state
    assert len(demo.task_ids(demo.state.project_id)) == 4
    assert len(demo.get(f"/api/tasks/{task_id}/annotations/")) == 1
