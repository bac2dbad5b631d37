import pytest

from labelstudio_sam2.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_settings_come_from_the_environment_under_label_studios_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio:8080")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "abc")
    monkeypatch.setenv("ALLOWED_IMAGE_HOSTS", "Images.example.org, 10.0.0.5:8000,")
    monkeypatch.setenv("LOG_LEVEL", "debug")

    settings = load_settings()

    assert str(settings.label_studio_url) == "http://label-studio:8080/"
    assert settings.label_studio_api_key is not None
    assert settings.label_studio_api_key.get_secret_value() == "abc"
    assert settings.allowed_image_hosts == ("images.example.org", "10.0.0.5:8000")
    assert settings.log_level == "DEBUG"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "")
    monkeypatch.setenv("MODEL", "")

    settings = load_settings()

    assert settings.label_studio_url is None
    assert settings.model == "sam2/hiera_small"


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1111")

    assert load_settings(port=2222, host=None).port == 2222


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "70000")
    monkeypatch.setenv("DEVICE", "tpu")

    with pytest.raises(SettingsError) as failure:
        load_settings()

    device, port = str(failure.value).splitlines()
    assert port.startswith("PORT: ")
    assert device.startswith("DEVICE: ")


def test_a_password_without_a_user_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_AUTH_PASS", "hunter2")

    with pytest.raises(SettingsError, match="BASIC_AUTH_USER and BASIC_AUTH_PASS go together") as failure:
        load_settings()

    assert "hunter2" not in str(failure.value)


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load_settings(label_studio_api_key="t0ken", basic_auth_user="ls", basic_auth_pass="hunter2")

    assert "t0ken" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
