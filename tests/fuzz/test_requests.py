"""Whatever is sent to whichever route: an answer of the catalogue, and the next good request is answered as before.

Requests begin as recorded or as documented, and are then taken apart: `changed` does that to their values, `spelled` to
the JSON they are written in, `sent` to the HTTP around it.
"""

import base64
import copy
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from labelstudio_sam2 import app
from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle
from labelstudio_sam2.sam2_api import routes as sam2_api

RECORDED = Path(__file__).parents[1] / "data" / "label_studio"
SIZE_HW = (480, 640)

Json: TypeAlias = Any
Place: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

Around: TypeAlias = tuple[list[tuple[str, str]], dict[str, Any]]
"""Headers, and further entries of WSGI's environ."""


class Verbatim(str):
    """JSON as it is to be written, right or wrong; bytes that are no UTF-8 are lone surrogates in it."""

    __slots__ = ()


def recorded(name: str) -> Json:
    return json.loads((RECORDED / f"{name}.json").read_text())


def click(x: float, y: float, **more: Json) -> Json:
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": ["Object"]}
    return {**ON_IMAGE, "id": "click", "type": "keypointlabels", "from_name": "kp", "value": value, **more}


def region(kind: str, **value: Json) -> Json:
    labels = {f"{kind}labels": ["Object"]}
    tag = {"keypoint": "kp", "rectangle": "rect", "polygon": "poly", "brush": "brush"}[kind]
    return {**ON_IMAGE, "id": kind, "type": f"{kind}labels", "from_name": tag, "value": {**value, **labels}}


def predict(*context: Json, on_screen: Sequence[Json] = (), **task: Json) -> Json:
    """Return the body of a click, `on_screen` in the draft, in an annotation and in a prediction."""
    body = recorded("kp1_positive")
    result = [*on_screen]
    body["params"]["context"] = {"result": [*context]} if context else None
    body["tasks"][0] |= {
        "data": {"image": "/data/upload/6/0.png"},
        "drafts": [{"id": 1, "result": result, "updated_at": "2026-11-22T11:39:40.868198Z"}],
        "annotations": [{"id": 2, "result": result}],
        "predictions": [{"id": 3, "result": result, "score": 0.5}],
        **task,
    }
    return body


ON_IMAGE = {"to_name": "image", "original_width": 640, "original_height": 480, "image_rotation": 0}
HALF = np.zeros(SIZE_HW, np.bool_)
HALF[100:300, 100:400] = True
RLE = encode_brush_rle(HALF).tolist()
STROKE = {
    "type": "add",
    "relativePoints": [25.0, 30.0, 30.0, 35.5, 40.0, 36.0],
    "relativeStrokeWidth": 4.0,
    "points": [160, 144],
}
ERASER = {**STROKE, "type": "eraser", "relativePoints": [28.0, 33.0]}
DRAWN = {
    "rectangle": region("rectangle", x=62, y=51, width=26, height=33, rotation=0),
    "turned rectangle": region("rectangle", x=62, y=51, width=26, height=33, rotation=30),
    "polygon": region("polygon", points=[[20, 20], [50.5, 20], [40, 70]], closed=True),
    "mask": region("brush", format="rle", rle=RLE),
    "strokes": region("brush", format="rle", touches=[STROKE, ERASER]),
    "painted mask": region("brush", format="rle", rle=RLE, touches=[STROKE, ERASER]),
}
LIST_CONFIG = (
    '<View><Image name="image" valueList="$image"/><Labels name="lab" toName="image"><Label value="Object"/></Labels>'
    '<KeyPoint name="kp" toName="image" smart="true"/><Polygon name="poly" toName="image" model_tolerance="2"/></View>'
)
CONFIG = predict()["label_config"]
PREDICTIONS: list[Json] = [
    *(recorded(file.stem) for file in sorted(RECORDED.glob("kp*.json"))),
    *(recorded(name) for name in ("rect1", "rect2_second", "rect_plain_labels", "rest_predict_test")),
    predict(),
    predict(click(31.25, 37.5)),
    predict(click(31.25, 37.5), click(70, 60, is_positive=False, id="second")),
    predict(DRAWN["rectangle"]),
    predict(DRAWN["turned rectangle"], click(70, 60)),
    predict(DRAWN["mask"], DRAWN["strokes"], click(31.25, 37.5)),
    *(predict(click(30, 35), on_screen=[drawn]) for drawn in DRAWN.values()),
    predict(click(30, 35), on_screen=[*DRAWN.values()]),
    predict(click(30, 35, is_positive=False), on_screen=[DRAWN["painted mask"]]),
    {**predict(click(30, 35)), "tasks": predict()["tasks"] * 3},
    {**predict(click(30, 35, item_index=1), data={"image": ["/data/upload/6/1.png"] * 2}), "label_config": LIST_CONFIG},
]

