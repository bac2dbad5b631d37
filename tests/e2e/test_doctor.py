"""`labelstudio-sam2 doctor` beside a real Label Studio: all is well with the demo, and one thing broken at a time."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from labelstudio_sam2.demo.processes import Service
from labelstudio_sam2.demo.project import LABEL_CONFIG
from labelstudio_sam2.demo.run import label_studio_command, label_studio_environment, wait_until_ready
from labelstudio_sam2.demo.scenes import Scene
from labelstudio_sam2.demo.state import LOOPBACK, free_port
from labelstudio_sam2.doctor.examination import Wishes, examine
from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.settings import load_settings

pytestmark = pytest.mark.label_studio

LABEL_STUDIO_PYTHON = Path(__file__).parents[2] / ".venv-label-studio" / "bin" / "python"

Look = Callable[..., dict[str, Finding]]


@pytest.fixture
def look(demo: Any) -> Look:
    """Return a function that examines a project of the demo; settings go in by name."""

    def run(project_id: int, **wanted: Any) -> dict[str, Finding]:
        known = {
            "label_studio_url": demo.state.label_studio_url,
            "label_studio_api_key": demo.state.token,
            "model": "nano",
            "host": LOOPBACK,
            "port": demo.state.backend_port,
        }
        found = list(examine(load_settings(**(known | wanted)), Wishes(project=project_id, in_container=False)))
        assert "***" not in str(found)
        return {finding.name: finding for finding in found}

    return run


@pytest.fixture
def project_id(demo: Any, scenes: dict[str, Scene]) -> int:
    """A project as the demo's, to break something in."""
    project_id = int(demo.client.create_project("Test of the doctor", LABEL_CONFIG)["id"])
    demo.client.import_scenes(project_id, [scenes["fruit"]])
    demo.client.connect_backend(project_id, demo.state.backend_url)
    return project_id


@pytest.fixture
def other_backend() -> Iterator[str]:
    """The address of an ML backend that is none of this project."""
    app = Flask("other")
    app.add_url_rule("/health", "health", lambda: {"status": "UP", "model_class": "Other"})
    app.add_url_rule("/setup", "setup", lambda: {"model_version": "other"}, methods=["POST"])
    server = make_server(LOOPBACK, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def guarded(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a second Label Studio with the demo's data that refuses private addresses, its default."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copytree(demo.folder / "label-studio", folder / "data")
    port = free_port(0, avoid=demo.state.label_studio_port)
    environment = label_studio_environment(demo.state, os.environ)
    del environment["ML_BLOCK_LOCAL_IP"], environment["SSRF_PROTECTION_ENABLED"]
    service = Service("guarded", folder)
    service.start(label_studio_command(LABEL_STUDIO_PYTHON, folder / "data", port), environment)
    try:
        wait_until_ready(service, f"http://{LOOPBACK}:{port}/health")
        yield f"http://{LOOPBACK}:{port}"
    finally:
        service.stop()


def test_all_is_well_with_the_demo(demo: Any) -> None:
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": demo.state.label_studio_url,
        "LABEL_STUDIO_API_KEY": demo.state.token,
        "MODEL": "nano",
        "PORT": str(demo.state.backend_port),
        "COLUMNS": "110",
    }
    program = str(Path(sys.executable).with_name("labelstudio-sam2"))
    command = [program, "doctor", "--project", str(demo.state.project_id)]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {line[2] for line in lines} == {"✓"}, done.stdout
    assert any("mask" in line and "of the picture" in line for line in lines)
    assert any("editor" in line and "through Label Studio" in line for line in lines)
    assert demo.state.token not in done.stdout


def test_looking_changes_nothing(demo: Any, look: Look, project_id: int) -> None:
    def kept() -> Any:
        backends = [(each["id"], each["url"]) for each in demo.get("/api/ml", project=project_id)]
        tasks = demo.get("/api/tasks", project=project_id, fields="all")["tasks"]
        counts = [(task["total_annotations"], task["total_predictions"], task["drafts"]) for task in tasks]
        return backends, sorted(each["id"] for each in demo.get("/api/webhooks")), counts

    before = kept()
    look(project_id)

    assert kept() == before


def test_interactive_preannotations_are_off(demo: Any, look: Look, project_id: int) -> None:
    _change_connection(demo, project_id, is_interactive=False)

    found = look(project_id)

    assert found["interactive"].outcome == "problem"
    assert found["editor"].outcome == "skipped"
    assert found["mask"].outcome == "ok"


def test_the_labels_differ(demo: Any, look: Look, project_id: int) -> None:
    config = LABEL_CONFIG.replace('value="Leaf" background="#0ca678" hotkey="8"', 'value="leaf" background="#0ca678"')
    assert config != LABEL_CONFIG
    box = config.replace('<RectangleLabels name="box"', '<RectangleLabels name="box" model_answer="false"')
    demo.client._http.patch(f"/api/projects/{project_id}/", json={"label_config": box}).raise_for_status()

    found = look(project_id)

    assert found["labels"].outcome == "problem"
    assert "'Leaf'" in found["labels"].text


def test_another_interactive_backend_comes_first(
    demo: Any, look: Look, scenes: dict[str, Scene], other_backend: str
) -> None:
    project_id = int(demo.client.create_project("Test of the doctor", LABEL_CONFIG)["id"])
    demo.client.import_scenes(project_id, [scenes["fruit"]])
    for url, title in ((other_backend, "other"), (demo.state.backend_url, "SAM 2")):
        wanted = {"project": project_id, "title": title, "url": url, "is_interactive": True}
        demo.client._http.post("/api/ml", json=wanted).raise_for_status()

    found = look(project_id)

    assert found["connection"].outcome == "ok"
    assert found["interactive"].outcome == "problem"
    assert f"other ({other_backend})" in found["interactive"].text


def test_the_token_is_wrong(look: Look, project_id: int) -> None:
    found = look(project_id, label_studio_api_key="f" * 40)

    assert found["token"].outcome == "problem"
    assert found["projects"].outcome == "skipped"
    assert found["backend-ready"].outcome == "ok"


def test_a_personal_access_token_is_taken(demo: Any, look: Look, project_id: int) -> None:
    personal = demo.personal_token()

    found = look(project_id, label_studio_api_key=personal)

    assert found["token"].outcome == "ok"
    assert "personal access token" in found["token"].text
    assert found["picture"].outcome == "ok"


def test_a_label_studio_with_its_guard_on_refuses_the_backend(demo: Any, look: Look, guarded: str) -> None:
    found = look(demo.state.project_id, label_studio_url=guarded)

    assert found["private-addresses"].outcome == "problem"
    assert "ML_BLOCK_LOCAL_IP and SSRF_PROTECTION_ENABLED are on" in found["private-addresses"].text
    assert found["connection-state"].outcome == "problem"
    assert (found["editor"].outcome, found["editor"].advice) == ("problem", "See private-addresses.")
    assert found["mask"].outcome == "ok"


def _change_connection(demo: Any, project_id: int, **values: Any) -> None:
    (connection,) = demo.get("/api/ml", project=project_id)
    wanted = {"project": project_id, "url": connection["url"], "title": connection["title"], **values}
    demo.client._http.patch(f"/api/ml/{connection['id']}", json=wanted).raise_for_status()
