"""Label Studio's editor as an annotator meets it: a page object over the real page in the real Chromium.

Positions are percent of the picture. Every action waits for what it causes, never for a time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from playwright.sync_api import Page, Response, expect

WAIT_SECONDS = 30.0
LABEL_KEYS = {
    ("point", "Fruit"): "1",
    ("point", "Thing"): "3",
    ("point", "Cat"): "1",
    ("rectangle", "Fruit"): "4",
    ("rectangle", "Thing"): "6",
    ("brush", "Fruit"): "7",
    ("brush", "Thing"): "9",
}
"""The hotkeys that the labeling configurations of the demo and of README give to their labels."""


class Editor:
    """One task, open in the editor, with Auto-Annotation switched on."""

    def __init__(self, page: Page, get: Callable[[str], Any], url: str, project_id: int, task_id: int) -> None:
        self.page = page
        self.task_id = task_id
        self._get = get
        page.goto(f"{url}/projects/{project_id}/data?task={task_id}")
        page.wait_for_function("() => window.Htx?.annotationStore?.selected?.objects?.[0]?.imageIsLoaded")
        self._toggle("auto-annotation", on=True)

    def auto_accept(self) -> None:
        """Switch Auto-Accept on."""
        self._toggle("auto-accept", on=True)

    def pick(self, tool: str, label: str) -> None:
        """Pick a tool, then a label, in this order: the other one does not last."""
        if tool == "brush":
            self.page.locator("button[aria-label=brush-tool]").click()
        else:
            self.page.locator("button.lsf-tool_smart").first.hover()
            name = {"point": "key-point-tool", "rectangle": "rectangle-tool"}[tool]
            self.page.locator(f"button.lsf-tool_smart[aria-label={name}]").click()
        self.label(tool, label)

    def label(self, tool: str, label: str) -> None:
        """Pick a label by its hotkey; the editor takes it off after every region."""
        self.page.mouse.move(2, 2)  # off the toolbar, whose menu would cover the picture
        self.page.keyboard.press(LABEL_KEYS[tool, label])
        expect(self.page.locator(".lsf-label_selected")).to_have_text([label + LABEL_KEYS[tool, label]])

    def click(self, x_percent: float, y_percent: float, *, keys: Sequence[str] = ()) -> Any:
        """Click with the point tool while keys are held; returns the regions that came back."""
        with self._answer() as answer:
            self._hold(keys, lambda: self.page.mouse.click(*self._at(x_percent, y_percent)))
        return self._shown(answer.value)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Any:
        """Draw a box with the rectangle tool; returns the regions that came back."""
        with self._answer() as answer:
            self._drag([(x0, y0), (x1, y1)])
        return self._shown(answer.value)

    def paint(self, points: Iterable[tuple[float, float]]) -> str:
        """Paint a stroke with the brush; returns the id of the region it made."""
        before = self._region_ids()
        self._drag(points)
        self._until(lambda: len(self._region_ids()) > len(before), "the stroke's region")
        return next(iter(self._region_ids() - before))

    def erase(self, points: Iterable[tuple[float, float]]) -> None:
        """Erase from the region just painted, which is still selected."""
        self.page.keyboard.press("e")
        expect(self.page.locator("button[aria-label=eraser]")).to_contain_class("lsf-tool_active")
        self._drag(points)

    def unselect(self) -> None:
        """Let go of the selected region."""
        self.page.keyboard.press("Escape")
        self.page.wait_for_function("() => window.Htx.annotationStore.selected.selectedRegions.length === 0")

    def wait_for_draft(self, is_saved: Callable[[list[Any]], bool]) -> None:
        """Wait until the autosaved draft's regions are as wanted."""

        def holds() -> bool:
            return any(is_saved(draft["result"]) for draft in self._get(f"/api/tasks/{self.task_id}/drafts"))

        self._until(holds, "the draft")

    def accept(self) -> None:
        """Keep all suggestions, with the tick of the bottom bar."""
        self.page.locator("[data-testid=bottombar-accept-suggestions-button]").click()
        self.page.wait_for_function(f"() => {_SUGGESTIONS} === 0 && {_PROMPTS} === 0")

    def reject(self) -> None:
        """Drop all suggestions and the prompts that led to them, with the cross of the bottom bar."""
        self.page.locator("[data-testid=bottombar-reject-suggestions-button]").click()
        self.page.wait_for_function(f"() => {_SUGGESTIONS} === 0 && {_PROMPTS} === 0")

    def wait_for_regions(self, count: int) -> None:
        """Wait until this many regions, prompts not counted, are on screen."""
        self.page.wait_for_function(f"() => {_KEPT} === {count} && {_PROMPTS} === 0")

    def submit(self) -> list[Any]:
        """Submit, and return the stored annotation's regions."""
        with self.page.expect_response(
            lambda response: (
                response.request.method == "POST" and f"/api/tasks/{self.task_id}/annotations" in response.url
            )
        ) as answer:
            self.page.locator("[data-testid=bottombar-submit-button]").click()
        assert answer.value.ok, answer.value.text()
        result: list[Any] = self._get(f"/api/tasks/{self.task_id}/annotations/")[-1]["result"]
        return result

    def _toggle(self, name: str, *, on: bool) -> None:
        box = self.page.locator(f"[data-testid=bottombar-{name}-toggle]")
        if box.is_checked() is not on:
            box.locator("xpath=..").click()
        expect(box).to_be_checked(checked=on)

    def _answer(self) -> AbstractContextManager[Any]:
        return self.page.expect_response(
            lambda response: "/interactive-annotating" in response.url, timeout=1000 * WAIT_SECONDS
        )

    def _shown(self, response: Response) -> Any:
        answer = response.json()
        assert "errors" not in answer, answer["errors"]
        regions = answer["data"]["result"]
        ids = [region["id"] for region in regions]
        self.page.wait_for_function(
            f"""ids => {{
                const shown = [...{_STORE}.suggestions.keys(), ...{_STORE}.regions.map(region => region.cleanId)];
                return ids.every(id => shown.some(key => key.startsWith(id)));
            }}""",
            arg=ids,
        )
        return regions

    def _drag(self, points: Iterable[tuple[float, float]]) -> None:
        first, *rest = [self._at(x, y) for x, y in points]
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for point in rest:
            self.page.mouse.move(*point, steps=8)
        self.page.mouse.up()

    def _hold(self, keys: Sequence[str], act: Callable[[], None]) -> None:
        for key in keys:
            self.page.keyboard.down(key)
        act()
        for key in keys:
            self.page.keyboard.up(key)

    def _at(self, x_percent: float, y_percent: float) -> tuple[float, float]:
        stage = self.page.locator(".konvajs-content").first.bounding_box()
        assert stage is not None
        return stage["x"] + stage["width"] * x_percent / 100, stage["y"] + stage["height"] * y_percent / 100

    def _region_ids(self) -> set[str]:
        return set(self.page.evaluate(f"() => {_STORE}.regions.map(region => region.cleanId)"))

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come within {WAIT_SECONDS} s"
            self.page.wait_for_timeout(100)  # the page goes on meanwhile


def mask_of(region: Any) -> NDArray[np.bool_]:
    """Decode a stored brush region with Label Studio's own decoder, (H, W) bool."""
    height, width = region["original_height"], region["original_width"]
    rgba = np.asarray(brush.decode_rle(region["value"]["rle"])).reshape(height, width, 4)
    return np.asarray(rgba[:, :, 3] > 127)


_STORE = "window.Htx.annotationStore.selected"
_SUGGESTIONS = f"{_STORE}.suggestions.size"
_PROMPTS = f"{_STORE}.regions.filter(region => region.dynamic).length"
_KEPT = f"{_STORE}.regions.filter(region => !region.dynamic).length"