PICTURE = {
    "type": "base64",  # of 6 x 8 pixels
    "value": "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAIAAABxZ0isAAAAIUlEQVR4nGNgwAEYIdQJGyO4kMWRcwwMDEy4dOCUIB0A"
    "AEwIAwaPYZ6BAAAAAElFTkSuQmCC",
}
PROMPTS = {
    "prompts": [
        {"points": [{"x": 3, "y": 2.5, "positive": True}, {"x": "1", "y": 5, "positive": 0}]},
        {"box": {"x": 4, "y": 3, "width": 4.5, "height": 2}},
    ]
}
SEGMENTATIONS: list[Json] = [
    {"image": PICTURE, "prompts": PROMPTS, "format": "rle", "api_key": "key"},
    {"image": PICTURE, "prompts": PROMPTS["prompts"], "format": "json", "multimask_output": False},
    {"image": PICTURE, "point_coords": [[3, 2.5], [1, 5]], "point_labels": [1, 0], "format": "binary"},
    {"image": PICTURE, "image_id": "mine", "save_logits_to_cache": True, "load_logits_from_cache": True},
    {"image": {"type": "url", "value": "http://127.0.0.1:9/cat.png"}, "prompts": PROMPTS, "model_id": "sam2/nano"},
    {"image_id": "mine", "prompts": PROMPTS, "sam2_version_id": "nano"},
]
BODIES: dict[str, list[Json]] = {
    "/predict": PREDICTIONS,
    "/setup": [recorded("rest_add_backend")],
    "/webhook": [*(recorded(file.stem) for file in sorted(RECORDED.glob("webhook*.json"))), recorded("rest_train")],
    "/sam2/embed_image": [{"image": PICTURE}, {"image": PICTURE, "image_id": "mine", "sam2_version_id": "nano"}],
    "/sam2/segment_image": SEGMENTATIONS,
    "/model/add": [{"model_id": "nano", "api_key": "key"}],
    "/model/remove": [{"model_id": "nano"}],
    "/model/clear": [{}],
}
"""By route that takes a body, what is sent to it when all is well."""

WITHOUT_BODY = {"/status/doctor"}
"""Routes that are posted to and look at no body."""

OTHERS = sorted({*BODIES} - {"/predict", "/sam2/segment_image"})

GOOD = {
    "/predict": json.dumps(predict(click(30, 35), on_screen=[DRAWN["strokes"]])).encode(),  # keeps its region's id
    "/sam2/segment_image": json.dumps({"image": PICTURE, "prompts": PROMPTS, "format": "rle"}).encode(),
}

