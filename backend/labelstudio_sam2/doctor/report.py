"""Findings on a terminal, a line each with its advice under it, and as JSON."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from labelstudio_sam2.doctor.findings import OUTCOMES, Finding, Outcome, worst

_MARKS: dict[Outcome, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "bold red"),
    "skipped": ("-", "dim"),
}
_PLAIN_MARKS: dict[Outcome, str] = {"ok": "+", "warning": "!", "problem": "x", "skipped": "-"}
_NAME_WIDTH = 22
_MIN_WIDTH = 70
_TOO_FAST = 0.05
"""Seconds that would be shown as 0.0."""


def print_findings(findings: Iterable[Finding], console: Console) -> list[Finding]:
    """Print each finding as it comes, then how many there are of each outcome. Returns them."""
    shown: list[Finding] = []
    project = None
    for finding in findings:
        if finding.project != project:
            project = finding.project
            console.print(Text(f"\nProject {project}", style="bold"))
        for line in _lines(finding, console):
            console.print(line, soft_wrap=True)
        shown.append(finding)
    console.print(Text(f"\n{_summary(shown)}"), soft_wrap=True)
    return shown


def findings_json(findings: Sequence[Finding]) -> str:
    """Return findings as JSON: the worst outcome, and all of them in their order."""
    report = {"outcome": worst(findings), "findings": [finding.as_json() for finding in findings]}
    return json.dumps(report, indent=2, ensure_ascii=False)


def _lines(finding: Finding, console: Console) -> Iterator[Text]:
    mark, style = _MARKS[finding.outcome]
    if not _can_show(mark, console):
        mark = _PLAIN_MARKS[finding.outcome]
    indent = len(f"  {mark} {'':<{_NAME_WIDTH}} ")
    width = max(console.width, _MIN_WIDTH) - indent
    time = f"  {finding.seconds:.1f} s" if finding.seconds >= _TOO_FAST else ""
    first, *rest = textwrap.wrap(finding.text + time, width, break_long_words=False, break_on_hyphens=False)
    yield Text.assemble("  ", (mark, style), " ", (f"{finding.name:<{_NAME_WIDTH}} ", "bold"), first)
    for line in rest:
        yield Text(" " * indent + line)
    advice = textwrap.wrap(finding.advice, width - 3, break_long_words=False, break_on_hyphens=False)
    for index, line in enumerate(advice):
        yield Text(" " * indent + ("-> " if index == 0 else "   ") + line, style="cyan")


def _summary(findings: Sequence[Finding]) -> str:
    counts = {outcome: sum(finding.outcome == outcome for finding in findings) for outcome in reversed(OUTCOMES)}
    names = {"ok": ("ok", "ok"), "warning": ("warning", "warnings"), "skipped": ("skipped", "skipped")}
    parts = [
        f"{count} {names.get(outcome, (outcome, f'{outcome}s'))[count != 1]}"
        for outcome, count in counts.items()
        if count
    ]
    seconds = sum(finding.seconds for finding in findings)
    return f"{', '.join(parts)}, in {seconds:.1f} s"


def _can_show(mark: str, console: Console) -> bool:
    try:
        mark.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
