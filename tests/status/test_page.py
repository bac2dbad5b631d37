"""What the page says, with parts that say what a test wants."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from labelstudio_sam2.doctor.findings import of_project, ok, problem, skipped
from labelstudio_sam2.doctor.on_demand import Examination
from labelstudio_sam2.errors import BackendError, BusyError, DeviceLostError, ModelLoadingError, ModelUnavailableError
from labelstudio_sam2.ops.collectors import DeviceCollector, ModelCollector, PrefetchCollector, TierCollector
from labelstudio_sam2.ops.metrics import Metrics
from labelstudio_sam2.ops.recent_errors import RecentErrors
from labelstudio_sam2.segmenter.embedding_cache import CacheStats
from labelstudio_sam2.status.page import StatusPage

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "br", "img", "input", "rect", "line"}


class State:
    """Is ready, or raises."""

    def __init__(self, state: str = "ready", error: BackendError | None = None) -> None:
        self.state = state
        self.error = error

    def check_ready(self) -> None:
        if self.error is not None:
            raise self.error


class Ahead:
    """Has done five steps of prefetch, and refused one."""

    waiting = 2
    outcomes = {"done": 5, "refused": 1, "stale": 0, "dropped": 0}  # noqa: RUF012 - nobody writes


class Reader(HTMLParser):
    """Sees that every tag is closed, and keeps each with its attributes and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    reader.text = " ".join(reader.text.split())
    return reader


def full_metrics(model: str = "nano@1") -> Metrics:
    """Return figures of everything there is."""
    metrics = Metrics()
    device = CacheStats(
        hits=7, misses=3, evictions=1, skipped=0, entries=4, nbytes=32 * 2**20, max_bytes=2**31, prefetched=2,
        prefetched_hits=6,
    )  # fmt: skip
    disk = CacheStats(hits=1, misses=2, evictions=0, skipped=0, entries=9, nbytes=72 * 2**20, max_bytes=20 * 2**30)
    metrics.registry.register(TierCollector(lambda: {"device": device, "disk": disk}))
    metrics.registry.register(
        DeviceCollector(
            lambda: {"predict": 3, "embed": 1, "prefetch": 0},
            lambda: {"allocated": 5 * 2**30, "reserved": 6 * 2**30, "total": 80 * 2**30},
            lambda: {"device": "cuda", "precision": "bf16"},
        )
    )
    metrics.registry.register(PrefetchCollector(Ahead()))
    metrics.registry.register(ModelCollector(State(), {"version": "0.1.0", "model": model}))
    for seconds in (0.02, 0.03, 1.4):
        metrics.count_request(
            route="/predict",
            method="POST",
            status=200,
            error="",
            work="click",
            seconds=seconds,
            stages={"queue": 0.0004, "embed": 0.7, "predict": 0.012},
        )
    metrics.count_prefetch({"fetch": 0.1, "embed": 0.8})
    return metrics


@pytest.fixture
def errors(clock: Any) -> RecentErrors:
    return RecentErrors(clock)


@pytest.fixture
def show(errors: RecentErrors, clock: Any) -> Callable[..., Reader]:
    """Return a function that makes the page and reads it."""

    def show_page(
        readiness: State | None = None,
        metrics: Metrics | None = None,
        examination: Examination | None = None,
        *,
        is_refreshed: bool = True,
    ) -> Reader:
        page = StatusPage(readiness or State(), (metrics or full_metrics()).registry, errors, clock=clock)
        html = page.html(examination, page_url="/status", doctor_url="/status/doctor?word=a", is_refreshed=is_refreshed)
        return read(html)

    return show_page


def test_it_says_what_runs_where(show: Callable[..., Reader]) -> None:
    text = show().text

    assert "Readiness: ready The model is loaded, clicks are answered." in text
    assert "model nano@1 device cuda precision bf16 version 0.1.0" in text
    assert (
        "device memory, allocated 5,120 MiB device memory, reserved 6,144 MiB device memory, total 81,920 MiB" in text
    )


