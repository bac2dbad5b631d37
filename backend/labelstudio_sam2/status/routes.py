"""The page over HTTP, and what else is at `/`."""

import hmac
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from labelstudio_sam2.doctor.on_demand import Examinations
from labelstudio_sam2.errors import BadRequestError
from labelstudio_sam2.status.page import StatusPage

DOCTOR_PATH = "/status/doctor"
_JSON_OR_HTML = ("application/json", "text/html")
"""The first is for whoever takes both, as programs do; browsers ask for the second."""


def status_routes(
    page: StatusPage, examinations: Examinations, *, model_version: str, state: Callable[[], str]
) -> Blueprint:
    """Return the routes of the page. They wait for nothing.

    An examination is begun by this page's own button only: its address carries a word that other sites cannot read, so
    that none of them can have a visitor's browser begin one.

    Args:
        page: Makes it.
        examinations: The doctor's.
        model_version: For programs that ask for `/`.
        state: As above.
    """
    routes = Blueprint("status", __name__)
    word = secrets.token_urlsafe()

    def show() -> Response:
        html = page.html(
            examinations.last,
            page_url=url_for("status.status"),
            doctor_url=url_for("status.begin", word=word),
            is_refreshed=_asked("refresh") != "off",
        )
        response = Response(html, mimetype="text/html")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = page.content_security_policy
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @routes.get("/")
    def index() -> Response:
        if request.accept_mimetypes.best_match(_JSON_OR_HTML) == "text/html":
            response = show()
        else:
            response = jsonify(
                name="labelstudio-sam2",
                model_version=model_version,
                state=state(),
                routes=["/health", "/ready", "/setup", "/predict", "/webhook", "/versions", "/metrics", "/status"],
            )
        response.vary.add("Accept")
        return response

    @routes.get("/status")
    def status() -> Response:
        return show()

    @routes.post(DOCTOR_PATH)
    def begin() -> AnyResponse:
        if not hmac.compare_digest(_asked("word").encode(), word.encode()):
            raise BadRequestError("the button is of a page from before the last start: open /status again")
        examinations.begin()
        return redirect(url_for("status.status"), 303)

    return routes


def _asked(name: str) -> str:
    """Return a parameter of the address, or nothing."""
    query = parse_qs(request.query_string.decode("utf-8", "replace"))  # `args` raises instead
    return query.get(name, [""])[0]
