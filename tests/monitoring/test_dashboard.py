"""The dashboard asks for what the backend tells, and can be read."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, list[dict[str, str]]]
OF_PROMETHEUS: Samples = {
    "up": [{}],
    "ALERTS": [{"alertname": "Sam2Down", "alertstate": "firing", "severity": "critical"}],
}
OF_A_GPU: Samples = {
    "labelstudio_sam2_device_memory_bytes": [{"kind": kind} for kind in ("allocated", "reserved", "total")]
}
"""What a CPU has not; tests/ops and docs/monitoring.md have it."""
HAPPENS_NOT_HERE = {'error="internal"', 'error="device_lost"', 'code=~"5.."'}
"""Matchers of what goes wrong; tests/reliability makes it happen."""
SELECTOR = re.compile(r"\b((?:labelstudio_sam2|process)_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"([^"]*)"')


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any], alerts: dict[str, dict[str, Any]]) -> Iterator[str]:
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        yield from re.findall(r"label_values\((.*), \w+\)", variable.get("definition", ""))
    yield from (rule["expr"] for rule in alerts.values())


@pytest.fixture(scope="module")
def told(exposition: str) -> Samples:
    """The labels of every sample of the backend's, as Prometheus keeps them."""
    samples: Samples = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    target = {"job": "labelstudio-sam2", "instance": "sam2-backend:9090"}
    everything = samples | OF_A_GPU | OF_PROMETHEUS
    return {name: [labels | target for labels in each] for name, each in everything.items()}


def test_every_metric_and_label_that_is_asked_for_is_told(
    dashboard: dict[str, Any], alerts: dict[str, dict[str, Any]], told: Samples
) -> None:
    asked = [found for each in expressions(dashboard, alerts) for found in SELECTOR.findall(each)]

    assert len(asked) > 60
    assert {name for name, _ in asked} - told.keys() == set()
    for name, braces in asked:
        matchers = MATCHER.findall(braces)
        assert re.sub(r"[,\s]", "", MATCHER.sub("", braces)) == "", braces
        kept = told[name]
        for label, operator, value in matchers:
            assert all(label in labels for labels in kept), f"{name} has no {label}"
            if f'{label}{operator}"{value}"' not in HAPPENS_NOT_HERE:
                kept = [labels for labels in kept if matches(labels[label], operator, value)]
        assert kept, f"nothing is {name}{{{braces}}}"


def matches(found: str, operator: str, wanted: str) -> bool:
    if wanted == "$instance":
        return True
    equal = re.fullmatch(wanted, found) is not None if "~" in operator else found == wanted
    return equal is not operator.startswith("!")


def test_every_label_that_is_grouped_by_is_told(
    dashboard: dict[str, Any], alerts: dict[str, dict[str, Any]], told: Samples
) -> None:
    for each in expressions(dashboard, alerts):
        names = {name for name, _ in SELECTOR.findall(each)}
        labels = {label for name in names for sample in told[name] for label in sample}
        grouped = re.findall(r"\b(?:by|on|ignoring) ?\(([^)]*)\)", each)
        assert {label.strip() for group in grouped for label in group.split(",")} - {""} <= labels, each


def test_every_panel_says_what_it_shows_in_which_unit(dashboard: dict[str, Any]) -> None:
    shown = panels(dashboard)

    assert len({panel["title"] for panel in shown}) > 20
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert "unit" in defaults or panel["type"] == "table", panel["title"]
        assert "thresholds" in defaults or panel["type"] == "timeseries", panel["title"]
        series = panel["type"] == "timeseries"
        assert all(bool(target["legendFormat"]) is series for target in panel["targets"]), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == sorted(set(refs)), panel["title"]


def test_panels_fill_the_grid_and_none_hides_another(dashboard: dict[str, Any]) -> None:
    cells: list[tuple[int, int]] = []
    for panel in dashboard["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        cells += itertools.product(range(x, x + w), range(y, y + h))

    assert len(cells) == len(set(cells))
    height = max(y for _, y in cells) + 1
    assert set(cells) == set(itertools.product(range(24), range(height)))


def test_every_query_is_of_the_chosen_prometheus_and_the_chosen_backends(dashboard: dict[str, Any]) -> None:
    names = [variable["name"] for variable in dashboard["templating"]["list"]]

    assert names == ["datasource", "instance"]
    for panel in panels(dashboard):
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            selectors = SELECTOR.findall(target["expr"])
            assert selectors, panel["title"]
            assert all('instance=~"$instance"' in braces for _, braces in selectors), target["expr"]