def test_it_says_what_the_tiers_the_queue_and_prefetch_do(show: Callable[..., Reader]) -> None:
    text = show().text

    assert "since the start device disk kept now 4 9 take 32 MiB 72 MiB may take 2,048 MiB 20,480 MiB" in text
    assert "hits 7 1 misses 3 2 evictions 1 0 skipped 0 0" in text
    assert "urgency now predict 3 embed 1 prefetch 0" in text
    assert "steps waiting now 2 steps done 5 steps refused 1 steps stale 0 steps dropped 0" in text
    assert "embeddings nobody has asked for yet 2 embeddings that somebody then asked for 6" in text


def test_it_says_how_long_clicks_and_each_stage_take(show: Callable[..., Reader]) -> None:
    shown = show()

    assert "new 3 483 ms 2.5 s" in shown.text
    assert "Clicks, by stage stage times mean 95 % within spread queue 3 0.4 ms 1 ms embed 3 700 ms 1 s" in shown.text
    assert "Pictures that were prefetched, by stage stage times mean 95 % within spread fetch 1 100 ms" in shown.text
    charts = [svg["aria-label"] for svg in shown.named("svg")]
    assert charts[0] == "new: 1 from 10 ms to 25 ms, 1 from 25 ms to 50 ms, 1 from 1 s to 2.5 s"


def test_it_lists_the_last_errors_with_their_fixed_texts(
    show: Callable[..., Reader], errors: RecentErrors, clock: Any
) -> None:
    for _ in range(3):
        errors.add(
            code="busy",
            reason="Server is busy, try again",
            method="POST",
            route="/predict",
            status=503,
            request_id="0123456789ab",
        )
    clock.now += 180

    text = show().text

    assert "Server is busy, try again busy POST /predict was answered 503, 3 times 3 min ago, 1970-01-01" in text
    assert "request 0123456789ab" in text


@pytest.mark.parametrize(
    ("state", "error", "told"),
    [
        (
            "loading",
            ModelLoadingError("sam2/hiera_small is being loaded"),
            "Readiness: loading Model is still loading sam2/hiera_small is being loaded What to do: Wait until",
        ),
        (
            "failed",
            ModelUnavailableError("/weights/sam2.1_hiera_small.pt is missing"),
            "see /ready and the log /weights/sam2.1_hiera_small.pt is missing What to do: ",
        ),
        ("failed", DeviceLostError(), "Readiness: failed GPU failed, the server is starting again What to do: "),
        ("withdrawn", BusyError("the server is shutting down"), "Readiness: withdrawn Server is busy, try again the"),
    ],
)
def test_it_says_why_no_click_is_answered_and_what_to_do(
    show: Callable[..., Reader], state: str, error: BackendError, told: str
) -> None:
    shown = show(State(state, error), Metrics())  # the parts have no figures yet

    assert told in shown.text
    assert "clicks are answered" not in shown.text


def test_it_is_loaded_again_soon_while_something_is_under_way(show: Callable[..., Reader]) -> None:
    def seconds(shown: Reader) -> list[str | None]:
        return [meta["content"] for meta in shown.named("meta") if meta.get("http-equiv") == "refresh"]

    assert seconds(show()) == ["10; url=/status"]
    assert seconds(show(State("loading", ModelLoadingError()))) == ["2; url=/status"]
    assert seconds(show(examination=Examination(began_at=1000))) == ["2; url=/status"]
    assert seconds(show(examination=Examination(began_at=1000, is_running=False))) == ["10; url=/status"]
    assert seconds(show(is_refreshed=False)) == []


def test_findings_stand_under_their_project_with_what_to_do(show: Callable[..., Reader], clock: Any) -> None:
    label_studio = ok("label-studio-url", "Label Studio answers at http://label-studio:8080")
    token = problem("token", "LABEL_STUDIO_API_KEY is not set.", "Make one.")
    clock.now += 20

    shown = show(examination=Examination(began_at=1000.0, findings=(label_studio, token), is_running=False))

    assert "Looked at 20 s ago" in shown.text
    assert "ok label-studio-url Label Studio answers at http://label-studio:8080" in shown.text
    assert "problem token LABEL_STUDIO_API_KEY is not set. What to do: Make one." in shown.text
    (button,) = shown.named("button")
    assert "disabled" not in button


