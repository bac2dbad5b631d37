"""The load test, for some seconds: `make soak` runs it for minutes."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
from benchmarks.clicks import click_body
from benchmarks.pictures import PictureFile
from benchmarks.soak.__main__ import app, parts_of_time
from benchmarks.soak.annotators import Memory, Soak, Step
from benchmarks.soak.report import Report
from benchmarks.soak.traffic import Question, Traffic
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
    steps = changes.pop("steps", None) or [Step(annotators=4, seconds=10, asked=4000, waits=[0.01], **changes)]
    return Report(
        steps=steps, memory=memory, workers=1, machine="one", date="2026-11-24", command="soak", think_seconds=1
    )


def a_mask() -> npt.NDArray[np.bool_]:
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:35] = True
    return mask


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
    mask = a_mask()
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


def report_on(answers: Iterable[bytes], growth_mib: float) -> Report:
    """Let eight annotators ask a server that answers this, and grows by so much each time it is looked at."""
    picture = PictureFile("a.png", (40, 30))
    right = Question(
        kind="first click", body=click_body(picture, (50, 50)), size_wh=(40, 30), right_answer=answer_of(a_mask())
    )
    given = iter(answers)
    server = Mock(ask=lambda _body: (200, next(given)))
    server.resident_mib.side_effect = itertools.count(600.0, growth_mib)
    soak = Soak(server, Traffic([[right]], [right]), bad_share=1, think_seconds=0, sample_seconds=0.01)
    soak.work(8, 3.0)
    return a_report(steps=soak.steps, memory=soak.memory)


def test_a_server_that_grows_is_told_from_one_that_does_not() -> None:
    right = itertools.repeat(answer_of(a_mask()))

    leaking, steady = report_on(right, growth_mib=0.5), report_on(right, growth_mib=0)

    assert [text.partition(" by ")[0] for text in leaking.broken_promises()] == ["memory grew"]
    assert steady.broken_promises() == []


def test_one_wrong_mask_among_thousands_is_found() -> None:
    other = a_mask()
    other[5, 5] = False

    report = report_on(
        itertools.chain([answer_of(a_mask())] * 300, [answer_of(other)], itertools.repeat(answer_of(a_mask()))),
        growth_mib=0,
    )

    assert report.broken_promises() == ["answers were not the expected ones: first click 1"]


@pytest.mark.parametrize(("steps", "parts"), [(1, [1.0]), (2, [0.5, 0.5]), (3, [0.25, 0.25, 0.5])])
def test_half_of_the_time_is_for_the_most_annotators(steps: int, parts: list[float]) -> None:
    assert parts_of_time(steps) == parts
