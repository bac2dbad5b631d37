"""Label Studio's protocol over HTTP. Thin: every decision is the assistant's."""

from typing import Protocol

from flask import Blueprint, Response, g, jsonify

from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.wire import decode_predict_request, encode_answer
from labelstudio_sam2.request_body import read_body
from labelstudio_sam2.stages import stage


class Readiness(Protocol):
    """Tells whether the model can be asked."""

    def check_ready(self) -> None:
        """Raise the catalogue's error if not."""
        ...

    def check_device(self) -> None:
        """Raise the catalogue's error if the device has failed for good. Instant."""
        ...


def label_studio_routes(assistant: Assistant, readiness: Readiness) -> Blueprint:
    """Return the routes that Label Studio calls.

    `/health`, `/setup` and `/versions` touch neither model nor network: Label Studio waits 1 s for the first and 3 s
    for the others, and asks several times per page. `/health` is about the process: it is well without a model, but not
    on a GPU that has failed for good.
    """
    routes = Blueprint("labelstudio", __name__)

    @routes.get("/health")
    def health() -> Response:
        readiness.check_device()
        return jsonify(status="UP", model_class="SAM2Backend", v=assistant.model_version)

    @routes.get("/ready")
    def ready() -> Response:
        readiness.check_ready()
        return jsonify(status="READY", model_version=assistant.model_version)

    @routes.post("/setup")
    def setup() -> Response:
        # The body carries the project owner's token. It is not needed, so it is not even read.
        return jsonify(model_version=assistant.model_version)

    @routes.get("/versions")
    def versions() -> Response:
        return jsonify(versions=[assistant.model_version])

    @routes.post("/predict")
    def predict() -> Response:
        asked = decode_predict_request(read_body())
        g.work = "click" if asked.is_click else "open"
        results = assistant.predict(asked)
        with stage("encode"):
            answer = encode_answer(results)
        return Response(answer, mimetype="application/json")

    @routes.post("/webhook")
    def webhook() -> Response:
        return jsonify(status="ok")

    return routes
