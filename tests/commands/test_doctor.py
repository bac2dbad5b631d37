"""The `doctor` command: what it prints, and its exit codes."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from labelstudio_sam2.cli import app
from labelstudio_sam2.commands.doctor import _load_here
from labelstudio_sam2.doctor.findings import ok, problem, skipped, warning
from labelstudio_sam2.settings import Settings, load_settings


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MODEL", "nano")
    return CliRunner()


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([ok("labels", "well")], 0),
        ([warning("labels", "not so well", "Do."), skipped("mask", "no")], 0),
        ([ok("labels", "well"), problem("mask", "none", "Do.")], 1),
    ],
)
def test_the_exit_code_says_whether_there_is_a_problem(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, found: Any, code: int
) -> None:
    monkeypatch.setattr("labelstudio_sam2.commands.doctor.examine", lambda *_: iter(found))

    assert runner.invoke(app, ["doctor"]).exit_code == code


@pytest.mark.parametrize(
    ("options", "variable", "why"),
    [
        (["--model", "sam3/huge"], None, "sam3/huge"),
        ([], ("THREADS", "many"), "THREADS"),
        ([], ("LABEL_STUDIO_API_KEY", "two words"), "LABEL_STUDIO_API_KEY"),
        (["--backend-url", "sam2:9090"], None, "--backend-url"),
        (["--backend-url", "http://ada:s3cret@sam2:9090"], None, "--backend-url"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_2(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, options: list[str], variable: Any, why: str
) -> None:
    if variable:
        monkeypatch.setenv(*variable)

    result = runner.invoke(app, ["doctor", "--json", *options])

    assert result.exit_code == 2
    (finding,) = json.loads(result.output)["findings"]
    assert (finding["name"], finding["outcome"]) == ("settings", "problem")
    assert why in finding["text"]
    assert "s3cret" not in result.output


def test_without_anything_it_says_what_is_missing_and_leaves_out_the_rest(runner: CliRunner) -> None:
    result = runner.invoke(app, ["doctor", "--json", "--backend-url", "http://127.0.0.1:9"])

    found = {finding["name"]: finding for finding in json.loads(result.output)["findings"]}
    assert result.exit_code == 1
    assert found["label-studio-url"]["outcome"] == "problem"
    assert found["backend"]["outcome"] == "problem"
    assert (found["token"]["outcome"], found["projects"]["outcome"]) == ("skipped", "skipped")


def test_its_help_shows_examples_and_exit_codes(runner: CliRunner) -> None:
    told = runner.invoke(app, ["doctor", "--help"]).output

    assert "docker compose exec sam2-cpu labelstudio-sam2 doctor" in told
    assert "Exit codes" in told


def test_here_the_model_is_loaded_and_answers_as_the_backend_does(recorded: Any) -> None:
    predict = _load_here(load_settings(model="nano", device="cpu"))

    answer = json.loads(predict(json.dumps({**recorded("kp1_positive"), "params": {"context": None}}).encode()))

    assert answer == {"results": [[]]}
