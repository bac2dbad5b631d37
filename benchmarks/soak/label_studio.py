"""A loopback server that stands for Label Studio: its uploads, and its list of the next tasks."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

from benchmarks.loopback import serving

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

    def answer(path: str) -> bytes | None:
        url = urlsplit(path)
        if url.path == "/api/tasks":
            return json.dumps(_tasks_after(url.query, names)).encode()
        file = folder / PurePosixPath(url.path).name
        return file.read_bytes() if file.is_file() else None

    with serving(answer) as address:
        yield f"http://{address}"


def _tasks_after(query: str, names: Sequence[str]) -> dict[str, object]:
    parameters = parse_qs(query)
    after = json.loads(parameters["query"][0])["filters"]["items"][0]["value"]
    tasks = [{"id": number, "data": {"image": f"{UPLOADS}/{name}"}} for number, name in enumerate(names, 1)]
    return {"total": len(tasks[after:]), "tasks": tasks[after : after + int(parameters["page_size"][0])]}
