import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labelstudio_sam2.demo.processes import DemoError, Service

SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
PARENT_SCRIPT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service("sleeper", tmp_path)
    yield service
    service.stop()


def test_a_started_service_runs_until_it_is_stopped(service: Service) -> None:
    service.start(SLEEP, os.environ)
    was_running = service.is_running()

    stopped = service.stop()

    assert (was_running, stopped, service.is_running()) == (True, True, False)


def test_another_run_of_the_program_sees_and_stops_it(service: Service, tmp_path: Path) -> None:
    service.start(SLEEP, os.environ)
    other = Service("sleeper", tmp_path)

    assert other.is_running()
    assert other.stop()
    assert not service.is_running()


def test_the_children_of_a_service_end_with_it(service: Service) -> None:
    service.start([sys.executable, "-c", PARENT_SCRIPT], os.environ)
    _wait(lambda: service.log_tail() != "")
    grandchild = int(service.log_tail())

    service.stop()

    _wait(lambda: not _is_alive(grandchild))


def test_a_service_cannot_run_twice(service: Service, tmp_path: Path) -> None:
    service.start(SLEEP, os.environ)

    with pytest.raises(DemoError, match="sleeper is running already"):
        Service("sleeper", tmp_path).start(SLEEP, os.environ)


def test_a_process_that_got_the_same_id_later_is_left_alone(tmp_path: Path) -> None:
    service = Service("sleeper", tmp_path)
    service.start(SLEEP, os.environ)
    service.stop()
    with subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, start_new_session=True) as stranger:
        (tmp_path / "sleeper.pid").write_text(str(stranger.pid))

        stopped = service.stop()

        assert not stopped
        assert stranger.poll() is None
        stranger.kill()


def test_a_program_that_is_missing_is_named(service: Service) -> None:
    with pytest.raises(DemoError, match="cannot start sleeper: /no/such/program does not exist"):
        service.start(["/no/such/program"], os.environ)


def test_what_a_dead_service_said_last_can_be_shown(service: Service) -> None:
    service.start([sys.executable, "-c", "print('port is taken')"], os.environ)

    _wait(lambda: not service.is_running())

    assert service.log_tail() == "port is taken"


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie that its new parent has not reaped yet counts as ended
    return not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
