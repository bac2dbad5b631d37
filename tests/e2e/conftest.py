"""A real Label Studio, this backend with the nano model and a real Chromium, started once for all tests of this folder.

They are started by the product's own `labelstudio-sam2 demo`, so every test here is also a test of that.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from labelstudio_sam2.demo.project import LABEL_CONFIG, LabelStudioClient
from labelstudio_sam2.demo.scenes import Scene, draw_scenes
from labelstudio_sam2.demo.state import DemoState
from labelstudio_sam2.segmenter.prompt import Mask

REPOSITORY = Path(__file__).parents[2]
LABEL_STUDIO_PYTHON = REPOSITORY / ".venv-label-studio" / "bin" / "python"
NOISE_WH = (96, 64)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True, kw_only=True)
class RunningDemo:
    """The demo of this test run."""

    folder: Path
    state: DemoState
    client: LabelStudioClient

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path of Label Studio's API."""
        return self.client._http.get(path, params=query).raise_for_status().json()

    def task_ids(self, project_id: int) -> list[int]:
        """Return a project's tasks, oldest first."""
        return sorted(task["id"] for task in self.get("/api/tasks", project=project_id, page_size=100)["tasks"])

    def click(self, project_id: int, task_id: int, size_wh: tuple[int, int]) -> Any:
        """Click in the middle of a task's picture, through Label Studio; return what it answers the editor."""
        (backend,) = self.get("/api/ml", project=project_id)
        region = {
            "id": "abc",
            "from_name": "point",
            "to_name": "image",
            "type": "keypointlabels",
            "original_width": size_wh[0],
            "original_height": size_wh[1],
            "image_rotation": 0,
            "is_positive": True,
            "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["Fruit"]},
        }
        asked = {"task": task_id, "context": {"result": [region]}}
        answer = self.client._http.post(f"/api/ml/{backend['id']}/interactive-annotating", json=asked)
        return answer.raise_for_status().json()

    def finish(self, task_ids: Sequence[int]) -> None:
        """Annotate tasks: nothing is on them."""
        for task_id in task_ids:
            self.client._http.post(f"/api/tasks/{task_id}/annotations/", json={"result": []}).raise_for_status()

    def personal_token(self) -> str:
        """Return a new personal access token; a user has one at a time, so those before are made invalid."""
        for held in self.get("/api/token/"):
            self.client._http.post("/api/token/blacklist/", json={"refresh": held["token"]}).raise_for_status()
        return str(self.client._http.post("/api/token/", json={}).raise_for_status().json()["token"])

    def command(self, *arguments: str) -> str:
        """Run `labelstudio-sam2 demo` on this folder; returns what it wrote."""
        return _demo_command(self.folder, *arguments)


OpenEditor: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Path:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        _leave_out("there is no Chromium; install one (Debian, Ubuntu: apt-get install chromium)")
    return Path(found)


@pytest.fixture(scope="session")
def demo(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    if not LABEL_STUDIO_PYTHON.exists():
        _leave_out("there is no Label Studio in .venv-label-studio; `make test` installs it")
    kept = os.environ.get("E2E_DEMO_FOLDER")  # while writing tests: the second run then starts in seconds
    folder = Path(kept) if kept else tmp_path_factory.mktemp("demo")
    try:
        _demo_command(folder, "--detach")
        state = DemoState.load(folder)
        assert state is not None
        with LabelStudioClient(state.label_studio_url, f"Token {state.token}") as client:
            yield RunningDemo(folder=folder, state=state, client=client)
    finally:
        _demo_command(folder, "--stop")


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    flags = [*BROWSER_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def login(browser: Browser, demo: RunningDemo) -> Any:
    """The cookies of the logged-in user."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{demo.state.label_studio_url}/user/login/")
        page.fill("input[name=email]", demo.state.user)
        page.fill("input[name=password]", demo.state.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")
        return context.storage_state()


@pytest.fixture
def page(browser: Browser, login: Any) -> Iterator[Page]:
    with browser.new_context(storage_state=login, viewport={"width": 1440, "height": 1000}) as context:
        yield context.new_page()


@pytest.fixture(scope="session")
def scenes() -> dict[str, Scene]:
    return {scene.name: scene for scene in draw_scenes()}


@pytest.fixture
def make_project(demo: RunningDemo, scenes: dict[str, Scene]) -> Callable[..., tuple[int, list[int]]]:
    """Return a function that makes a project of pictures that nobody has seen, and returns it and its tasks.

    The pictures are `NOISE_WH` large; settings go in by name.
    """

    def make(count: int = 6, backend_url: str = demo.state.backend_url, **settings: object) -> tuple[int, list[int]]:
        project_id = int(demo.client.create_project("Test of pictures ahead", LABEL_CONFIG)["id"])
        noise = np.random.default_rng()
        images = [noise.integers(0, 255, (*NOISE_WH[::-1], 3), np.uint8) for _ in range(count)]
        demo.client.import_scenes(project_id, [replace(scenes["fruit"], image=image) for image in images])
        demo.client.connect_backend(project_id, backend_url)
        if settings:
            demo.client._http.patch(f"/api/projects/{project_id}/", json=settings).raise_for_status()
        return project_id, demo.task_ids(project_id)

    return make


@pytest.fixture(scope="session")
def editor_module() -> ModuleType:
    """`editor.py` of this folder: pytest's importlib mode keeps test folders off the import path."""
    spec = importlib.util.spec_from_file_location("editor", Path(__file__).with_name("editor.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def open_editor(demo: RunningDemo, page: Page, scenes: dict[str, Scene], editor_module: ModuleType) -> OpenEditor:
    """Open a picture of the demo in the editor, as the only task of a project of its own."""

    def open_scene(name: str, label_config: str = LABEL_CONFIG) -> Any:
        project_id = int(demo.client.create_project(f"Test with {name}", label_config)["id"])
        demo.client.import_scenes(project_id, [scenes[name]])
        demo.client.connect_backend(project_id, demo.state.backend_url)
        task_id = demo.task_ids(project_id)[0]
        return editor_module.Editor(page, demo.get, demo.state.label_studio_url, project_id, task_id)

    return open_scene


@pytest.fixture(scope="session")
def mask_of(editor_module: ModuleType) -> Callable[[Any], Mask]:
    """Decodes a stored brush region."""
    decode: Callable[[Any], Mask] = editor_module.mask_of
    return decode


def _demo_command(folder: Path, *arguments: str) -> str:
    program = Path(sys.executable).with_name("labelstudio-sam2")
    options = ["--folder", str(folder), "--label-studio-python", str(LABEL_STUDIO_PYTHON)]
    done = subprocess.run([program, "demo", *options, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _leave_out(why: str) -> NoReturn:
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)
