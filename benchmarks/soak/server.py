"""The server under test: `labelstudio-sam2 serve` with nano, in processes of its own."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_MB = "2"
"""Holds eight of nano's embeddings, about half of the pictures: the image encoder works all the time."""
_START_SECONDS = 300
_ANSWER_SECONDS = 90
"""What Label Studio waits for, at the most."""


class Server:
    """A server that runs.

    Args:
        port: On the loopback interface.
        log_file: What it writes to stderr.
    """

    def __init__(self, port: int, log_file: Path) -> None:
        self._port = port
        self._log_file = log_file

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Post a body to `/predict`, over a connection of its own as Label Studio does; return status and answer.

        Raises:
            OSError: There was no answer.
            http.client.HTTPException: It was no HTTP.
        """
        return self._request("POST", "/predict", body)

    def is_ready(self) -> bool:
        """Return whether its model is loaded."""
        try:
            return self._request("GET", "/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def workers(self) -> list[int]:
        """Return the ids of all processes that have answered requests; more than one if one has died."""
        lines = self._log_file.read_text(encoding="utf-8").splitlines()
        messages = [json.loads(line)["message"] for line in lines if line.startswith("{")]
        return [int(text.rpartition(" ")[2]) for text in messages if text.startswith("Booting worker")]

    def resident_mib(self) -> float:
        """Return the memory that the process which answers has in use."""
        command = ["ps", "-o", "rss=", "-p", str(self.workers()[-1])]
        status = Path(f"/proc/{self.workers()[-1]}/status")
        if status.exists():
            (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
            return int(line.split()[1]) / 1024
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  its own process id
        return int(found.stdout) / 1024

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def serve(folder: Path, label_studio_url: str) -> Iterator[Server]:
    """Serve for the length of the block.

    Raises:
        RuntimeError: It does not come up; the message is its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_file = folder / "server.log"
    settings = {
        "LABEL_STUDIO_URL": label_studio_url,
        "LABEL_STUDIO_API_KEY": "soak" * 10,
        "EMBEDDING_CACHE_MB": CACHE_MB,
    }
    program = Path(sys.executable).with_name("labelstudio-sam2")
    command = [str(program), "serve", "--model", "nano", "--port", str(port)]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)  # noqa: S603  this package's own command
    server = Server(port, log_file)
    try:
        _wait_until_ready(server, process, log_file)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not come up:\n{log_file.read_text(encoding='utf-8')}")
        time.sleep(0.2)