DEEP = Verbatim("[" * 3000 + "]" * 3000)
HOSTILE: list[Json] = [
    *(None, True, False, 0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**4000),
    *(0.1, -0.0, 1e308, -1e308, 5e-324, 99.999999, 100.000001, float("nan"), float("inf"), float("-inf")),
    *map(Verbatim, ("1e999", "-1E-999", "01", "+1", ".5", "1.", "0x10", "1_0", "--1", "tru", "", "'a'", "[1,]", "{,}")),
    *map(Verbatim, (r'"\ud800"', r'"\udc00\ud800"', r'"\u0000"', r'"\x"', '"\x01"', '"\udcff\udcfe"', '"', "/**/ 1")),
    *(DEEP, Verbatim('{"a":' * 3000 + "1" + "}" * 3000), Verbatim("[" * 3000)),
    *("", " ", "\0", "\u202e\u05d0\u05d1", "\ufeff", "e\u0301", "\U0001f4a5" * 50, "x" * 9000, "1", "true", "null"),
    *("/data/upload/6/2.png", "/data/upload/../../etc/passwd", "file:///etc/passwd", "/etc/passwd", "//127.0.0.1/x"),
    *(
        "http://169.254.169.254/latest/",
        "http://[::1]:80/",
        "http://user:pw@host/",
        "http://\u2488example.com/",
        "s3://a/b",
    ),
    *("data:image/png;base64,AAAA", "data:image/png;base64,%ff", "data:,", "AAAA", "=", "%", "\r\nX-Evil: 1"),
    *([], {}, [[]], [None], [0] * 300, [[0, 0]] * 300, {"a": None}, {"": {}}, {"x": 1, "y": 2}, [{}], [1, "a", None]),
    *({"type": "base64", "value": ""}, {"type": "file", "value": "/etc/passwd"}, {"type": "numpy", "value": "gASV"}),
    *("<View>", "<!DOCTYPE a [<!ENTITY b 'c'>]><View/>", '<?xml version="1.0" encoding="utf-7"?><View/>', "<a>" * 9000),
    *(
        '<View><Image name="image" value="$image"/></View>',
        CONFIG.replace("Object", "&#0;"),
        CONFIG.replace("brush", "kp"),
    ),
    *("label", "labels", "choices", "brush", "keypoint", "rectanglelabels", "ellipselabels", "polygonlabels", "eraser"),
]


def places(value: Json, at: Place = ()) -> Iterator[Place]:
    """Yield where every value of a JSON value is; of a long list's only the first ones and the last."""
    yield at
    match value:
        case dict():
            for key, inner in value.items():
                yield from places(inner, (*at, key))
        case list():
            for index in sorted({*range(min(len(value), 3)), *range(max(len(value) - 1, 0), len(value))}):
                yield from places(value[index], (*at, index))


def put(root: Json, place: Place, value: Json) -> Json:
    """Return a JSON value with another one at a place in it."""
    if not place:
        return value
    first, *rest = place
    changed = copy.copy(root)
    changed[first] = put(root[first], tuple(rest), value)
    return changed


def at(root: Json, place: Place) -> Json:
    for step in place:
        root = root[step]
    return root


CHANGES: dict[str, Callable[[Json, Any, Json], Json]] = {
    "replaced": lambda parent, key, other: put(parent, (key,), other),
    "wrapped": lambda parent, key, _: put(parent, (key,), [parent[key]]),
    "dropped": lambda parent, key, _: parent[:key] if isinstance(parent, list) else without(parent, key),
    "renamed": lambda parent, key, _: (
        parent[::-1] if isinstance(parent, list) else {**without(parent, key), f"{key} ": parent[key]}
    ),
    "doubled": lambda parent, key, other: (
        parent + [parent[key]] * 300 if isinstance(parent, list) else with_key_twice(parent, key, other)
    ),
}
"""Take an object or a list, a key or an index in it, and some other value."""


def without(value: Json, key: str) -> Json:
    return {k: v for k, v in value.items() if k != key}


def with_key_twice(value: Json, key: str, other: Json) -> Json:
    return Verbatim(f"{written(value)[:-1]},{json.dumps(key)}:{written(other)}}}")


