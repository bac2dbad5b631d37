"""A Docker engine, the image of this backend, and the compose stack: real ones, started once for all of this folder.

Where a Docker engine answers it is used, and pulls what the files name. Where none does but Debian's dockerd is there
and may be started, an engine of our own runs in `.containers`; for machines that reach no registry of images, the ones
that the files name are then stood in for by images made of Debian's and PyPI's packages (`stand_ins`).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).with_name("stand_ins")
FOLDER = ROOT / ".containers"
IMAGE = "sam2-backend:local"
BASE = "python:3.11-slim-bookworm"
LABEL_STUDIO_VERSION = "1.23.2"
STOOD_IN_FOR = {
    f"heartexlabs/label-studio:{LABEL_STUDIO_VERSION}": "Dockerfile.label-studio",
    "postgres:16.6-alpine": "Dockerfile.postgres",
}
START_SECONDS = 30
BUILD_SECONDS = 2400
KEPT_LAYERS = "10GB"
"""Of the builds before, in the folder of an engine of our own: the layers with torch need not be built again."""
COMMAND_SECONDS = 900

figures = pytest.StashKey[list[str]]()
"""Sizes and times, told at the end of the run."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A Docker engine that answers.

    Attributes:
        client: The `docker` program.
        host: Its socket, None for the machine's own engine.
        stands_in: Whether images are stood in for, since none can be pulled.
    """

    client: str
    host: str | None = None
    stands_in: bool = False

    def docker(self, *arguments: str, seconds: float = COMMAND_SECONDS, check: bool = True) -> str:
        """Run `docker`; returns what it wrote on both streams."""
        return self._run([self.client, *arguments], seconds, check=check)

    def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS, check: bool = True) -> str:
        """Run `docker compose`, as its stand-alone program; returns what it wrote on both streams."""
        return self._run([str(Path(sys.executable).with_name("docker-compose")), *arguments], seconds, check=check)

    def build(self, dockerfile: Path, context: Path, tag: str, **build_args: str) -> None:
        """Build an image; on the machine's own network where images are stood in for: their pip asks loopback."""
        arguments = [f"--build-arg={name}={value}" for name, value in build_args.items()]
        if self.stands_in:
            arguments += ["--network", "host"]
        command = ("build", "--progress", "plain", "-f", str(dockerfile), "-t", tag, *arguments, str(context))
        self.docker(*command, seconds=BUILD_SECONDS)

    def has(self, image: str) -> bool:
        """Whether an image is there already."""
        return bool(self.docker("images", "--quiet", image).strip())

    def _run(self, command: list[str], seconds: float, *, check: bool) -> str:
        host = {"DOCKER_HOST": self.host} if self.host else {}
        variables = {**os.environ, "DOCKER_BUILDKIT": "1", **host}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=seconds,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command[:6])} … ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if shutil.which("docker-compose", path=Path(sys.executable).parent) is None:
        _leave_out("docker-compose is not installed; `make setup` installs it")
    own = _machines_engine()
    if own is not None:
        yield own
        return
    client, daemon = Path("/usr/bin/docker"), shutil.which("dockerd")
    if daemon is None or not client.exists() or shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        _leave_out(
            "no Docker engine answers; start one, or install Debian's (as root: apt-get install docker.io containerd "
            "runc iptables mmdebstrap)"
        )
    with _engine_of_our_own(daemon, str(client)) as started, _settings_of_pip() as pip_conf:
        _stand_in(started, pip_conf)
        yield started


@pytest.fixture(scope="session")
def image(engine: Engine, request: pytest.FixtureRequest) -> str:
    """The backend's image, built from this checkout."""
    began = time.monotonic()
    engine.build(ROOT / "Dockerfile.sam2", ROOT, IMAGE)
    seconds = time.monotonic() - began
    size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", IMAGE))
    if engine.stands_in:  # the folder is ours: each build before left gigabytes
        engine.docker("image", "prune", "--force")
        engine.docker("builder", "prune", "--force", "--keep-storage", KEPT_LAYERS)
    told = f"{IMAGE}: {size / 1e9:.2f} GB, built in {seconds:.0f} s (layers that were there already took none)"
    request.config.stash.setdefault(figures, []).append(told)
    return IMAGE


