"""The whole way: a Label Studio on loopback, the real backend on nano, and one thing broken at a time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from labelstudio_sam2.doctor.examination import Wishes, examine
from labelstudio_sam2.doctor.findings import Finding
from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.settings import Settings

Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def backend(make_nano_app: Any, serve_app: Any, label_studio: Any, connect: Any) -> str:
    """The address of a real backend on nano, connected with the project; Label Studio passes clicks on to it."""
    app = make_nano_app(label_studio_url=label_studio.url, label_studio_api_key="a1" * 20)
    url: str = serve_app(app)
    connect(url)

    def pass_on(asked: Any) -> Any:
        project = label_studio.answers["GET", "/api/projects/7"][1]
        body = {
            "tasks": label_studio.answers["GET", "/api/tasks"][1]["tasks"],
            "project": "7.0",
            "label_config": project["label_config"],
            "params": {"context": asked.body["context"]},
        }
        answer = app.test_client().post("/predict", json=body)
        if answer.status_code != 200:
            return 200, {"errors": [f"{answer.status} for url: {url}/predict"]}, {}
        return 200, {"data": answer.json["results"][0]}, {}

    label_studio.on("POST", "/api/ml/1/interactive-annotating", pass_on)
    return url


@pytest.fixture
def look(settings: Callable[..., Settings], by_name: Any, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Return a function that examines; wishes go in by name, settings as one mapping."""

    def run(with_settings: Mapping[str, Any] | None = None, **wishes: Any) -> dict[str, Finding]:
        found = by_name(examine(settings(**(with_settings or {})), Wishes(**{"in_container": False, **wishes})))
        return dict(found)

    return run


def test_everything_is_well(look: Examine, backend: str) -> None:
    found = look(backend_url=backend)

    unwell = {name: finding.text for name, finding in found.items() if finding.outcome != "ok"}
    assert set(unwell) == {"weights", "backend-version"}  # another machine's; and the fixture's model has another name
    assert "a click in the middle with 'Disc': a mask of" in found["mask"].text
    assert found["editor"].text.startswith("the same click through Label Studio")
    assert found["mask"].seconds > 0
    assert {found[name].project for name in ("labels", "interactive", "picture", "mask")} == {7}
    assert {found[name].project for name in ("settings", "token", "projects", "backend")} == {None}


def test_without_clicks_all_else_is_looked_at_and_no_mask_is_made(
    look: Examine, backend: str, label_studio: Any
) -> None:
    with_clicks = look(backend_url=backend)
    asked = len(label_studio.asked_for("POST", "/api/ml/1/interactive-annotating"))

    found = look(backend_url=backend, clicks=False)

    assert [*found, "editor"] == list(with_clicks)
    assert found["mask"].outcome == "skipped"
    assert found["picture"].outcome == "ok"
    assert len(label_studio.asked_for("POST", "/api/ml/1/interactive-annotating")) == asked


