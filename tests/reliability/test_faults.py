"""Faults to survive, one test each, on the real server: what breaks around it or under it, and what its users see.

What else can break is proven where it is: the disk tier and its locks in tests/segmenter, downloads in tests/images.
"""

import fcntl
import http.client
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle

DAY = 86_400
DEVICE_LOST = (503, "GPU failed, the server is starting again", "device_lost")
LOST = "CUDA error: an illegal memory access was encountered"

Start = Callable[..., AbstractContextManager[Any]]
Answer = tuple[int, str, Any]


@pytest.fixture(scope="module")
def label_studio(serving_pictures: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server of pictures that stands for Label Studio."""
    with serving_pictures() as server:
        yield server


@pytest.fixture(scope="module")
def start(start_backend: Start, label_studio: Any) -> Start:
    """Return a function that serves nano beside `label_studio`."""

    @contextmanager
    def start_one(**wanted: Any) -> Iterator[Any]:
        settings = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": "a" * 40, "PREFETCH_MB": "0"}
        with start_backend(**(settings | wanted)) as backend:
            yield backend

    return start_one


@pytest.fixture(scope="module")
def start_faulty(start: Start) -> Start:
    """Return `start` for a server that takes orders to fail, from files of a folder: see serve_with_faults.py."""

    @contextmanager
    def start_one(faults: Path, **wanted: Any) -> Iterator[Any]:
        program = (sys.executable, str(Path(__file__).with_name("serve_with_faults.py")), str(faults))
        with start(program=program, **wanted) as backend:
            yield backend

    return start_one


@dataclass(frozen=True)
class Shared:
    """A server for all the faults that it goes on after.

    Attributes:
        backend: Itself.
        faults: The folder of its orders to fail.
        embeddings: The folder of its disk tier. In memory it keeps four embeddings.
    """

    backend: Any
    faults: Path
    embeddings: Path

    def log_from_now(self) -> Callable[[], list[dict[str, Any]]]:
        """Return a function that gives what it has logged since."""
        until_now = len(self.backend.log())
        return lambda: self.backend.log()[until_now:]


@pytest.fixture(scope="module")
def shared(start_faulty: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    faults, embeddings = tmp_path_factory.mktemp("faults"), tmp_path_factory.mktemp("disk") / "embeddings"
    settings = {
        "EMBEDDING_CACHE_MB": "1",
        "EMBEDDING_DISK_DIR": str(embeddings),
        "REQUEST_SECONDS": "20",
        "IMAGE_DOWNLOAD_SECONDS": "5",
    }
    with start_faulty(faults, **settings) as backend:
        yield Shared(backend, faults, embeddings)


@pytest.fixture(scope="module")
def click_on(label_studio: Any, disc_and_box: Any) -> Callable[..., bytes]:
    """Return a function that gives the body of a click on the disc of a picture of this name, which is like no other.

    With `served=False` Label Studio is not given the picture.
    """
    clicked = json.loads((Path(__file__).parents[1] / "data" / "label_studio" / "kp1_positive.json").read_text())

    def body(name: str, *, served: bool = True) -> bytes:
        if served:
            image = disc_and_box.image.copy()
            image[0, : len(name)] = np.frombuffer(name.encode(), np.uint8)[:, None]
            label_studio.files[path_of(name)] = replace(disc_and_box, image=image).png()
        return json.dumps({**clicked, "tasks": [{**clicked["tasks"][0], "data": {"image": path_of(name)}}]}).encode()

    return body


@pytest.fixture
def is_disc(disc_and_box: Any, iou: Callable[..., float]) -> Callable[[Answer], bool]:
    """Return a function that says whether an answer is the disc's mask."""

    def check(answer: Answer) -> bool:
        (region,) = regions_of(answer)
        return iou(decode_brush_rle(region["value"]["rle"], (480, 640)), disc_and_box.masks["disc"]) >= 0.85

    return check


def path_of(name: str) -> str:
    return f"/data/upload/6/{name.replace(' ', '-')}.png"


def regions_of(answer: Answer) -> Any:
    status, _, body = answer
    assert status == 200, body
    return [{**region, "id": None} for region in body["results"][0]["result"]]


def refusal_of(answer: Answer) -> tuple[int, str, str]:
    status, reason, body = answer
    return status, reason, body["error"]


def children_of(process: int) -> dict[int, str]:
    """The processes that a process has started and not yet buried, by id, with their states: Z is a zombie."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == process:
            children[int(path.parent.name)] = state
    return children


def patiently(condition: Callable[[], object]) -> None:
    """Wait, for a minute or two at most, until a condition holds: a server starts in seconds, or in many."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came true")


