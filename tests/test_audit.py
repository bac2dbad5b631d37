"""The dependency audit: a hole fails, silence is said aloud and does not."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1"], "description": "long"}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with two packages on its stdin."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.stdin", io.StringIO("torch==2.14.1+cpu\nflask==3.1.3\n"))
    return module


def test_a_known_hole_fails(audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, list[str]]] = []

    def ask(service: str, requirements: list[str]) -> Any:
        asked.append((service, requirements))
        clean, skipped = {"name": "flask", "version": "3.1.3", "vulns": []}, {"name": "sam2", "skip_reason": "unknown"}
        return [clean, skipped, {"name": "torch", "version": "2.14.1", "vulns": [HOLE]}]

    monkeypatch.setattr(audit, "ask", ask)

    assert audit.main() == 1
    assert asked == [("pypi", ["flask==3.1.3", "torch==2.14.1"])]
    said = capsys.readouterr().out
    assert "torch 2.14.1: PYSEC-1 CVE-2026-1, mended in 1.1" in said
    assert "NOT AUDITED, not known to the service: sam2" in said


def test_without_a_hole_it_succeeds(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ask", lambda *_: [{"name": "flask", "version": "3.1.3", "vulns": []}])

    assert audit.main() == 0


def test_where_no_service_answers_it_says_so_and_does_not_fail(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "ask", lambda service, _: f"{service} is out")

    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("NOT AUDITED: no advisory service answered for any of 2 packages")


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ('{"dependencies": [{"name": "flask", "skip_reason": "not found"}]}', "not found"),  # and no hole, it says
        ('{"dependencies": [{"name": "flask", "version": "3.1.3", "vulns": []}]}', None),
        ("", "ConnectionError: name or service not known"),
    ],
)
def test_a_package_that_was_skipped_is_not_taken_for_safe(
    audit: Any, monkeypatch: pytest.MonkeyPatch, stdout: str, found: str | None
) -> None:
    class Done:
        stderr = "Traceback\nConnectionError: name or service not known"

        def __init__(self) -> None:
            self.stdout = stdout

    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: Done())

    answer = audit.ask("pypi", ["flask==3.1.3"])

    assert answer == (found or [{"name": "flask", "version": "3.1.3", "vulns": []}])


def test_a_missing_tool_or_an_empty_list_is_no_silence(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="not installed"):
        audit.ask("pypi", ["flask==3.1.3"])  # it has an environment of its own

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit, match="nothing to audit"):
        audit.main()


def test_every_ignored_hole_has_its_reason(audit: Any) -> None:
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())
