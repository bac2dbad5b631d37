"""`docker compose up` as a team runs it: Label Studio, its database, the backend, and a click through all of them."""

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter import brush

from labelstudio_sam2.demo.project import LABEL_CONFIG, TITLE
from labelstudio_sam2.demo.scenes import draw_scenes
from labelstudio_sam2.segmenter.zoo import MODELS

pytestmark = pytest.mark.containers

WAIT_SECONDS = 400
BACKEND_URL = "http://sam2-backend:9090"

PREDICT = """
import base64, os, sys, urllib.error, urllib.request

secret = base64.b64encode("{BASIC_AUTH_USER}:{BASIC_AUTH_PASS}".format(**os.environ).encode()).decode()
headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:9090/predict", sys.argv[1].encode(), headers)
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

LYING_MIRROR = """
import http.server, os

os.makedirs("/tmp/mirror", exist_ok=True)
with open("/tmp/mirror/sam2.1_hiera_tiny.pt", "wb") as file:
    file.truncate({size})
os.chdir("/tmp/mirror")
http.server.test(http.server.SimpleHTTPRequestHandler, port=8099)
"""
"""Hands out a file of the right name and size, all zeros."""

ASK_MIRROR = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8099/', timeout=5).status)"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The stack of this run.

    Attributes:
        compose: Runs `docker compose` on it.
        http: Label Studio's API, with the token.
        backend_url: The backend as this machine reaches it.
    """

    compose: Callable[..., str]
    http: httpx.Client
    backend_url: str

    def get(self, path: str, **query: Any) -> Any:
        return self.http.get(path, params=query).raise_for_status().json()

    def backend_log(self) -> list[dict[str, Any]]:
        lines = self.compose("logs", "--no-color", "--no-log-prefix", "sam2-cpu").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def stack(engine: Any, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    token = secrets.token_hex(20)
    label_studio_port, backend_port = _free_port(), _free_port()
    given = {
        "COMPOSE_PROFILES": "cpu",
        "POSTGRES_PASSWORD": secrets.token_hex(8),
        "LABEL_STUDIO_USERNAME": "first@example.com",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
        "LABEL_STUDIO_API_KEY": token,
        "BASIC_AUTH_USER": "label-studio",
        "BASIC_AUTH_PASS": secrets.token_hex(8),
        "MODEL": "nano",
        "LABEL_STUDIO_PORT": str(label_studio_port),
        "SAM2_PORT": str(backend_port),
    }
    env_file = tmp_path_factory.mktemp("stack") / "env"
    example = (Path(__file__).parents[2] / ".env.example").read_text()
    env_file.write_text(example + "".join(f"{name}={value}\n" for name, value in given.items()))

    def compose(*arguments: str, **options: Any) -> str:
        return str(engine.compose("--project-name", "sam2-test", "--env-file", str(env_file), *arguments, **options))

    try:
        pull = ("--pull", "never") if engine.stands_in else ()
        compose("up", "--detach", "--no-build", *pull, "--wait", "--wait-timeout", str(WAIT_SECONDS))
        headers = {"Authorization": f"Token {token}"}
        url = f"http://127.0.0.1:{label_studio_port}"
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
            _wait(lambda: _answers(http, "/api/version"))
            yield Stack(compose=compose, http=http, backend_url=f"http://127.0.0.1:{backend_port}")
    finally:
        compose("down", "--volumes", "--timeout", "40", check=False)


@dataclass(frozen=True)
class Project:
    """The demo's project in Label Studio: its connected backend, its tasks in the order of the demo's pictures."""

    backend: Any
    tasks: list[int]


@pytest.fixture(scope="module")
def project(stack: Stack) -> Project:
    """Made by the backend's own command; twice, the second time to no effect."""
    command = ("labelstudio-sam2", "demo-project", "--backend-url", BACKEND_URL)
    for _ in range(2):
        stack.compose("exec", "-T", "sam2-cpu", *command)
    (made,) = [each for each in stack.get("/api/projects/")["results"] if each["title"] == TITLE]
    (backend,) = stack.get("/api/ml", project=made["id"])
    tasks = stack.get("/api/tasks", project=made["id"], page_size=100)["tasks"]
    return Project(backend, sorted(task["id"] for task in tasks))


def test_label_studio_has_the_demo_project_with_the_backend_connected(project: Project) -> None:
    backend = project.backend

    assert (backend["url"], backend["state"], backend["is_interactive"]) == (BACKEND_URL, "CO", True)
    assert len(project.tasks) == len(draw_scenes())


def test_a_click_through_label_studio_comes_back_as_the_fruits_mask(
    stack: Stack, project: Project, iou: Callable[..., float]
) -> None:
    scene = draw_scenes()[0]
    truth = scene.masks["lemon"]

    mask = _mask(_click(stack, project, project.tasks[0], _inside(truth), scene.image.shape[:2]))

    assert iou(mask, truth) > 0.8


def test_a_click_costs_no_second_embedding_after_the_backend_was_restarted(stack: Stack, project: Project) -> None:
    scene = draw_scenes()[0]
    at = _inside(scene.masks["lemon"])
    before = _click(stack, project, project.tasks[0], at, scene.image.shape[:2])
    embedded = _embedded(stack)

    stack.compose("restart", "--timeout", "40", "sam2-cpu")
    stack.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(WAIT_SECONDS), "sam2-cpu")
    after = _click(stack, project, project.tasks[0], at, scene.image.shape[:2])

    assert after["value"]["rle"] == before["value"]["rle"]
    assert _embedded(stack) == embedded


