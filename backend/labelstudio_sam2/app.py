"""The composition: settings in, a Flask application out."""

import base64
import hmac
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from labelstudio_sam2.doctor.examination import Wishes, examine
from labelstudio_sam2.doctor.on_demand import Examinations
from labelstudio_sam2.errors import ApiKeyError, BackendError, TooLargeError, UnauthorizedError
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.labelstudio.limits import RequestLimits
from labelstudio_sam2.labelstudio.prefetch import Prefetch
from labelstudio_sam2.labelstudio.routes import label_studio_routes
from labelstudio_sam2.ops.collectors import DeviceCollector, ModelCollector, PrefetchCollector, TierCollector
from labelstudio_sam2.ops.logging import Seldom
from labelstudio_sam2.ops.metrics import Metrics
from labelstudio_sam2.ops.readiness import ModelState, Readiness
from labelstudio_sam2.ops.recent_errors import RecentErrors
from labelstudio_sam2.ops.requests import follow_requests
from labelstudio_sam2.ops.routes import ops_routes
from labelstudio_sam2.places import Places
from labelstudio_sam2.sam2_api import routes as sam2_api
from labelstudio_sam2.sam2_api.access import Access
from labelstudio_sam2.sam2_api.inputs import ImageInputs
from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.models import Models, device_memory, extra_specs, load_model
from labelstudio_sam2.segmenter.pixel_budget import PixelBudget
from labelstudio_sam2.segmenter.segmenter import Model, Segmenter
from labelstudio_sam2.segmenter.zoo import ModelSpec, model_version, resolve
from labelstudio_sam2.settings import Settings
from labelstudio_sam2.stages import Stage
from labelstudio_sam2.status.page import StatusPage
from labelstudio_sam2.status.routes import DOCTOR_PATH, status_routes

if TYPE_CHECKING:
    from labelstudio_sam2.segmenter.sam2_model import Sam2Embedding

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready", "/webhook"})
"""Served without credentials: probes and Label Studio's webhooks come without them, and nothing is given away."""
QUICK_PATHS = frozenset({"/setup", "/webhook", DOCTOR_PATH})
"""Routes that are posted to and that do no work."""
READINESS = "labelstudio_sam2.readiness"
"""Under which the application's extensions hold its `Readiness`, for the server to withdraw."""
LARGEST_AT_ONCE = 2
"""So many pictures of `MAX_IMAGE_MEGAPIXELS` may be decoded at once; of smaller ones, more."""
STRANGER_WARNING_SECONDS = 60
"""From one warning of refused credentials to the next; the line that every request has tells of the others."""
FREE_THREADS = 2
"""Threads that slow requests never get, so that Label Studio's health checks are answered within its one second."""


def build_segmenter(settings: Settings) -> "Segmenter[Sam2Embedding]":
    """Return a segmenter that has not started loading its model.

    Raises:
        ValueError: The settings name no model that is known.
    """
    return _segmenter(_served_spec(settings), settings, _Device(settings))


def check_settings(settings: Settings) -> None:
    """Do nothing if the application can be built with these settings. Instant, loads nothing.

    Raises:
        ValueError: One cannot be used; the message names it.
    """
    _served_spec(settings)
    extra_specs(settings.extra_models)
    ImageSource(settings)


def build_assistant(settings: Settings) -> Assistant:
    """Return an assistant whose model loads in the background."""
    segmenter = build_segmenter(settings)
    segmenter.start()
    source = ImageSource(settings)
    return Assistant(source, segmenter, _prefetch(source, segmenter, settings), RequestLimits.from_settings(settings))


def build_app(settings: Settings, *, on_device_lost: Callable[[str], object] = lambda _: None) -> Flask:
    """Return the application as it is served; its model loads in the background.

    Args:
        settings: All of them.
        on_device_lost: Told once, and why, when the GPU has failed for good; requests are refused from then on.
    """
    spec, device, source = _served_spec(settings), _Device(settings, on_device_lost), ImageSource(settings)
    segmenter = _segmenter(spec, settings, device)
    inputs = ImageInputs(source, ImageLimits.from_settings(settings), allow_files=settings.allow_file_inputs)
    models = Models(
        spec.model_id,
        segmenter,
        extras={
            model_id: partial(_segmenter, extra, settings, device)
            for model_id, extra in extra_specs(settings.extra_models).items()
        },
        view=lambda each: SegmentAnything2.on(each, inputs),
        forget=device.forget,
        wait_seconds=settings.request_seconds,
    )
    metrics = Metrics()
    prefetch = _prefetch(source, segmenter, settings, observe=metrics.count_prefetch)
    metrics.registry.register(TierCollector(segmenter.cache_stats))
    metrics.registry.register(DeviceCollector(segmenter.waiting, device.memory_bytes, device.names))
    if prefetch is not None:
        metrics.registry.register(PrefetchCollector(prefetch))
    segmenter.start()
    assistant = Assistant(source, segmenter, prefetch, RequestLimits.from_settings(settings))
    return create_app(assistant, segmenter, models, settings, metrics)


