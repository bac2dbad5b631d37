"""The `doctor` command: what is looked at, printed, and turned into an exit code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from labelstudio_sam2.app import build_segmenter, check_settings
from labelstudio_sam2.doctor.examination import Predict, Wishes, examine
from labelstudio_sam2.doctor.findings import Finding, problem, worst
from labelstudio_sam2.doctor.report import findings_json, print_findings
from labelstudio_sam2.errors import UrlRefusedError
from labelstudio_sam2.images.address import WebAddress
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.wire import decode_predict_request, encode_answer
from labelstudio_sam2.settings import Settings, load_settings

FOUND_A_PROBLEM = 1
CANNOT_RUN = 2


def run_doctor(
    *, project: int | None, backend_url: str | None, here: bool, model: str | None, device: str | None, as_json: bool
) -> int:
    """Look at everything, print what was found, and return the exit code.

    Args:
        project: The only project to look at, if any.
        backend_url: Where the backend runs, if not where the settings say.
        here: Whether to make the mask in this process.
        model: Wins over MODEL.
        device: Wins over DEVICE.
        as_json: Whether to print JSON at the end, and nothing else.

    Returns:
        0 where clicks are answered, `FOUND_A_PROBLEM`, or `CANNOT_RUN` where the settings or the arguments are wrong.
    """
    try:
        settings = load_settings(model=model, device=device)
        check_settings(settings)
        if backend_url is not None:
            WebAddress.parse(backend_url)
    except UrlRefusedError as error:
        return _cannot_run(f"--backend-url: {str(error).replace('the image address', 'it')}", as_json=as_json)
    except ValueError as error:
        return _cannot_run(str(error), as_json=as_json)
    wishes = Wishes(
        project=project, backend_url=backend_url, load_here=(lambda: _load_here(settings)) if here else None
    )
    with _quiet():
        findings = _print(examine(settings, wishes), as_json=as_json)
    return FOUND_A_PROBLEM if worst(findings) == "problem" else 0


def _load_here(settings: Settings) -> Predict:
    """Load the model, and return what answers the bodies of `POST /predict` with it; raises the catalogue's errors."""
    segmenter = build_segmenter(settings)
    segmenter.start().join()
    segmenter.check_ready()
    assistant = Assistant(ImageSource(settings), segmenter)
    return lambda body: encode_answer(assistant.predict(decode_predict_request(body)))


def _cannot_run(why: str, *, as_json: bool) -> int:
    advice = "docs/settings.md says what each takes."
    _print(iter([problem("settings", f"They cannot be used. {why}", advice)]), as_json=as_json)
    return CANNOT_RUN


def _print(findings: Iterator[Finding], *, as_json: bool) -> list[Finding]:
    if not as_json:
        return print_findings(findings, Console(highlight=False))
    shown = list(findings)
    print(findings_json(shown))  # noqa: T201  this is what the command is for
    return shown


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of this process from between the findings, which say the same."""
    logger, silent = logging.getLogger("labelstudio_sam2"), logging.NullHandler()
    logger.addHandler(silent)
    try:
        yield
    finally:
        logger.removeHandler(silent)