@pytest.fixture
def container(engine: Engine, image: str) -> Iterator[Callable[..., str]]:
    """Start a container of the backend as `docker run --detach` does; returns its id. It is removed after the test."""
    started = []

    def run(*arguments: str, command: tuple[str, ...] = ()) -> str:
        identity = engine.docker("run", "--detach", *arguments, image, *command).strip().splitlines()[-1]
        started.append(identity)
        return identity

    yield run
    for identity in started:
        engine.docker("rm", "--force", "--volumes", identity)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell the sizes and times that were met."""
    for line in config.stash.get(figures, []):
        terminalreporter.write_line(line)


def _machines_engine() -> Engine | None:
    client = shutil.which("docker")
    if client is None:
        return None
    command = [client, "version", "--format", "{{.Server.Version}}"]
    answers = subprocess.run(command, capture_output=True, check=False, timeout=START_SECONDS).returncode == 0
    return Engine(client=client) if answers else None


@contextmanager
def _engine_of_our_own(daemon: str, client: str) -> Iterator[Engine]:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dockerd-") as short:  # a socket's path must be short
        socket = f"unix://{short}/docker.sock"
        command = [daemon, "--data-root", str(FOLDER / "data"), "--exec-root", f"{short}/exec", "-H", socket]
        command += ["--pidfile", f"{short}/pid", "--iptables=false", "--ip6tables=false"]
        command += ["--default-ulimit", "nofile=16384:16384"]
        with (FOLDER / "dockerd.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        engine = Engine(client=client, host=socket, stands_in=True)
        try:
            _until(lambda: "Server Version" in engine.docker("info", check=False), START_SECONDS, "dockerd answers")
            yield engine
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS * 2)
            subprocess.run(["umount", f"{short}/exec/netns/default"], check=False, capture_output=True)
            subprocess.run(["ip", "link", "delete", "docker0"], check=False, capture_output=True)


def _stand_in(engine: Engine, pip_conf: str) -> None:
    """Make the images that cannot be pulled. The base carries what is the machine's own: certificates and pip.conf."""
    if not engine.has("stand-in-base"):
        with tempfile.TemporaryDirectory() as folder:
            archive = f"{folder}/base.tar"
            packages = "--include=python3,python3-venv,ca-certificates"
            subprocess.run(["mmdebstrap", "--variant=minbase", packages, "bookworm", archive], check=True)
            engine.docker("import", "--change", 'CMD ["bash"]', archive, "stand-in-base")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "pip.conf").write_text(pip_conf)
        shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), context / "certificates.crt")
        shutil.copy(STAND_INS / "Dockerfile.python", context)
        engine.build(context / "Dockerfile.python", context, BASE)
    for tag, dockerfile in STOOD_IN_FOR.items():
        if not engine.has(tag):
            engine.build(STAND_INS / dockerfile, STAND_INS, tag, LABEL_STUDIO_VERSION=LABEL_STUDIO_VERSION)


@contextmanager
def _settings_of_pip() -> Iterator[str]:
    """Yield a pip.conf that finds in a container what this machine's pip finds; its folders are served on loopback."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    places: dict[str, list[str]] = {}
    for name, _, quoted in (line.partition("=") for line in listed.stdout.splitlines()):
        option = name.rpartition(".")[2]
        if option in ("index-url", "extra-index-url", "find-links", "trusted-host"):
            places.setdefault(option, []).extend(quoted.strip("'\"").split())
    with _served_folders() as reachable:
        lines = [f"{option} = {' '.join(map(reachable, dict.fromkeys(found)))}" for option, found in places.items()]
        yield "\n".join(["[global]", "cert = /etc/ssl/certs/ca-certificates.crt", *lines, ""])


@contextmanager
def _served_folders() -> Iterator[Callable[[str], str]]:
    """Yield what turns a folder that pip is told of into a URL on loopback, and leaves other places as they are."""
    folders: list[Path] = []

    class Files(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            number, _, rest = urllib.parse.unquote(path.partition("?")[0]).lstrip("/").partition("/")
            folder = folders[int(number)].resolve()
            return str(wanted) if (wanted := (folder / rest).resolve()).is_relative_to(folder) else os.devnull

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    def reachable(place: str) -> str:
        folder = Path(place.removeprefix("file://"))
        if not folder.is_absolute():
            return place
        is_index = folder.name == "simple"  # its pages point to files beside it
        folders.append(folder.parent if is_index else folder)
        return f"http://127.0.0.1:{server.server_port}/{len(folders) - 1}/{folder.name + '/' if is_index else ''}"

    kept_port = FOLDER / "port"  # another one would be another pip.conf, and every layer would be built again
    server = ThreadingHTTPServer(("127.0.0.1", int(kept_port.read_text()) if kept_port.exists() else 0), Files)
    kept_port.write_text(str(server.server_port))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield reachable
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.3)


def _leave_out(why: str) -> NoReturn:
    if os.environ.get("REQUIRE_DOCKER"):
        pytest.fail(why)
    pytest.skip(why)
