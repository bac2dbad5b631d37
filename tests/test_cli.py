import pytest
from typer.testing import CliRunner

from labelstudio_sam2.cli import app


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_without_a_command_it_teaches(runner: CliRunner) -> None:
    result = runner.invoke(app, [])

    assert all(command in result.output for command in ("serve", "settings", "demo"))


def test_serving_an_unknown_model_names_the_known_ones(runner: CliRunner) -> None:
    result = runner.invoke(app, ["serve", "--model", "sam3/huge"])

    assert result.exit_code == 2
    assert "sam2/hiera_tiny" in result.output


def test_serving_with_wrong_settings_names_each(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "many")

    result = runner.invoke(app, ["serve", "--port", "99999"])

    assert result.exit_code == 2
    assert "THREADS" in result.output
    assert "PORT" in result.output


def test_settings_are_listed_without_their_secrets(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "t0ken")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio:8080")

    result = runner.invoke(app, ["settings"])

    assert result.exit_code == 0
    assert "http://label-studio:8080" in result.output
    assert "t0ken" not in result.output


def test_stopping_a_demo_that_does_not_run_says_so(runner: CliRunner, tmp_path: object) -> None:
    result = runner.invoke(app, ["demo", "--stop", "--folder", str(tmp_path)])

    assert result.exit_code == 0
    assert "No demo is running" in result.output
