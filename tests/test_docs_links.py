"""Every link in the documents leads somewhere, to the heading too, and docs/README.md leads to every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("backend", "benchmarks", "docs", "examples", "tests", "training")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"\]\((?!https?://)([^)\s]*)\)|\bsrc=\"(?!https?://)([^\"]*)\"")


def prose(document: Path) -> str:
    """A document without its blocks of code and its pieces of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL))


def links(document: Path) -> list[tuple[Path, str]]:
    """The files that a document links to, itself too, and the heading in each, if any."""
    targets = [(one or other).partition("#") for one, other in LINK.findall(prose(document))]
    return [((document.parent / path).resolve() if path else document, anchor) for path, _, anchor in targets]


def anchors(document: Path) -> set[str]:
    """What GitHub names a document's headings in addresses: lower case, hyphens for spaces, no punctuation."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(document: Path) -> None:
    lost = [
        f"{path.relative_to(ROOT)}#{anchor}"
        for path, anchor in links(document)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]

    assert lost == []


def test_readme_leads_to_the_index_and_the_index_to_every_page_once() -> None:
    index = ROOT / "docs" / "README.md"
    pages = {path for path in (ROOT / "docs").glob("*.md") if path != index}

    listed = [path for path, _ in links(index)]

    assert index in [path for path, _ in links(ROOT / "README.md")]
    assert pages - set(listed) == set()
    assert sorted(set(listed)) == sorted(listed)


def test_every_page_that_code_names_is_there() -> None:
    sources = [
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
        *(
            ROOT / name
            for name in ("docker-compose.yml", ".env.example", "Makefile", "Dockerfile.sam2", "CHANGELOG.md")
        ),
    ]

    named = {name for path in sources for name in re.findall(r"\bdocs/(?:adr/\d{4}|[\w-]+\.md)", path.read_text())}

    assert len(named) > 5
    assert [name for name in sorted(named) if not list(ROOT.glob(f"{name}*"))] == []
