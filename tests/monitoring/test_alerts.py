"""Every alert fires when it should, with words somebody can act on, and rests when it should not: promtool says so."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "prometheus" / "alerts.yml"
DOCUMENT = ROOT / "docs" / "monitoring.md"
BACKEND = 'job="labelstudio-sam2",instance="sam2-backend:9090"'
INSTANCE = {"instance": "sam2-backend:9090"}
TARGET = INSTANCE | {"job": "labelstudio-sam2"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What happens, a sample a minute, and what is said.

    Attributes:
        alert: Its name.
        series: Values as promtool writes them, by the metric without its prefix and with its own labels.
        minute: When it is looked at.
        labels: Of the alert beside its severity.
        summary: What it says; nothing where it must rest.
    """

    alert: str
    series: dict[str, str]
    minute: int
    labels: dict[str, str] = field(default_factory=lambda: INSTANCE)
    summary: str = ""


CLICKS_OF_TWO_SECONDS = {
    'click_seconds_bucket{embedding="cached",le="1"}': "0+1x60",
    'click_seconds_bucket{embedding="cached",le="2.5"}': "0+10x60",
    'click_seconds_bucket{embedding="cached",le="+Inf"}': "0+10x60",
    'click_seconds_count{embedding="cached"}': "0+10x60",
}
FIRES = [
    Case(
        alert="Sam2Down",
        series={"up": "1x4 0x10"},
        minute=7,
        labels=TARGET,
        summary="No figures come from sam2-backend:9090",
    ),
    Case(
        alert="Sam2NotReady",
        series={"model_ready": "0x10"},
        minute=5,
        labels=TARGET,
        summary="sam2-backend:9090 answers no clicks",
    ),
    Case(
        alert="Sam2DeviceLost",
        series={'requests_total{route="/predict",code="503",error="device_lost"}': "_ _ _ 1 2 _x20"},
        minute=10,
        summary="The GPU of sam2-backend:9090 has failed",
    ),
    Case(
        alert="Sam2Restarts",
        series={"process_start_time_seconds": "100x3 200x3 300x3 400x10"},
        minute=15,
        labels=TARGET,
        summary="sam2-backend:9090 started 3 times in half an hour",
    ),
    Case(
        alert="Sam2ServerErrors",
        series={
            'requests_total{route="/predict",code="200",error=""}': "0+9x30",
            'requests_total{route="/predict",code="502",error="image_unavailable"}': "0+1x30",
        },
        minute=12,
        summary="10% of the clicks on sam2-backend:9090 fail",
    ),
    Case(
        alert="Sam2Bug",
        series={'requests_total{route="/predict",code="500",error="internal"}': "_x4 1x30"},
        minute=7,
        summary="A request to sam2-backend:9090 met a bug",
    ),
    Case(
        alert="Sam2ClicksSlow",
        series=CLICKS_OF_TWO_SECONDS,
        minute=30,
        summary="One click in twenty takes longer than 2.417s on sam2-backend:9090",
    ),
    Case(
        alert="Sam2FirstClicksSlow",
        series={
            'click_seconds_bucket{embedding="new",le="10"}': "0+1x60",
            'click_seconds_bucket{embedding="new",le="30"}': "0+10x60",
            'click_seconds_bucket{embedding="new",le="+Inf"}': "0+10x60",
            'click_seconds_count{embedding="new"}': "0+10x60",
        },
        minute=30,
        summary="One first click in twenty takes longer than 28.89s on sam2-backend:9090",
    ),
    Case(
        alert="Sam2Queue",
        series={
            'device_waiting{urgency="predict"}': "5x20",
            'device_waiting{urgency="embed"}': "1x20",
            'device_waiting{urgency="prefetch"}': "9x20",
        },
        minute=12,
        summary="6 requests wait for the device of sam2-backend:9090 all the time",
    ),
    Case(
        alert="Sam2DiskTierFails",
        series={'embedding_skipped_total{tier="disk"}': "0x5 1x20"},
        minute=10,
        labels=TARGET | {"tier": "disk"},
        summary="sam2-backend:9090 cannot keep embeddings on disk",
    ),
    Case(
        alert="Sam2DiskTierFull",
        series={
            'embedding_bytes{tier="disk"}': "96x120",
            'embedding_max_bytes{tier="disk"}': "100x120",
            'embedding_evictions_total{tier="disk"}': "0+1x120",
        },
        minute=60,
        labels=TARGET | {"tier": "disk"},
        summary="The disk tier of sam2-backend:9090 is full, old embeddings go",
    ),
    Case(
        alert="Sam2DeviceTierTooSmall",
        series={
            'embedding_hits_total{tier="device"}': "0+4x120",
            'embedding_misses_total{tier="device"}': "0+6x120",
            'embedding_evictions_total{tier="device"}': "0+6x120",
        },
        minute=70,
        summary="60% of the clicks on sam2-backend:9090 do not find their picture's embedding",
    ),
    Case(
        alert="Sam2DeviceMemory",
        series={'device_memory_bytes{kind="reserved"}': "97x20", 'device_memory_bytes{kind="total"}': "100x20"},
        minute=12,
        labels=TARGET,
        summary="sam2-backend:9090 has taken 97% of its GPU's memory",
    ),
    Case(
        alert="Sam2Memory",
        series={
            "process_resident_memory_bytes": f"{10 * 2**30}x30",
            'embedding_max_bytes{tier="device"}': f"{2 * 2**30}x30",
        },
        minute=20,
        summary="sam2-backend:9090 takes 10GiB of memory",
    ),
    Case(
        alert="Sam2PrefetchRefused",
        series={
            'prefetch_steps_total{outcome="done"}': "0+1x60",
            'prefetch_steps_total{outcome="refused"}': "0+3x60",
        },
        minute=35,
        summary="sam2-backend:9090 cannot embed pictures ahead",
    ),
]
RESTS = {
    "a scrape that fails once": Case(alert="Sam2Down", series={"up": "1x4 0 1x10"}, minute=6),
    "a start that takes four minutes": Case(alert="Sam2NotReady", series={"model_ready": "0x4 1x10"}, minute=8),
    "a lost device of an hour ago": Case(
        alert="Sam2DeviceLost",
        series={'requests_total{route="/predict",code="503",error="device_lost"}': "1 2 _x90"},
        minute=60,
    ),
    "two starts": Case(alert="Sam2Restarts", series={"process_start_time_seconds": "100x3 200x3 300x10"}, minute=15),
    "errors of the annotator's": Case(
        alert="Sam2ServerErrors",
        series={
            'requests_total{route="/predict",code="200",error=""}': "0+9x30",
            'requests_total{route="/predict",code="422",error="bad_prompt"}': "0+9x30",
        },
        minute=12,
    ),
    "one error in a quiet hour": Case(
        alert="Sam2ServerErrors",
        series={
            'requests_total{route="/predict",code="200",error=""}': "0+1x30",
            'requests_total{route="/predict",code="502",error="image_unavailable"}': "0+1x30",
        },
        minute=12,
    ),
    "probes of a backend that loads": Case(
        alert="Sam2ServerErrors",
        series={
            'requests_total{route="/predict",code="200",error=""}': "0+9x30",
            'requests_total{route="/ready",code="503",error="loading"}': "0+9x30",
        },
        minute=12,
    ),
    "a bug of twenty minutes ago": Case(
        alert="Sam2Bug",
        series={'requests_total{route="/predict",code="500",error="internal"}': "_x4 1x60"},
        minute=25,
    ),
    "a handful of slow clicks": Case(
        alert="Sam2ClicksSlow",
        series={name: values.replace("+10x", "+1x") for name, values in CLICKS_OF_TWO_SECONDS.items()},
        minute=30,
    ),
    "first clicks of six seconds": Case(
        alert="Sam2FirstClicksSlow",
        series={
            'click_seconds_bucket{embedding="new",le="5"}': "0+1x60",
            'click_seconds_bucket{embedding="new",le="10"}': "0+10x60",
            'click_seconds_bucket{embedding="new",le="+Inf"}': "0+10x60",
            'click_seconds_count{embedding="new"}': "0+10x60",
        },
        minute=30,
    ),
    "what is too large for the device": Case(
        alert="Sam2DiskTierFails", series={'embedding_skipped_total{tier="device"}': "0x5 1x20"}, minute=10
    ),
    "a GPU that is half full": Case(
        alert="Sam2DeviceMemory",
        series={
            'device_memory_bytes{kind="allocated"}': "40x20",
            'device_memory_bytes{kind="reserved"}': "50x20",
            'device_memory_bytes{kind="total"}': "100x20",
        },
        minute=12,
    ),
    "pictures that are gone, now and then": Case(
        alert="Sam2PrefetchRefused",
        series={
            'prefetch_steps_total{outcome="done"}': "0+9x60",
            'prefetch_steps_total{outcome="refused"}': "0+1x60",
        },
        minute=35,
    ),
    "a queue of prefetch": Case(alert="Sam2Queue", series={'device_waiting{urgency="prefetch"}': "9x20"}, minute=12),
    "a full disk tier that serves": Case(
        alert="Sam2DiskTierFull",
        series={
            'embedding_bytes{tier="disk"}': "100x120",
            'embedding_max_bytes{tier="disk"}': "100x120",
            'embedding_evictions_total{tier="disk"}': "7x120",
        },
        minute=110,
    ),
    "new pictures all the time": Case(
        alert="Sam2DeviceTierTooSmall",
        series={
            'embedding_hits_total{tier="device"}': "0+4x120",
            'embedding_misses_total{tier="device"}': "0+6x120",
            'embedding_evictions_total{tier="device"}': "0x120",
        },
        minute=70,
    ),
    "a larger cache, and it is used": Case(
        alert="Sam2Memory",
        series={
            "process_resident_memory_bytes": f"{10 * 2**30}x30",
            'embedding_max_bytes{tier="device"}': f"{5 * 2**30}x30",
        },
        minute=20,
    ),
}