def test_while_label_studio_is_away_the_backend_stays_healthy_and_refuses_in_time(
    stack: Stack, project: Project
) -> None:
    scene = draw_scenes()[1]
    task = stack.get(f"/api/tasks/{project.tasks[-1]}/")

    stack.compose("stop", "--timeout", "30", "label-studio")
    began = time.monotonic()
    refused = _predict_past_label_studio(stack, {**task, "data": {"image": "/data/upload/1/never-seen.png"}})
    seconds = time.monotonic() - began
    healthy = httpx.get(f"{stack.backend_url}/health", trust_env=False).status_code

    assert refused in {502, 504}  # its name is not known any more, or nobody answers where it was
    assert seconds < 10
    assert healthy == 200
    stack.compose("start", "label-studio")
    _wait(lambda: _answers(stack.http, "/api/version"))
    answer = _click(stack, project, project.tasks[1], _inside(next(iter(scene.masks.values()))), scene.image.shape[:2])
    assert _mask(answer).any()


def test_weights_that_cannot_be_had_or_are_not_the_right_ones_are_named_and_the_backend_serves_on(stack: Stack) -> None:
    tiny = MODELS["sam2/hiera_tiny"]

    def weights(**variables: str) -> str:
        given = [f"--env={name}={value}" for name, value in {"MODEL": tiny.model_id, **variables}.items()]
        return stack.compose("run", "--rm", "-T", *given, "weights", check=False)

    program = LYING_MIRROR.format(size=tiny.size_bytes)
    stack.compose("exec", "--detach", "-T", "label-studio", "python3", "-c", program)
    _wait(lambda: "200" in stack.compose("exec", "-T", "label-studio", "python3", "-c", ASK_MIRROR, check=False))
    lied_to = weights(WEIGHTS_URL="http://label-studio:8099")
    nobody_there = weights(WEIGHTS_URL="http://label-studio:8098")
    offline = weights(WEIGHTS_OFFLINE="1")

    assert f"SHA-256 {tiny.sha256} is wanted" in lied_to
    assert "5 times in a row" in nobody_there
    assert str(tiny.size_bytes) in offline
    assert httpx.get(f"{stack.backend_url}/health", trust_env=False).status_code == 200


def test_nothing_but_label_studio_and_the_backend_is_published_and_both_on_loopback(stack: Stack) -> None:
    listed = stack.compose("ps", "--format", "json")
    services = [json.loads(line) for line in listed.splitlines() if line.startswith("{")]

    published = {
        (each["Service"], port["URL"]) for each in services for port in each["Publishers"] if port["PublishedPort"]
    }

    assert published == {("label-studio", "127.0.0.1"), ("sam2-cpu", "127.0.0.1")}


def _click(stack: Stack, project: Project, task_id: int, at: tuple[int, int], size_hw: tuple[int, ...]) -> Any:
    """Click through Label Studio as its editor does; return the region it answers."""
    asked = {"task": task_id, "context": {"result": [_key_point(at, size_hw)]}}
    path = f"/api/ml/{project.backend['id']}/interactive-annotating"
    answer = stack.http.post(path, json=asked).raise_for_status().json()
    assert "data" in answer, answer
    (region,) = answer["data"]["result"]
    return region


def _key_point(at: tuple[int, int], size_hw: tuple[int, ...]) -> dict[str, Any]:
    height, width = size_hw
    x, y = at
    return {
        "id": "abc",
        "from_name": "point",
        "to_name": "image",
        "type": "keypointlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "is_positive": True,
        "value": {"x": 100 * (x + 0.5) / width, "y": 100 * (y + 0.5) / height, "width": 1, "keypointlabels": ["Fruit"]},
    }


def _mask(region: Any) -> Any:
    """Decode a brush region with Label Studio's own code, (H, W) bool."""
    width, height = region["original_width"], region["original_height"]
    return np.reshape(brush.decode_rle(region["value"]["rle"]), (height, width, 4))[..., 3] > 0


def _inside(mask: Any) -> tuple[int, int]:
    """Return the pixel, xy, of a mask that is nearest to its middle."""
    ys, xs = np.nonzero(mask)
    nearest = np.hypot(xs - xs.mean(), ys - ys.mean()).argmin()
    return int(xs[nearest]), int(ys[nearest])


def _embedded(stack: Stack) -> int:
    return sum(line["message"] == "embedded a picture" for line in stack.backend_log())


def _predict_past_label_studio(stack: Stack, task: Any) -> int:
    """Ask the backend itself, with the credentials that are in its environment; return the status."""
    body = {
        "tasks": [task],
        "label_config": LABEL_CONFIG,
        "project": "1.1",
        "params": {"context": {"result": [_key_point((5, 5), (480, 640))]}},
    }
    return int(stack.compose("exec", "-T", "sam2-cpu", "python3", "-c", PREDICT, json.dumps(body)).split()[-1])


def _answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == 200
    except httpx.HTTPError:
        return False


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