def wait_for_new_worker(backend: Any, old: int) -> None:
    """Wait until another worker than the old one has loaded its model."""
    patiently(lambda: backend.worker() != old)
    patiently(lambda: backend.get("/ready")[0] == 200)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to see processes in")


# The process


@needs_proc
def test_worker_killed_mid_request(start: Start, click_on: Callable[..., bytes], label_studio: Any) -> None:
    asked = threading.Event()

    def never_answer(_: BaseHTTPRequestHandler) -> None:
        asked.set()
        threading.Event().wait(60)

    label_studio.answers[path_of("never")] = never_answer
    with start() as backend, ThreadPoolExecutor(1) as thread:
        before, killed = backend.predict(click_on("known")), backend.worker()
        cut_off = thread.submit(backend.predict, click_on("never", served=False))
        asked.wait(60)

        os.kill(killed, signal.SIGKILL)

        assert isinstance(cut_off.exception(60), OSError | http.client.HTTPException)
        wait_for_new_worker(backend, killed)
        assert regions_of(backend.predict(click_on("known"))) == regions_of(before)
        assert list(children_of(backend.process.pid)) == [backend.worker()]
        assert "Z" not in children_of(backend.process.pid).values()


def test_sigterm_under_load_of_20_clients(
    start: Start, click_on: Callable[..., bytes], label_studio: Any, is_disc: Callable[[Answer], bool]
) -> None:
    release = threading.Event()

    def hold(request: BaseHTTPRequestHandler) -> None:
        release.wait(60)
        reply(request, 200, label_studio.files[request.path])

    with start() as backend, ExitStack() as connections:
        clients = []
        for number in range(20):
            label_studio.answers[path_of(f"held-{number}")] = hold
            client = http.client.HTTPConnection(backend.url.removeprefix("http://"), timeout=60)
            connections.callback(client.close)
            client.request("POST", "/predict", click_on(f"held-{number}"), {"Content-Type": "application/json"})
            clients.append(client)
        assert backend.get("/health")[0] == 200  # connections are taken in the order of their coming: so all 20 are

        backend.process.send_signal(signal.SIGTERM)

        assert is_refused(backend, click_on("too late"))
        release.set()
        answers = [client.getresponse() for client in clients]
        assert [answer.status for answer in answers] == [200] * 20
        assert all(is_disc((answer.status, answer.reason, json.load(answer))) for answer in answers)
        assert backend.process.wait(40) == 0


def is_refused(backend: Any, body: bytes) -> bool:
    """Whether a server that was told to end says so to a new client, within a moment for the signal to arrive."""
    for _ in range(200):
        try:
            status, _, answer = backend.predict(body)
        except urllib.error.URLError as error:
            return isinstance(error.reason, ConnectionRefusedError | ConnectionResetError)
        if (status, answer.get("error")) == (503, "busy"):
            return True
    return False


# The GPU


def test_gpu_out_of_memory_once(
    shared: Shared, click_on: Callable[..., bytes], is_disc: Callable[[Answer], bool]
) -> None:
    log = shared.log_from_now()
    (shared.faults / "once").write_text("memory")

    assert is_disc(shared.backend.predict(click_on("too large once")))

    assert [line["message"] for line in log() if line["level"] == "WARNING"] == [
        "no GPU memory left, emptying the cache and trying again"
    ]


def test_gpu_out_of_memory_always(
    shared: Shared, click_on: Callable[..., bytes], is_disc: Callable[[Answer], bool]
) -> None:
    (shared.faults / "always").write_text("memory")

    refused = shared.backend.predict(click_on("too large"))
    others = [shared.backend.get(path)[0] for path in ("/health", "/ready")]
    (shared.faults / "always").unlink()

    assert refusal_of(refused) == (503, "Not enough GPU memory for this image", "gpu_memory")
    assert others == [200, 200]
    assert is_disc(shared.backend.predict(click_on("too large")))


