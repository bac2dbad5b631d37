import pytest

from labelstudio_sam2.doctor.findings import Finding, ok, problem, skipped, timed, warning, worst


@pytest.mark.parametrize("outcome", ["warning", "problem"])
def test_what_is_wrong_comes_with_advice(outcome: str) -> None:
    with pytest.raises(ValueError, match="helps nobody"):
        Finding(name="token", outcome=outcome, text="It is bad.")  # type: ignore[arg-type]


def test_nothing_secret_gets_into_a_finding() -> None:
    token, url = "a1" * 20, "http://ada:s3cret@sam2:9090/setup?signature=5ecret"

    finding = problem("connection-state", f"401 for url: {url} with Token {token}", f"Try {url} again.")

    said = str(finding.as_json())
    assert token not in said
    assert "s3cret" not in said
    assert "5ecret" not in said
    assert "http://***@sam2:9090/setup?***" in said


def test_each_finding_carries_the_seconds_it_took() -> None:
    clock = iter([10.0, 10.5, 20.0, 23.0, 30.0])  # the time until it is asked for the next one is nobody's

    findings = list(timed([ok("settings", "well"), ok("weights", "well")], clock=lambda: next(clock)))

    assert [finding.seconds for finding in findings] == [0.5, 3.0]


@pytest.mark.parametrize(
    ("findings", "outcome"),
    [
        ([], "ok"),
        ([ok("a", "")], "ok"),
        ([ok("a", ""), skipped("b", "")], "skipped"),
        ([warning("a", "", "x"), skipped("b", "")], "warning"),
        ([warning("a", "", "x"), problem("b", "", "x"), ok("c", "")], "problem"),
    ],
)
def test_the_worst_outcome_counts(findings: list[Finding], outcome: str) -> None:
    assert worst(findings) == outcome
