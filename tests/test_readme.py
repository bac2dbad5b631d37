"""What README.md and the other documents say is so."""

import re
import subprocess
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from labelstudio_sam2.labelstudio.label_config import parse_label_config

ROOT = Path(__file__).parent.parent
FOLDERS = ("backend", "benchmarks", "docs", "examples", "tests", "training")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


def test_every_make_command_that_is_named_exists() -> None:
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    }
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert named <= targets
    assert {"demo", "test", "demo-stop"} <= named


def test_make_alone_lists_every_command_in_a_group_and_with_a_sentence() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    command = ["make", "--no-print-directory", "help"]  # the tests may be run by make, too
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    before, *groups = re.split(r"^(?=\w.*\n  make )", told, flags=re.MULTILINE)
    assert [name for group in groups for name in re.findall(r"^  make ([a-z-]+)", group, re.MULTILINE)] == [
        name for name in phony.split() if name != "help"
    ]
    assert before.splitlines() == ["  make help            Show this list.", ""]
    assert [line for line in told.splitlines() if line.startswith("  make ") and not line.endswith(".")] == []


def test_the_figures_of_the_benchmark_are_those_of_its_page() -> None:
    readme, page = ((ROOT / path).read_text() for path in ("README.md", "docs/benchmarks.md"))
    (section,) = re.findall(r"^## Benchmarks\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    shown = [
        tuple(cell.strip() for cell in row)
        for row in re.findall(r"^\|(.+)\|(.*)\|(.*)\|(.+)\|$", section, re.MULTILINE)
    ]
    measured = re.findall(r"^\| (.+?) \| (.*?) ?\| (.*?) ?\| .*?\| .*?\| \*\*(.+?)\*\*", page, re.MULTILINE)

    _head, _line, *rows = shown

    assert len(rows) > 5
    assert [row for row in rows if row not in measured] == []


def test_what_the_obvious_code_gets_wrong_is_what_the_page_says() -> None:
    readme, page = ((ROOT / path).read_text() for path in ("README.md", "docs/benchmarks.md"))

    clicks, wrong, failed = re.findall(
        r"Of (\d+) clicks by 8 threads .* for all threads (\d+) were, and (\d+) failed", readme
    )[0]

    assert f"({wrong} wrong and {failed} failed of {clicks})" in page
    assert "| wrong answers, 8 threads x 64 requests, nano |  |  |  |  | **0** |" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_labeling_configuration_shown_has_a_smart_prompt_and_a_place_for_its_mask(document: Path) -> None:
    for xml in re.findall(r"```xml\n(.*?)```", document.read_text(), re.DOTALL):
        prompts = [tag for tag in fromstring(xml).iter() if tag.get("smart") == "true"]

        assert prompts
        for tag in prompts:
            labels = tuple(label.get("value", "") for label in tag.iter("Label"))
            assert parse_label_config(xml).answer_tags("image", tag.get("name", ""), labels)
