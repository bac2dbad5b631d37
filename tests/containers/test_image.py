"""What the backend's image promises, asked of containers that really run."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.segmenter.zoo import MODELS

pytestmark = pytest.mark.containers

Run = Callable[..., str]

CONFINED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""As docker-compose.yml runs it."""


def _published(engine: Any, identity: str) -> str:
    address = engine.docker("port", identity, "9090/tcp").strip().splitlines()[0]
    return f"http://{address}"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _health(engine: Any, identity: str) -> str:
    return str(engine.docker("inspect", "--format", "{{.State.Health.Status}}", identity).strip())


def _wait(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.5)


def test_a_confined_container_serves_is_found_healthy_and_ends_when_told(engine: Any, container: Run) -> None:
    identity = container(*CONFINED, "--publish", "127.0.0.1::9090", "--env", "MODEL=nano")
    url = _published(engine, identity)

    _wait(lambda: _health(engine, identity) == "healthy")

    assert (_status(f"{url}/health"), _status(f"{url}/ready")) == (200, 200)
    engine.docker("stop", "--time", "40", identity)
    assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", identity).strip() == "0"


def test_without_weights_it_lives_and_says_which_file_it_wants(engine: Any, container: Run) -> None:
    identity = container("--publish", "127.0.0.1::9090", "--env", "MODEL=sam2/hiera_tiny")
    url = _published(engine, identity)

    _wait(lambda: _status(f"{url}/health") == 200)
    _wait(lambda: "sam2.1_hiera_tiny.pt" in engine.docker("logs", identity))

    assert _status(f"{url}/ready") == 503
    assert _health(engine, identity) != "healthy"


def test_a_checkpoint_of_ones_own_in_the_weights_volume_is_served(engine: Any, container: Run, tmp_path: Path) -> None:
    shutil.copy(MODELS["nano"].checkpoint, tmp_path / "ours.safetensors")
    shutil.copy(MODELS["nano"].config, tmp_path / "ours.yaml")
    tmp_path.chmod(0o755)
    model = ("--env", "MODEL=/weights/ours.safetensors", "--env", "MODEL_CONFIG_FILE=/weights/ours.yaml")
    volume = ("--volume", f"{tmp_path}:/weights:ro")
    identity = container(*CONFINED, *volume, *model, "--publish", "127.0.0.1::9090")

    _wait(lambda: _health(engine, identity) == "healthy")

    with urllib.request.urlopen(f"{_published(engine, identity)}/ready", timeout=5) as answer:
        assert json.load(answer)["model_version"].startswith("ours@")


def test_it_runs_as_nobody_special_and_holds_no_weights_but_nanos(engine: Any, image: str) -> None:
    script = "id -u; find / -xdev -size +1M -name '*.pt' -o -xdev -name '*.safetensors' 2>/dev/null || true"

    uid, *weights = engine.docker("run", "--rm", "--entrypoint", "bash", image, "-c", script).split()

    assert uid == "1000"
    assert [Path(path).name for path in weights] == ["sam2_nano.safetensors"]


def test_sources_of_a_checkout_that_is_mounted_win(engine: Any, image: str, tmp_path: Path) -> None:
    package = tmp_path / "backend" / "labelstudio_sam2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('mounted')")
    command = ("run", "--rm", "--volume", f"{tmp_path}/backend:/app/backend:ro", "--entrypoint", "python3", image)

    assert engine.docker(*command, "-c", "import labelstudio_sam2").strip() == "mounted"


def test_a_shell_writes_into_a_scratch_folder_that_is_mounted(engine: Any, image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = ("run", "--rm", "--volume", f"{tmp_path}:/app/scratch", "--entrypoint", "bash", image, "-c")

    engine.docker(*command, "labelstudio-sam2 segment --help >/app/scratch/help.txt")

    assert "Segment one object" in (tmp_path / "help.txt").read_text()


def test_its_log_is_json_and_names_no_secret(engine: Any, container: Run) -> None:
    secret = "a-password-nobody-may-read"
    identity = container("--env", "MODEL=nano", "--env", "BASIC_AUTH_USER=bob", "--env", f"BASIC_AUTH_PASS={secret}")
    _wait(lambda: _health(engine, identity) == "healthy")

    log = engine.docker("logs", identity)

    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    assert secret not in log
