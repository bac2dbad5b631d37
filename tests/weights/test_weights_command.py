"""The `weights` command: what it says, and what it exits with; in processes of its own where that matters."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelstudio_sam2.cli import app
from labelstudio_sam2.commands import weights as command
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec

PROGRAM = """
import json, sys
from pathlib import Path
from labelstudio_sam2.cli import main
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec
fields = json.loads(sys.argv.pop(1))
spec = ModelSpec(**{**fields, "config": Path(fields["config"]), "checkpoint": Path(fields["checkpoint"])})
MODELS[spec.model_id] = spec
main()
"""
"""The command line, with one more model in its table, whose checkpoint is small."""

Start = Callable[..., "subprocess.Popen[str]"]


def first_line(process: "subprocess.Popen[str]") -> str:
    """Wait for the first line that a process writes to stderr, and return it."""
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "weights"


@pytest.fixture
def start(spec: ModelSpec, folder: Path) -> Start:
    """Return a function that starts `weights ...` in a process of its own."""

    def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(spec), default=str), "weights", *arguments]
        variables = {**os.environ, "WEIGHTS_DIR": str(folder), "MODEL": "made_up", **environment}
        return subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )

    return start


@pytest.fixture
def invoke(spec: ModelSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs the command line in this process."""
    monkeypatch.setenv("WEIGHTS_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(MODELS, spec.model_id, spec)
    folder.mkdir()
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_a_checkpoint_is_fetched_listed_and_verified(start: Start, folder: Path, weights_server: Any) -> None:
    fetching = start("fetch", "--model", "made_up")
    out, err = fetching.communicate(timeout=120)
    listed, _ = start("list").communicate(timeout=120)
    verifying = start("verify", "--model", "made_up")
    verified, _ = verifying.communicate(timeout=120)

    assert (fetching.returncode, verifying.returncode) == (0, 0)
    assert out == f"sam2/hiera_made_up: fetched, verified: {folder}/made_up.pt\n"
    assert err.splitlines()[-1] == "made_up.pt: 100 %, 0.1 MB of 0.1 MB"
    assert "sam2/hiera_made_up      0.1 MB  made_up.pt                 there, verified" in listed.splitlines()
    assert "nano                    8.6 MB  sam2_nano.safetensors      ships with this package, verified" in listed
    assert verified == f"OK          sam2/hiera_made_up: {folder}/made_up.pt\n"


def test_two_processes_at_once_download_once(start: Start, folder: Path, weights_server: Any) -> None:
    weights_server.gate.clear()
    first = start("fetch")
    halfway = first_line(first)
    second = start("fetch")
    waiting = first_line(second)

    weights_server.gate.set()
    answers = [process.communicate(timeout=120)[0] for process in (first, second)]

    assert halfway.startswith("made_up.pt: ")
    assert waiting == "made_up.pt: another process is at it, waiting for that\n"
    assert [answer.split(", ")[0] for answer in answers] == [
        "sam2/hiera_made_up: fetched",
        "sam2/hiera_made_up: is there",
    ]
    assert (first.returncode, second.returncode) == (0, 0)
    assert (len(weights_server.requests), weights_server.body_bytes) == (1, 100_000)
    assert list(folder.iterdir()) == [folder / "made_up.pt"]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_download_that_is_stopped_goes_on_with_the_same_command(
    start: Start, folder: Path, weights_server: Any, number: signal.Signals, exit_code: int
) -> None:
    weights_server.gate.clear()
    stopped = start("fetch")
    first_line(stopped)  # says how much is there
    stopped.send_signal(number)
    _, err = stopped.communicate(timeout=120)
    kept = (folder / "made_up.pt.part").stat().st_size
    listed, _ = start("list").communicate(timeout=120)
    weights_server.gate.set()

    again = start("fetch")
    again.communicate(timeout=120)

    assert stopped.returncode == exit_code
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "Stopped. What came is kept, the same command goes on from there."
    assert f"incomplete, {kept / 1e6:.1f} MB fetched so far" in listed
    assert again.returncode == 0
    assert weights_server.requests[1] == ("/made_up.pt", f"bytes={kept}-", '"1"')
    assert (folder / "made_up.pt").read_bytes() == weights_server.content


def test_what_cannot_be_had_is_an_error_in_one_line(start: Start, weights_server: Any) -> None:
    weights_server.answers.append("404")

    fetching = start("fetch")
    out, err = fetching.communicate(timeout=120)

    assert (fetching.returncode, out) == (1, "")
    assert err == (
        f"There is no {weights_server.url}: 404 Not Found. WEIGHTS_URL, if you set it, must be the folder that holds "
        "this file. Or bring the file by hand: --file.\n"
    )


def test_offline_says_what_to_bring_and_asks_nobody(
    invoke: Callable[..., Any],
    spec: ModelSpec,
    folder: Path,
    weights_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEIGHTS_OFFLINE", "1")

    refused = invoke("weights", "fetch", "--model", "made_up", "--model", "tiny")

    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    command = f"labelstudio-sam2 weights fetch --model sam2/hiera_made_up --weights-dir {folder}"
    assert lines[:7] == [
        "WEIGHTS_OFFLINE is set, nothing is downloaded. Wanted:",
        "made_up.pt, for the model sam2/hiera_made_up",
        "  size     100000 bytes",
        f"  SHA-256  {spec.sha256}",
        f"  address  {weights_server.url}",
        f"  belongs  {folder}/made_up.pt",
        f"  put it there with: {command} --file PATH",
    ]
    assert lines[7] == "sam2.1_hiera_tiny.pt, for the model sam2/hiera_tiny"
    assert weights_server.requests == []


def test_offline_is_content_with_what_is_there(
    invoke: Callable[..., Any], folder: Path, weights_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTS_OFFLINE", "1")
    (folder / "made_up.pt").write_bytes(weights_server.content)

    def forbidden(*_: Any) -> bool:  # it would download what vanishes after the look
        pytest.fail("fetch was called")

    monkeypatch.setattr(command, "fetch", forbidden)

    result = invoke("weights", "fetch", "--model", "made_up")

    assert weights_server.requests == []
    assert (result.exit_code, result.stdout) == (0, f"sam2/hiera_made_up: is there, verified: {folder}/made_up.pt\n")


def test_a_file_that_was_brought_is_known_by_its_name(
    invoke: Callable[..., Any],
    folder: Path,
    tmp_path: Path,
    weights_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEIGHTS_OFFLINE", "1")
    (tmp_path / "made_up.pt").write_bytes(weights_server.content)

    result = invoke("weights", "fetch", "--file", str(tmp_path / "made_up.pt"))

    assert (result.exit_code, result.stdout) == (0, f"sam2/hiera_made_up: copied, verified: {folder}/made_up.pt\n")
    assert (folder / "made_up.pt").read_bytes() == weights_server.content


def test_a_file_with_another_name_is_taken_for_the_model_that_is_named(
    invoke: Callable[..., Any], folder: Path, tmp_path: Path, weights_server: Any
) -> None:
    (tmp_path / "made_up (1).pt").write_bytes(weights_server.content)

    unclear = invoke("weights", "fetch", "--file", str(tmp_path / "made_up (1).pt"))
    named = invoke("weights", "fetch", "--file", str(tmp_path / "made_up (1).pt"), "--model", "made_up")

    assert (unclear.exit_code, named.exit_code) == (2, 0)
    assert "say which model made_up (1).pt is of, with one --model" in unclear.stderr
    assert (folder / "made_up.pt").is_file()


def test_without_a_name_what_the_server_would_load_is_fetched(
    invoke: Callable[..., Any], weights_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "nano")
    monkeypatch.setenv("EXTRA_MODELS", "hiera_made_up,nano")

    result = invoke("weights", "fetch")

    lines = result.stdout.splitlines()
    assert lines[0] == "nano: nothing to fetch, it ships with this package"
    assert lines[1].startswith("sam2/hiera_made_up: fetched, verified: ")
    assert len(lines) == 2


def test_a_server_with_a_checkpoint_of_ones_own_needs_no_download(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "/models/leaves.pt")
    monkeypatch.setenv("MODEL_CONFIG_FILE", "sam2.1_hiera_t.yaml")

    result = invoke("weights", "fetch")

    assert (result.exit_code, result.stdout) == (0, "leaves: nothing to fetch, it is a checkpoint of your own\n")


def test_a_mirror_is_asked_for_the_file_by_its_name(
    invoke: Callable[..., Any], weights_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTS_URL", weights_server.url.replace("made_up.pt", "mirror"))

    result = invoke("weights", "fetch", "--model", "made_up")

    assert result.exit_code == 0
    assert weights_server.requests[0][0] == "/mirror/made_up.pt"


@pytest.mark.parametrize(
    ("spoil", "exit_code", "verdict"),
    [
        (lambda content: content, 0, "OK          sam2/hiera_made_up: "),
        (lambda content: content[::-1], 1, "damaged     sam2/hiera_made_up: "),
        (lambda content: content + b"!", 1, "damaged     sam2/hiera_made_up: "),
        (lambda content: content[:9], 1, "incomplete  sam2/hiera_made_up: "),
    ],
)
def test_whatever_is_there_is_verified(
    invoke: Callable[..., Any],
    folder: Path,
    weights_server: Any,
    spoil: Callable[[bytes], bytes],
    exit_code: int,
    verdict: str,
) -> None:
    (folder / "made_up.pt").write_bytes(spoil(weights_server.content))

    result = invoke("weights", "verify")

    assert result.exit_code == exit_code
    nano, ours, *more = result.stdout.splitlines()
    assert nano.startswith("OK          nano: ")
    assert ours.startswith(verdict)
    assert len(more) == exit_code  # how to mend it
    assert all("labelstudio-sam2 weights fetch --model sam2/hiera_made_up" in line for line in more)


def test_a_download_that_was_begun_is_incomplete(invoke: Callable[..., Any], folder: Path, weights_server: Any) -> None:
    (folder / "made_up.pt.part").write_bytes(weights_server.content[:7])

    result = invoke("weights", "verify")

    assert result.exit_code == 1
    assert "incomplete  sam2/hiera_made_up: " in result.stdout
    assert "made_up.pt: 7 of 100000 bytes were fetched so far" in result.stdout


def test_what_is_asked_for_by_name_must_be_there(invoke: Callable[..., Any], folder: Path) -> None:
    result = invoke("weights", "verify", "--model", "made_up")

    assert result.exit_code == 1
    assert result.stdout.startswith(f"missing     sam2/hiera_made_up: {folder}/made_up.pt\n")


def test_a_checkpoint_that_no_model_has_is_unknown_and_no_failure(invoke: Callable[..., Any], folder: Path) -> None:
    (folder / "leaves.pt").write_bytes(b"abc")
    (folder / "notes.txt").write_bytes(b"abc")

    result = invoke("weights", "verify")

    # SHA-256 of "abc", from FIPS 180-2
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert f"unknown     leaves.pt: SHA-256 {sha256}" in result.stdout
    assert "notes.txt" not in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["fetch", "--model", "huge"], {}, "'huge' is not a known model; use any of nano, sam2/hiera_tiny"),
        (["verify", "--model", "huge"], {}, "'huge' is not a known model"),
        (["fetch", "--all", "--model", "tiny"], {}, "--all goes with neither --model nor --file"),
        (["fetch", "--file", "x.pt", "--model", "tiny", "--model", "small"], {}, "--file: say which model x.pt is of"),
        (["fetch", "--file", "x.pt", "--model", "nano"], {}, "nano ships with this package"),
        (["fetch"], {"MODEL": "huge"}, "MODEL: 'huge' is not a known model"),
        (["fetch"], {"WEIGHTS_URL": "https://me:secret@mirror.invalid"}, "WEIGHTS_URL: must not carry a user"),
        (["list"], {"WEIGHTS_URL": "mirror"}, "WEIGHTS_URL: "),
    ],
)
def test_what_cannot_be_meant_is_refused(
    invoke: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    result = invoke("weights", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "secret" not in result.stderr


def test_segmenting_without_the_checkpoint_names_the_command_that_gets_it(
    invoke: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "black.png")

    result = invoke("segment", str(tmp_path / "black.png"), "--model", "small", "--device", "cpu")

    assert result.exit_code == 1
    assert f"`labelstudio-sam2 weights fetch --model sam2/hiera_small --weights-dir {folder}`" in result.stderr