@needs_proc
def test_sticky_cuda_error(start_faulty: Start, click_on: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "life").write_text("0.1")
    with start_faulty(tmp_path) as backend:
        before, dead = backend.predict(click_on("known")), backend.worker()
        (tmp_path / "once").write_text("lost")

        refused = backend.predict(click_on("deadly"))

        assert refusal_of(refused) == DEVICE_LOST
        wait_for_new_worker(backend, dead)
        assert regions_of(backend.predict(click_on("known"))) == regions_of(before)
        assert list(children_of(backend.process.pid)) == [backend.worker()]
        (line,) = [line for line in backend.log() if line["level"] == "CRITICAL"]
        assert line["message"] == "the GPU failed: this worker ends and a new one is started"
        assert line["reason"] == LOST


def test_sticky_cuda_error_that_a_new_process_does_not_mend(
    start_faulty: Start, click_on: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "always").write_text("lost")
    (tmp_path / "life").write_text("600")  # long enough to see that it stays
    with start_faulty(tmp_path, answers="/versions") as backend:
        patiently(lambda: refusal_of(backend.get("/ready")) == DEVICE_LOST)

        answers = [*map(backend.get, ("/ready", "/health", "/healthz")), backend.predict(click_on("known"))]

        assert [refusal_of(answer) for answer in answers] == [DEVICE_LOST] * 4
        assert answers[0][2]["detail"] == LOST
        assert sum("Booting worker" in line["message"] for line in backend.log()) == 1


# Label Studio


