"""The application that is sent whatever there is: nano, pictures over loopback, prefetch, and an eye on its log."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from flask import Flask
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from labelstudio_sam2.app import create_app
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.labelstudio.prefetch import Prefetch
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

# `make fuzz` runs the tests of this folder with it, again and again.
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("patient"), max_examples=400)


def every_error(error: type[BackendError] = BackendError) -> Iterator[type[BackendError]]:
    yield error
    for kind in error.__subclasses__():
        yield from every_error(kind)


CATALOGUE = {error.reason: error for error in every_error()}
OF_HTTP = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}
"""What the server itself answers where no route does; the reason phrases are the standard's."""
SERVED_WITH_ANOTHER_STATUS = {422: 400, 504: 502}
"""The SAM 2 API answers what its clients know, where the catalogue has another status."""


@dataclass
class Backend:
    """The application, and what an outsider may say about each of its answers.

    Attributes:
        app: The application.
        files: What the picture server has, by path; change them while it runs.
        bugs: What was logged as an error so far.
    """

    app: Flask
    files: dict[str, bytes]
    bugs: list[str] = field(default_factory=list)

    def send(
        self,
        path: str,
        *,
        method: str = "POST",
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (("Content-Type", "application/json"),),
        environ: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send one request as the server in front of the application hands it over, and check the answer.

        Args:
            path: As WSGI has it: percent-decoded, each byte a Latin-1 character.
            method: In any spelling.
            body: The body.
            headers: Name and value of each.
            environ: Further entries of WSGI's environ, which win.
        """
        request = EnvironBuilder(data=body, headers=[*headers]).get_environ()
        request |= {"REQUEST_METHOD": method, "PATH_INFO": path, **(environ or {})}
        chunks, status, fields = run_wsgi_app(self.app, request, buffered=True)  # a test client would mend the request
        answer = Response(chunks, status, fields)
        check_answer(answer, with_body=method != "HEAD")
        assert self.bugs == []
        return answer

    def good_answers(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return what some requests, by path, are answered with; only how long it took is left out."""
        answers = {}
        for path, body in requests.items():
            answer = self.send(path, body=body)
            assert answer.status_code == 200, answer.data
            answers[path] = answer.data.partition(b',"time":')[0]
        return answers


def check_answer(answer: Response, *, with_body: bool) -> None:
    """Do nothing if an answer is a success or one of the catalogue's errors, its reason fixed, its body JSON."""
    status, _, reason = answer.status.partition(" ")
    assert answer.status_code < 500 or answer.status_code in {502, 503, 504}, (answer.status, answer.data)
    if answer.status_code == 200:
        return
    if answer.status_code in OF_HTTP:
        codes, reasons = {OF_HTTP[answer.status_code]}, {HTTP_STATUS_CODES[answer.status_code].upper()}
        reason = reason.upper()
    else:
        assert reason in CATALOGUE, answer.status
        error = CATALOGUE[reason]
        assert int(status) in {error.status, SERVED_WITH_ANOTHER_STATUS.get(error.status)}, answer.status
        codes, reasons = {error.code}, {reason}
    assert reason in reasons
    assert reason.isascii()
    assert answer.mimetype == "application/json"
    if with_body:
        body = json.loads(answer.data)
        assert body["error"] in codes
        assert len(body["request_id"]) == 12


@pytest.fixture(scope="module")
def make_backend(
    nano_model: Any, disc_and_box: Any, serving_pictures: Callable[[], AbstractContextManager[Any]]
) -> Iterator[Callable[..., Backend]]:
    """Return a function that composes the application as it is served; settings go in by name."""
    watched: list[tuple[logging.Handler, Backend]] = []
    with serving_pictures() as server:

        def make(**wanted: object) -> Backend:
            settings = load_settings(
                model="nano", label_studio_url=server.url, label_studio_api_key="a" * 40, max_request_mb=1, **wanted
            )
            segmenter: Segmenter[Any] = Segmenter(
                lambda: nano_model,
                model_version="nano@test",
                cache=EmbeddingCache(2**26, 2**24),
                device=DeviceSchedule(max_waiting=8, wait_seconds=60),
            )
            segmenter.start().join()
            source = ImageSource(settings)
            inputs = ImageInputs(source, ImageLimits.from_settings(settings))
            models = Models("nano", segmenter, extras={}, view=lambda each: SegmentAnything2.on(each, inputs))
            prefetch = Prefetch(source, segmenter, LabelStudioTasks(source.token), count=2)
            app = create_app(Assistant(source, segmenter, prefetch), segmenter, models, settings)
            backend = Backend(app, server.files)
            handler = BugHandler(backend.bugs)
            logging.getLogger("labelstudio_sam2").addHandler(handler)
            watched.append((handler, backend))
            return backend

        for number in range(3):
            server.files[f"/data/upload/6/{number}.png"] = disc_and_box.png()
        yield make
    for handler, _ in watched:
        logging.getLogger("labelstudio_sam2").removeHandler(handler)


class BugHandler(logging.Handler):
    """Collects what is logged as an error: what a thread in the background swallowed is seen only here."""

    def __init__(self, bugs: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._bugs = bugs

    def emit(self, record: logging.LogRecord) -> None:
        self._bugs.append(logging.Formatter().format(record))
