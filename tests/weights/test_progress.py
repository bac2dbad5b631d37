"""How far a download is, as a person or a container's log sees it."""

import pytest

from labelstudio_sam2.weights.progress import show_progress


def test_a_log_gets_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("small.pt", 2_000_000) as report:
        for size in range(0, 2_000_001, 50_000):
            report.at(size)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "small.pt: 10 %, 0.2 MB of 2.0 MB"
    assert lines[-1] == "small.pt: 100 %, 2.0 MB of 2.0 MB"


def test_a_log_is_not_told_again_what_an_earlier_try_brought(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("small.pt", 2_000_000, so_far=1_500_000) as report:
        report.at(1_550_000)
        report.at(1_600_000)

    assert capsys.readouterr().err == "small.pt: 80 %, 1.6 MB of 2.0 MB\n"


def test_a_terminal_gets_a_bar_and_what_is_said_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    with show_progress("small.pt", 2_000_000) as report:
        report.at(1_000_000)
        report.say("[busy] trying again in 2 s")

    shown = capsys.readouterr().err
    assert "1.0/2.0 MB" in shown
    assert "small.pt: [busy] trying again in 2 s" in shown