def named(series: str) -> str:
    """Return a series as Prometheus has it, of the one backend."""
    name, _, labels = series.rstrip("}").partition("{")
    prefix = "" if name == "up" or name.startswith("process_") else "labelstudio_sam2_"
    return f"{prefix}{name}{{{BACKEND}{',' + labels if labels else ''}}}"


def run(programs: Any, folder: Path, case: Case, expected: list[dict[str, Any]]) -> str:
    """Let promtool compare what an alert says with what is expected; return what differs."""
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": named(name), "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {"alertname": case.alert, "eval_time": f"{case.minute}m", "exp_alerts": expected},
                ],
            }
        ],
    }
    file = folder / "alerts_test.yml"
    file.write_text(yaml.safe_dump(test))
    done = programs.promtool("test", "rules", str(file))
    assert (done.returncode == 0) == ("SUCCESS" in done.stdout), done.stdout + done.stderr
    return "" if done.returncode == 0 else str(done.stdout + done.stderr)


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.alert)
def test_an_alert_fires_and_says_of_which_backend(
    programs: Any, alerts: dict[str, dict[str, Any]], tmp_path: Path, case: Case
) -> None:
    rule = alerts[case.alert]
    expected = {
        "exp_labels": case.labels | rule["labels"],
        "exp_annotations": rule["annotations"] | {"summary": case.summary},
    }

    assert run(programs, tmp_path, case, [expected]) == ""


@pytest.mark.parametrize("case", RESTS.values(), ids=RESTS.keys())
def test_an_alert_rests(programs: Any, tmp_path: Path, case: Case) -> None:
    assert run(programs, tmp_path, case, []) == ""


def test_no_alert_is_without_a_case(alerts: dict[str, dict[str, Any]]) -> None:
    assert [case.alert for case in FIRES] == list(alerts)
    assert {case.alert for case in RESTS.values()} == alerts.keys()


def test_every_alert_has_a_severity_and_says_what_to_do(alerts: dict[str, dict[str, Any]]) -> None:
    for rule in alerts.values():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert "{{" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80


def test_the_documents_table_has_every_alert_with_its_severity_and_no_other(
    alerts: dict[str, dict[str, Any]],
) -> None:
    told = re.findall(r"^\| `(Sam2\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)

    assert told == [(name, rule["labels"]["severity"]) for name, rule in alerts.items()]
