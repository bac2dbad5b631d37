"""Every request gets an id, is timed by stage, logged and counted."""

import logging
import secrets
import time
from contextlib import ExitStack
from functools import partial

from flask import Flask, Response, g, request

from labelstudio_sam2.ops.logging import request_id
from labelstudio_sam2.ops.metrics import OTHER, Metrics, known_method
from labelstudio_sam2.ops.recent_errors import RecentErrors
from labelstudio_sam2.stages import listening

logger = logging.getLogger(__name__)

ID_HEADER = "X-Request-ID"
"""Of every answer. One that a request brings along is not looked at: a stranger's could be one that is in use, or a
text for the log, and Label Studio sends none."""


def follow_requests(app: Flask, metrics: Metrics, errors: RecentErrors) -> None:
    """Follow each request from its begin to its end. Call this before anything else is added to the application.

    While a request is served `g.request_id` is its id. Its route says in `g.work` what the stages' times count for;
    what answers it with an error puts the code into `g.error` and the fixed text beside it into `g.reason`.

    Args:
        app: Whose requests.
        metrics: Counts them.
        errors: Keeps those that end with an error.
    """
    app.before_request(_begin)
    app.after_request(partial(_end, metrics, errors))
    app.teardown_request(_forget)


def _begin() -> None:
    g.started = time.perf_counter()
    g.request_id = secrets.token_hex(6)
    g.until_its_end = ExitStack()
    g.until_its_end.callback(request_id.reset, request_id.set(g.request_id))
    g.times = g.until_its_end.enter_context(listening())


def _end(metrics: Metrics, errors: RecentErrors, response: Response) -> Response:
    if "times" not in g:  # it never began
        return response
    seconds, stages = time.perf_counter() - g.started, g.times.seconds
    response.headers[ID_HEADER] = g.request_id
    extra = {"status": response.status_code, "ms": round(seconds * 1000, 1)}
    by_stage = {"stages_ms": {name: round(value * 1000, 1) for name, value in stages.items()}} if stages else {}
    level = logging.DEBUG if request.method == "GET" else logging.INFO
    logger.log(level, "%s %s", request.method, request.path[:80], extra=extra | by_stage)
    route, method = request.url_rule.rule if request.url_rule else OTHER, known_method(request.method)
    metrics.count_request(
        route=route,
        method=method,
        status=response.status_code,
        error=g.get("error", ""),
        work=g.get("work", OTHER),
        seconds=seconds,
        stages=stages,
    )
    if "error" in g:
        errors.add(
            code=g.error,
            reason=g.reason,
            method=method,
            route=route,
            status=response.status_code,
            request_id=g.request_id,
        )
    return response


def _forget(_: BaseException | None) -> None:
    if (until_its_end := g.pop("until_its_end", None)) is not None:
        until_its_end.close()
