"""A real Prometheus takes the configuration, gets the figures with the credentials, and answers every query."""

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"
MAY_BE_EMPTY = {"labelstudio_sam2_device_memory_bytes", "ALERTS"}
"""A CPU has no memory of its own, and nothing is wrong."""


def test_promtool_accepts_the_configuration(programs: Any, tmp_path: Path) -> None:
    """As it is, but for a version that knows no `username_file`."""
    (tmp_path / "alerts.yml").write_text((MONITORING / "prometheus" / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(programs.config()))

    done = programs.promtool("check", "config", str(tmp_path / "prometheus.yml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"alerts.yml.*\s+SUCCESS: \d+ rules found", done.stdout)


def test_prometheus_gets_the_figures_with_the_credentials(prometheus: Any) -> None:
    (target,) = prometheus.ask("targets")["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"]["job"] == "labelstudio-sam2"
    assert prometheus.number('up{job="labelstudio-sam2"}') == 1


def test_without_the_credentials_the_backend_counts_as_down(
    backend: Any, start_prometheus: Callable[..., AbstractContextManager[Any]], until: Callable[..., None]
) -> None:
    with start_prometheus(backend.port) as stranger:
        until(lambda: stranger.number("up") == 0)

        (target,) = stranger.ask("targets")["activeTargets"]
        assert (target["health"], "401" in target["lastError"]) == ("down", True)


def test_a_backend_without_basic_auth_is_scraped_with_empty_credentials(
    start_backend: Callable[..., AbstractContextManager[Any]],
    start_prometheus: Callable[..., AbstractContextManager[Any]],
    until: Callable[..., None],
) -> None:
    with start_backend() as open_to_all:
        port = int(open_to_all.url.rpartition(":")[2])
        with start_prometheus(port, BASIC_AUTH_USER="", BASIC_AUTH_PASS="") as prometheus:
            until(lambda: prometheus.number("up") == 1)

            assert prometheus.number("labelstudio_sam2_model_ready") == 1


def test_every_query_of_the_dashboard_has_an_answer_with_the_labels_of_its_legend(
    prometheus: Any, dashboard: dict[str, Any]
) -> None:
    asked = 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            found = prometheus.query(expression)
            asked += 1

            if not any(name in expression for name in MAY_BE_EMPTY):
                values = [float(series["value"][1]) for series in found]
                assert any(math.isfinite(value) for value in values), (panel["title"], expression)
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert all(legend <= series["metric"].keys() for series in found), (panel["title"], found)
    assert asked > 25


def test_the_rates_of_what_was_done_are_above_zero(prometheus: Any, dashboard: dict[str, Any]) -> None:
    happened = {
        "Clicks a minute",
        "Click, p95",
        "Refused",
        "Hit rate, 1 h",
        "Device at work",
        "Mean click, by stage",
        "Click, p50 and p95",
        "p95 of each stage",
        "Hit rate by tier",
        "Prefetch a minute",
        "Errors by code",
        "Requests by route",
        "Memory",
    }
    tried = set()
    for panel in dashboard["panels"]:
        if panel["title"] in happened:
            tried.add(panel["title"])
            expression = panel["targets"][0]["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            assert max(float(series["value"][1]) for series in prometheus.query(expression)) > 0, panel["title"]

    assert tried == happened


def test_every_stage_error_and_outcome_of_the_work_is_shown(prometheus: Any, dashboard: dict[str, Any]) -> None:
    def shown(title: str, label: str) -> set[str]:
        (panel,) = [panel for panel in dashboard["panels"] if panel["title"] == title and panel["type"] == "timeseries"]
        expression = panel["targets"][0]["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        return {series["metric"][label] for series in prometheus.query(expression)}

    assert {"fetch", "decode", "queue", "embed", "predict", "encode"} <= shown("Mean click, by stage", "stage")
    assert shown("Errors by code", "error") == {"bad_json", "image_unavailable"}
    assert shown("Hit rate by tier", "tier") == {"device", "disk"}
    assert shown("Clicks a minute", "embedding") == {"cached", "new"}
    assert shown("Queue", "urgency") == {"predict", "embed", "prefetch"}
    assert shown("Prefetch a minute", "outcome") == {"done", "refused", "stale", "dropped"}


def test_every_query_of_the_document_is_answered(prometheus: Any, until: Callable[..., None]) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", (MONITORING.parent / "docs" / "monitoring.md").read_text(), re.DOTALL)

    queries = [query for block in blocks for query in block.strip().split("\n\n")]

    assert len(queries) == 6
    for query in queries:
        until(lambda query=query: prometheus.query(query))  # one looks every 15 seconds only


def test_the_choice_of_backends_lists_them(prometheus: Any, dashboard: dict[str, Any], backend: Any) -> None:
    (instance,) = [each for each in dashboard["templating"]["list"] if each["name"] == "instance"]
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", instance["definition"])
    assert found is not None

    listed = {series["metric"][found[2]] for series in prometheus.query(found[1])}

    assert listed == {f"127.0.0.1:{backend.port}"}
    assert instance["query"]["query"] == instance["definition"]


def test_every_alert_is_evaluated_and_none_fires_while_all_is_well(
    prometheus: Any, alerts: dict[str, dict[str, Any]], until: Callable[..., None]
) -> None:
    def rules() -> list[dict[str, Any]]:
        (group,) = prometheus.ask("rules")["groups"]
        found: list[dict[str, Any]] = group["rules"]
        return found

    until(lambda: all(rule["health"] != "unknown" for rule in rules()))

    assert {rule["name"] for rule in rules()} == alerts.keys()
    assert {rule["name"]: rule.get("lastError") for rule in rules() if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []
