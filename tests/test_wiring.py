"""Settings reach what they are settings of: each is set to an odd value and read back where it counts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labelstudio_sam2.segmenter.sam2_model
from labelstudio_sam2.app import build_segmenter
from labelstudio_sam2.settings import load_settings
from labelstudio_sam2.wsgi import Server


def test_the_models_settings_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[dict[str, Any]] = []

    def load_sam2(_spec: Any, checkpoint: Path, **options: Any) -> Any:
        loaded.append({"checkpoint": checkpoint.name, **options})
        raise RuntimeError("far enough")

    monkeypatch.setattr(labelstudio_sam2.segmenter.sam2_model, "load_sam2", load_sam2)
    settings = load_settings(model="nano", device="cpu", precision="bf16")

    build_segmenter(settings).start().join()

    assert loaded == [{"checkpoint": "sam2_nano.safetensors", "device": "cpu", "precision": "bf16"}]


def test_the_caches_and_queues_have_the_sizes_that_were_set() -> None:
    settings = load_settings(model="nano", embedding_cache_mb=7, max_waiting=3, request_seconds=4.5)

    segmenter = build_segmenter(settings)

    assert segmenter.cache_stats().max_bytes == 7 * 2**20
    assert segmenter._wait_seconds == 4.5
    assert (segmenter._device._max_waiting, segmenter._device._wait_seconds) == (3, 4.5)


@pytest.mark.parametrize(
    ("setting", "option", "expected"),
    [
        ({"threads": 17}, "threads", 17),
        ({"host": "127.0.0.2", "port": 1234}, "bind", ["127.0.0.2:1234"]),
        ({"host": "::1", "port": 1234}, "bind", ["[::1]:1234"]),
    ],
)
def test_the_servers_settings_reach_gunicorn(setting: dict[str, Any], option: str, expected: object) -> None:
    server = Server(load_settings(**setting))

    assert getattr(server.cfg, option) == expected
    assert server.cfg.workers == 1
    assert not server.cfg.preload_app


def test_importing_the_application_loads_no_torch_and_starts_nothing() -> None:

    code = "import sys, threading, labelstudio_sam2.app; print('torch' in sys.modules, threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "1"]
