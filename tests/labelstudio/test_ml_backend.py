"""Runs the real server of label-studio-ml 1.0.9, which lives in a virtual environment of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-label-studio-ml" / "bin"

pytestmark = pytest.mark.label_studio_ml


@dataclass(frozen=True)
class MlServer:
    """A running `label-studio-ml start`."""

    url: str

    def post(self, path: str, body: object) -> tuple[int, str, dict[str, Any]]:
        """Return status, reason and JSON body of the answer."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=100) as answer:
                return answer.status, answer.reason, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.reason, json.load(error)


@pytest.fixture(scope="module")
def ml_commands() -> Path:
    """The folder with label-studio-ml's command."""
    if not (BIN / "label-studio-ml").exists():
        message = "label-studio-ml 1.0.9 is not installed: make test installs it"
        if os.environ.get("CI") == "true" or os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return BIN


@pytest.fixture(scope="module")
def start_ml_server(ml_commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., MlServer]]:
    """Starts label-studio-ml the way its users do: `init` with a model file, then `start`."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**environment: str) -> MlServer:
        folder = tmp_path_factory.mktemp("ml")
        (folder / "model.py").write_text("from labelstudio_sam2.labelstudio.ml_backend import SAM2Backend\n")
        settings = {"MODEL": "nano", "DEVICE": "cpu", "ALLOWED_IMAGE_HOSTS": "127.0.0.1", **environment}
        variables = {**os.environ, **settings, "PATH": f"{ml_commands}{os.pathsep}{os.environ['PATH']}"}
        init = ["label-studio-ml", "init", "sam2", "--script", "model.py:SAM2Backend"]
        subprocess.run(init, cwd=folder, env=variables, check=True, capture_output=True, timeout=60)
        port = _free_port()
        with (folder / "log").open("wb") as log:
            command = ["label-studio-ml", "start", "sam2", "--host", "127.0.0.1", "-p", str(port)]
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        running.append(process)
        server = MlServer(f"http://127.0.0.1:{port}")
        _wait_until_up(server, process, folder / "log")
        return server

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGTERM)  # start runs the server as a grandchild, in the same group
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def ml_server(start_ml_server: Callable[..., MlServer]) -> MlServer:
    """A server as it starts by default."""
    return start_ml_server()


@pytest.fixture
def click(recorded: Callable[[str], Any], picture_server: Any, disc_and_box: Any) -> dict[str, Any]:
    """The recorded request of a click on the disc, with the picture at a server of this test."""
    picture_server.files["/disc.png"] = disc_and_box.png()
    body: dict[str, Any] = recorded("kp1_positive")
    body["tasks"][0]["data"]["image"] = f"{picture_server.url}/disc.png"
    return body


def test_a_recorded_click_becomes_the_mask_of_the_object_under_it(
    ml_server: MlServer, click: dict[str, Any], disc_and_box: Any, iou: Any
) -> None:
    ml_server.post("/setup", _setup(click))

    status, _, answer = _predict(ml_server, click)

    assert status == 200, answer
    (region,) = answer["results"][0]["result"]
    assert region["type"] == "brushlabels"
    assert region["value"]["brushlabels"] == ["Object"]
    assert iou(_mask(region), disc_and_box.masks["disc"]) >= 0.85


def test_another_project_being_set_up_does_not_change_the_answer(ml_server: MlServer, click: dict[str, Any]) -> None:
    other = (
        '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"><Label value="Cat"/></BrushLabels></View>'
    )
    ml_server.post("/setup", _setup(click))
    ml_server.post("/setup", {"project": "99.1", "schema": other})

    status, _, answer = _predict(ml_server, click)

    assert status == 200, answer
    assert answer["results"][0]["result"][0]["value"]["brushlabels"] == ["Object"]


def test_a_task_that_is_only_opened_gets_nothing_to_store(ml_server: MlServer, click: dict[str, Any]) -> None:
    ml_server.post("/setup", _setup(click))
    click["params"]["context"] = None

    status, _, answer = _predict(ml_server, click)

    assert (status, answer["results"]) == (200, [[]])


def test_an_error_keeps_its_status_and_reason_and_shows_no_traceback(
    ml_server: MlServer, click: dict[str, Any]
) -> None:
    ml_server.post("/setup", _setup(click))
    click["tasks"][0]["data"]["image"] = "http://10.0.0.1/private.png"

    status, reason, answer = _predict(ml_server, click)

    assert (status, reason) == (422, "Image address is not allowed")
    assert answer["result"] == {"error": "url_refused", "traceback": None}
    assert "10.0.0.1" in answer["detail"]


def test_a_click_without_any_setup_before_is_answered_where_v2_is_off(
    start_ml_server: Callable[..., MlServer], click: dict[str, Any], disc_and_box: Any, iou: Any
) -> None:
    server = start_ml_server(LABEL_STUDIO_ML_BACKEND_V2="")

    status, _, answer = _predict(server, click)

    assert status == 200, answer
    assert iou(_mask(answer["results"][0]["result"][0]), disc_and_box.masks["disc"]) >= 0.85


def test_without_label_studio_ml_the_import_says_what_to_do() -> None:
    program = "import sys; sys.modules['label_studio_ml'] = None; import labelstudio_sam2.labelstudio.ml_backend"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert "needs the package label-studio-ml" in done.stderr
    assert "run: labelstudio-sam2 serve" in done.stderr


def _setup(click: dict[str, Any]) -> dict[str, Any]:
    """Return what Label Studio posts to `/setup` for the project of a click."""
    return {"project": click["project"], "schema": click["label_config"], "access_token": "made-up"}


def _predict(server: MlServer, click: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
    """Post to `/predict` until the model, which the first request makes load, is there."""
    deadline = time.monotonic() + 90
    answer = server.post("/predict", click)
    while answer[1] == "Model is still loading" and time.monotonic() < deadline:
        time.sleep(0.2)
        answer = server.post("/predict", click)
    return answer


def _mask(region: dict[str, Any]) -> NDArray[np.bool_]:
    return np.asarray(decode_rle(region["value"]["rle"]).reshape(480, 640, 4)[..., 3] > 127)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(server: MlServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(server.url + "/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"label-studio-ml did not start:\n{log.read_text(errors='replace')[-3000:]}")