def reply(request: BaseHTTPRequestHandler, status: int, data: bytes = b"", **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(data)


def hang(_: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(60)


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "10000")
    request.end_headers()
    for _ in range(600):
        request.wfile.write(b"\x89")
        threading.Event().wait(0.1)


def cut_short(request: BaseHTTPRequestHandler) -> None:
    reply(request, 200, b"\x89PNG\r\n\x1a\n", Content_Length="10000")


REFUSED_ACCESS = (502, "Image server refused access, check LABEL_STUDIO_API_KEY", "image_unavailable")
UNAVAILABLE = (502, "Image server answered with an error", "image_unavailable")
TIMEOUT = (504, "Image download took too long", "image_timeout")
NOT_ALLOWED = (422, "Image address is not allowed", "url_refused")
UNREADABLE = (422, "File is not a readable image", "image_unreadable")
LABEL_STUDIO_FAULTS = {
    "401": (lambda request: reply(request, 401), REFUSED_ACCESS),
    "502": (lambda request: reply(request, 502), UNAVAILABLE),
    "hang": (hang, TIMEOUT),
    "drip": (drip, TIMEOUT),
    "redirect to a host nobody listed": (
        lambda request: reply(request, 302, Location="http://127.0.0.2:9/x.png"),
        NOT_ALLOWED,
    ),
    "endless redirects": (lambda request: reply(request, 302, Location=request.path), UNAVAILABLE),
    "truncated": (cut_short, UNAVAILABLE),
    "login page": (lambda request: reply(request, 302, Location="/user/login/?next=/data"), REFUSED_ACCESS),
    "a page in the picture's place": (lambda request: reply(request, 200, b"<html>Log in</html>"), UNREADABLE),
}


@pytest.mark.parametrize("fault", LABEL_STUDIO_FAULTS)
def test_label_studio_misbehaves(
    shared: Shared, click_on: Callable[..., bytes], label_studio: Any, is_disc: Callable[[Answer], bool], fault: str
) -> None:
    answer, refusal = LABEL_STUDIO_FAULTS[fault]
    label_studio.answers[path_of("faulty")] = answer
    label_studio.answers["/user/login/"] = lambda request: reply(request, 200, b"<html>Log in</html>")
    with ThreadPoolExecutor(1) as thread:
        click = thread.submit(shared.backend.predict, click_on("faulty", served=False))
        meanwhile = [shared.backend.get(path)[0] for path in ("/health", "/ready")]

        assert refusal_of(click.result(60)) == refusal
        assert meanwhile == [200, 200]
        assert is_disc(shared.backend.predict(click_on("good")))


@contextmanager
def nobody_listens() -> Iterator[int]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    yield port


@contextmanager
def nobody_accepts() -> Iterator[int]:
    """A port whose line is full: whoever connects gets no answer at all."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("label_studio_port", "refusal"),
    [(nobody_listens, UNAVAILABLE), (nobody_accepts, TIMEOUT)],
    ids=["nobody listens", "nobody accepts"],
)
def test_label_studio_down(
    start: Start,
    click_on: Callable[..., bytes],
    label_studio_port: Callable[[], AbstractContextManager[int]],
    refusal: tuple[int, str, str],
) -> None:
    with label_studio_port() as port, start(LABEL_STUDIO_URL=f"http://127.0.0.1:{port}") as backend:
        began = time.monotonic()
        refused = backend.predict(click_on("good"))
        seconds = time.monotonic() - began

        assert refusal_of(refused) == refusal
        assert seconds < 10  # 3 for the connection; a download may take 15
        assert backend.get("/health")[0] == backend.get("/ready")[0] == 200


# The disk tier, which is what processes share


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a small disk of its own."""
    with ExitStack() as mounts:

        def mount(options: str) -> Path:
            folder = tmp_path / "disk"
            folder.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                why = f"no disk can be mounted here: {done.stderr.strip()}"
                pytest.fail(why) if os.environ.get("REQUIRE_MOUNT") else pytest.skip(why)
            mounts.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield mount


@pytest.mark.parametrize("options", ["size=100k", "size=10m,ro"], ids=["full", "read-only"])
def test_disk_full_or_read_only(
    start: Start,
    mounted: Callable[[str], Path],
    click_on: Callable[..., bytes],
    is_disc: Callable[[Answer], bool],
    options: str,
) -> None:
    folder = mounted(options)  # an embedding takes 256 KiB
    with start(EMBEDDING_DISK_DIR=str(folder / "embeddings"), EMBEDDING_CACHE_MB="1") as backend:
        answers = [backend.predict(click_on(name)) for name in "abcdefa"]

        assert all(map(is_disc, answers))
        warnings = [line["message"] for line in backend.log() if line["level"] == "WARNING"]
        assert len(warnings) == 1
        assert "EMBEDDING_DISK_DIR" in warnings[0]
        assert list(folder.rglob("*.safetensors")) == []


def embed_to_disk(shared: Shared, click: bytes) -> tuple[Answer, Path]:
    """Click on a new picture; return the answer and the file of its embedding."""
    before = set(shared.embeddings.glob("*.safetensors"))
    answer = shared.backend.predict(click)
    patiently(lambda: set(shared.embeddings.glob("*.safetensors")) - before)
    (file,) = set(shared.embeddings.glob("*.safetensors")) - before
    return answer, file


def fill_memory(shared: Shared, click_on: Callable[..., bytes]) -> None:
    """Click on so many other pictures that what was embedded before is on disk only."""
    for number in range(4):
        regions_of(shared.backend.predict(click_on(f"filler-{number}")))


class Bomb:
    """What a pickle can do to whoever opens it."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._target,)


def test_shared_cache_garbage(shared: Shared, click_on: Callable[..., bytes], tmp_path: Path) -> None:
    names = ["was a pickle", "was zeros", "was cut short", "was another"]
    before, files = zip(*(embed_to_disk(shared, click_on(name)) for name in names), strict=True)
    good = {file: file.read_bytes() for file in files}
    fill_memory(shared, click_on)
    garbage = pickle.dumps(Bomb(tmp_path / "it went off")), bytes(300_000), good[files[2]][:-1], good[files[0]]
    for file, data in zip(files, garbage, strict=True):
        file.write_bytes(data)
    log = shared.log_from_now()

    after = [shared.backend.predict(click_on(name)) for name in names]

    assert list(map(regions_of, after)) == list(map(regions_of, before))
    patiently(lambda: [len(data) for data in good.values()] == [file.stat().st_size for file in files if file.exists()])
    fill_memory(shared, click_on)
    again = [shared.backend.predict(click_on(name)) for name in names]
    assert list(map(regions_of, again)) == list(map(regions_of, before))
    assert sum(line["message"] == "embedded a picture" for line in log()) == 4  # garbage is a miss, once
    assert not (tmp_path / "it went off").exists()


def test_shared_cache_gone(shared: Shared, click_on: Callable[..., bytes]) -> None:
    before, file = embed_to_disk(shared, click_on("its folder goes"))
    fill_memory(shared, click_on)

    shutil.rmtree(shared.embeddings)

    assert regions_of(shared.backend.predict(click_on("its folder goes"))) == regions_of(before)
    patiently(file.exists)


HOLD_LOCK = """
import fcntl, os, signal, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_shared_cache_hung(shared: Shared, click_on: Callable[..., bytes]) -> None:
    before, file = embed_to_disk(shared, click_on("its lock is held"))
    fill_memory(shared, click_on)
    file.unlink()
    lock = shared.embeddings / "locks" / f"{file.stem}.lock"
    log = shared.log_from_now()
    with (
        subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(lock)], stdout=subprocess.PIPE, text=True) as stopped,
        ThreadPoolExecutor(1) as thread,
        ExitStack() as at_last,
    ):
        at_last.callback(stopped.kill)
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "held\n"
        waiting = thread.submit(shared.backend.predict, click_on("its lock is held"))
        other = shared.backend.predict(click_on("its lock is free"))

        assert regions_of(other)
        assert not waiting.done()
        assert regions_of(waiting.result(60)) == regions_of(before)  # after half of REQUEST_SECONDS
        assert is_locked(lock)
        assert sum(line["message"] == "embedded a picture" for line in log()) == 2