def test_a_project_that_is_well_takes_one_line_and_one_that_is_not_is_open(show: Callable[..., Reader]) -> None:
    well = [ok("labels", "fine"), ok("picture", "fine"), skipped("mask", "None was made.")]
    unwell = [ok("labels", "fine"), problem("interactive", "They are off.", "Switch them on.")]
    findings = (*of_project(3, well), *of_project(7, unwell))

    shown = show(examination=Examination(began_at=1000.0, findings=findings, is_running=False))

    assert "Project 3: 1 skipped, 2 ok" in shown.text
    assert "Project 7: 1 problem, 1 ok" in shown.text
    assert [list(details) for details in shown.named("details")] == [[], ["open"]]


def test_while_one_looks_the_button_is_off(show: Callable[..., Reader]) -> None:
    shown = show(examination=Examination(began_at=1000.0))

    (button,) = shown.named("button")
    assert "disabled" in button
    assert "It goes on. Looking" in shown.text


def test_whatever_others_wrote_stays_text(show: Callable[..., Reader], errors: RecentErrors) -> None:
    findings = (ok("projects", f"7 is {HOSTILE}"), problem("token", HOSTILE, HOSTILE))
    errors.add(code="x", reason=HOSTILE, method="POST", route=HOSTILE, status=500, request_id="a")

    shown = show(
        State("failed", ModelUnavailableError(HOSTILE)),
        full_metrics(model=HOSTILE),
        Examination(began_at=1000.0, findings=findings),
    )

    assert shown.named("script") == shown.named("img") == []
    assert shown.text.count("<script>alert(1)</script>") == 7


def test_no_secret_that_a_detail_or_a_finding_carries_is_shown(show: Callable[..., Reader]) -> None:
    signed = "https://bucket.example/cat.png?X-Amz-Signature=5ecret"
    shown = show(
        State("failed", ModelUnavailableError(f"no weights at {signed}, token={'b2' * 20}")),
        examination=Examination(began_at=1000.0, findings=(ok("picture", f"{signed} with Token {'a1' * 20}"),)),
    )

    assert "bucket.example/cat.png" in shown.text
    assert not any(secret in shown.text for secret in ("5ecret", "a1a1", "b2b2"))


def test_a_reader_that_sees_nothing_finds_its_way(show: Callable[..., Reader], errors: RecentErrors) -> None:
    errors.add(code="busy", reason="Server is busy", method="POST", route="/predict", status=503, request_id="a")
    shown = show(examination=Examination(began_at=1000.0, findings=(ok("token", "fine"),)))

    order = [tag for tag, _ in shown.tags]
    assert shown.named("html") == [{"lang": "en"}]
    assert order.count("h1") == order.count("main") == 1
    assert order.count("table") == order.count("caption") >= 6
    ids = {attributes["id"] for tag, attributes in shown.tags if tag == "h2"}
    assert {section["aria-labelledby"] for section in shown.named("section")} == ids
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in shown.named("svg"))
    assert all(meter["aria-label"] for meter in shown.named("meter"))
    assert all(head["scope"] in {"row", "col"} for head in shown.named("th"))


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`, as WCAG 2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_that_is_written_in_can_be_read_in_light_and_in_dark() -> None:
    style = files("labelstudio_sam2.status").joinpath("templates/status.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root {(.*?)}", style, re.DOTALL)
    )

    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for written in ("text", "faint", "accent", "ok", "warning", "problem"):
            for under in ("paper", "ground"):
                low, high = sorted((luminance(colours[written]), luminance(colours[under])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (written, under)


def test_the_policy_allows_the_pages_own_style_and_nothing_from_elsewhere(clock: Any) -> None:
    page = StatusPage(State(), full_metrics().registry, RecentErrors(clock), clock=clock)
    html = page.html(None, page_url="/status", doctor_url="/status/doctor?word=a")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)

    sha256 = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    directives = dict(part.split(" ", 1) for part in page.content_security_policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == f"'sha256-{sha256}'"
    assert "script-src" not in directives
    assert "style=" not in html
    assert not re.search(r"https?://|//[a-z]|@import|url\(", html)
