"""JSON logs on stderr, one object a line, and one filter that nothing secret gets past.

The filter sits on the only handler, so it also sees what libraries log: messages with their arguments, extra fields,
exceptions with their tracebacks. It would rather hide too much than too little.
"""

import logging
import logging.config
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import islice
from types import TracebackType
from typing import Any

REDACTED = "***"
MAX_CHARS = 32_768
"""What a text holds beyond this is left out: a log is no place for a body."""
MAX_WORD_CHARS = 2_048
"""A run without spaces or quotes longer than this is a blob, not a word, and is hidden."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Names the request being served in every line logged meanwhile; the app sets it."""


def configure_logging(level: str = "INFO") -> None:
    """Send every log record, warning and uncaught exception of this process to stderr, as JSON without secrets.

    Args:
        level: The lowest level to log, such as `INFO`.
    """
    logging.config.dictConfig(log_config(level))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def gunicorn_log_config(level: str = "INFO") -> dict[str, Any]:
    """Return gunicorn's setting `logconfig_dict`, which sends its messages through the same handler.

    Its access log stays silent: with `logconfig_dict` gunicorn would write a line for every health check.
    """
    config = log_config(level)
    config["loggers"] |= {
        "gunicorn.error": {"level": _at_least_info(level), "handlers": [], "propagate": True},
        "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
    }
    return config