def is_locked(path: Path) -> bool:
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# What it starts with, and time


def test_weights_missing(start: Start, click_on: Callable[..., bytes], label_studio: Any) -> None:
    with start(model="sam2/hiera_tiny", WEIGHTS_DIR="nothing-here", answers="/health") as backend:
        patiently(lambda: refusal_of(backend.get("/ready"))[2] != "loading")

        ready, predict = backend.get("/ready"), backend.predict(click_on("not downloaded for nothing"))

        reason = (503, "Model could not be loaded, see /ready and the log", "model_unavailable")
        assert refusal_of(ready) == refusal_of(predict) == reason
        assert "nothing-here/sam2.1_hiera_tiny.pt is missing" in ready[2]["detail"]
        assert backend.get("/health")[0] == 200
        assert path_of("not downloaded for nothing") not in [path for path, _ in label_studio.requests]


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_clock_that_jumps(
    shared: Shared,
    click_on: Callable[..., bytes],
    label_studio: Any,
    is_disc: Callable[[Answer], bool],
    jump: int,
) -> None:
    asked, release = threading.Event(), threading.Event()

    def hold(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        release.wait(60)
        reply(request, 200, label_studio.files[request.path])

    label_studio.answers[path_of(f"held over {jump}")] = hold
    before, file = embed_to_disk(shared, click_on(f"known before {jump}"))
    log = shared.log_from_now()
    with ThreadPoolExecutor(1) as thread, ExitStack() as at_last:
        at_last.callback((shared.faults / "clock").unlink)
        in_flight = thread.submit(shared.backend.predict, click_on(f"held over {jump}"))
        asked.wait(60)

        (shared.faults / "clock").write_text(str(jump))
        release.set()

        assert is_disc(in_flight.result(60))
        assert regions_of(shared.backend.predict(click_on(f"known before {jump}"))) == regions_of(before)
        downloads = [path for path, _ in label_studio.requests].count(path_of(f"known before {jump}"))
        assert downloads == 1  # it is still taken for fresh
        _, newest = embed_to_disk(shared, click_on(f"new after {jump}"))
        assert file.exists()
        assert newest.stat().st_mtime_ns > file.stat().st_mtime_ns  # else it would be the next to go
        *_, last_line = log()
        logged_at = datetime.fromisoformat(last_line["time"]).timestamp()
        assert abs(logged_at - time.time() - jump) < DAY / 2  # the fault was there
        assert {line["level"] for line in log()} <= {"INFO", "DEBUG"}
