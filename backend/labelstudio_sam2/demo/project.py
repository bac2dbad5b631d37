"""The demo's project in Label Studio, made through its REST API; a repeated step adds only what lacks."""

import io
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx
from PIL import Image as PilImage

from labelstudio_sam2.demo.scenes import Scene, draw_scenes
from labelstudio_sam2.images.deadline import Deadline
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.settings import Settings, SettingsError

Json: TypeAlias = Any

TITLE = "SAM 2 demo"
LABEL_CONFIG = """\
<View>
  <View style="display: flex; gap: 3em">
    <View>
      <Header value="Click with" size="5"/>
      <KeyPointLabels name="point" toName="image" smart="true" smartOnly="true" showInline="true">
        <Label value="Fruit" background="#7048e8" hotkey="1"/>
        <Label value="Leaf" background="#0ca678" hotkey="2"/>
        <Label value="Thing" background="#e64980" hotkey="3"/>
      </KeyPointLabels>
    </View>
    <View>
      <Header value="Draw a box with" size="5"/>
      <RectangleLabels name="box" toName="image" smart="true" smartOnly="true" showInline="true">
        <Label value="Fruit" background="#7048e8" hotkey="4"/>
        <Label value="Leaf" background="#0ca678" hotkey="5"/>
        <Label value="Thing" background="#e64980" hotkey="6"/>
      </RectangleLabels>
    </View>
    <View>
      <Header value="Paint with" size="5"/>
      <BrushLabels name="mask" toName="image" smart="false" showInline="true" model_parts="clicked">
        <Label value="Fruit" background="#7048e8" hotkey="7"/>
        <Label value="Leaf" background="#0ca678" hotkey="8"/>
        <Label value="Thing" background="#e64980" hotkey="9"/>
      </BrushLabels>
    </View>
  </View>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
</View>
"""
MAX_SAID_CHARS = 300
REQUEST_SECONDS = 60
"""Label Studio is slow right after its first start."""


class LabelStudioClient:
    """The few calls of Label Studio's REST API that the demo needs. Not thread-safe.

    Every method raises `httpx.HTTPError` where Label Studio cannot be reached or answers with an error.
    """

    def __init__(self, url: str, authorization: str, *, basic_auth: tuple[str, str] | None = None) -> None:
        """Talk to the Label Studio at a URL. Sends nothing yet.

        Args:
            url: Its address.
            authorization: The header's value, such as `Token 0123…`.
            basic_auth: User and password that an ML backend wants, for connecting it.
        """
        self._basic_auth = basic_auth
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": authorization},
            timeout=REQUEST_SECONDS,
            trust_env=False,  # a proxy must not get between two processes of this machine
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Talk to `LABEL_STUDIO_URL` with `LABEL_STUDIO_API_KEY`, of either kind; connect backends with `BASIC_AUTH_*`.

        Raises:
            SettingsError: One of them is missing or malformed.
            BackendError: Label Studio does not take the personal access token.
        """
        token = ImageSource(settings).token
        if not token.can_ask:
            raise SettingsError("LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY: set both, the project is made with them")
        authorization = token.authorization(Deadline.after(REQUEST_SECONDS, "asking for an access token"))
        user, password = settings.basic_auth_user, settings.basic_auth_pass
        basic_auth = (user, password.get_secret_value()) if user and password else None
        return cls(str(settings.label_studio_url), str(authorization), basic_auth=basic_auth)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def find_project(self, project_id: int) -> Json | None:
        """Return a project, or None where it is gone."""
        answer = self._http.get(f"/api/projects/{project_id}/")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return answer.raise_for_status().json()

    def project_with_title(self, title: str) -> int | None:
        """Return the id of the oldest project of this title, or None."""
        answer = self._http.get("/api/projects/", params={"title": title, "page_size": 1000}).raise_for_status().json()
        return min((int(each["id"]) for each in answer["results"] if each["title"] == title), default=None)

    def create_project(self, title: str, label_config: str) -> Json:
        """Create an empty project and return it."""
        project = {"title": title, "label_config": label_config}
        return self._http.post("/api/projects/", json=project).raise_for_status().json()

    def import_scenes(self, project_id: int, scenes: Sequence[Scene]) -> None:
        """Upload pictures as PNG files, one task each, in the given order."""
        for scene in scenes:
            files = {"file": (f"{scene.name}.png", _png(scene), "image/png")}
            self._http.post(f"/api/projects/{project_id}/import", files=files).raise_for_status()

    def connect_backend(self, project_id: int, url: str) -> None:
        """Connect the ML backend at a URL for interactive use, or move an older connection there."""
        wanted = {"project": project_id, "title": "SAM 2", "url": url, "is_interactive": True}
        if self._basic_auth:
            user, password = self._basic_auth
            wanted |= {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
        connected = self._http.get("/api/ml", params={"project": project_id}).raise_for_status().json()
        if not connected:
            self._http.post("/api/ml", json=wanted).raise_for_status()
        elif connected[0]["url"].rstrip("/") != url or not connected[0]["is_interactive"]:
            self._http.patch(f"/api/ml/{connected[0]['id']}", json=wanted).raise_for_status()


def prepare_project(client: LabelStudioClient, project_id: int | None, backend_url: str) -> int:
    """Make the demo's project ready and return its id; an existing one keeps its tasks and annotations.

    Args:
        client: Label Studio.
        project_id: The project of an earlier run, or None.
        backend_url: Where Label Studio reaches the ML backend.

    Raises:
        httpx.HTTPError: Label Studio refused a step; the steps done so far stay.
    """
    project = None if project_id is None else client.find_project(project_id)
    if project is None:
        project = client.create_project(TITLE, LABEL_CONFIG)
    found = int(project["id"])
    if not project["task_number"]:  # null right after the creation
        client.import_scenes(found, draw_scenes())
    client.connect_backend(found, backend_url)
    return found


def explained(error: Exception) -> str:
    """Return what went wrong between us and Label Studio, with its own words where it gave some."""
    if not isinstance(error, httpx.HTTPStatusError):
        return str(error)
    said = f"it answered {error.response.status_code} to {error.request.method} {error.request.url.path}"
    try:
        answer = error.response.json()
        why = [*map(str, answer.get("validation_errors") or ()), answer.get("detail")]
    except (ValueError, AttributeError):  # a page, or no object
        return said
    return "; ".join([said, *(str(each)[:MAX_SAID_CHARS] for each in why if each)])


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(scene.image).save(buffer, "PNG")
    return buffer.getvalue()
