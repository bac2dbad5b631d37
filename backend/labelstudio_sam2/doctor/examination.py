"""The order in which things are looked at: what a later check needs, an earlier one has found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias

import msgspec

from labelstudio_sam2.doctor.advice import SEE_LOG, advice_for, sentence, told
from labelstudio_sam2.doctor.click import (
    BadAnswerError,
    Click,
    click_in_the_middle,
    covered,
    covered_by,
    image_to_click,
)
from labelstudio_sam2.doctor.connection import (
    Connection,
    check_connection,
    check_private_addresses,
    connections_of,
)
from labelstudio_sam2.doctor.findings import Check, Finding, of_project, ok, problem, skipped, timed, warning
from labelstudio_sam2.doctor.label_studio import check_label_studio, check_token, is_in_container
from labelstudio_sam2.doctor.labeling import check_labeling
from labelstudio_sam2.doctor.server import RefusedError, Server, Servers, check_server
from labelstudio_sam2.errors import BackendError, ImageForbiddenError
from labelstudio_sam2.images.source import ImageSource, Picture
from labelstudio_sam2.labelstudio.assistant import image_address
from labelstudio_sam2.labelstudio.label_config import LabelConfig
from labelstudio_sam2.labelstudio.label_studio_api import LabelStudioApi, read_answer
from labelstudio_sam2.labelstudio.label_studio_tasks import LabelStudioTasks
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.segmenter.checkpoint import find_checkpoint
from labelstudio_sam2.segmenter.zoo import MODELS, model_version, resolve
from labelstudio_sam2.settings import Settings

MAX_PROJECTS = 20
"""Looked at where none is named."""
CLICK_SECONDS = 120.0
"""Label Studio itself waits 100 s for an answer."""

Predict: TypeAlias = Callable[[bytes], bytes]
"""Answers the body of `POST /predict`; raises the catalogue's errors."""


