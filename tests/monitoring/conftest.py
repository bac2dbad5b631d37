"""A real Prometheus beside a real backend, started once for all of this folder, and what `monitoring/` has for them.

Prometheus is the one on the PATH, or Debian's package as `make test REQUIRE_PROMETHEUS=1` unpacks it into
`.prometheus`. Without either these tests are left out; with REQUIRE_PROMETHEUS set, as in CI, they fail.
"""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
UNPACKED = ROOT / ".prometheus" / "usr" / "bin"
USERNAME_FILES = (2, 53)
"""The first version of Prometheus that takes a user name from a file; Debian 12 has 2.42."""
CREDENTIALS = ("label-studio", "päss \"word' $HOME")


@dataclass(frozen=True)
class Programs:
    """Prometheus and its tool, both of one version.

    Attributes:
        folder: Holds them.
        version: (major, minor).
    """

    folder: Path
    version: tuple[int, int]

    def promtool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `promtool`."""
        command = [str(self.folder / "promtool"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def config(self, user: str = "label-studio", **changed: Any) -> dict[str, Any]:
        """Return prometheus.yml with other values for some keys of its one job, in words that this version knows."""
        config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
        (job,) = config["scrape_configs"]
        job.update(changed)
        if self.version < USERNAME_FILES:
            del job["basic_auth"]["username_file"]
            job["basic_auth"]["username"] = user
        return config


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs.

    Attributes:
        http: Its API.
    """

    http: httpx.Client

    def ask(self, path: str, **query: str) -> Any:
        """Return the `data` of an answer of the API; fails with its error."""
        answer = self.http.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; return its series, those of a scalar as none."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def number(self, expression: str) -> float | None:
        """Return the one value of an expression, None where it has none."""
        series = self.query(expression)
        return float(series[0]["value"][1]) if series else None


@pytest.fixture(scope="session")
def programs() -> Programs:
    found = shutil.which("prometheus")
    folder = Path(found).parent if found else UNPACKED
    if not all((folder / name).exists() for name in ("prometheus", "promtool")):
        _leave_out(
            "there is no Prometheus; put it on the PATH, or on Debian and Ubuntu: make test REQUIRE_PROMETHEUS=1"
        )
    told = subprocess.run([folder / "prometheus", "--version"], capture_output=True, text=True, check=True, timeout=60)
    match = re.search(r"version (\d+)\.(\d+)", told.stdout + told.stderr)
    assert match is not None, told
    return Programs(folder, (int(match[1]), int(match[2])))