@st.composite
def changed(draw: st.DrawFn, bodies: Sequence[Json]) -> Json:
    """Draw one of some bodies with up to four of its values dropped, renamed, doubled, moved or replaced."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(0, 4))):
        known = [place for place in places([body]) if place]
        *inside, key = draw(st.sampled_from(known))
        moved = st.sampled_from([at([body], place) for place in known])
        other = draw(st.sampled_from(HOSTILE) | st.floats() | st.integers() | st.text(max_size=8) | moved)
        change = CHANGES[draw(st.sampled_from([*CHANGES, "replaced", "replaced"]))]
        changed_body = put([body], tuple(inside), change(at([body], tuple(inside)), key, other))
        body = changed_body[0] if changed_body else Verbatim("")
    return body


def written(value: Json) -> str:
    """Return JSON text, with what is verbatim in it as it stands."""
    match value:
        case Verbatim():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{written(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case _:
            return json.dumps(value)


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda text: text,
    "cut": lambda text: text[: len(text) * 2 // 3],
    "doubled": lambda text: text * 2,
    "with a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "as UTF-16": lambda text: text.decode("utf-8", "replace").encode("utf-16"),
    "as UTF-32": lambda text: text.decode("utf-8", "replace").encode("utf-32"),
    "gzipped": gzip.compress,
    "in a list": lambda text: b"[" + text + b"]",
    "as a text": lambda text: json.dumps(text.decode("utf-8", "replace")).encode(),
    "as a form": lambda text: b"json=" + text,
    "with spaces": lambda text: b" \r\n\t" + text + b" \n",
    "with a NUL": lambda text: text + b"\0",
    "with rubbish": lambda text: text + b"}",
    "too long": lambda text: text[:-1] + b" " * 1_000_001 + text[-1:],
}


@st.composite
def spelled(draw: st.DrawFn, bodies: Sequence[Json]) -> bytes:
    """Draw a body's bytes; every other time they are JSON."""
    text = written(draw(changed(bodies))).encode("utf-8", "surrogateescape")
    spelling = draw(st.just("as it is") | st.sampled_from([*SPELLINGS]))
    return SPELLINGS[spelling](text)