def create_app(
    assistant: Assistant,
    model: ModelState,
    models: Models[Any, SegmentAnything2],
    settings: Settings,
    metrics: Metrics | None = None,
) -> Flask:
    """Return the application around its parts; nothing is started.

    Args:
        assistant: Answers Label Studio.
        model: The served model's state.
        models: What the SAM 2 API answers with.
        settings: Limits and credentials.
        metrics: For `/metrics`, with what the parts register there; by default requests and the model's state alone.
    """
    app = Flask("labelstudio_sam2", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_mb * 1_000_000
    app.json.sort_keys = False  # type: ignore[attr-defined]
    metrics, errors = metrics or Metrics(), RecentErrors()
    readiness = app.extensions[READINESS] = Readiness(model)
    versions = {"version": version("labelstudio-sam2"), "model": assistant.model_version}
    metrics.registry.register(ModelCollector(readiness, versions))
    follow_requests(app, metrics, errors)  # first: all else is timed
    app.url_map.strict_slashes = False  # else an empty path is answered by a redirect, which is HTML
    api_key = settings.api_key.get_secret_value() if settings.api_key else None
    access = Access(api_key, is_basic=(lambda: bool(g.is_basic)) if settings.basic_auth_user else None)
    if settings.basic_auth_user and settings.basic_auth_pass:
        app.before_request(_basic_auth(settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()))
    app.register_blueprint(ops_routes(metrics))
    app.register_blueprint(
        status_routes(
            StatusPage(readiness, metrics.registry, errors),
            Examinations(partial(examine, settings, Wishes(clicks=False))),
            model_version=assistant.model_version,
            state=lambda: readiness.state,
        )
    )
    app.register_blueprint(label_studio_routes(assistant, readiness))
    places = Places(settings.threads - FREE_THREADS)
    app.register_blueprint(sam2_api.sam2_routes(models, readiness, access, places, version=versions["version"]))
    app.wsgi_app = sam2_api.PlainPaths(app.wsgi_app, _paths_of(app, sam2_api.BLUEPRINT))  # type: ignore[method-assign]
    _serve_errors(app)
    _take_places(app, places)  # last: who is refused without a look at the body takes none
    return app


class _Device:
    """What every model of this process shares: one memory of embeddings, one folder, one schedule, one pixel budget."""

    def __init__(self, settings: Settings, on_lost: Callable[[str], object] = lambda _: None) -> None:
        self.cache: EmbeddingCache[Sam2Embedding] = EmbeddingCache(
            settings.embedding_cache_mb * 2**20, settings.prefetch_mb * 2**20
        )
        self.schedule = DeviceSchedule(
            max_waiting=settings.max_waiting, wait_seconds=settings.request_seconds, on_lost=on_lost
        )
        self.disk = _disk(settings)
        self.pixels = PixelBudget(LARGEST_AT_ONCE * settings.max_image_megapixels * 1_000_000)
        self._settings = settings
        self._names: Mapping[str, str] = {}
        self._any_model: weakref.WeakSet[Model[Sam2Embedding]] = weakref.WeakSet()

    def load(self, spec: ModelSpec) -> "Model[Sam2Embedding]":
        settings = self._settings
        model = load_model(spec, settings.weights_dir, device=settings.device, precision=settings.precision)
        self._any_model.add(model)
        self._names = {"device": model.device, "precision": model.precision}
        return model

    def names(self) -> Mapping[str, str]:
        """What it is called, and the precision that models have on it; nothing before the first model is there."""
        return self._names

    def memory_bytes(self) -> Mapping[str, int]:
        """By kind; nothing before the first model is there."""
        return device_memory(self._names["device"]) if self._names else {}

    def forget(self, model_version: str) -> None:
        """Give back what a model that was taken out of memory held."""
        self.cache.drop(f"{model_version}:")
        for model in list(self._any_model)[:1]:  # memory is the device's, whichever model is asked
            model.free_memory()


def _served_spec(settings: Settings) -> ModelSpec:
    return resolve(settings.model, settings.model_config_file)


def _segmenter(spec: ModelSpec, settings: Settings, device: _Device) -> "Segmenter[Sam2Embedding]":
    return Segmenter(
        lambda: device.load(spec),
        model_version=model_version(spec, settings.precision),
        cache=device.cache,
        device=device.schedule,
        disk=device.disk if spec.sha256 is not None else None,  # else a new checkpoint would find the old one's
        wait_seconds=settings.request_seconds,
        pixels=device.pixels,
    )


def _prefetch(
    source: ImageSource,
    segmenter: "Segmenter[Sam2Embedding]",
    settings: Settings,
    *,
    observe: Callable[[Mapping[Stage, float]], object] = lambda _: None,
) -> Prefetch | None:
    if settings.prefetch_mb == 0:
        return None
    tasks = LabelStudioTasks(source.token)
    next_tasks = tasks if tasks.can_ask else None
    return Prefetch(source, segmenter, next_tasks, count=settings.prefetch_tasks, observe=observe)


def _disk(settings: Settings) -> EmbeddingDisk | None:
    if settings.embedding_disk_dir is None or settings.embedding_disk_mb == 0:
        return None
    # who waits in vain for another process still has half of the time to embed
    lock_seconds = settings.request_seconds / 2
    return EmbeddingDisk(settings.embedding_disk_dir, settings.embedding_disk_mb * 2**20, lock_seconds=lock_seconds)


def _paths_of(app: Flask, blueprint: str) -> frozenset[str]:
    return frozenset(rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith(f"{blueprint}."))


def _serve_errors(app: Flask) -> None:
    warn_of_strangers = Seldom(STRANGER_WARNING_SECONDS)

    @app.errorhandler(BackendError)
    def answer_error(error: BackendError) -> Response:
        # Label Studio's editor shows the annotator nothing on an error: this line is where a team looks.
        level = logging.DEBUG if request.method == "GET" else logging.WARNING  # /ready is polled
        if isinstance(error, UnauthorizedError) and level == logging.WARNING and not warn_of_strangers():
            level = logging.DEBUG
        logger.log(level, "refused: %s", error, extra={"code": error.code, "status": error.status})
        return _error_response(error)

    @app.errorhandler(RequestEntityTooLarge)
    def answer_too_large(_: RequestEntityTooLarge) -> Response:
        megabytes = app.config["MAX_CONTENT_LENGTH"] // 1_000_000
        return answer_error(TooLargeError(f"the body is larger than {megabytes} MB"))

    @app.errorhandler(HTTPException)
    def answer_http_error(error: HTTPException) -> Response:
        response = Response(status=error.code, headers=error.get_headers())  # a 405 names the methods that are served
        word, detail = error.name.lower().replace(" ", "_"), error.description
        g.error, g.reason = word, error.name
        response.data = jsonify(error=word, message=detail, detail=detail, request_id=g.get("request_id")).data
        response.mimetype = "application/json"
        return response

    @app.errorhandler(Exception)
    def answer_bug(error: Exception) -> Response:
        logger.error("a bug: %s", type(error).__name__, exc_info=error)
        return _error_response(BackendError(f"see the log for request {g.request_id}"))


def _error_response(error: BackendError) -> Response:
    g.error, g.reason = error.code, error.reason
    detail = error.reason if g.get("is_stranger") else str(error)  # paths and texts are for those who may know
    status = sam2_api.status_of(error) if request.blueprint == sam2_api.BLUEPRINT else error.status
    # inference-sdk reads `message`
    response = jsonify(error=error.code, message=detail, detail=detail, request_id=g.get("request_id"))
    response.status = f"{status} {error.reason}"
    if status == 401:
        scheme = "Bearer" if isinstance(error, ApiKeyError) else "Basic"
        response.headers["WWW-Authenticate"] = f'{scheme} realm="labelstudio-sam2"'
    if error.retry_seconds is not None and request.method == "POST":
        # never on GET /health: Label Studio would sleep in its web worker
        response.headers["Retry-After"] = str(error.retry_seconds)
    return response


def _take_places(app: Flask, places: Places) -> None:
    def take_place() -> None:
        if request.method == "POST" and request.path not in QUICK_PATHS and not g.get("is_unknown"):
            places.take()

    app.before_request(take_place)
    places.init_app(app)


def _basic_auth(user: str, password: str) -> Callable[[], None]:
    expected = [base64.b64encode(credentials) for credentials in _encodings(f"{user}:{password}")]

    def check() -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("latin-1", "replace") if scheme.lower() == "basic" else b""
        matches = [hmac.compare_digest(sent, credentials) for credentials in expected]
        g.is_basic = any(matches)
        if request.blueprint == sam2_api.BLUEPRINT:
            return  # it also takes an API key, and looks itself
        g.is_stranger = not g.is_basic
        if g.is_stranger and request.path not in OPEN_PATHS | sam2_api.OPEN_PATHS:
            raise UnauthorizedError("Basic auth is on: give Label Studio BASIC_AUTH_USER and BASIC_AUTH_PASS")

    return check


def _encodings(credentials: str) -> Iterator[bytes]:
    """Yield how clients write credentials: curl and browsers in UTF-8, Label Studio in Latin-1 where that is enough."""
    yield credentials.encode()
    if not credentials.isascii():
        with suppress(UnicodeEncodeError):
            yield credentials.encode("latin-1")
