"""What operators and their programs ask for."""

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from labelstudio_sam2.ops.metrics import Metrics


def ops_routes(metrics: Metrics) -> Blueprint:
    """Return the route that Prometheus asks. Answered while the model loads, too: it waits for nothing."""
    routes = Blueprint("ops", __name__)

    @routes.get("/metrics")
    def show_metrics() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return routes
