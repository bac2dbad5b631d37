"""The status page of the demo's backend in a real browser, on a desktop and on a phone."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.label_studio]

NOISE_WH = (96, 64)
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "device_scale_factor": 2}
SMALLEST_TEXT = 13
"""In CSS pixels: less is hard to read on a phone."""


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens an address in a browser of its own; what the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_address(url: str, **kind: Any) -> Page:
        context = browser.new_context(**kind)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto(url)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert complaints == []


def row(page: Page, caption: str, name: str) -> str:
    """Return a row's first figure in the table of this caption."""
    table = page.get_by_role("table", name=caption, exact=True)
    cells = (
        table.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True)).get_by_role("cell")
    )
    return cells.first.inner_text()


def times(page: Page, caption: str, name: str) -> int:
    """Return a row's first figure; 0 where there is no such table or row yet."""
    table = page.get_by_role("table", name=caption, exact=True)
    there = table.get_by_role("rowheader", name=name, exact=True).count()
    return int(row(page, caption, name).replace(",", "")) if there else 0


def test_clicks_and_errors_are_on_the_page_and_the_doctor_looks_when_asked(
    demo: Any, make_project: Any, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    project_id, task_ids = make_project()
    page = open_page(demo.state.backend_url, **DESKTOP)
    clicks, predicted = "Clicks that were answered", "Clicks, by stage"
    before = {name: times(page, clicks, name) for name in ("cached", "new")}
    predictions = times(page, predicted, "predict")

    for task_id in task_ids[:2]:
        for _ in range(2):
            demo.click(project_id, task_id, NOISE_WH)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{demo.state.backend_url}/predict", b"{"), timeout=60)
    refused.value.close()
    page.goto(f"{demo.state.backend_url}/status?refresh=off")

    assert sum(times(page, clicks, name) - before[name] for name in before) == 4
    assert times(page, clicks, "cached") - before["cached"] >= 2
    assert times(page, predicted, "predict") - predictions == 4
    assert row(page, "What runs here", "device") == "cpu"
    errors = page.get_by_role("region", name="Last errors")
    newest = errors.get_by_role("listitem").first
    expect(newest).to_contain_text("Request body is not valid JSON")
    expect(newest).to_contain_text(refused.value.headers["X-Request-ID"])

    page.get_by_role("button", name=re.compile("^Look")).click()
    connection = page.get_by_role("region", name="Connection")
    expect(connection.get_by_role("button", name="Look again")).to_be_enabled(timeout=120_000)  # it loads itself again
    page.goto(f"{demo.state.backend_url}/status?refresh=off")
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path)) / "status-page.png"
    page.screenshot(path=picture, full_page=True)
    connection.get_by_text(re.compile(rf"^Project {project_id}: ")).click()

    expect(connection.get_by_text("Label Studio reaches it").first).to_be_visible()
    assert demo.state.token not in page.content()
    assert picture.stat().st_size > 50_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_on_a_phone(
    demo: Any, open_page: Callable[..., Page], tmp_path: Path, scheme: str
) -> None:
    page = open_page(f"{demo.state.backend_url}/status", **PHONE, color_scheme=scheme)

    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    smallest = page.evaluate(
        "Math.min(...[...document.body.querySelectorAll('*')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path)) / "status-page-phone.png"
    if scheme == "light":
        page.screenshot(path=picture)
    assert overflow <= 0
    assert smallest >= SMALLEST_TEXT
    assert (sum(ground) / 3 > 128) == (scheme == "light")
