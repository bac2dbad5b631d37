"""The composition: settings in, a Flask application out."""

import base64
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from labelstudio_sam2.errors import BackendError, TooLargeError, UnauthorizedError
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.routes import Readiness, label_studio_routes
from labelstudio_sam2.ops.logging import request_id
from labelstudio_sam2.segmenter.device_queue import DeviceQueue
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.segmenter import Model, Segmenter
from labelstudio_sam2.segmenter.weights import find_checkpoint
from labelstudio_sam2.segmenter.zoo import ModelSpec, model_version, resolve
from labelstudio_sam2.settings import Settings

if TYPE_CHECKING:
    from labelstudio_sam2.segmenter.sam2_model import Sam2Embedding

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready", "/webhook"})
"""Served without credentials: probes and Label Studio's webhooks come without them, and nothing is given away."""


def build_segmenter(settings: Settings) -> "Segmenter[Sam2Embedding]":
    """Return a segmenter that has not started loading its model.

    Raises:
        ValueError: The settings name no model that is known.
    """
    spec = resolve(settings.model, settings.model_config_file)
    return Segmenter(
        lambda: _load_model(spec, settings),
        model_version=model_version(spec, settings.precision),
        cache=EmbeddingCache(settings.embedding_cache_mb * 2**20),
        device=DeviceQueue(max_waiting=settings.max_waiting, wait_seconds=settings.request_seconds),
        wait_seconds=settings.request_seconds,
    )


def build_assistant(settings: Settings) -> Assistant:
    """Return an assistant whose model loads in the background."""
    segmenter = build_segmenter(settings)
    segmenter.start()
    return Assistant(ImageSource(settings), segmenter)


def build_app(settings: Settings) -> Flask:
    """Return the application as it is served; its model loads in the background."""
    segmenter = build_segmenter(settings)
    segmenter.start()
    return create_app(Assistant(ImageSource(settings), segmenter), segmenter, settings)


def create_app(assistant: Assistant, readiness: Readiness, settings: Settings) -> Flask:
    """Return the application around its parts; nothing is started."""
    app = Flask("labelstudio_sam2", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_mb * 1_000_000
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(label_studio_routes(assistant, readiness))
    _serve_errors(app)
    app.before_request(_begin_request)
    if settings.basic_auth_user and settings.basic_auth_pass:
        app.before_request(_basic_auth(settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()))
    app.after_request(_log_request)
    return app


def _load_model(spec: ModelSpec, settings: Settings) -> "Model[Sam2Embedding]":
    from labelstudio_sam2.segmenter.sam2_model import load_sam2  # noqa: PLC0415  torch is slow to import

    checkpoint = find_checkpoint(spec, settings.weights_dir)
    return load_sam2(spec, checkpoint, device=settings.device, precision=settings.precision)


def _serve_errors(app: Flask) -> None:
    @app.errorhandler(BackendError)
    def answer_error(error: BackendError) -> Response:
        # Label Studio's editor shows the annotator nothing on an error: this line is where a team looks.
        level = logging.DEBUG if request.method == "GET" else logging.WARNING  # /ready is polled
        logger.log(level, "refused: %s", error, extra={"code": error.code, "status": error.status})
        return _error_response(error)

    @app.errorhandler(RequestEntityTooLarge)
    def answer_too_large(_: RequestEntityTooLarge) -> Response:
        megabytes = app.config["MAX_CONTENT_LENGTH"] // 1_000_000
        _drain(4 * app.config["MAX_CONTENT_LENGTH"])
        return answer_error(TooLargeError(f"the body is larger than {megabytes} MB"))

    @app.errorhandler(HTTPException)
    def answer_http_error(error: HTTPException) -> Response:
        response = Response(status=error.code, headers=error.get_headers())  # a 405 names the methods that are served
        response.data = jsonify(error=error.name.lower().replace(" ", "_"), detail=error.description).data
        response.mimetype = "application/json"
        return response

    @app.errorhandler(Exception)
    def answer_bug(error: Exception) -> Response:
        logger.error("a bug: %s", type(error).__name__, exc_info=error)
        return _error_response(BackendError(f"see the log for request {g.request_id}"))


def _drain(max_bytes: int) -> None:
    """Read and forget what the client still sends: one that cannot finish writing never reads its answer."""
    stream = request.environ["wsgi.input"]
    while max_bytes > 0 and (chunk := stream.read(65_536)):
        max_bytes -= len(chunk)


def _error_response(error: BackendError) -> Response:
    response = jsonify(error=error.code, detail=str(error), request_id=g.get("request_id"))
    response.status = f"{error.status} {error.reason}"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="labelstudio-sam2"'
    if error.status == 503 and request.method == "POST":
        response.headers["Retry-After"] = "1"  # never on GET /health: Label Studio would sleep in its web worker
    return response


def _begin_request() -> None:
    g.started = time.perf_counter()
    g.request_id = secrets.token_hex(6)
    request_id.set(g.request_id)


def _basic_auth(user: str, password: str) -> Callable[[], None]:
    expected = [base64.b64encode(credentials) for credentials in _encodings(f"{user}:{password}")]

    def check() -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("latin-1", "replace") if scheme.lower() == "basic" else b""
        matches = [hmac.compare_digest(sent, credentials) for credentials in expected]
        if request.path not in OPEN_PATHS and not any(matches):
            raise UnauthorizedError("Basic auth is on: give Label Studio BASIC_AUTH_USER and BASIC_AUTH_PASS")

    return check


def _encodings(credentials: str) -> Iterator[bytes]:
    """Yield how clients write credentials: curl and browsers in UTF-8, Label Studio in Latin-1 where that is enough."""
    yield credentials.encode()
    if not credentials.isascii():
        with suppress(UnicodeEncodeError):
            yield credentials.encode("latin-1")


def _log_request(response: Response) -> Response:
    seconds = time.perf_counter() - g.started if "started" in g else None
    level = logging.DEBUG if request.method == "GET" else logging.INFO
    logger.log(
        level,
        "%s %s",
        request.method,
        request.path[:80],
        extra={"status": response.status_code, "ms": None if seconds is None else round(seconds * 1000, 1)},
    )
    return response
