"""A project of a real Label Studio embedded ahead, then clicked on through a backend with the same folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.label_studio


def test_after_a_project_was_precomputed_no_click_embeds_anything(
    demo: Any, make_project: Any, start_backend: Any, tmp_path: Path
) -> None:
    shared = {
        "LABEL_STUDIO_URL": demo.state.label_studio_url,
        "LABEL_STUDIO_API_KEY": demo.state.token,
        "EMBEDDING_DISK_DIR": str(tmp_path / "embeddings"),
    }
    with start_backend(**shared) as backend:
        project_id, tasks = make_project(count=5, backend_url=backend.url)
        demo.finish([tasks[1]])

        first = precompute(project_id, **shared)
        answers = [demo.click(project_id, task_id, (96, 64)) for task_id in (tasks[0], *tasks[2:])]
        embedded = sum(line["message"] == "embedded a picture" for line in backend.log())
        second = precompute(project_id, "--all", **shared)

    assert "embedded       4 pictures" in first
    assert all(answer["data"]["model_version"].startswith("nano@") for answer in answers)
    assert embedded == 0
    assert "embedded       1 pictures" in second
    assert "already there  4" in second


@pytest.mark.parametrize(
    ("project", "token", "told"),
    [
        (999_999, None, "Label Studio answered 404 when asked for project 999999"),
        (1, "f" * 40, "Label Studio answered 401 when asked for project 1"),
    ],
)
def test_what_label_studio_refuses_is_told(
    demo: Any, tmp_path: Path, project: int, token: str | None, told: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        precompute(
            project,
            LABEL_STUDIO_URL=demo.state.label_studio_url,
            LABEL_STUDIO_API_KEY=token or demo.state.token,
            EMBEDDING_DISK_DIR=str(tmp_path / "embeddings"),
        )

    assert failed.value.returncode == 1
    assert failed.value.stderr.startswith(told)


def precompute(project_id: int, *options: str, **environment: str) -> str:
    """Run the command with nano; return its summary."""
    program = str(Path(sys.executable).with_name("labelstudio-sam2"))
    command = [program, "precompute", "--project", str(project_id), "--model", "nano", *options]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout
