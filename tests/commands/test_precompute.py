"""The `precompute` command as a shell runs it: nano, a disk, and a Label Studio on loopback that lists and serves."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from labelstudio_sam2.app import build_segmenter
from labelstudio_sam2.cli import app
from labelstudio_sam2.commands import precompute as command
from labelstudio_sam2.commands.precompute import Display, Outcome
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio import precompute
from labelstudio_sam2.labelstudio.precompute import Failure, Tally
from labelstudio_sam2.settings import Settings, load_settings

TOKEN = "a1" * 20
LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels>
  <BrushLabels name="brush" toName="image"><Label value="Cat"/></BrushLabels>
</View>
"""


@dataclass
class LabelStudio:
    """A Label Studio with one project, 3.

    Attributes:
        url: Its origin.
        tasks: By id, the address of its picture.
        finished: The tasks that somebody has finished.
        broken: Paths of pictures that are answered with 404.
        status: What its API answers instead, if set.
        label_config: The project's.
        asked: Paths that were asked for, without what follows a question mark.
    """

    url: str = ""
    tasks: dict[int, str] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    status: int | None = None
    label_config: str = LABEL_CONFIG
    asked: list[str] = field(default_factory=list)

    def add_pictures(self, *numbers: int) -> None:
        self.tasks |= {number: f"/data/upload/3/{number}.png" for number in numbers}

    def downloads(self) -> int:
        return sum(path.startswith("/data/upload/") for path in self.asked)

    def answer(self, target: str, authorization: str | None) -> tuple[int, bytes]:
        url = urlsplit(target)
        self.asked.append(url.path)
        if authorization != f"Token {TOKEN}":
            return 401, b""
        if url.path.startswith("/data/upload/3/"):
            return (404, b"") if url.path in self.broken else (200, png_of(int(Path(url.path).stem)))
        if self.status is not None:
            return self.status, b""
        if url.path == "/api/projects/3/":
            return 200, json.dumps({"id": 3, "label_config": self.label_config}).encode()
        if url.path == "/api/tasks":
            return 200, json.dumps(self.page(parse_qs(url.query))).encode()
        return 404, b""

    def page(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        items = {item["filter"]: item["value"] for item in json.loads(asked["query"][0])["filters"]["items"]}
        left_out = self.finished if "filter:tasks:completed_at" in items else set()
        wanted = [n for n in sorted(self.tasks) if n > items["filter:tasks:id"] and n not in left_out]
        shown = wanted[: int(asked["page_size"][0])]
        return {"total": len(wanted), "tasks": [{"id": n, "data": {"image": self.tasks[n]}} for n in shown]}


def png_of(number: int) -> bytes:
    """Return a picture of 8 x 6 pixels that no other number has."""
    image = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def label_studio(serve: Callable[..., AbstractContextManager[int]]) -> Iterator[LabelStudio]:
    studio = LabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, data = studio.answer(self.path, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serve(Handler) as port:
        studio.url = f"http://127.0.0.1:{port}"
        yield studio


@pytest.fixture
def environment(label_studio: LabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the command and the server both have; set for this process too."""
    variables = {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": TOKEN,
        "EMBEDDING_DISK_DIR": str(tmp_path / "embeddings"),
        "MODEL": "nano",
        "DEVICE": "cpu",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EMBEDDING_DISK_MB", raising=False)
    return variables


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., Result]:
    """Return a function that runs `labelstudio-sam2 precompute --project 3`."""
    return lambda *more: CliRunner().invoke(app, ["precompute", "--project", "3", *more], catch_exceptions=False)


def on_disk(settings: Settings, label_studio: LabelStudio) -> list[int]:
    """Return the tasks whose picture a server that has just been started finds on disk."""
    segmenter, source = build_segmenter(settings), ImageSource(settings)
    segmenter.start().join()
    pictures = {
        number: source.find(address, project="3", task_id=number) for number, address in label_studio.tasks.items()
    }
    return [number for number, picture in pictures.items() if segmenter.cached(picture.sha256) is not None]


def test_the_server_finds_every_picture_that_was_precomputed(
    run: Callable[..., Result], label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute, "PAGE_TASKS", 3)
    label_studio.add_pictures(4, 5, 7, 8, 11)

    result = run()

    assert result.exit_code == 0, result.output
    assert re.search(r"^embedded +5 pictures, \d+\.\d\d looked at a second$", result.stdout, re.MULTILINE)
    assert on_disk(load_settings(), label_studio) == [4, 5, 7, 8, 11]


def test_started_again_it_embeds_only_what_is_new(run: Callable[..., Result], label_studio: LabelStudio) -> None:
    label_studio.add_pictures(1, 2, 3)
    run()
    label_studio.add_pictures(4)

    result = run()

    assert result.exit_code == 0
    assert "embedded       1 pictures" in result.stdout
    assert "already there  3" in result.stdout


def test_finished_tasks_are_left_out_unless_all_are_wanted(
    run: Callable[..., Result], label_studio: LabelStudio
) -> None:
    label_studio.add_pictures(1, 2, 3)
    label_studio.finished = {1, 3}

    unfinished, every = run(), run("--all")

    assert "embedded       1 pictures" in unfinished.stdout
    assert "embedded       2 pictures" in every.stdout
    assert "already there  1" in every.stdout


def test_a_picture_that_fails_is_told_by_its_task_without_addresses_and_costs_the_exit_code(
    run: Callable[..., Result], label_studio: LabelStudio
) -> None:
    label_studio.add_pictures(1, 2, 3)
    label_studio.broken.add("/data/upload/3/2.png")
    label_studio.tasks[9] = "https://pictures.example/9.png?X-Amz-Signature=5ecret"

    result = run()

    assert result.exit_code == 1
    assert "embedded       2 pictures" in result.stdout
    assert "failed         2" in result.stdout
    assert "  Image server answered with an error: project 3, task 2\n" in result.stdout
    assert "  Image address is not allowed: project 3, task 9\n" in result.stdout
    assert not re.search(f"5ecret|pictures.example|{TOKEN}", result.output)


def test_a_project_given_twice_is_precomputed_once(run: Callable[..., Result], label_studio: LabelStudio) -> None:
    label_studio.add_pictures(1, 2)

    run("--project", "3")

    assert label_studio.downloads() == 2


def test_a_disk_that_is_too_small_is_told_before_and_after_and_loses_nothing(
    run: Callable[..., Result], label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_DISK_MB", "2")
    label_studio.add_pictures(*range(1, 9))

    result = run()

    assert result.exit_code == 1
    room = int(re.findall(r"has room for (\d) pictures \(EMBEDDING_DISK_MB=2 ", result.stderr)[0])
    assert f"left out       {8 - room} tasks" in result.stdout
    assert f"embedded       {room} pictures" in result.stdout
    assert len(on_disk(load_settings(), label_studio)) == room


def test_with_the_room_that_the_warning_asks_for_there_is_no_warning(
    run: Callable[..., Result], label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_DISK_MB", "2")
    label_studio.add_pictures(*range(1, 9))
    (wanted,) = re.findall(r"set EMBEDDING_DISK_MB=(\d+)", run().stderr)
    monkeypatch.setenv("EMBEDDING_DISK_MB", wanted)

    result = run()

    assert result.exit_code == 0
    assert "has room for" not in result.stderr


def test_every_setting_that_is_missing_is_named_at_once(
    environment: dict[str, str], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "EMBEDDING_DISK_DIR"):
        monkeypatch.delenv(name)

    result = run()

    assert result.exit_code == 2
    assert all(
        f"{name}: must be set" in result.stderr
        for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "EMBEDDING_DISK_DIR")
    )


def test_a_disk_of_no_size_is_a_missing_setting_too(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_DISK_MB", "0")

    result = run()

    assert result.exit_code == 2
    assert "EMBEDDING_DISK_MB: must be set: more than 0" in result.stderr


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "Label Studio answered 401 when asked for project 3: LABEL_STUDIO_API_KEY is no token of it"),
        (403, "Label Studio answered 403 when asked for project 3: the user of LABEL_STUDIO_API_KEY may not see it"),
        (404, "Label Studio answered 404 when asked for project 3: there is none"),
        (502, "Label Studio answered 502 when asked for project 3"),
    ],
)
def test_a_label_studio_that_refuses_is_told_in_one_line(
    run: Callable[..., Result], label_studio: LabelStudio, status: int, told: str
) -> None:
    label_studio.status = status

    result = run()

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1
    assert TOKEN not in result.output


def test_a_label_studio_that_cannot_be_reached_is_told_in_one_line(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")

    result = run()

    assert result.exit_code == 1
    assert result.stderr.startswith("127.0.0.1:9 cannot be reached")


def test_a_project_without_pictures_is_told(run: Callable[..., Result], label_studio: LabelStudio) -> None:
    label_studio.label_config = "<View><Text name='text' value='$text'/></View>"

    result = run()

    assert result.exit_code == 1
    assert "has no <Image>" in result.stderr


def test_a_folder_that_cannot_be_made_is_told(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_DISK_DIR", "/proc/embeddings")

    result = run()

    assert result.exit_code == 1
    assert "/proc/embeddings" in result.stderr


def test_a_model_that_is_not_there_is_told_once(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))

    result = run("--model", "sam2/hiera_tiny")

    assert result.exit_code == 1
    assert result.stderr.count("sam2.1_hiera_tiny.pt is missing") == 1


@pytest.mark.parametrize("told_with", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_all_that_is_written_and_says_what_is_left(
    environment: dict[str, str], label_studio: LabelStudio, tmp_path: Path, told_with: signal.Signals
) -> None:
    label_studio.add_pictures(*range(1, 1001))
    folder = tmp_path / "embeddings"
    program = str(Path(sys.executable).with_name("labelstudio-sam2"))
    command = [program, "precompute", "--project", "3"]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(1200):
            if any(folder.glob("*.safetensors")):
                break
            time.sleep(0.05)
        process.send_signal(told_with)
        stdout, stderr = process.communicate(timeout=60)

    files = len(list(folder.glob("*.safetensors")))
    assert process.returncode == 130, stderr
    assert 0 < files < 1000
    assert f"embedded       {files} pictures" in stdout
    assert "the same command goes on from here" in stdout
    assert list(folder.glob("*/*.lock")) == []
    label_studio.tasks = {number: label_studio.tasks[number] for number in range(1, files + 20)}
    assert len(on_disk(load_settings(), label_studio)) == files


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["precompute", "--help"], env={"COLUMNS": "160"})

    assert "labelstudio-sam2 precompute --project 3" in result.output
    assert "EMBEDDING_DISK_DIR" in result.output


def test_failures_are_told_by_reason_and_many_of_one_kind_are_cut() -> None:
    failures = [Failure("3", number, "Image is too large") for number in range(30, 0, -1)]
    tally = Tally(failures=(*failures, Failure("5", 7, "Image is too large")))

    lines = Outcome(tally=tally, total=40, seconds=1, is_interrupted=False).summary().splitlines()

    first_20 = ", ".join(str(number) for number in range(1, 21))
    assert lines[3:] == [
        f"  Image is too large: project 3, task {first_20} and 10 more",
        "  Image is too large: project 5, task 7",
    ]


def test_a_terminal_of_80_columns_shows_every_figure_in_one_line() -> None:
    screen = io.StringIO()
    tally = Tally(tasks=1204, embedded=1180, there=15, failures=(Failure("3", 7, "Image is too large"),) * 9)

    with Display(Console(file=screen, force_terminal=True, width=80, color_system=None), 5000) as display:
        display._began -= 100
        display.show(tally)

    shown = r"1204/5000 tasks, 12.0/s, 1,180 embedded, 15 there, 9 failed \S+ left"
    assert re.search(shown, screen.getvalue())


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    display = Display(Console(file=log), 5000)

    with display:
        display.show(Tally(tasks=1))
        monkeypatch.setattr(command, "LINE_SECONDS", 0)
        display.show(Tally(tasks=2, embedded=2))

    assert re.fullmatch(r"2 of 5,000 tasks, [\d.]+/s, 2 embedded, 0 there, 0 failed\n", log.getvalue())
