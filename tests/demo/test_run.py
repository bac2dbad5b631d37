import sys
from pathlib import Path

import pytest

from labelstudio_sam2.demo.processes import DemoError, Service
from labelstudio_sam2.demo.run import (
    backend_environment,
    examine_demo,
    label_studio_command,
    label_studio_environment,
    run_demo,
    stop_demo,
    wait_until_ready,
)
from labelstudio_sam2.demo.state import DemoState
from labelstudio_sam2.settings import Settings

STATE = DemoState.make(label_studio_port=18080, backend_port=19090)


def test_label_studio_listens_on_this_machine_only() -> None:
    command = label_studio_command(Path("/venv/bin/python"), Path("/data"), 18080)

    assert command[:2] == ["/venv/bin/label-studio", "start"]
    assert command[command.index("--internal-host") + 1] == "127.0.0.1"


def test_label_studio_may_call_a_backend_on_this_machine_and_tells_nobody() -> None:
    environment = label_studio_environment(STATE, {})

    assert environment["ML_BLOCK_LOCAL_IP"] == environment["SSRF_PROTECTION_ENABLED"] == "false"
    assert environment["COLLECT_ANALYTICS"] == environment["LATEST_VERSION_CHECK"] == "false"
    assert environment["SENTRY_DSN"] == environment["FRONTEND_SENTRY_DSN"] == ""


def test_what_the_visitor_has_set_for_other_servers_does_not_reach_the_demo() -> None:
    inherited = {
        "PATH": "/bin",
        "HTTP_PROXY": "http://proxy",
        "MODEL": "sam2/hiera_large",
        "LABEL_STUDIO_HOST": "http://x",
    }

    environment = backend_environment(STATE, inherited)

    assert environment == {
        "PATH": "/bin",
        "HOST": "127.0.0.1",
        "PORT": "19090",
        "MODEL": "nano",
        "LABEL_STUDIO_URL": "http://127.0.0.1:18080",
        "LABEL_STUDIO_API_KEY": STATE.token,
    }


def test_every_variable_given_to_the_backend_is_one_of_its_settings() -> None:
    given = set(backend_environment(STATE, {}))

    assert given <= {name.upper() for name in Settings.model_fields}


def test_a_server_that_dies_at_its_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    service = Service("backend", tmp_path)
    service.start([sys.executable, "-c", "raise SystemExit('no such model')"], {})

    with pytest.raises(DemoError, match=r"backend ended at its start[\s\S]*no such model"):
        wait_until_ready(service, "http://127.0.0.1:9/ready")


def test_without_label_studio_nothing_is_left_running(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="cannot start label-studio"):
        run_demo(tmp_path, label_studio_python=tmp_path / "venv" / "bin" / "python")

    assert not stop_demo(tmp_path)


def test_the_doctor_of_a_demo_looks_at_that_demo_whatever_the_visitor_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    STATE.save(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio.example.com")
    monkeypatch.setenv("MODEL", "sam2/hiera_large")

    exit_code = examine_demo(tmp_path)

    told = " ".join(capfd.readouterr().out.split())
    assert exit_code == 1
    assert "MODEL is nano" in told
    assert "cannot be reached at http://127.0.0.1:18080" in told
    assert "http://127.0.0.1:19090" in told


def test_a_demo_that_never_was_has_no_doctor(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make demo starts one"):
        examine_demo(tmp_path)