def log_config(level: str = "INFO") -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`: one handler, one filter, one formatter."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"redaction": {"()": RedactionFilter}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": ["levelname", "name", "message"],
                "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
                "timestamp": "time",
            }
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "json",
                "filters": ["redaction"],
            }
        },
        "root": {"level": level, "handlers": ["stderr"]},
        # at DEBUG these write a line per header, chunk or socket call
        "loggers": {name: {"level": _at_least_info(level)} for name in ("httpcore", "PIL", "urllib3")},
    }


class Seldom:
    """Says yes once in so many seconds: for lines that anybody could have written without end. Thread-safe.

    Args:
        seconds: From one yes to the next.
        clock: Seconds that only go forward.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next = -math.inf

    def __call__(self) -> bool:
        """Tell whether it is time again; then it is not for a while."""
        with self._lock:
            if (now := self._clock()) < self._next:
                return False
            self._next = now + self._seconds
            return True


class RedactionFilter(logging.Filter):
    """Rewrites each record in place: adds the request's id and takes the secrets out. Never drops a record.

    Message and arguments become one finished text, an exception its redacted traceback, and extra fields plain values,
    so that no formatter behind this filter can bring a secret back.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean one record, and let it pass."""
        record.request_id = request_id.get()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.msg, record.args, record.exc_info = _message(record), (), None
        for name, value in list(vars(record).items()):
            if name not in _HARMLESS_ATTRIBUTES:  # msg is clean by now
                setattr(record, name, _clean(value, name))
        return True


def redact(text: str) -> str:
    """Return a text without credentials, signatures, query strings, users in URLs and `data:` URLs.

    Each is replaced by `***`.
    """
    text = _USER_IN_URL.sub(f"://{REDACTED}@", _cut(text))
    text = _WORD.sub(_clean_word, text)
    text = _HEADER.sub(rf"\g<name>{REDACTED}", text)
    text = _NAMED.sub(rf"\g<name>{REDACTED}", text)
    text = _SCHEME.sub(_clean_scheme, text)
    return _BARE_TOKEN.sub(REDACTED, text)


# What a hostile text can cost stays linear in its length: repetitions that can start anywhere are bounded.

_PRIVATE_NAME = (
    r"(?:(?:api|access|private)[_-]?key|token|passw(?:or)?d|passphrase|(?<![a-z])pass(?![a-z])|secret"
    r"|(?<![a-z])sig(?![a-z])|signature|credential|authorization|cookie|session[_-]?id|login)"
)
"""Part of the names whose values are nobody's business."""

_IS_PRIVATE = re.compile(_PRIVATE_NAME, re.IGNORECASE)
_WORD = re.compile(r"""[^\s"'<>]+""")
_USER_IN_URL = re.compile(r"://(?:(?:[^\s/?#@]*@)+|[^\s/?#@:]{0,128}:(?!\d+[/?#])[^\s?#@]{0,256}@)")
_DATA_URL = re.compile(r"\b(?P<head>data:[\w.+/;=-]{0,128},).*", re.IGNORECASE)
_HEADER = re.compile(r"(?P<name>(?:authorization|cookie)\s{0,8}[:=]\s{0,8})[^\s\"'\\][^\r\n]*", re.IGNORECASE)
_NAMED = re.compile(
    rf"(?P<name>{_PRIVATE_NAME}[\w.-]{{0,64}}(?:\\*[\"'])?\s{{0,8}}(?:=>|[:=]|%3D|,(?=\s{{0,8}}b?\\*[\"']))\s{{0,8}})"
    r"(?:b?(?P<escape>\\*)(?P<quote>[\"'])(?:(?!(?<!\\)(?P=escape)(?P=quote)).)*(?:(?P=escape)(?P=quote))?|\S+)",
    re.IGNORECASE | re.DOTALL,
)
_SCHEME = re.compile(
    r"\b(?P<scheme>bearer|basic|digest|negotiate|token)(?P<space>\s{1,8}|%20|\+)(?P<value>[^\s\"'<>]+)", re.IGNORECASE
)
_PROSE = re.compile(r"[A-Za-z][a-z'-]{0,14}[.,:;!?)]*")
_BARE_TOKEN = re.compile(r"eyJ[\w-]{10,}(?:\.[\w-]*)*|\b[0-9a-f]{40}\b", re.IGNORECASE)
"""A JSON Web Token, or a legacy token of Label Studio. The 64 digits of a SHA-256 stay."""

_HARMLESS_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) - {"exc_text", "stack_info"}
_MAX_DEPTH = 4
_MAX_ITEMS = 100


def _at_least_info(level: str) -> str:
    return level if level in {"WARNING", "ERROR"} else "INFO"


def _cut(text: str) -> str:
    """Shorten an overlong text after a whole word, since half a secret would no longer be known as one."""
    if len(text) <= MAX_CHARS:
        return text
    words = text[:MAX_CHARS].rsplit(None, 1)
    return f"{words[0] if len(words) == 2 else REDACTED} [cut]"


def _clean_word(found: re.Match[str]) -> str:
    word = _DATA_URL.sub(rf"\g<head>{REDACTED}", found[0])
    path, mark, _ = word.partition("?")
    if mark and "/" in path:
        word = f"{path}?{REDACTED}"
    return word if len(word) <= MAX_WORD_CHARS else REDACTED


def _clean_scheme(found: re.Match[str]) -> str:
    if found["scheme"].lower() != "bearer" and _PROSE.fullmatch(found["value"]):
        return found[0]
    return f"{found['scheme']}{found['space']}{REDACTED}"


def _message(record: logging.LogRecord) -> str:
    try:
        return redact(record.getMessage())
    except Exception:  # noqa: BLE001 - the arguments are anybody's objects, and a log call must not break a request
        return f"{redact(_text(record.msg))} (its arguments do not fit)"


def _clean(value: object, name: object = "", depth: int = 0) -> object:
    """Return a value as plain JSON without secrets; the name it goes by may make all of it one."""
    if value is None or isinstance(value, bool):
        return value
    if _IS_PRIVATE.search(_text(name)):
        return REDACTED
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {redact(_text(key)): _clean(item, key, depth + 1) for key, item in islice(value.items(), _MAX_ITEMS)}
    if isinstance(value, list | tuple | set | frozenset) and depth < _MAX_DEPTH:
        return _clean_items(value, depth)
    return redact(_text(value))


def _clean_items(items: Iterable[object], depth: int) -> list[object]:
    """Clean the items of a list, or of a header written as a pair of name and value."""
    shown = list(islice(items, _MAX_ITEMS))
    name = shown[0] if len(shown) == 2 and isinstance(shown[0], str | bytes) else ""
    return [_clean(item, name if index else "", depth + 1) for index, item in enumerate(shown)]


def _text(value: object) -> str:
    try:
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    except Exception:  # noqa: BLE001 - as in _message
        return f"<{type(value).__name__} that cannot be shown>"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("Uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        where = args.thread.name if args.thread else "a thread"
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger(__name__).critical("Uncaught exception in %s", where, exc_info=trace)
