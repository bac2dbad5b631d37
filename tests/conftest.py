"""What most tests share: recorded requests, the nano model, a drawn picture with known truth, a loopback server."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelstudio_sam2.segmenter.sam2_model import Sam2Model, load_sam2
from labelstudio_sam2.segmenter.weights import find_checkpoint
from labelstudio_sam2.segmenter.zoo import resolve

RECORDED = Path(__file__).parent / "data" / "label_studio"


@dataclass(frozen=True)
class DrawnPicture:
    """A picture drawn for a test, and the truth about it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: By object, (H, W) bool.
    """

    image: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.bool_]]

    def png(self) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "PNG")
        return file.getvalue()


@dataclass
class PictureServer:
    """A loopback server that stands for Label Studio's file store.

    Attributes:
        url: Its origin.
        files: By path, what it serves; change them while it runs.
        requests: (path, Authorization) of every request so far.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def recorded() -> Callable[[str], Any]:
    """Return a function that reads a recorded request's body by name."""
    return lambda name: json.loads((RECORDED / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def nano_model() -> Sam2Model:
    spec = resolve("nano")
    return load_sam2(spec, find_checkpoint(spec, Path()), device="cpu")


@pytest.fixture(scope="session")
def disc_and_box() -> DrawnPicture:
    """The picture that the recorded requests were made on: 640 x 480, a disc and a box on plain ground."""
    disc = cv2.circle(np.zeros((480, 640), np.uint8), (200, 180), 70, 1, thickness=-1).astype(bool)
    box = np.zeros((480, 640), bool)
    box[250:400, 400:560] = True
    image = np.full((480, 640, 3), (225, 222, 214), np.uint8)
    image[disc] = (190, 60, 50)
    image[box] = (50, 90, 170)
    return DrawnPicture(image, {"disc": disc, "box": box})


@pytest.fixture
def picture_server() -> Iterator[PictureServer]:
    with serve_pictures() as server:
        yield server


@contextmanager
def serve_pictures() -> Iterator[PictureServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pictures.requests.append((self.path, self.headers["Authorization"]))
            data = pictures.files.get(self.path.partition("?")[0])
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pictures = PictureServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield pictures
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def iou() -> Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]:
    """Return a function that gives the intersection over union of two masks."""

    def intersection_over_union(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
        return float((one & other).sum() / max((one | other).sum(), 1))

    return intersection_over_union
