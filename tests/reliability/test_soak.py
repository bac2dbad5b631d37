"""The load test, for some seconds: `make soak` runs it for minutes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.clicks import click_body
from benchmarks.pictures import PictureFile
from benchmarks.soak.__main__ import app
from benchmarks.soak.annotators import Memory, Step
from benchmarks.soak.report import Report
from benchmarks.soak.traffic import Question
from typer.testing import CliRunner

from labelstudio_sam2.labelstudio.brush_rle import encode_brush_rle


def test_mixed_traffic_gets_only_right_answers_and_those_of_the_catalogue(tmp_path: Path) -> None:
    page = tmp_path / "soak.md"
    arguments = ["--minutes", "0.3", "--annotators", "1,8", "--think-seconds", "0.2", "--bad", "0.1"]

    result = CliRunner().invoke(app, [*arguments, "--docs", str(page)], catch_exceptions=False)

    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "All promises held." in text
    assert "bad_json" in text
    assert [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")] == [
        "| annotators",
        "| --:",
        "| 1",
        "| 8",
    ]


def a_report(**changes: Any) -> Report:
    memory = changes.pop("memory", [Memory(requests, 600.0) for requests in range(0, 4000, 100)])
    step = Step(annotators=4, seconds=10, asked=4000, waits=[0.01], **changes)
    return Report(
        steps=[step], memory=memory, workers=1, machine="one", date="2026-11-24", command="soak", think_seconds=1
    )


@pytest.mark.parametrize(
    ("changes", "complaints"),
    [
        ({}, []),
        ({"refused": 5, "errors": Counter(busy=5, bad_json=3)}, []),
        ({"wrong": Counter({"first click": 1})}, ["answers were not the expected ones: first click 1"]),
        ({"errors": Counter(internal=2, busy=1)}, ["requests failed: internal 2"]),
        ({"errors": Counter(unanswered=1)}, ["requests failed: unanswered 1"]),
        (
            {"memory": [Memory(requests, 600 + requests / 250) for requests in range(0, 4000, 100)]},
            ["memory grew by 4.0 MiB for each 1,000 requests, at most 2 may be"],
        ),
        ({"memory": [Memory(requests, 600 + requests) for requests in range(0, 400, 100)]}, []),  # too few to say
    ],
)
def test_the_verdict_names_what_did_not_hold(changes: dict[str, Any], complaints: list[str]) -> None:
    assert a_report(**changes).broken_promises() == complaints


def answer_of(filled: Any) -> bytes:
    rle = encode_brush_rle(filled).tolist()
    region = {"type": "brushlabels", "value": {"rle": rle}}
    return json.dumps({"results": [{"result": [region]}]}).encode()


def test_another_mask_another_code_and_no_mask_are_wrong() -> None:
    picture = PictureFile("a.png", (40, 30))
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:35] = True
    good = Question(
        kind="first click", body=click_body(picture, (50, 50)), size_wh=(40, 30), right_answer=answer_of(mask)
    )
    bad = Question(kind="bad", body=b"{", size_wh=(40, 30), code="bad_json")
    other = mask.copy()
    other[5, 5] = False  # one pixel of 450

    assert good.is_right(200, answer_of(mask))
    assert not good.is_right(200, answer_of(other))
    assert not good.is_right(200, b'{"results": [{"result": []}]}')
    assert not good.is_right(503, b'{"error": "busy"}')
    assert bad.is_right(400, b'{"error": "bad_json"}')
    assert not bad.is_right(500, b'{"error": "internal"}')
    assert not bad.is_right(200, answer_of(mask))
