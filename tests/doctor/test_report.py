"""How findings look on a terminal and to programs."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from labelstudio_sam2.doctor.findings import Finding, ok, problem, skipped, warning
from labelstudio_sam2.doctor.report import findings_json, print_findings

FINDINGS = [
    replace(ok("label-studio-url", "Label Studio answers"), seconds=0.26),
    replace(problem("labels", "No answer tag has the label 'Dog'.", "Give both tags the same labels."), project=7),
    replace(warning("smart-brush", "It sends nothing.", "Add smart=false."), project=7, seconds=0.04),
    replace(skipped("mask", "There is no picture."), project=7),
]


def printed(findings: list[Finding], *, encoding: str = "utf-8", width: int = 100, terminal: bool = False) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as file:
        print_findings(findings, Console(file=file, width=width, force_terminal=terminal, highlight=False))
        return raw.getvalue().decode(encoding)


def test_each_finding_is_a_line_with_its_advice_under_it() -> None:
    assert printed(FINDINGS).splitlines() == [
        "  ✓ label-studio-url       Label Studio answers  0.3 s",
        "",
        "Project 7",
        "  ✗ labels                 No answer tag has the label 'Dog'.",
        "                           -> Give both tags the same labels.",
        "  ! smart-brush            It sends nothing.",
        "                           -> Add smart=false.",
        "  - mask                   There is no picture.",
        "",
        "1 problem, 1 warning, 1 skipped, 1 ok, in 0.3 s",
    ]


def test_long_texts_go_on_in_their_column() -> None:
    lines = printed([problem("labels", "word " * 30, "advice " * 30)], width=80).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[1].startswith(" " * 27 + "word")
    assert lines[4].startswith(" " * 30 + "advice")


def test_a_terminal_without_such_signs_gets_plain_ones() -> None:
    lines = printed(FINDINGS, encoding="ascii").splitlines()

    assert [line[2] for line in lines if line[2:4].endswith(" ") and line[4:5].strip()] == ["+", "x", "!", "-"]


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m✓" in printed(FINDINGS, terminal=True)
    assert "\x1b" not in printed(FINDINGS)

    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed(FINDINGS, terminal=True)


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    assert "'[red]'" in printed([ok("labels", "the label '[red]'")])


def test_programs_get_json() -> None:
    report = json.loads(findings_json(FINDINGS))

    assert report["outcome"] == "problem"
    assert report["findings"][1] == {
        "name": "labels",
        "outcome": "problem",
        "text": "No answer tag has the label 'Dog'.",
        "advice": "Give both tags the same labels.",
        "seconds": 0.0,
        "project": 7,
    }
