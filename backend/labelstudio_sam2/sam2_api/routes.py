"""The seed's HTTP routes, as its clients know them. Thin: the work is `SegmentAnything2`'s."""

import time
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from flask import Blueprint, Response, g, jsonify, request

from labelstudio_sam2.errors import BackendError, ImageTimeoutError
from labelstudio_sam2.places import Places
from labelstudio_sam2.request_body import read_body
from labelstudio_sam2.sam2_api.access import Access, bearer_token
from labelstudio_sam2.sam2_api.openapi import openapi_document
from labelstudio_sam2.sam2_api.schema import (
    EmbedRequest,
    ModelRequest,
    Request,
    SegmentRequest,
    check_size,
    decode,
    npz,
    predictions,
)
from labelstudio_sam2.stages import stage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2
    from labelstudio_sam2.segmenter.models import Models

R = TypeVar("R", bound=Request)

BLUEPRINT = "sam2_api"
OPEN_PATHS = frozenset({"/healthz", "/readiness", "/info", "/openapi.json"})
"""Served without credentials: probes and `get_server_info` come without them, and nothing is given away."""


class Readiness(Protocol):
    """Tells whether the served model can be asked."""

    def check_ready(self) -> None:
        """Raise the catalogue's error if not."""
        ...

    def check_device(self) -> None:
        """Raise the catalogue's error if the device has failed for good. Instant."""
        ...


def status_of(error: BackendError) -> int:
    """Return the HTTP status that this API answers the current request with.

    Probes get the catalogue's. Otherwise it differs where the seed's clients know another one: 400 for whatever is
    wrong with a request. They also try 429, 503 and 504 again, three times, so those are only for what passes.
    """
    if request.path in OPEN_PATHS:
        return error.status
    if error.status == 422:
        return 400
    if error.status == 503 and error.retry_seconds is None:
        return 500
    return 502 if isinstance(error, ImageTimeoutError) else error.status


def sam2_routes(
    models: "Models[Any, SegmentAnything2]", readiness: Readiness, access: Access, places: Places, *, version: str
) -> Blueprint:
    """Return the routes of the seed's server.

    Credentials outside the body are looked at as the application's own `before_request` functions are run, in the
    order of registration: before anything of the body is read.

    Args:
        models: Which models can be asked.
        readiness: Of the served one.
        access: Who may ask.
        places: Where a request whose key is in its body has its place; `g.is_unknown` says of the current one that it
            has none yet.
        version: This package's.
    """
    routes = Blueprint(BLUEPRINT, __name__)

    @routes.before_app_request
    def check_access() -> None:
        if request.blueprint != BLUEPRINT:
            return
        if request.path in OPEN_PATHS:
            g.is_stranger = not access.lets_in(_keys_outside_the_body())
        elif request.method == "POST":
            g.is_unknown = not access.check_before_body(_keys_outside_the_body())
        else:
            access.check(_keys_outside_the_body())

    _mask_routes(routes, models, access, places)
    _model_routes(routes, models, access, places)
    _server_routes(routes, readiness, version)
    return routes


def _mask_routes(routes: Blueprint, models: "Models[Any, SegmentAnything2]", access: Access, places: Places) -> None:
    @routes.post("/sam2/embed_image")
    def embed_image() -> Response:
        started = time.perf_counter()
        asked = _asked(EmbedRequest, access, places)
        _, _, image_id = models.get(asked.model).embed_image(asked.picture, asked.image_id)
        return jsonify(image_id=image_id, time=time.perf_counter() - started)

    @routes.post("/sam2/segment_image")
    def segment_image() -> Response:
        started = time.perf_counter()
        asked = _asked(SegmentRequest, access, places)
        prompts, model = asked.one_or_more_prompts, models.get(asked.model)
        if len(prompts) > 1 or asked.format == "binary":  # else the limit of the picture's own size is enough
            _, size_hw, _ = model.embed_image(asked.picture, asked.image_id)
            check_size(size_hw, len(prompts), asked.format)
        image_id, segmentations = model.segment(
            asked.picture,
            asked.image_id,
            prompts,
            multimask_output=asked.multimask_output,
            save_logits_to_cache=asked.save_logits_to_cache,
            load_logits_from_cache=asked.load_logits_from_cache,
        )
        with stage("encode"):
            if asked.format == "binary":
                return Response(npz(segmentations), mimetype="application/octet-stream")
            found = predictions(segmentations, asked.format)
            answer = {"predictions": found, "image_id": image_id, "time": time.perf_counter() - started}
            return Response(msgspec.json.encode(answer), mimetype="application/json")


def _model_routes(routes: Blueprint, models: "Models[Any, SegmentAnything2]", access: Access, places: Places) -> None:
    def loaded() -> Response:
        return jsonify(
            models=[{"model_id": model_id, "task_type": "unsupervised-segmentation"} for model_id in models.loaded_ids]
        )

    @routes.get("/model/registry")
    def registry() -> Response:
        return loaded()

    @routes.post("/model/add")
    def add() -> Response:
        models.get(_asked(ModelRequest, access, places).model_id)
        return loaded()

    @routes.post("/model/remove")
    def remove() -> Response:
        models.remove(_asked(ModelRequest, access, places).model_id)
        return loaded()

    @routes.post("/model/clear")
    def clear() -> Response:
        access.check(_keys_outside_the_body())
        models.clear()
        return loaded()


def _server_routes(routes: Blueprint, readiness: Readiness, version: str) -> None:
    document = openapi_document(version)
    server_id = str(uuid.uuid4())

    @routes.get("/info")
    def info() -> Response:
        return jsonify(name="labelstudio-sam2", version=version, uuid=server_id)

    @routes.get("/healthz")
    def healthz() -> Response:
        readiness.check_device()
        return jsonify(status="healthy")

    @routes.get("/readiness")
    def ready() -> Response:
        readiness.check_ready()
        return jsonify(status="ready")

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document)


class PlainPaths:
    """WSGI: serves paths with doubled and trailing slashes as without, since a redirect may cost a POST its body.

    Clients make `//sam2/segment_image` of a server's address that ends in a slash.

    Args:
        app: What to call.
        paths: The paths that are served so; all others are left as they came.
    """

    def __init__(self, app: "WSGIApplication", paths: frozenset[str]) -> None:
        self._app = app
        self._paths = paths

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve one request."""
        path = "/" + "/".join(part for part in environ.get("PATH_INFO", "").split("/") if part)
        if path in self._paths:
            environ = {**environ, "PATH_INFO": path}
        return self._app(environ, start_response)


def _asked(wanted: type[R], access: Access, places: Places) -> R:
    """Read the current request's body and check who sent it."""
    g.work = "api"
    with places.for_a_stranger() if g.is_unknown else nullcontext():
        asked = decode(read_body(), wanted)
        access.check([asked.api_key, *_keys_outside_the_body()])
    places.take()
    return asked


def _keys_outside_the_body() -> list[str | None]:
    query = parse_qsl(request.query_string.decode("utf-8", "replace"), keep_blank_values=True)  # `args` raises instead
    in_address = next((value for name, value in query if name == "api_key"), None)
    return [in_address, bearer_token(request.headers.get("Authorization", ""))]
