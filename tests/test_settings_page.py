"""docs/settings.md says what settings.py does; README and .env.example say what docs/settings.md does."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from labelstudio_sam2.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "settings.md").read_text()
FIELDS = {name.upper(): field for name, field in Settings.model_fields.items()}
ROW = r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|"
GROUPS = ("Must", "Usually", "Rest")


def groups_of_the_page() -> dict[str, list[str]]:
    """The variables under each of the page's headings of the second rank, in their order."""
    _, *parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {
        part.partition("\n")[0].removeprefix("The ").capitalize(): re.findall(r"^\| `([A-Z_]+)`", part, re.MULTILINE)
        for part in parts
    }


def default_with_unit(name: str, field: FieldInfo) -> str:
    """A default as the tables show it. The unit is what the description or, for seconds, the name says."""
    if field.default in (None, ()):
        return ""
    told = re.search(r"\bin (MiB|MB|kB|megapixels)\b", field.description or "")
    unit = told[1] if told else "s" if name.endswith("_SECONDS") else ""
    return f"`{field.default}` {unit}".strip()


def test_the_page_has_every_setting_with_its_default_unit_and_meaning() -> None:
    rows = re.findall(ROW, PAGE, re.MULTILINE)

    told = {name: (default, meaning) for name, default, meaning in rows}

    assert len(rows) == len(told)
    assert told == {name: (default_with_unit(name, field), field.description) for name, field in FIELDS.items()}


def test_every_size_and_every_time_has_a_unit() -> None:
    without = [name for name, field in FIELDS.items() if default_with_unit(name, field).endswith("`")]

    assert [name for name in without if re.search(r"_(KB|MB|MEGAPIXELS|SECONDS)$", name)] == []


def test_every_example_can_be_used_and_changes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = dict(re.findall(r"^\| `([A-Z_]+)` \|.*\| `([^`]+)` \|$", PAGE, re.MULTILINE))
    assert set(examples) == set(FIELDS)
    for name, example in examples.items():
        monkeypatch.setenv(name, example)

    settings = load_settings()

    unchanged = [name for name, field in FIELDS.items() if getattr(settings, name.lower()) == field.default]
    assert unchanged == []


def test_readme_has_the_groups_that_most_people_need_in_the_same_words() -> None:
    rows = re.findall(ROW, (ROOT / "README.md").read_text(), re.MULTILINE)
    groups = groups_of_the_page()

    assert rows == [row for row in re.findall(ROW, PAGE, re.MULTILINE) if row[0] in groups["Must"] + groups["Usually"]]
    assert len(rows) < 15


def test_the_example_for_docker_has_the_same_groups() -> None:
    _, *parts = re.split(r"^# ==== (\w+).* ====$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    offered = {
        group: settings_among(re.findall(r"^(\w+)=", text, re.MULTILINE))
        for group, text in zip(parts[::2], parts[1::2], strict=True)
    }

    set_by_compose = {"LABEL_STUDIO_URL", "DEVICE", "EMBEDDING_DISK_DIR", "HOST", "PORT", "WEIGHTS_DIR"}
    assert tuple(offered) == GROUPS
    assert offered == {group: set(names) - set_by_compose for group, names in groups_of_the_page().items()}


def settings_among(variables: Iterable[str]) -> set[str]:
    """Those that are the backend's own; the others are compose's."""
    return set(variables) & set(FIELDS)