CONTENT_TYPES = [
    *("application/json", "application/json; charset=utf-16", 'application/json; charset="', "APPLICATION/JSON;;=", ""),
    *(
        "text/plain",
        "text/html; charset=\xff",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "\0",
        "a/b/c",
    ),
    *("multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "x" * 3000, "application/octet-stream"),
]
HEADERS: dict[str, list[str]] = {
    "Content-Type": CONTENT_TYPES,
    "Content-Encoding": ["gzip", "deflate", "br", "identity", "x"],
    "Content-Length": ["0", "1", "-1", "abc", "", "1e3", "99999999999999999999", "\xb2", "1,1"],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity"],
    "Host": [
        "",
        "localhost:",
        "localhost:99999",
        "a b",
        "[::1",
        "\xe4",
        "evil.example",
        "x" * 300,
        "a/../b",
        "a@b",
        "<a>",
    ],
    "Authorization": [
        "Bearer ",
        "Bearer \xff",
        "Basic !!!",
        "Basic Og==",
        "Token x",
        "\0",
        "Digest a=b",
        "basic" * 900,
    ],
    "Accept": ["text/html", "*/*;q=abc", "image/png"],
    "Accept-Encoding": ["gzip;q=nan", "*"],
    "Cookie": ["a=b; " * 500, "\xff=\xfe", ";;;==="],
    "Expect": ["100-continue", "x"],
    "Range": ["bytes=0-", "bytes=-1", "x"],
    "If-None-Match": ["*", '"'],
    "If-Modified-Since": ["yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"],
    "X-Forwarded-For": ["127.0.0.1", "::1, <script>"],
    "X-Forwarded-Proto": ["https", "javascript"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X-Request-ID": ["\xff" * 40],
}
QUERIES = [
    "",
    "api_key=x",
    "api_key",
    "api_key=%ff%00",
    "a=b&" * 500,
    "%",
    "\xff",
    "api_key=%ud800",
    ";",
    "?",
    "__debugger__=yes",
]
METHODS = [
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "post",
    "",
    "G T",
    "\xff",
]


@st.composite
def wrapped(draw: st.DrawFn) -> Around:
    """Draw the headers and the environ around a body."""
    names = draw(st.lists(st.sampled_from([*HEADERS]), max_size=4))
    headers = [(name, draw(st.sampled_from(HEADERS[name]) | latin_1)) for name in names]
    environ: dict[str, Any] = {"QUERY_STRING": draw(st.sampled_from(QUERIES) | latin_1)}
    for name, value in headers:
        if name in {"Content-Length", "Content-Type"}:
            environ[name.upper().replace("-", "_")] = value  # the test client would set its own
    return [(name, value) for name, value in headers if name not in {"Content-Length", "Content-Type"}], environ


latin_1 = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=12)
"""What a header may hold when it reaches the application: the server in front of it refuses line breaks and NUL."""


@st.composite
def paths(draw: st.DrawFn, known: Sequence[str]) -> str:
    """Draw a path as WSGI has it: near a route, percent-encoded or not at all like one."""
    path = draw(st.sampled_from(known))
    at = draw(st.integers(0, len(path)))
    odd = [
        "/",
        "//",
        "/.",
        "/../",
        ";a=b",
        "%00",
        "%2f",
        "%2e%2e/",
        "%ff",
        "%c0%af",
        "%ed%a0%80",
        "%",
        "%7",
        "\\",
        "\u05d0",
    ]
    inserted = draw(st.sampled_from(odd) | st.text(max_size=5).filter(lambda text: text.isprintable()))
    text = path[:at] + inserted + path[draw(st.sampled_from([at, at, len(path)])) :]
    return (
        "/" + unquote_to_bytes(text).decode("latin-1").lstrip("/")
        if draw(st.booleans())
        else unquote_to_bytes(text).decode("latin-1")
    )


@pytest.fixture(scope="module")
def backend(make_backend: Callable[..., Any]) -> Any:
    return make_backend()


@pytest.fixture(scope="module")
def before(backend: Any) -> Mapping[str, bytes]:
    answers: Mapping[str, bytes] = backend.good_answers(GOOD)
    return answers


def served(backend: Any, method: str) -> set[str]:
    return {rule.rule for rule in backend.app.url_map.iter_rules() if method in (rule.methods or ())}


def test_every_route_that_takes_a_body_is_sent_bad_ones(backend: Any) -> None:
    methods = {method for rule in backend.app.url_map.iter_rules() for method in rule.methods or ()}

    assert served(backend, "POST") - WITHOUT_BODY == set(BODIES)
    assert methods == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("path", BODIES)
def test_what_the_bad_requests_are_made_of_is_answered(backend: Any, path: str) -> None:
    answers = [backend.send(path, body=json.dumps(body).encode()) for body in BODIES[path]]

    assert 200 in {answer.status_code for answer in answers}


@pytest.mark.parametrize("routes", [["/predict"], ["/sam2/segment_image"], OTHERS], ids=", ".join)
def test_any_body_is_answered_by_the_catalogue_and_leaves_nothing_behind(
    backend: Any, before: Mapping[str, bytes], routes: Sequence[str]
) -> None:
    @given(st.sampled_from(routes), st.data())
    def send(path: str, data: st.DataObject) -> None:
        backend.send(path, body=data.draw(spelled(BODIES[path])))

        assert backend.good_answers(GOOD) == before

    send()


def test_any_http_around_any_body_is_answered_by_the_catalogue_and_leaves_nothing_behind(
    backend: Any, before: Mapping[str, bytes]
) -> None:
    everywhere = sorted(served(backend, "GET") | served(backend, "POST"))

    @given(st.sampled_from(everywhere) | paths(everywhere), st.sampled_from(METHODS), wrapped(), st.data())
    def send(path: str, method: str, around: Around, data: st.DataObject) -> None:
        headers, environ = around
        body = data.draw(st.just(b"") | spelled(BODIES.get(path, [{}])))

        backend.send(path, method=method, body=body, headers=headers, environ=environ)

        assert backend.good_answers(GOOD) == before

    send()


def test_no_made_up_credentials_open_what_is_closed(make_backend: Callable[..., Any]) -> None:
    guarded = make_backend(basic_auth_user="sam", basic_auth_pass="p\u00e4ss", api_key="cl\u00e9")
    closed = sorted((served(guarded, "GET") | served(guarded, "POST")) - app.OPEN_PATHS - sam2_api.OPEN_PATHS)
    schemes = st.sampled_from(["Basic ", "basic\t", "Bearer ", "Token ", ""])
    secrets = latin_1 | st.binary(max_size=12).map(lambda secret: base64.b64encode(secret).decode())

    @given(st.sampled_from(closed), st.sampled_from(METHODS), wrapped(), schemes, secrets)
    def send(path: str, method: str, around: Around, scheme: str, secret: str) -> None:
        headers, environ = around
        headers += [("Authorization", scheme + secret)]

        answer = guarded.send(path, method=method, body=b'{"api_key": "key"}', headers=headers, environ=environ)

        assert answer.status_code in {400, 401, 405}  # 400: the key may be in the body, which is read first

    send()


TASKS = st.integers(0, 2)


class Annotators(RuleBasedStateMachine):
    """Some clicks on some pictures, good and bad requests in any order, pictures replaced in between.

    The same click on the same picture is answered the same, whatever happened meanwhile.
    """

    def __init__(self, backend: Any, pictures: Sequence[bytes]) -> None:
        super().__init__()
        self.backend = backend
        self.pictures = pictures
        self.shown: dict[int, int] = {}
        self.answers: dict[tuple[int, float, bool], Json] = {}
        for task in range(3):
            self.show(task, 0)

    @rule(task=TASKS, picture=st.integers(0, 2))
    def show(self, task: int, picture: int) -> None:
        self.shown[task] = picture
        self.backend.files[f"/data/upload/7/{task}.png"] = self.pictures[picture]

    @rule(task=TASKS)
    def open_task(self, task: int) -> None:
        answer = self.backend.send("/predict", body=json.dumps(predict(**task_of(task))).encode())

        assert answer.get_json() == {"results": [[]]}

    @rule(task=TASKS, x=st.sampled_from([20, 31.25, 75]), is_on_stroke=st.booleans())
    def click(self, task: int, x: float, *, is_on_stroke: bool) -> None:
        on_screen = [DRAWN["strokes"]] if is_on_stroke else []
        body = predict(click(x, 36, id="one"), on_screen=on_screen, **task_of(task))

        answer = self.backend.send("/predict", body=json.dumps(body).encode())

        ((prediction,),) = [answer.get_json()["results"]]
        for each in prediction["result"]:
            del each["id"]
        asked = (self.shown[task], x, is_on_stroke)
        assert self.answers.setdefault(asked, prediction) == prediction

    @rule(path=st.sampled_from([*BODIES]), data=st.data())
    def send_anything(self, path: str, data: st.DataObject) -> None:
        self.backend.send(path, body=data.draw(spelled(BODIES[path])))

    @rule(task=TASKS, broken=st.sampled_from([b"", b"<html>", b"\x89PNG\r\n\x1a\n", None]))
    def break_picture(self, task: int, broken: bytes | None) -> None:
        path = f"/data/upload/7/{task}.png"
        whole = self.backend.files.pop(path)
        if broken is not None:
            self.backend.files[path] = broken

        answer = self.backend.send("/predict", body=json.dumps(predict(click(20, 20), **task_of(task))).encode())

        assert answer.status_code == (502 if broken is None else 422)
        self.backend.files[path] = whole


def task_of(task: int) -> dict[str, Json]:
    return {"id": task, "data": {"image": f"/data/upload/7/{task}.png"}}


def test_whatever_came_before_the_same_click_on_the_same_picture_is_answered_the_same(
    make_backend: Callable[..., Any], disc_and_box: Any
) -> None:
    backend = make_backend(image_revalidate_seconds=0)
    turned = [
        replace(disc_and_box, image=disc_and_box.image[:: 1 - 2 * (n == 1), :: 1 - 2 * (n == 2)]) for n in range(3)
    ]
    pictures = [picture.png() for picture in turned]

    run_state_machine_as_test(
        lambda: Annotators(backend, pictures),  # type: ignore[arg-type]  # whatever makes one
        settings=settings(max_examples=settings().max_examples // 10, stateful_step_count=20),
    )