class Project(msgspec.Struct, frozen=True):
    """A project, as Label Studio's API gives it.

    Attributes:
        evaluate_predictions_automatically: Ask for predictions when tasks are opened, and when they are listed.
        show_collab_predictions: Ask for them when a task is opened; in the editor's words use predictions to prelabel.
    """

    id: int
    title: str = ""
    label_config: str = ""
    evaluate_predictions_automatically: bool = False
    show_collab_predictions: bool = True


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for beside the settings.

    Attributes:
        project: The only project to look at; every connected one if None.
        backend_url: Where the backend runs, if not where the settings say.
        load_here: Loads the model in this process, to make the mask with instead of the running backend. Slow.
        clicks: Whether masks are made. They count as clicks, and each may wait for the image encoder.
        in_container: Whether this process runs in a container.
    """

    project: int | None = None
    backend_url: str | None = None
    load_here: Callable[[], Predict] | None = None
    clicks: bool = True
    in_container: bool = field(default_factory=is_in_container)


def examine(settings: Settings, wishes: Wishes) -> Iterator[Finding]:
    """Yield what is found out about everything between a click and its mask, as soon as it is known. Changes nothing.

    Needs some seconds, in a bad network half a minute. What Label Studio does by itself when somebody opens a project
    or clicks, it does here, too: it asks the project's ML backends how they are.

    Args:
        settings: The backend's.
        wishes: What is asked for.

    Raises:
        SettingsError: `LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY` or `ALLOWED_IMAGE_HOSTS` is malformed.
        UrlRefusedError: `backend_url` is.
        ValueError: The settings name no model that is known.
    """
    return timed(_Examination(settings, wishes).findings())


class _Examination:
    def __init__(self, settings: Settings, wishes: Wishes) -> None:
        self._settings = settings
        self._wishes = wishes
        self._pictures = ImageSource(settings)
        self._api = LabelStudioApi(self._pictures.token)
        self._servers = Servers(settings, wishes.backend_url)
        self._spec = resolve(settings.model, settings.model_config_file)
        self._model_version = ""
        self._predict_here: Predict | None = None

    def findings(self) -> Iterator[Finding]:
        yield ok("settings", f"they can be used, MODEL is {self._spec.model_id}")
        yield self._weights()
        reached = yield from check_label_studio(self._api, in_container=self._wishes.in_container)
        projects: list[tuple[Project, list[Connection]]] = []
        if reached:
            let_in = yield from check_token(self._api)
            if let_in:
                projects = yield from self._find_projects()
            else:
                yield skipped("projects", "Label Studio does not take the token, see there.")
        else:
            yield skipped("token", "Label Studio was not reached, see label-studio-url.")
            yield skipped("projects", "Label Studio was not reached, see label-studio-url.")
        server = None
        if self._wishes.load_here is None:
            urls = [connection.url for _, connections in projects for connection in connections]
            server = yield from check_server(
                self._servers, urls, own_version=version("labelstudio-sam2"), own_model_version=self._model_version
            )
        elif projects:
            yield from self._load_here(self._wishes.load_here)
        for project, connections in projects:
            yield from of_project(project.id, self._project(project, connections, server))

    def _weights(self) -> Finding:
        spec = self._spec
        self._model_version = model_version(spec, self._settings.precision)
        if self._servers.is_named:
            return skipped("weights", f"The backend at {self._servers.own} has its own, see backend-ready.")
        try:
            find_checkpoint(spec, self._settings.weights_dir)
        except BackendError as error:
            return problem("weights", sentence(error), "Put the checkpoint there, and start the backend again.")
        is_own = spec.model_id not in MODELS
        verified = "no SHA-256 is known to verify it with" if is_own else "SHA-256 verified"
        return ok("weights", f"the checkpoint of {spec.model_id} is there, {verified}")

    def _find_projects(self) -> Check[list[tuple[Project, list[Connection]]]]:
        """Return the projects to look at, with their ML backends."""
        wanted = self._wishes.project
        try:
            if wanted is not None:
                project = self._named_project(wanted)
                yield ok("projects", f"{wanted} is {project.title!r}")
                return [(project, connections_of(self._api, wanted))]
            page = self._api.get(
                "/api/projects",
                _Projects,
                what="the projects",
                query={"page_size": MAX_PROJECTS, "include": "id,title"},
            )
            connected = [(each.id, found) for each in page.results if (found := connections_of(self._api, each.id))]
            projects = [(self._named_project(project), found) for project, found in connected]
        except BackendError as error:
            what = "the projects" if wanted is None else f"project {wanted}"
            yield problem(
                "projects",
                f"Label Studio does not show {what}: {error}.",
                "See that there is such a project, and that the token's user may see it.",
            )
            return []
        names = ", ".join(f"{each.id} {each.title!r}" for each in page.results)
        if not projects:
            yield problem(
                "projects",
                f"No project has an ML backend: {names}." if names else "There is no project.",
                "Connect one (project > Settings > Model > Connect Model), or name a project with --project.",
            )
        elif page.count > MAX_PROJECTS:
            yield warning(
                "projects",
                f"There are {page.count}; of {MAX_PROJECTS} of them, those with an ML backend are looked at.",
                "Name another one with --project.",
            )
        else:
            yield ok("projects", f"{len(projects)} of {page.count} with an ML backend")
        return projects

    def _named_project(self, project: int) -> Project:
        what = f"project {project}"
        return read_answer(self._api.ask(f"/api/projects/{project}", what=what), Project, what)

    def _load_here(self, load: Callable[[], Predict]) -> Iterator[Finding]:
        try:
            self._predict_here = load()
        except BackendError as error:
            yield problem("model-here", told(error), advice_for(error.reason))
        else:
            yield ok("model-here", f"{self._spec.model_id} is loaded in this process")

    def _project(self, project: Project, connections: list[Connection], server: Server | None) -> Iterator[Finding]:
        config = yield from check_labeling(project.label_config)
        ours = yield from check_connection(
            connections, self._servers, server, self._settings, own_model_version=self._model_version
        )
        url = ours.url if ours is not None else self._servers.own.url
        yield from check_private_addresses(self._api, url)
        yield _automatic(project)
        yield _prefetch(project, connections, ours, self._settings)
        if config is None:
            yield from _skip_masks("Nothing can be clicked on with this labeling configuration, see there.")
            return
        found = yield from self._picture(project, config)
        if found is None:
            yield from _skip_masks("There is no picture to click on, see picture.", but=("picture",))
            return
        if not self._wishes.clicks:
            yield skipped("mask", "None was made: `labelstudio-sam2 doctor` makes one, also through Label Studio.")
            return
        task, picture = found
        click = click_in_the_middle(task, project.id, project.label_config, config, picture.size_hw)
        yield self._mask(click, config, picture, server)
        yield self._editor(click, config, picture, ours)

    def _picture(self, project: Project, config: LabelConfig) -> Check[tuple[Task, Picture] | None]:
        """Fetch and decode the picture of the first task."""
        try:
            task = next(
                iter(LabelStudioTasks(self._api.token).tasks_after(str(project.id), 0, 1, unfinished_only=False).tasks),
                None,
            )
            if task is None:
                yield skipped("picture", "The project has no task yet: import a picture.")
                return None
            image = config.images[image_to_click(config)]
            address = image_address(task, image, 0 if image.is_list else None)
            picture = self._pictures.find(address, project=str(project.id), task_id=task.number)
            height, width, _ = picture.load().shape
        except BackendError as error:
            yield problem("picture", told(error), advice_for(error.reason))
            return None
        yield ok("picture", f"task {task.id}: {width} x {height} pixels, fetched and decoded")
        return task, picture

    def _mask(self, click: Click, config: LabelConfig, picture: Picture, server: Server | None) -> Finding:
        """Have one mask made, by the running backend or in this process."""
        if server is not None and not self._servers.may_predict(server):
            return skipped("mask", "Credentials are sent only to an address that --backend-url names.")
        predict = self._predict_here if server is None else partial(self._servers.predict, server)
        if predict is None:
            return skipped("mask", "There is no backend to ask, see there; --here loads the model in this process.")
        try:
            share = covered(predict(click.body()), config, picture.size_hw)
        except RefusedError as error:
            return problem("mask", sentence(error), advice_for(error.reason))
        except BackendError as error:
            return problem("mask", told(error), advice_for(error.reason))
        except BadAnswerError as error:
            return problem("mask", f"A click in the middle: {error}.", SEE_LOG)
        return ok("mask", f"{_clicked(click)}: a mask of {share:.1%} of the picture")

    def _editor(self, click: Click, config: LabelConfig, picture: Picture, ours: Connection | None) -> Finding:
        """Ask as the editor does: Label Studio, which asks its backend."""
        if ours is None or not ours.is_interactive:
            return skipped("editor", "The editor does not ask this backend, see connection and interactive.")
        path, what = f"/api/ml/{ours.id}/interactive-annotating", "a mask"
        body = {"task": click.task.id, "context": click.context}
        try:
            answer = read_answer(self._api.ask(path, what=what, body=body, seconds=CLICK_SECONDS), _Annotating, what)
            if answer.errors:
                errors = "; ".join(map(str, answer.errors))
                return problem("editor", f"Label Studio got no mask: {errors}.", advice_for(errors))
            share = covered_by(answer.data, config, picture.size_hw)
        except ImageForbiddenError as error:
            return problem("editor", sentence(error), "Take a token of a user who may annotate in the project.")
        except BackendError as error:
            return problem("editor", sentence(error), "See Label Studio's log for that request.")
        except BadAnswerError as error:
            return problem("editor", f"A click in the middle through Label Studio: {error}.", SEE_LOG)
        return ok("editor", f"the same click through Label Studio: {share:.1%}")


class _Projects(msgspec.Struct, frozen=True):
    """A page of `GET /api/projects`."""

    count: int
    results: list[Project]


class _Annotating(msgspec.Struct, frozen=True):
    """What `POST /api/ml/N/interactive-annotating` answers: a prediction or errors."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    errors: list[Any] = []