@pytest.fixture(scope="session")
def start_prometheus(
    programs: Programs, tmp_path_factory: pytest.TempPathFactory, until: Callable[..., None]
) -> Callable[..., AbstractContextManager[Prometheus]]:
    """Return a function that starts Prometheus as the container does, by start.sh, for the length of a block.

    The function takes the port of the backend that is asked every second, and variables of the environment.
    """

    @contextmanager
    def start(backend_port: int, **environment: str) -> Iterator[Prometheus]:
        folder = tmp_path_factory.mktemp("prometheus")
        config = programs.config(
            environment.get("BASIC_AUTH_USER", ""),
            static_configs=[{"targets": [f"127.0.0.1:{backend_port}"]}],
            basic_auth={  # where start.sh writes them
                "username_file": str(folder / "basic_auth_user"),
                "password_file": str(folder / "basic_auth_pass"),
            },
        )
        config["global"] = dict.fromkeys(config["global"], "1s")
        config["rule_files"] = [str(MONITORING / "prometheus" / name) for name in config["rule_files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["sh", str(MONITORING / "prometheus" / "start.sh"), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
        path = f"{programs.folder}:{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BASIC_AUTH")}
        variables = {**inherited, "PATH": path, "TMPDIR": str(folder), **environment}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=variables, cwd=folder, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
                until(lambda: _answers(http, process, folder / "log"))
                yield Prometheus(http)
        finally:
            process.terminate()
            process.wait(60)

    return start


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits until a condition holds; longer than elsewhere: figures come by the second."""

    def wait_until(condition: Callable[[], object]) -> None:
        for _ in range(1200):
            if condition():
                return
            time.sleep(0.1)
        pytest.fail("it never came true")

    return wait_until


@dataclass
class Backend:
    """The real server on nano with Basic auth, and a Label Studio that only has pictures.

    Attributes:
        http: With the credentials.
        click: A click's body.
        pictures: The server, its `files` by path.
        picture: A PNG that is not there yet, one for every number.
        until: Waits.
    """

    http: httpx.Client
    click: dict[str, Any]
    pictures: Any
    picture: Callable[[int], bytes]
    until: Callable[[Callable[[], object]], None]

    @property
    def port(self) -> int:
        port = self.http.base_url.port
        assert port is not None
        return port

    def metrics(self) -> str:
        return self.http.get("/metrics").raise_for_status().text

    def work(self, number: int) -> None:
        """Do a bit of everything: open a task, click on it twice and on another one, and err."""
        opened, other = (f"/data/upload/1/{name}-{number}.png" for name in ("opened", "other"))
        self.pictures.files |= {opened: self.picture(2 * number), other: self.picture(2 * number + 1)}
        first = 10 * number
        self._predict(first, opened, context=None)
        self.until(lambda: "labelstudio_sam2_prefetched_embeddings 1.0" in self.metrics())
        clicks = [(first, opened), (first, opened), (first + 1, other)]
        assert [self._predict(task_id, path) for task_id, path in clicks] == [200, 200, 200]
        assert self._predict(first + 2, "/data/upload/1/is-not-there.png") == 502
        assert self.http.post("/predict", content=b"{").status_code == 400

    def _predict(self, task_id: int, path: str, **params: Any) -> int:
        task = self.click["tasks"][0]
        task = {**task, "id": task_id, "data": {**task["data"], "image": path}}
        body = {**self.click, "tasks": [task], "params": {**self.click["params"], **params}}
        return self.http.post("/predict", json=body).status_code


@pytest.fixture(scope="session")
def backend(
    start_backend: Callable[..., AbstractContextManager[Any]],
    serving_pictures: Callable[[], AbstractContextManager[Any]],
    disc_and_box: Any,
    tmp_path_factory: pytest.TempPathFactory,
    until: Callable[..., None],
) -> Iterator[Backend]:
    def picture(number: int) -> bytes:
        image = disc_and_box.image.copy()
        image[0, 0] = number
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()

    user, password = CREDENTIALS
    with serving_pictures() as pictures:
        settings = {
            "LABEL_STUDIO_URL": pictures.url,
            "EMBEDDING_DISK_DIR": str(tmp_path_factory.mktemp("embeddings")),
            "PREFETCH_MB": "64",
            "BASIC_AUTH_USER": user,
            "BASIC_AUTH_PASS": password,
        }
        body = json.loads((ROOT / "tests" / "data" / "label_studio" / "kp1_positive.json").read_text())
        with (
            start_backend(**settings) as started,
            httpx.Client(base_url=started.url, auth=CREDENTIALS, timeout=60, trust_env=False) as http,
        ):
            yield Backend(http, body, pictures, picture, until)


@pytest.fixture(scope="session")
def exposition(backend: Backend) -> str:
    """What the backend tells Prometheus after some work."""
    backend.work(0)
    return backend.metrics()


@pytest.fixture(scope="session")
def prometheus(
    backend: Backend,
    exposition: str,
    start_prometheus: Callable[..., AbstractContextManager[Prometheus]],
    until: Callable[..., None],
) -> Iterator[Prometheus]:
    """Prometheus, which has seen the backend before some more work and after it."""
    user, password = CREDENTIALS
    clicks = "sum(labelstudio_sam2_click_seconds_count)"
    with start_prometheus(backend.port, BASIC_AUTH_USER=user, BASIC_AUTH_PASS=password) as started:
        until(lambda: started.number(clicks) == 3)
        backend.work(1)
        until(lambda: started.number(clicks) == 6)
        yield started


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    file = MONITORING / "grafana" / "dashboards" / "labelstudio-sam2.json"
    read: dict[str, Any] = json.loads(file.read_text())
    return read


@pytest.fixture(scope="session")
def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    (group,) = yaml.safe_load((MONITORING / "prometheus" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def _answers(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _leave_out(why: str) -> NoReturn:
    if os.environ.get("REQUIRE_PROMETHEUS"):
        pytest.fail(why)
    pytest.skip(why)
