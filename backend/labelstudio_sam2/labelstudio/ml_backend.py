"""The same assistant as a class, for those who run label-studio-ml's own server.

Put this into a file `model.py` and hand the class to label-studio-ml 1.0.9:

    from labelstudio_sam2.labelstudio.ml_backend import SAM2Backend

    label-studio-ml init my_backend --script model.py:SAM2Backend
    LABEL_STUDIO_ML_BACKEND_V2= label-studio-ml start my_backend

or to 2.x, in a WSGI file: `app = init_app(model_class=SAM2Backend)`. The settings are the usual environment variables.

What 1.0.9's server gets wrong, read in its source and seen in the tests, and what becomes of it here:

- It hands `/predict` neither `label_config` nor `project`, and keeps one model with the configuration of whatever
  project was set up last: another project is answered with foreign labels. So both are read from the request itself.
- It answers 500 to `/predict` until somebody calls `/setup`, after each restart. With the variable
  `LABEL_STUDIO_ML_BACKEND_V2` set to nothing, as above, it does not.
- It answers every error with 500 and a traceback. An error of the catalogue keeps its status and reason here.
- Each annotation saved starts a process, and writes what Label Studio sent, a token included, to `event.json`.
- `--log-level DEBUG` logs bodies and tokens. It listens on all addresses unless told `--host 127.0.0.1`.
- It pins Flask 1.1.2, which this package's server cannot run with: it needs a virtual environment of its own.
"""

import threading
from functools import cache
from typing import Any, NoReturn

try:
    from label_studio_ml.exceptions import AnswerException
    from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    raise ImportError(
        "SAM2Backend is for label-studio-ml's own server and needs the package label-studio-ml "
        f"({error}); without it, run: labelstudio-sam2 serve"
    ) from error
from flask import has_request_context, request

from labelstudio_sam2.app import build_assistant
from labelstudio_sam2.errors import BackendError
from labelstudio_sam2.labelstudio.assistant import Assistant
from labelstudio_sam2.labelstudio.wire import plain_answer, predict_request
from labelstudio_sam2.settings import Settings, load_settings

_BUILDING = threading.Lock()


class SAM2Backend(LabelStudioMLBase):  # type: ignore[misc]  # label-studio-ml has no types
    """Answers Label Studio through label-studio-ml 1.0.9 or 2.x.

    Keeps nothing: label-studio-ml makes one for each project, or even for each request. All share one assistant, so the
    model is loaded once.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take whatever label-studio-ml hands over, which differs between its versions."""
        super().__init__(*args, **kwargs)
        shared_assistant()

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_kwargs: Any
    ) -> list[dict[str, Any] | list[Any]]:
        """Return one prediction per task, an empty list where there is nothing to store.

        Args:
            tasks: As Label Studio sends them.
            context: What the annotator just did, `{"result": [regions]}`; None in a batch.
            _kwargs: What label-studio-ml adds, such as `login` and `password`. Not used.

        Raises:
            BackendError: Outside of a request, what the catalogue says. Inside of one label-studio-ml turns it into an
                answer with the same status, reason and detail.
        """
        body = (request.get_json(silent=True) or {}) if has_request_context() else {}
        label_config = body.get("label_config") or getattr(self, "label_config", None) or ""
        project = body.get("project") or getattr(self, "project_id", None)
        try:
            return plain_answer(shared_assistant().predict(predict_request(tasks, label_config, project, context)))
        except BackendError as error:
            _answer_error(error)

    def fit(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Learn nothing; label-studio-ml calls this after each annotation."""
        return {}


def shared_assistant() -> Assistant:
    """Return this process's assistant, made by the first caller from the environment's settings."""
    with _BUILDING:
        return _assistant(load_settings())


@cache
def _assistant(settings: Settings) -> Assistant:
    return build_assistant(settings)


def _answer_error(error: BackendError) -> NoReturn:
    if not has_request_context():
        raise error
    # label-studio-ml adds its traceback to the answer where there is none
    details = {"error": error.code, "traceback": None}
    raise AnswerException(f"{error.status} {error.reason}", str(error), details) from error
