"""A loopback server that stands for Label Studio: its uploads, and its list of the next tasks."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

UPLOADS = "/data/upload/6"


@contextmanager
def serve_uploads(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Serve a folder's files below `UPLOADS` for the length of the block.

    Args:
        folder: Where the files are.
        names: Of the tasks' pictures; the first one's task has the id 1.

    Yields:
        The server's origin.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/api/tasks":
                self._send(json.dumps({"tasks": _tasks_after(url.query, names)}).encode())
                return
            path = folder / PurePosixPath(url.path).name
            self._send(path.read_bytes() if path.is_file() else None)

        def _send(self, data: bytes | None) -> None:
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _tasks_after(query: str, names: Sequence[str]) -> list[dict[str, object]]:
    parameters = parse_qs(query)
    after = json.loads(parameters["query"][0])["filters"]["items"][0]["value"]
    tasks = [{"id": number, "data": {"image": f"{UPLOADS}/{name}"}} for number, name in enumerate(names, 1)]
    return tasks[after : after + int(parameters["page_size"][0])]