def _automatic(project: Project) -> Finding:
    """See whether lists of tasks wait for the backend."""
    if not project.evaluate_predictions_automatically:
        return ok("automatic-predictions", "off, so that lists of tasks do not wait for the backend")
    return warning(
        "automatic-predictions",
        "The project retrieves predictions by itself: whoever lists tasks waits until the backend was asked for each.",
        "This backend answers clicks and gives no predictions. Label Studio's pages have no switch for it: PATCH "
        f'/api/projects/{project.id} with {{"evaluate_predictions_automatically": false}}.',
    )


def _prefetch(project: Project, connections: list[Connection], ours: Connection | None, settings: Settings) -> Finding:
    """See whether Label Studio tells this backend, by asking for predictions, when a task is opened (docs/adr/0008)."""
    if settings.prefetch_mb == 0:
        return ok("prefetch", "switched off, PREFETCH_MB is 0")
    if ours is None:
        return skipped("prefetch", "The project has no connection to this backend, see connection.")
    if not (project.show_collab_predictions or project.evaluate_predictions_automatically):
        return warning(
            "prefetch",
            "Label Studio does not tell the backend when a task is opened: its picture is embedded at the first click, "
            "or after one on a task before it.",
            "In the project's Settings > Annotation switch on Use predictions to prelabel tasks. This backend gives no "
            "predictions, so it prelabels nothing.",
        )
    if connections[0].id != ours.id:
        return warning(
            "prefetch",
            f"Of a task that is opened Label Studio tells only the project's first ML backend, {connections[0].name}.",
            "Take that one out of the project, or live with first clicks that wait for the image encoder.",
        )
    return ok("prefetch", "the backend is told when a task is opened, and embeds ahead")


def _skip_masks(because: str, but: tuple[str, ...] = ()) -> Iterator[Finding]:
    yield from (skipped(name, because) for name in ("picture", "mask", "editor") if name not in but)


def _clicked(click: Click) -> str:
    return f"a click in the middle with {click.label!r}" if click.label else "a click in the middle"
