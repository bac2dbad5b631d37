"""What annotators ask, and which answer is right: known before the server is asked."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clicks import agreement, key_point, mask_in, prompt_body, rectangle
from benchmarks.pictures import PictureFile, disc_files, scene_file
from benchmarks.soak.label_studio import UPLOADS

_SAME = 0.999
"""Intersection over union of masks that differ at most by how many threads computed them."""
_DISCS = 12
_SCENES_WH = ((1280, 960), (900, 1600), (2400, 1600))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request with a known answer.

    Attributes:
        kind: Which sort of request it is, such as `first click`.
        body: Of the request.
        size_wh: (W, H) of the picture in pixels.
        right_answer: What the same model answers in another process; None for a request that must be refused.
        code: Of the error it must be refused with, or None.
    """

    kind: str
    body: bytes
    size_wh: tuple[int, int]
    right_answer: bytes | None = None
    code: str | None = None

    def is_right(self, status: int, answer: bytes) -> bool:
        """Return whether this is the answer that was expected."""
        if self.right_answer is None:
            return status >= 400 and json.loads(answer).get("error") == self.code
        if status != 200:
            return False
        given, right = _regions(answer), _regions(self.right_answer)
        if [region["type"] for region in given] != [region["type"] for region in right]:
            return False
        if not right:
            return True
        return agreement(mask_in(answer, self.size_wh), mask_in(self.right_answer, self.size_wh)) >= _SAME


@dataclass(frozen=True)
class Traffic:
    """All that is asked.

    Attributes:
        sittings: For each picture what an annotator does with it, in order.
        bad: What must be refused.
    """

    sittings: Sequence[Sequence[Question]]
    bad: Sequence[Question]


def draw_pictures(folder: Path) -> list[tuple[PictureFile, tuple[float, float]]]:
    """Return pictures of several sizes, and where on each to click first, in percent; drawn into the folder."""
    return [*disc_files(folder, _DISCS), *((scene_file(folder, size_wh), (40.0, 55.0)) for size_wh in _SCENES_WH)]


def make_traffic(
    folder: Path, pictures: Sequence[tuple[PictureFile, tuple[float, float]]], click: Callable[[bytes], bytes]
) -> Traffic:
    """Return the requests on these pictures with their answers.

    Args:
        folder: Where the pictures are; what must be refused is added there.
        pictures: See `draw_pictures`.
        click: Answers a body as the server should.
    """
    sittings = [_sitting(number, *picture, click) for number, picture in enumerate(pictures, 1)]
    return Traffic(sittings, _bad(folder, pictures[0][0]))


def _sitting(
    task_id: int, picture: PictureFile, at: tuple[float, float], click: Callable[[bytes], bytes]
) -> list[Question]:
    size_wh = picture.size_wh

    def question(
        kind: str, regions: Sequence[dict[str, Any]] | None, existing: Sequence[dict[str, Any]] = ()
    ) -> Question:
        body = prompt_body(f"{UPLOADS}/{picture.name}", regions, existing=existing, task_id=task_id)
        return Question(kind=kind, body=body, size_wh=size_wh, right_answer=click(body))

    x, y = at
    first = key_point(size_wh, at)
    refining = [first, key_point(size_wh, (x + 3, y - 2), region_id="dJbZQ3mU2r")]
    taking_away = [*refining, key_point(size_wh, (99, 1), is_positive=False, region_id="Vq0mEwqz5K")]
    clicked = question("first click", [first])
    accepted = _regions(clicked.right_answer or b"")
    return [
        question("open", None),
        clicked,
        question("refining click", refining),
        question("refining click", taking_away),
        question("box", [rectangle(size_wh, (max(x - 12, 0), max(y - 15, 0), 24, 30))]),
        question("edit", [key_point(size_wh, (x + 1, y + 1))], accepted),
    ]


def _bad(folder: Path, picture: PictureFile) -> list[Question]:
    width, height = picture.size_wh
    (folder / "login.png").write_bytes(b"<html>Log in</html>")
    (folder / "huge.png").write_bytes(_png_of(12_000, 10_000))
    click = key_point(picture.size_wh, (50.0, 50.0))
    outside = {**click, "value": {**click["value"], "x": 140.0}}

    def body(region: dict[str, Any], name: str = picture.name) -> bytes:
        return prompt_body(f"{UPLOADS}/{name}", [region])

    bodies = {
        "bad_json": body(click)[:-1],
        "too_large": body(click) + b" " * 17_000_000,
        "bad_request": body({**click, "type": 5}),
        "bad_config": body(click).replace(b"<View>", b"<View", 1),
        "bad_prompt": body(outside),
        "size_mismatch": body({**click, "original_width": width + 1, "original_height": height}),
        "url_refused": prompt_body("file:///etc/passwd", [click]),
        "image_unreadable": body(click, "login.png"),
        "image_too_large": body(click, "huge.png"),
        "image_unavailable": body(click, "missing.png"),
    }
    return [Question(kind="bad", body=bad, size_wh=picture.size_wh, code=code) for code, bad in bodies.items()]


def _regions(answer: bytes) -> list[dict[str, Any]]:
    (prediction,) = json.loads(answer)["results"]
    regions: list[dict[str, Any]] = prediction["result"] if isinstance(prediction, dict) else prediction
    return regions


def _png_of(width: int, height: int) -> bytes:
    """Return a PNG that says it is so large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
