"""/metrics of the application as it is served, on nano."""

import base64
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from labelstudio_sam2.app import build_app
from labelstudio_sam2.ops.metrics import Metrics
from labelstudio_sam2.settings import load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"
PATH = "/data/upload/6/1d637b21-t1.png"
Make: TypeAlias = Callable[..., FlaskClient]
Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def make(picture_server: Any, disc_and_box: Any, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes the application and waits until its model is loaded; settings go in by name."""
    for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "EMBEDDING_DISK_DIR"):
        monkeypatch.delenv(name, raising=False)
    picture_server.files[PATH] = disc_and_box.png()

    def make(**settings: object) -> FlaskClient:
        defaults = {"model": "nano", "device": "cpu", "label_studio_url": picture_server.url, "prefetch_mb": 0}
        client = build_app(load_settings(**{**defaults, **settings})).test_client()
        while client.get("/ready").get_json().get("error") == "loading":
            time.sleep(0.01)
        return client

    return make


@pytest.fixture
def click(recorded: Callable[[str], Any]) -> dict[str, Any]:
    body: dict[str, Any] = recorded("kp1_positive")
    return body


def samples(client: FlaskClient, **headers: str) -> Samples:
    response = client.get("/metrics", headers=headers)
    assert (response.status, response.mimetype) == ("200 OK", "text/plain")
    return {
        (sample.name.removeprefix("labelstudio_sam2_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def stage_counts(found: Samples, work: str) -> dict[str, float]:
    """Return how often each stage was observed for one kind of work."""
    counts = {dict(labels)["stage"]: count for (name, labels), count in found.items() if name == "stage_seconds_count"}
    return {stage: count for stage in counts if (count := value(found, "stage_seconds_count", stage=stage, work=work))}


def test_the_first_click_on_a_picture_goes_through_every_stage_once_and_the_second_through_the_last_ones(
    make: Make, click: dict[str, Any]
) -> None:
    client = make()

    assert client.post("/predict", json=click).status_code == 200
    first = samples(client)
    assert client.post("/predict", json=click).status_code == 200
    second = samples(client)

    assert stage_counts(first, "click") == {"fetch": 1, "decode": 1, "queue": 1, "embed": 1, "predict": 1, "encode": 1}
    assert stage_counts(second, "click") == {
        "fetch": 1,
        "decode": 1,
        "queue": 2,
        "embed": 1,
        "predict": 2,
        "encode": 2,
    }
    by_tier = {
        name: (value(first, f"embedding_{name}", tier="device"), value(second, f"embedding_{name}", tier="device"))
        for name in ("hits_total", "misses_total", "entries", "evictions_total")
    }
    assert by_tier == {"hits_total": (0, 1), "misses_total": (1, 1), "entries": (1, 1), "evictions_total": (0, 0)}
    assert 0 < value(second, "embedding_bytes", tier="device") < value(second, "embedding_max_bytes", tier="device")
    answered = {"route": "/predict", "method": "POST", "code": "200", "error": ""}
    assert (value(first, "requests_total", **answered), value(second, "requests_total", **answered)) == (1, 2)
    assert value(second, "request_seconds_count", route="/predict") == 2
    assert value(second, "click_seconds_count", embedding="new") == 1
    assert value(second, "click_seconds_count", embedding="cached") == 1


def test_the_stages_together_take_no_longer_than_the_request(
    make: Make, click: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    caplog.set_level(logging.INFO, "labelstudio_sam2.ops.requests")

    for _ in range(3):
        client.post("/predict", json=click)

    found = samples(client)
    in_stages = sum(seconds for (name, _), seconds in found.items() if name == "stage_seconds_sum")
    assert 0 < in_stages <= value(found, "request_seconds_sum", route="/predict")
    for record in caplog.records:
        told: Any = record
        assert sum(told.stages_ms.values()) <= told.ms + 0.5  # each is rounded
    assert list(caplog.records[0].__dict__["stages_ms"]) == ["fetch", "queue", "decode", "embed", "predict", "encode"]


def test_a_prefetch_is_no_click_and_the_click_that_follows_finds_what_it_left(
    make: Make, click: dict[str, Any], until: Callable[[Callable[[], object]], None]
) -> None:
    client = make(prefetch_mb=64)

    client.post("/predict", json={**click, "params": {"context": None}})  # a task is opened
    until(lambda: value(samples(client), "prefetch_steps_total", outcome="done") == 1)
    before = samples(client)
    client.post("/predict", json=click)
    after = samples(client)

    assert stage_counts(before, "prefetch") == {"fetch": 1, "decode": 1, "queue": 1, "embed": 1}
    assert stage_counts(before, "click") == {}
    assert stage_counts(before, "open") == {"encode": 1}  # of an empty answer
    assert value(before, "embedding_misses_total", tier="device") == 0
    assert (value(before, "prefetched_embeddings"), value(after, "prefetched_embeddings")) == (1, 0)
    assert value(after, "prefetched_embeddings_used_total") == 1
    assert value(after, "click_seconds_count", embedding="cached") == 1
    assert stage_counts(after, "click") == {"queue": 1, "predict": 1, "encode": 1}
    assert value(after, "prefetch_waiting") == 0


def test_what_the_disk_tier_has_is_read_and_not_embedded(
    make: Make, click: dict[str, Any], tmp_path: Any, until: Callable[[Callable[[], object]], None]
) -> None:
    before = make(embedding_disk_dir=tmp_path)
    before.post("/predict", json=click)
    until(lambda: value(samples(before), "embedding_entries", tier="disk") == 1)

    after = make(embedding_disk_dir=tmp_path)
    after.post("/predict", json=click)

    found = samples(after)
    assert stage_counts(samples(before), "click").keys() == {
        "fetch",
        "decode",
        "wait",
        "read",
        "queue",
        "embed",
        "predict",
        "encode",
    }
    assert stage_counts(found, "click") == {"fetch": 1, "read": 1, "queue": 1, "predict": 1, "encode": 1}
    assert value(found, "embedding_hits_total", tier="disk") == 1
    assert value(found, "click_seconds_count", embedding="new") == 1
    until(lambda: value(samples(after), "embedding_bytes", tier="disk") > 1000)


def test_the_sam_2_api_is_counted_apart_from_clicks(make: Make, disc_and_box: Any) -> None:
    client = make()
    picture = {"type": "base64", "value": base64.b64encode(disc_and_box.png()).decode()}

    client.post("/sam2/embed_image", json={"image": picture})
    client.post("/sam2/segment_image", json={"image": picture, "prompts": []})

    found = samples(client)
    assert stage_counts(found, "api") == {"decode": 1, "queue": 2, "embed": 1, "predict": 1, "encode": 1}
    assert stage_counts(found, "click") == {}
    assert value(found, "request_seconds_count", route="/sam2/segment_image") == 1


def test_errors_are_counted_by_the_catalogues_code(make: Make, click: dict[str, Any]) -> None:
    client = make()

    client.post("/predict", data=b"{")
    click["tasks"][0]["data"]["image"] = "/data/upload/6/is-not-there.png"
    for _ in range(2):
        client.post("/predict", json=click)
    client.get("/predict")
    client.get("/nothing")

    found = samples(client)
    counted = {
        (labels["route"], labels["code"], labels["error"]): count
        for (name, pairs), count in found.items()
        if name == "requests_total" and (labels := dict(pairs))["error"] not in {"", "loading"}
    }
    assert counted == {
        ("/predict", "400", "bad_json"): 1,
        ("/predict", "502", "image_unavailable"): 2,
        ("other", "405", "method_not_allowed"): 1,
        ("other", "404", "not_found"): 1,
    }
    assert value(found, "click_seconds_count", embedding="new") == 0


def odd_requests(count: int, salt: str) -> Iterator[tuple[str, str]]:
    methods = ["GET", "POST", "PUT", "BREW", "OPTIONS", salt.upper()]
    paths = ["/predict/{}", "/{}", "/sam2/{}/x", "/%ff{}", "/\u6f22{}", "/metrics{}", "/ready?x={}", "/predict"]
    for index in range(count):
        yield methods[index % len(methods)], paths[index % len(paths)].format(f"{salt}{index}")


def test_whatever_is_asked_for_the_series_stay_few(make: Make) -> None:
    client = make()
    for method, path in odd_requests(200, "one"):
        client.open(path, method=method)
    samples(client)  # counts itself when it is answered
    before = samples(client).keys()

    for method, path in odd_requests(200, "two"):
        client.open(path, method=method)

    after = samples(client).keys()
    assert after == before
    assert len(after) < 250
    assert {dict(labels)["method"] for name, labels in after if name == "requests_total"} <= {
        "GET",
        "POST",
        "OPTIONS",
        "other",
    }


def test_every_metric_says_what_it_is_and_nothing_is_named_twice(make: Make, click: dict[str, Any]) -> None:
    client = make(prefetch_mb=64)
    client.post("/predict", json=click)

    text = client.get("/metrics").text

    helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    types = re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.MULTILINE)
    assert [name for name, _ in helps] == [name for name, _ in types]
    assert len(helps) == len(set(helps)) > 20
    families = list(text_string_to_metric_families(text))
    assert len(families) == len(helps)
    assert all(family.documentation and family.type != "unknown" for family in families)
    assert all(family.name.startswith(("labelstudio_sam2_", "process_")) for family in families)
    assert not any(sample.name.endswith("_created") for family in families for sample in family.samples)


def test_every_metric_is_in_the_documents_table_and_no_other(make: Make) -> None:
    client = make(prefetch_mb=64)
    families = text_string_to_metric_families(client.get("/metrics").text)
    served = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}

    told = set(re.findall(r"^\| `(labelstudio_sam2_\w+)", DOCUMENT.read_text(), re.MULTILINE))

    assert told == {name for name in served if name.startswith("labelstudio_sam2_")}


def test_nothing_secret_and_no_picture_is_in_it(make: Make, click: dict[str, Any], picture_server: Any) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(b"sam:hunter2").decode()}
    client = make(basic_auth_user="sam", basic_auth_pass="hunter2", label_studio_api_key="a" * 40)
    client.post("/predict", json=click, headers=headers)
    client.post("/predict?sig=5ignature", data=b"{", headers=headers)

    text = client.get("/metrics", headers=headers).text

    assert 'route="/predict"' in text
    assert not any(secret in text for secret in ("hunter2", "a" * 40, "5ignature", "t1.png", picture_server.url))


def test_with_basic_auth_set_only_who_has_it_sees_the_metrics(make: Make) -> None:
    client = make(basic_auth_user="sam", basic_auth_pass="hunter2")

    stranger = client.get("/metrics")

    assert (stranger.status_code, stranger.get_json()["error"]) == (401, "unauthorized")
    found = samples(client, Authorization="Basic " + base64.b64encode(b"sam:hunter2").decode())
    refused = {"route": "/metrics", "method": "GET", "code": "401", "error": "unauthorized"}
    assert value(found, "requests_total", **refused) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_metrics_can_only_be_read(make: Make, method: str) -> None:
    assert make().open("/metrics", method=method).status_code == 405


def test_metrics_tell_what_is_served_and_of_the_process(make: Make) -> None:
    found = samples(make())

    (build,) = [dict(labels) for name, labels in found if name == "build_info"]
    assert build["model"].startswith("nano")
    assert re.fullmatch(r"\d+\.\d+\.\d+", build["version"])
    assert value(found, "model_ready") == 1
    assert value(found, "process_resident_memory_bytes") > 10_000_000
    assert {dict(labels)["urgency"] for name, labels in found if name == "device_waiting"} == {
        "predict",
        "embed",
        "prefetch",
    }


def test_two_applications_in_one_process_count_apart(make: Make, click: dict[str, Any]) -> None:
    one, other = make(), make()

    one.post("/predict", json=click)

    assert value(samples(one), "click_seconds_count", embedding="new") == 1
    assert value(samples(other), "click_seconds_count", embedding="new") == 0


@pytest.mark.parametrize(
    ("work", "status", "stages", "embedding"),
    [
        ("click", 200, ["queue", "predict"], "cached"),
        ("click", 200, ["read", "predict"], "new"),
        ("click", 200, ["wait", "predict"], "new"),
        ("click", 200, ["fetch", "encode"], None),  # only negative clicks: the model was not asked
        ("click", 503, ["predict"], None),
        ("api", 200, ["predict"], None),
    ],
)
def test_a_click_is_what_the_model_was_asked_for_and_answered(
    work: str, status: int, stages: list[Any], embedding: str | None
) -> None:
    metrics = Metrics()

    metrics.count_request(
        route="/predict",
        method="POST",
        status=status,
        error="",
        work=work,
        seconds=0.5,
        stages=dict.fromkeys(stages, 0.1),
    )

    seconds = {
        name: metrics.registry.get_sample_value("labelstudio_sam2_click_seconds_sum", {"embedding": name})
        for name in ("cached", "new")
    }
    assert seconds == {"cached": None, "new": None, **({} if embedding is None else {embedding: 0.5})}


def test_figures_can_be_read_in_this_process_too() -> None:
    metrics = Metrics()

    metrics.count_prefetch({"embed": 0.3})

    labels = {"stage": "embed", "work": "prefetch"}
    assert metrics.registry.get_sample_value("labelstudio_sam2_stage_seconds_sum", labels) == 0.3
