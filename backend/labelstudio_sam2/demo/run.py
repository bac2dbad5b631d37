"""`labelstudio-sam2 demo`: this backend and a real Label Studio side by side, with a project to click in."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from labelstudio_sam2.demo.processes import DemoError, Service
from labelstudio_sam2.demo.project import LabelStudioClient, explained, prepare_project
from labelstudio_sam2.demo.state import LOOPBACK, DemoState

READY_SECONDS = 600
"""The first start of Label Studio takes one and a half minutes on a laptop, more on a busy machine."""
POLL_SECONDS = 0.25
KEPT_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("TERM", "COLUMNS", "NO_COLOR"),
)
"""What the child processes inherit. No proxy, and no setting meant for another Label Studio or backend."""


def run_demo(
    root: Path,
    *,
    label_studio_python: Path,
    detach: bool = False,
    label_studio_port: int = 8080,
    backend_port: int = 9090,
    console: Console | None = None,
) -> None:
    """Start both servers, prepare the project, tell how to use it, and stay until Ctrl-C.

    A second run starts on the same data in seconds. Ports that are taken are replaced by free ones, and kept.

    Args:
        root: Folder for all data, logs and the made-up password; created where it lacks.
        label_studio_python: The Python of the virtual environment that holds Label Studio.
        detach: Return as soon as everything is ready and leave the servers running; `stop_demo` ends them.
        label_studio_port: Wanted port at the first run.
        backend_port: Wanted port at the first run.
        console: Where to write; the terminal by default.

    Raises:
        DemoError: A server could not be started, or died; the message carries the end of its log.
    """
    console = console or Console()
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    label_studio, backend = _services(root)
    if label_studio.is_running() and backend.is_running() and (state := DemoState.load(root)) is not None:
        console.print(_how_to(state, detach=True), "It was running already.")
        return
    stop_demo(root)
    try:
        with _interruptible(), ExitStack() as cleanup:
            cleanup.callback(stop_demo, root)
            state = _start(root, label_studio, backend, label_studio_python, (label_studio_port, backend_port), console)
            console.print(_how_to(state, detach=detach))
            if detach:
                cleanup.pop_all()
            else:
                _watch(label_studio, backend)
    except KeyboardInterrupt:
        console.print(f"Stopped. What you labeled is kept in {root}.")


def stop_demo(root: Path) -> bool:
    """End the servers of a demo that was started with `detach`; returns whether any was running."""
    stopped = [service.stop() for service in _services(root.resolve())]
    return any(stopped)


def examine_demo(root: Path) -> int:
    """Run the doctor with the settings of the demo's backend, whether that runs or not; returns its exit code.

    Raises:
        DemoError: No demo was started in that folder yet.
    """
    state = DemoState.load(root.resolve())
    if state is None:
        raise DemoError(f"None was started in {root} yet; make demo starts one")
    environment = backend_environment(state, os.environ)
    return subprocess.run(_own_command("doctor"), env=environment, check=False).returncode  # noqa: S603  our own command


def label_studio_command(python: Path, data: Path, port: int) -> list[str]:
    """Return the command that serves Label Studio on 127.0.0.1 with all its data in a folder."""
    program = python.absolute().with_name("label-studio")  # not resolve(): a venv's python is a link out of it
    flags = ["--no-browser", "--internal-host", LOOPBACK, "--port", str(port), "--data-dir", str(data)]
    return [str(program), "start", *flags]


def label_studio_environment(state: DemoState, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return Label Studio's environment: its user, quiet, and allowed to call a backend on this machine."""
    return _kept(inherited) | {
        "LABEL_STUDIO_USERNAME": state.user,
        "LABEL_STUDIO_PASSWORD": state.password,
        "LABEL_STUDIO_USER_TOKEN": state.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "ML_BLOCK_LOCAL_IP": "false",  # both are needed, else the backend on 127.0.0.1 is refused
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def backend_command() -> list[str]:
    """Return the command that serves this backend; `backend_environment` says how."""
    return _own_command("serve")


def backend_environment(state: DemoState, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return this backend's settings: the small model, and Label Studio's address and token to fetch pictures with."""
    return _kept(inherited) | {
        "HOST": LOOPBACK,
        "PORT": str(state.backend_port),
        "MODEL": "nano",
        "LABEL_STUDIO_URL": state.label_studio_url,
        "LABEL_STUDIO_API_KEY": state.token,
    }


def wait_until_ready(service: Service, url: str) -> None:
    """Wait until a GET of the URL answers 200.

    Raises:
        DemoError: The service died, or was not ready within `READY_SECONDS`.
    """
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as http:
        while not _answers(http, url):
            if not service.is_running():
                raise DemoError(
                    f"{service.name} ended at its start. The end of {service.log_path}:\n{service.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise DemoError(f"{service.name} was not ready after {READY_SECONDS} s, see {service.log_path}")
            time.sleep(POLL_SECONDS)


def _start(
    root: Path,
    label_studio: Service,
    backend: Service,
    label_studio_python: Path,
    wanted_ports: tuple[int, int],
    console: Console,
) -> DemoState:
    known = DemoState.load(root)
    state = known or DemoState.make(label_studio_port=wanted_ports[0], backend_port=wanted_ports[1])
    wanted, state = state, state.with_free_ports()
    for name, before, now in (
        ("Label Studio", wanted.label_studio_port, state.label_studio_port),
        ("the backend", wanted.backend_port, state.backend_port),
    ):
        if now != before:
            console.print(f"Port {before} is taken: {name} is on {now} from now on.")
    state.save(root)
    data = root / "label-studio"
    data.mkdir(exist_ok=True)
    label_studio.start(
        label_studio_command(label_studio_python, data, state.label_studio_port),
        label_studio_environment(state, os.environ),
    )
    backend.start(backend_command(), backend_environment(state, os.environ))
    wait = "about ten seconds" if state.project_id else "its first start builds the database, one to two minutes"
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for service, url, text in (
            (backend, f"{state.backend_url}/ready", "SAM 2 backend with the nano model"),
            (label_studio, f"{state.label_studio_url}/health", f"Label Studio ({wait})"),
        ):
            step = progress.add_task(text, total=1)
            wait_until_ready(service, url)
            progress.advance(step)
        step = progress.add_task("Project and pictures", total=1)
        try:
            with LabelStudioClient(state.label_studio_url, f"Token {state.token}") as client:
                state = replace(state, project_id=prepare_project(client, state.project_id, state.backend_url))
        except httpx.HTTPError as error:
            raise DemoError(
                f"Label Studio refused to set up the project: {explained(error)}; see {label_studio.log_path}"
            ) from None
        state.save(root)
        progress.advance(step)
    return state


def _watch(label_studio: Service, backend: Service) -> None:
    while True:
        for service in (label_studio, backend):
            if not service.is_running():
                raise DemoError(f"{service.name} ended. The end of {service.log_path}:\n{service.log_tail()}")
        time.sleep(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and a closed terminal stop the demo as Ctrl-C does, also where a shell has made it ignore that."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how_to(state: DemoState, *, detach: bool) -> Panel:
    stop = "[b]make demo-stop[/b]" if detach else "[b]Ctrl-C[/b]"
    return Panel(
        f"Open  [b]{state.label_studio_url}/projects/{state.project_id}/data[/b]\n"
        f"User  [b]{state.user}[/b]   password  [b]{state.password}[/b]\n\n"
        "1. Click a picture in the list to open it.\n"
        "2. Switch on [b]Auto-Annotation[/b] at the bottom.\n"
        "3. Hover over the pink dots at the right; pick the [b]point[/b] tool.\n"
        "4. Press [b]1[/b] for Fruit, 2 for Leaf, 3 for Thing. Label Studio takes\n"
        "   the label off after every click: press it again each time.\n"
        "5. [b]Click[/b] an object, the lemon say: its mask appears. A further click\n"
        "   adds to it, [b]Alt+click[/b] takes away.\n"
        "6. Keep the mask with the green [b]tick[/b] at the bottom, before you click\n"
        "   the next object; the round buttons under it keep your clicks, too.\n"
        "7. Change a kept mask: [b]Ctrl+click[/b] inside it adds,\n"
        "   [b]Ctrl+Alt+click[/b] takes away.\n"
        "8. Or with a box: the first [b]rectangle[/b] under the pink dots, then 4, 5, 6.\n"
        "9. Or paint roughly: brush, 7, 8 or 9; after some seconds Esc, point tool,\n"
        "   its label, and [b]Ctrl+click[/b] on the stroke.\n"
        "10. [b]Submit[/b].\n\n"
        "No mask? [b]make demo-doctor[/b] in another terminal says why.\n"
        f"How the backend does: [b]{state.backend_url}/status[/b]\n"
        f"Stop with {stop}. Your work is kept; the next start takes seconds.",
        title="SAM 2 in Label Studio",
        expand=False,
    )


def _own_command(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name("labelstudio-sam2")), name]


def _services(root: Path) -> tuple[Service, Service]:
    return Service("label-studio", root), Service("backend", root)


def _kept(inherited: Mapping[str, str]) -> dict[str, str]:
    return {name: inherited[name] for name in KEPT_VARIABLES if name in inherited}


def _answers(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
