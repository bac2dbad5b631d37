"""Settings reach what they are settings of: each is set to an odd value and read back where it counts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labelstudio_sam2.segmenter.sam2_model
import labelstudio_sam2.wsgi
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

    assert segmenter.cache_stats()["device"].max_bytes == 7 * 2**20
    assert segmenter._wait_seconds == 4.5
    assert (segmenter._device._max_waiting, segmenter._device._wait_seconds) == (3, 4.5)


def test_the_disk_tier_has_the_folder_and_the_size_that_were_set(tmp_path: Path) -> None:
    settings = load_settings(
        model="nano", embedding_disk_dir=tmp_path / "embeddings", embedding_disk_mb=9, request_seconds=8
    )

    segmenter = build_segmenter(settings)

    assert segmenter.cache_stats()["disk"].max_bytes == 9 * 2**20
    assert segmenter._disk is not None
    assert (segmenter._disk._folder.path, segmenter._disk._lock_seconds) == (tmp_path / "embeddings", 4)
    assert list(tmp_path.iterdir()) == []  # made when there is something to keep


@pytest.mark.parametrize("settings", [{}, {"embedding_disk_dir": "embeddings", "embedding_disk_mb": 0}])
def test_without_a_folder_or_a_size_there_is_no_disk_tier(settings: dict[str, Any]) -> None:
    assert list(build_segmenter(load_settings(model="nano", **settings)).cache_stats()) == ["device"]


def test_a_checkpoint_that_is_not_there_yet_gets_no_disk_tier_since_its_hash_is_not_known(tmp_path: Path) -> None:
    own, config = tmp_path / "mine.pt", Path("sam2.1_hiera_t.yaml")
    settings = load_settings(model=str(own), model_config_file=config, embedding_disk_dir=tmp_path)
    before = build_segmenter(settings)
    own.write_bytes(b"weights")

    after = build_segmenter(settings)

    assert (before._disk, after._disk is None) == (None, False)


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


def test_what_is_served_reuses_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("configure_logging", "reuse_freed_memory"):
        monkeypatch.setattr(labelstudio_sam2.wsgi, name, lambda *_, name=name: steps.append(name))
    monkeypatch.setattr(Server, "run", lambda _: steps.append("run"))

    labelstudio_sam2.wsgi.serve(load_settings())

    assert steps == ["configure_logging", "reuse_freed_memory", "run"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDDING_DISK_DIR", "EMBEDDING_DISK_MB"):
        monkeypatch.delenv(name, raising=False)


def test_importing_the_application_loads_no_torch_and_starts_nothing() -> None:

    code = "import sys, threading, labelstudio_sam2.app; print('torch' in sys.modules, threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "1"]
