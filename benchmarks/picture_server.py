"""A server on loopback that gives one picture under as many addresses as are asked for, never twice the same file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serving(picture: Path) -> Iterator[str]:
    """Serve a picture for the length of the block.

    What is asked for is written behind the picture's end, where no decoder looks: every address has content of its own.

    Yields:
        The server's host and port.
    """
    data = picture.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = data + self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
