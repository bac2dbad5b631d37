import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labelstudio_sam2.ops.logging import MAX_CHARS, Seldom, configure_logging, log_config, redact, request_id

HEX_TOKEN = "0123456789abcdef0123456789abcdef01234567"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjo3fQ.c2lnbmF0dXJlLWhlcmU"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Switch the JSON log on at DEBUG; what it wrote so far comes back as one dict per line."""
    written = io.StringIO()
    root = logging.getLogger()
    names = list(log_config()["loggers"])
    before = root.level, root.handlers[:], [(name, logging.getLogger(name).level) for name in names]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    configure_logging("DEBUG")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)

    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]

    logging.captureWarnings(capture=False)
    root.level, root.handlers[:] = before[0], before[1]
    for name, level in before[2]:
        logging.getLogger(name).setLevel(level)


SECRETS = [
    ("Authorization: Token hunter2", "hunter2"),
    ("Authorization: Basic dXNlcjpwYXNz, Accept: */*", "dXNlcjpwYXNz"),
    ('Authorization: Digest username="bob", response="hunter2"', "hunter2"),
    ("Proxy-Authorization=Basic hunter2", "hunter2"),
    ("{'Authorization': 'Token hunter2 and more'}", "hunter2"),
    ("[(b'authorization', b'Token hunter2')]", "hunter2"),
    ("Set-Cookie: sessionid=hunter2; csrftoken=x", "hunter2"),
    (f"using Token {HEX_TOKEN} now", HEX_TOKEN),
    (f"key {HEX_TOKEN}", HEX_TOKEN),
    ("sent Bearer hunter", "hunter"),
    ("sent bearer%20hunter2", "hunter2"),
    (f"the answer was {JWT}.", "eyJ"),
    (f"{JWT[:30]}", "eyJ"),
    ('{"access_token":"hunter2","project":"7.1"}', "hunter2"),
    ('{"access_token": "hun\\"ter2"}', "ter2"),
    ('"{\\"password\\": \\"hunter2\\"}"', "hunter2"),
    ("{'password': 'correct horse battery'}", "horse"),
    ("password = hunter2,with;signs", "signs"),
    ("PASSWORD:hunter2", "hunter2"),
    ("LABEL_STUDIO_API_KEY=hunter2", "hunter2"),
    ("basic_auth_pass='hunter2'", "hunter2"),
    ("x-api-key: hunter2", "hunter2"),
    ("{'login': 'bob@example.com'}", "bob"),
    ("refresh_token%3Dhunter2", "hunter2"),
    ("GET http://bob:hunter2@images.example/a.png", "hunter2"),
    ("GET http://bob:hun/ter2@images.example/a.png", "ter2"),
    ('GET http://bob:hun"ter2@images.example/a.png', "ter2"),
    ("redis://:hunter2@cache:6379/0", "hunter2"),
    ("https://bucket.example/a.png?X-Amz-Signature=hunter2&X-Amz-Expires=60", "hunter2"),
    ("https://bucket.example/a.png?hunter2", "hunter2"),
    ('"GET /data/local-files/?d=hunter2 HTTP/1.1" 200', "hunter2"),
    ("http://label-studio/#access_token=hunter2", "hunter2"),
    ("src='data:image/png;base64,aHVudGVyMg=='", "aHVudGVyMg"),
    ("DATA:;base64,aHVudGVyMg==", "aHVudGVyMg"),
    ("blob " + "Q" * 5000, "QQQ"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_in_a_text_is_replaced(text: str, secret: str) -> None:
    clean = redact(text)

    assert secret not in clean
    assert "***" in clean


@pytest.mark.parametrize(
    "text",
    [
        "Model is ready after 3.2 s on cpu",
        "Token is missing, Basic auth is off",
        "GET http://images.example:8080/a/b.png answered 200 in 12 ms",
        "http://images.example:8080/@team/b.png",
        "sha256 6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        "point_coords must have shape (2, 2) to match point_labels, got (1, 2)",
        "data: nothing to do",
        "bypass=1, compass: north",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    clean = redact(text)

    assert clean == text


def test_what_is_around_a_secret_stays_readable() -> None:
    clean = redact("GET https://bob:pw@images.example/cat.png?sig=1 answered 403")

    assert clean == "GET https://***@images.example/cat.png?*** answered 403"


def test_an_overlong_text_is_cut_after_a_whole_word() -> None:
    text = "a " * (MAX_CHARS // 2 - 4) + f"https://bob:{'p' * 100}@host/"

    clean = redact(text)

    assert clean.endswith("a [cut]")


@pytest.mark.parametrize("piece", ["://a:x", "/", "password=", "token'", "token ", 'secret="\\', "data:", "eyJ", "\\"])
def test_a_hostile_text_costs_little(piece: str) -> None:
    text = piece * (MAX_CHARS // len(piece))

    start = time.perf_counter()
    redact(text)

    assert time.perf_counter() - start < 1


def test_a_line_has_time_level_logger_message_and_request(lines: Lines) -> None:
    before = request_id.set("r-1")

    logging.getLogger("demo").info("answered %d masks", 2)
    request_id.reset(before)

    (line,) = lines()
    logged = datetime.fromisoformat(line.pop("time"))
    assert line == {"level": "INFO", "logger": "demo", "message": "answered 2 masks", "request_id": "r-1"}
    assert logged.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - logged) < timedelta(minutes=1)


def test_secrets_in_arguments_do_not_get_out(lines: Lines) -> None:
    logging.getLogger("library").debug("headers %s", {"Authorization": "Token hunter2"})

    assert lines()[0]["message"] == "headers {'Authorization': ***}"


def test_secrets_in_extra_fields_do_not_get_out(lines: Lines) -> None:
    class Connection:
        def __repr__(self) -> str:
            return "<Connection http://bob:hunter2@host>"

    extra = {
        "access_token": 12345,
        "body": {"params": {"password": "hunter2", "project": 7}},
        "headers": [(b"Authorization", b"Token hunter2"), ("Accept", "*/*")],
        "connection": Connection(),
        "raw": b"password=hunter2",
        "masks": 3,
    }

    logging.getLogger("library").info("sent", extra=extra)

    (line,) = lines()
    assert "hunter2" not in json.dumps(line)
    assert {name: line[name] for name in extra} == {
        "access_token": "***",
        "body": {"params": {"password": "***", "project": 7}},
        "headers": [["Authorization", "***"], ["Accept", "*/*"]],
        "connection": "<Connection http://***@host>",
        "raw": "password=***",
        "masks": 3,
    }


def test_secrets_in_an_exception_its_cause_and_its_notes_do_not_get_out(lines: Lines) -> None:
    error = ValueError("bad password: hunter3")
    error.add_note(f"sent Bearer {JWT}")
    error.__cause__ = OSError("GET https://host/a.png?sig=hunter2")

    logging.getLogger("library").error("failed", exc_info=error)

    (line,) = lines()
    assert line["message"] == "failed"
    assert "OSError: GET https://host/a.png?***" in line["exception"]
    assert "ValueError: bad password: ***" in line["exception"]
    assert line["exception"].endswith("\nsent Bearer ***")


def test_a_traceback_another_handler_already_rendered_is_cleaned_too(lines: Lines) -> None:
    record = logging.makeLogRecord({"msg": "failed", "levelno": 40, "exc_text": "ValueError: password=hunter2"})

    logging.getLogger("library").handle(record)

    assert lines()[0]["exception"] == "ValueError: password=***"


def test_a_message_whose_arguments_do_not_fit_is_logged_without_them(lines: Lines) -> None:
    logging.getLogger("library").info("%d pictures", "password=hunter2")

    assert lines()[0]["message"] == "%d pictures (its arguments do not fit)"


def test_an_object_that_cannot_be_shown_does_not_break_the_line(lines: Lines) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("hunter2")

    logging.getLogger("library").info("shown", extra={"thing": Broken(), "number": float("nan")})

    (line,) = lines()
    assert line["thing"] == "<Broken that cannot be shown>"
    assert line["number"] == "nan"


def test_a_line_break_in_a_message_does_not_start_a_new_line(lines: Lines) -> None:
    logging.getLogger("library").info('one\n{"level": "INFO"}')

    assert [line["message"] for line in lines()] == ['one\n{"level": "INFO"}']


def test_what_is_seldom_said_is_said_again_after_its_time() -> None:
    now = 1000.0
    seldom = Seldom(60, lambda: now)

    said = [seldom(), seldom()]
    now = 1059.9
    said.append(seldom())
    now = 1060.0
    said += [seldom(), seldom()]

    assert said == [True, False, False, True, False]


def test_libraries_that_log_every_byte_say_nothing_at_debug(lines: Lines) -> None:
    for name in ("httpcore.http11", "PIL.PngImagePlugin", "urllib3.connectionpool", "labelstudio_sam2.app"):
        logging.getLogger(name).debug("a chunk")

    assert [line["logger"] for line in lines()] == ["labelstudio_sam2.app"]


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", "INFO"), ("INFO", "INFO"), ("ERROR", "ERROR")])
def test_a_noisy_library_is_never_louder_than_the_rest(level: str, expected: str) -> None:
    config = log_config(level)

    assert config["loggers"]["httpcore"]["level"] == expected


def test_gunicorn_logs_the_same_way_and_leaves_health_checks_out() -> None:
    program = (
        "from gunicorn.config import Config\n"
        "from gunicorn.glogging import Logger\n"
        "from labelstudio_sam2.ops.logging import gunicorn_log_config\n"
        "config = Config()\n"
        "config.set('logconfig_dict', gunicorn_log_config('INFO'))\n"
        "logger = Logger(config)\n"
        "logger.info('Listening at: %s', 'http://bob:hunter2@127.0.0.1:9090')\n"
        "logger.access_log.info('GET /health')\n"
    )

    (line,) = _python(program)

    assert (line["logger"], line["message"]) == ("gunicorn.error", "Listening at: http://***@127.0.0.1:9090")


@pytest.mark.parametrize(
    ("statement", "logger"),
    [
        ("fail()", "labelstudio_sam2.ops.logging"),
        ("t = threading.Thread(target=fail); t.start(); t.join()", "labelstudio_sam2.ops.logging"),
        ("warnings.warn('password=hunter2')", "py.warnings"),
    ],
)
def test_what_nobody_caught_leaves_the_process_as_clean_json(statement: str, logger: str) -> None:
    program = (
        "import threading, warnings\n"
        "from labelstudio_sam2.ops.logging import configure_logging\n"
        "def fail(): raise ValueError('password=hunter2')\n"
        "configure_logging()\n" + statement
    )

    (line,) = _python(program)

    assert line["logger"] == logger
    assert "password=***" in line.get("exception", line["message"])
    assert "hunter2" not in json.dumps(line)


def _python(program: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    return [json.loads(line) for line in done.stderr.splitlines()]
