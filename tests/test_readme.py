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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


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

    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    before, *groups = re.split(r"^(?=\w.*\n  make )", told, flags=re.MULTILINE)
    assert [name for group in groups for name in re.findall(r"^  make ([a-z-]+)", group, re.MULTILINE)] == [
        name for name in phony.split() if name != "help"
    ]
    assert before.splitlines() == ["  make help            Show this list.", ""]
    assert [line for line in told.splitlines() if line.startswith("  make ") and not line.endswith(".")] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_labeling_configuration_shown_has_a_smart_prompt_and_a_place_for_its_mask(document: Path) -> None:
    for xml in re.findall(r"```xml\n(.*?)```", document.read_text(), re.DOTALL):
        prompts = [tag for tag in fromstring(xml).iter() if tag.get("smart") == "true"]

        assert prompts
        for tag in prompts:
            labels = tuple(label.get("value", "") for label in tag.iter("Label"))
            assert parse_label_config(xml).answer_tags("image", tag.get("name", ""), labels)
