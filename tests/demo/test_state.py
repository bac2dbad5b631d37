import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from labelstudio_sam2.demo.state import DemoState


@pytest.fixture
def state() -> DemoState:
    return DemoState.make(label_studio_port=18080, backend_port=19090)


def test_what_was_saved_is_loaded_again(state: DemoState, tmp_path: Path) -> None:
    replace(state, project_id=7).save(tmp_path)

    assert DemoState.load(tmp_path) == replace(state, project_id=7)


def test_a_folder_without_a_demo_has_no_state(tmp_path: Path) -> None:
    assert DemoState.load(tmp_path) is None


def test_the_password_file_is_for_its_owner_only(state: DemoState, tmp_path: Path) -> None:
    state.save(tmp_path)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"state.json": 0o600}


def test_every_demo_gets_a_password_and_a_token_of_its_own(state: DemoState) -> None:
    other = DemoState.make(label_studio_port=18080, backend_port=19090)

    assert other.password != state.password
    assert other.token != state.token
    assert len(state.token) == 40  # what Label Studio takes as a legacy token


def test_a_port_somebody_listens_on_is_replaced_and_the_free_one_kept(state: DemoState) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        taken, free = server.getsockname()[1], closed.getsockname()[1]
        closed.close()

        chosen = replace(state, label_studio_port=taken, backend_port=free).with_free_ports()

    assert chosen.label_studio_port not in (taken, free)
    assert chosen.backend_port == free


def test_the_two_servers_never_share_a_port(state: DemoState) -> None:
    chosen = replace(state, label_studio_port=state.backend_port).with_free_ports()

    assert chosen.label_studio_port != chosen.backend_port