def test_nothing_secret_is_told(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.on("GET", "/data/upload/7/disc.png", b"", 403)
    label_studio.change("GET", "/api/tasks", tasks=[{"id": 3, "data": {"image": "/data/upload/7/disc.png?sig=5ecret"}}])

    found = look({"basic_auth_user": "ada", "basic_auth_pass": "s3cret-pass"}, backend_url=backend)

    said = str([finding.as_json() for finding in found.values()])
    assert "a1a1" not in said
    assert "5ecret" not in said
    assert "s3cret-pass" not in said


def test_without_label_studio_only_the_backend_is_looked_at(look: Examine, backend: str) -> None:
    found = look({"label_studio_url": None}, backend_url=backend)

    assert found["label-studio-url"].outcome == "problem"
    assert {name for name, finding in found.items() if finding.outcome == "skipped"} == {"weights", "token", "projects"}
    assert found["backend-ready"].outcome == "ok"
    assert "see label-studio-url" in found["projects"].text


def test_without_a_token_no_project_is_looked_at(look: Examine, backend: str, label_studio: Any) -> None:
    found = look({"label_studio_api_key": None}, backend_url=backend)

    assert found["token"].outcome == "problem"
    assert found["projects"].outcome == "skipped"
    assert "picture" not in found
    assert {asked.path for asked in label_studio.asked} == {"/api/version"}


def test_the_checkpoint_is_missing(look: Examine, tmp_path: Any, label_studio: Any) -> None:
    finding = look({"model": "sam2/hiera_tiny", "weights_dir": tmp_path, "port": 1})["weights"]

    assert finding.outcome == "problem"
    assert "sam2.1_hiera_tiny.pt is missing; get it with `labelstudio-sam2 weights fetch --model " in finding.text


def test_the_checkpoint_is_there(look: Examine) -> None:
    finding = look({"port": 1})["weights"]

    assert finding.outcome == "ok"
    assert "nano is there, SHA-256 verified" in finding.text


def test_a_checkpoint_of_ones_own_is_not_called_verified(look: Examine, tmp_path: Path) -> None:
    (tmp_path / "leaves.pt").write_bytes(b"weights")
    own = {"model": str(tmp_path / "leaves.pt"), "model_config_file": Path("sam2.1_hiera_t.yaml")}

    finding = look({**own, "port": 1})["weights"]

    assert (finding.outcome, finding.text) == (
        "ok",
        "the checkpoint of leaves is there, no SHA-256 is known to verify it with",
    )


def test_a_project_that_was_named_is_not_there(look: Examine, backend: str) -> None:
    finding = look(project=8, backend_url=backend)["projects"]

    assert finding.outcome == "problem"
    assert "does not show project 8" in finding.text


def test_a_project_that_was_named_is_looked_at_without_a_backend_too(look: Examine) -> None:
    found = look({"port": 1}, project=7)

    assert found["projects"].text == "7 is 'Discs'"
    assert found["connection"].outcome == "problem"
    assert found["picture"].outcome == "ok"
    assert (found["mask"].outcome, found["editor"].outcome) == ("skipped", "skipped")
    assert "--here" in found["mask"].text


def test_no_project_has_a_backend_and_all_are_listed(look: Examine) -> None:
    finding = look({"port": 1})["projects"]

    assert finding.outcome == "problem"
    assert "7 'Discs'" in finding.text
    assert "--project" in finding.advice


def test_there_are_more_projects_than_are_looked_at(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.change("GET", "/api/projects", count=57)

    finding = look(backend_url=backend)["projects"]

    assert finding.outcome == "warning"
    assert "57" in finding.text
    assert "--project" in finding.advice


def test_predictions_are_retrieved_by_the_project_itself(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.change("GET", "/api/projects/7", evaluate_predictions_automatically=True)

    found = look(backend_url=backend)

    assert found["automatic-predictions"].outcome == "warning"
    assert "PATCH /api/projects/7" in found["automatic-predictions"].advice
    assert found["prefetch"].outcome == "ok"


def test_the_project_does_not_tell_when_a_task_is_opened(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.change("GET", "/api/projects/7", show_collab_predictions=False)

    finding = look(backend_url=backend)["prefetch"]

    assert finding.outcome == "warning"
    assert "Use predictions to prelabel tasks" in finding.advice


def test_a_project_that_does_not_tell_still_does_where_it_retrieves_predictions_by_itself(
    look: Examine, backend: str, label_studio: Any
) -> None:
    switched = {"show_collab_predictions": False, "evaluate_predictions_automatically": True}
    label_studio.change("GET", "/api/projects/7", **switched)

    assert look(backend_url=backend)["prefetch"].outcome == "ok"


def test_only_the_first_ml_backend_is_told_when_a_task_is_opened(
    look: Examine, connect: Callable[..., dict[str, Any]], backend: str, label_studio: Any
) -> None:
    connect("http://yolo:9090", title="YOLO", is_interactive=False)
    label_studio.answers["GET", "/api/ml"][1].reverse()

    finding = look(backend_url=backend)["prefetch"]

    assert finding.outcome == "warning"
    assert "YOLO" in finding.text


def test_nothing_is_said_of_open_tasks_where_nothing_is_embedded_ahead(
    look: Examine, backend: str, label_studio: Any
) -> None:
    label_studio.change("GET", "/api/projects/7", show_collab_predictions=False)

    assert look({"prefetch_mb": 0}, backend_url=backend)["prefetch"].outcome == "ok"


def test_an_unusable_configuration_leaves_nothing_to_click(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.change("GET", "/api/projects/7", label_config="<View/>")

    found = look(backend_url=backend)

    assert found["labeling-configuration"].outcome == "problem"
    assert {found[name].outcome for name in ("picture", "mask", "editor")} == {"skipped"}


def test_a_project_without_tasks_has_no_picture(look: Examine, backend: str, label_studio: Any) -> None:
    label_studio.change("GET", "/api/tasks", tasks=[])

    found = look(backend_url=backend)

    assert {found[name].outcome for name in ("picture", "mask", "editor")} == {"skipped"}
    assert "import a picture" in found["picture"].text


@pytest.mark.parametrize(
    ("image", "status", "body", "why", "advice"),
    [
        ("/data/upload/7/disc.png", 401, b"", "refused access", "LABEL_STUDIO_API_KEY"),
        ("/data/upload/7/disc.png", 404, b"", "answered with an error", "still there"),
        ("/data/upload/7/disc.png", 200, b"<svg/>", "not a readable image", "PNG, JPEG"),
        ("http://pictures.example.com/disc.png", 200, b"", "address is not allowed", "ALLOWED_IMAGE_HOSTS"),
        (7, 200, b"", "missing or has the wrong type", "log"),
    ],
)
def test_the_picture_cannot_be_had(
    look: Examine, backend: str, label_studio: Any, image: Any, status: int, body: bytes, why: str, advice: str
) -> None:
    label_studio.on("GET", "/data/upload/7/disc.png", body, status)
    label_studio.change("GET", "/api/tasks", tasks=[{"id": 3, "data": {"image": image}}])

    found = look(backend_url=backend)

    assert found["picture"].outcome == "problem"
    assert why in found["picture"].text
    assert advice in found["picture"].advice
    assert found["mask"].outcome == "skipped"


def test_the_backend_cannot_have_the_picture_that_is_had_here(
    look: Examine, make_nano_app: Any, serve_app: Any, connect: Any, backend: str, label_studio: Any
) -> None:
    without_a_token = serve_app(make_nano_app())

    found = look(backend_url=without_a_token)

    assert found["picture"].outcome == "ok"
    assert found["mask"].outcome == "problem"
    assert "POST /predict answers 422: Image address is not allowed" in found["mask"].text
    assert "LABEL_STUDIO_URL" in found["mask"].advice


def test_the_backend_answers_with_no_mask(look: Examine, site: Any, connect: Any) -> None:
    site.on("GET", "/health", {"status": "UP", "model_class": "SAM2Backend", "v": "nano@test"})
    site.on("POST", "/predict", {"results": [{"result": []}]})
    connect(site.url)

    finding = look(backend_url=site.url)["mask"]

    assert finding.outcome == "problem"
    assert "the answer has no mask in it" in finding.text


def test_a_backend_that_may_not_be_shown_the_credentials_is_not_clicked_at(look: Examine, backend: str) -> None:
    finding = look({"port": 1, "basic_auth_user": "ada", "basic_auth_pass": "s3cret"})["mask"]

    assert finding.outcome == "skipped"
    assert "--backend-url" in finding.text


def test_the_same_click_fails_through_label_studio(look: Examine, backend: str, label_studio: Any) -> None:
    errors = ["401 Client Error: User name or password is missing or wrong for url: http://sam2:9090/predict"]
    label_studio.on("POST", "/api/ml/1/interactive-annotating", {"errors": errors})

    found = look(backend_url=backend)

    assert found["mask"].outcome == "ok"
    assert found["editor"].outcome == "problem"
    assert errors[0] in found["editor"].text
    assert "BASIC_AUTH_USER" in found["editor"].advice


@pytest.mark.parametrize(("status", "why"), [(403, "answered 403"), (500, "answered 500"), (200, "cannot be read")])
def test_label_studio_does_not_pass_the_click_on(
    look: Examine, backend: str, label_studio: Any, status: int, why: str
) -> None:
    label_studio.on("POST", "/api/ml/1/interactive-annotating", {"detail": "no"}, status)

    finding = look(backend_url=backend)["editor"]

    assert finding.outcome == "problem"
    assert why in finding.text


def test_the_editor_is_asked_about_the_task_with_the_click(look: Examine, backend: str, label_studio: Any) -> None:
    look(backend_url=backend)

    (asked,) = label_studio.asked_for("POST", "/api/ml/1/interactive-annotating")
    assert asked.body["task"] == 3
    assert asked.body["context"]["result"][0]["value"]["x"] == 50


def test_the_mask_can_be_made_in_this_process(
    look: Examine, backend: str, make_nano_app: Any, label_studio: Any
) -> None:
    client = make_nano_app(label_studio_url=label_studio.url, label_studio_api_key="a1" * 20).test_client()

    found = look({"port": 1}, load_here=lambda: lambda body: client.post("/predict", data=body).data)

    assert "backend" not in found
    assert found["model-here"].outcome == "ok"
    assert found["mask"].outcome == "ok"


def test_the_model_cannot_be_loaded_in_this_process(look: Examine, backend: str) -> None:
    def load() -> Any:
        raise ModelUnavailableError("/weights/sam2.1_hiera_tiny.pt is missing")

    found = look({"port": 1}, load_here=load)

    assert found["model-here"].outcome == "problem"
    assert "sam2.1_hiera_tiny.pt is missing" in found["model-here"].text
    assert found["mask"].outcome == "skipped"


def test_nothing_is_changed_in_label_studio(look: Examine, backend: str, label_studio: Any) -> None:
    look(backend_url=backend)

    posted = {asked.path for asked in label_studio.asked if asked.method != "GET"}
    assert posted == {"/api/ml", "/api/webhooks", "/api/ml/1/interactive-annotating"}  # the first two never succeed
    assert "project" not in label_studio.asked_for("POST", "/api/ml")[0].body


def test_findings_come_one_by_one(settings: Any, backend: str, label_studio: Any) -> None:
    findings = examine(settings(), Wishes(backend_url=backend, in_container=False))

    assert (next(findings).name, label_studio.asked) == ("settings", [])
    assert next(findings).name == "weights"
    assert next(findings).name == "label-studio-url"
    assert [asked.path for asked in label_studio.asked] == ["/api/version"]
