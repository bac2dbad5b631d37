import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from training import packages, sources
from training.original import Loader, Original, Source, file_loader
from training.packages import DownloadError, fetch
from training.sources import SOURCES, clipart_group, evaluation_pictures, read_licences, write_credits
from training.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]

COPYRIGHT = """\
Format: https://example.org/copyright-format/1.0/

Files: *
Copyright: A. Author
License: GPL-3+

Files: images/land/*
Copyright: Various
License: public-domain
 Donated by their authors.

Files: images/land/*-harro*
 images/land/lava5*
Copyright: B. Author
License: CC-BY-SA-4.0

License: CC-BY-SA-4.0
 The text of the licence.
"""


# --- licences


def test_every_source_has_a_licence_that_lets_a_model_be_given_away() -> None:
    allowed = {"MIT", "OFL-1.1", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "public domain"}

    assert {licence for source in SOURCES for licence in source.licence.split(", ")} <= allowed


def test_the_names_of_the_sources_are_folders_of_their_own() -> None:
    names = [source.name for source in SOURCES]

    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)


def test_a_copyright_file_is_read_as_patterns_and_licences_in_its_order() -> None:
    assert read_licences(COPYRIGHT) == [
        ("*", "GPL-3+"),
        ("images/land/*", "public-domain"),
        ("images/land/*-harro*", "CC-BY-SA-4.0"),
        ("images/land/lava5*", "CC-BY-SA-4.0"),
    ]


def test_of_a_mixed_folder_only_the_free_photographs_are_taken(tmp_path: Path) -> None:
    document = tmp_path / "usr/share/doc/endless-sky-data/copyright"
    land = tmp_path / "usr/share/games/endless-sky/images/land"
    document.parent.mkdir(parents=True)
    land.mkdir(parents=True)
    document.write_text(COPYRIGHT)
    for name in ("beach1", "hills-harro2", "lava5"):
        Image.new("RGB", (8, 6)).save(land / f"{name}.jpg")
    (source,) = [source for source in SOURCES if source.name == "endless-sky"]

    originals = [load() for load in source.extract(tmp_path)]

    assert [original.id for original in originals if original] == ["land-beach1"]


# --- names


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("cavallo_architetto_franc_06", "clipart-cavallo_architetto_franc"),
        ("Apple", "clipart-apple"),
        ("apple_2", "clipart-apple"),
        ("ironing_board_gerald_g._01", "clipart-ironing_board_gerald_g"),
        ("2008", "clipart-2008"),
    ],
)
def test_numbered_variants_of_a_piece_of_clip_art_are_one_group(stem: str, group: str) -> None:
    assert clipart_group(stem) == group


# --- what is only measured with


def test_the_evaluation_set_is_known_by_the_hash_of_the_original_file(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps([{"source_sha256": "ab12", "name": "cat"}]))

    assert evaluation_pictures(tmp_path / "index.json") == {"ab12"}
    assert evaluation_pictures(tmp_path / "missing.json") == frozenset()


# --- downloads


def test_a_missing_client_is_reported_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DownloadError, match="npm is not on this machine: install Node"):
        fetch(SOURCES[0], tmp_path / "downloads")


def test_a_package_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def pack(command: list[str], folder: Path) -> str:
        calls.append(command)
        (folder / "package").mkdir()
        (folder / "package" / "LICENSE").write_text("CC0")
        subprocess.run(["tar", "-czf", "fruit-1.0.0.tgz", "package"], cwd=folder, check=True)
        return ""

    monkeypatch.setattr(packages, "_run", pack)
    monkeypatch.setattr(packages, "_require", lambda *_: None)
    source = fruit(tmp_path)

    first, _ = fetch(source, tmp_path / "downloads")
    second, version = fetch(source, tmp_path / "downloads")

    assert calls == [["npm", "pack", "--silent", "@garden/fruit@1.0.0"]]
    assert first == second == tmp_path / "downloads" / "garden-fruit"
    assert (first / "LICENSE").read_text() == "CC0"
    assert version == "1.0.0"


# --- the command


def fruit(folder: Path) -> Source:
    """One source of two backgrounds, one of which may be an evaluation picture."""
    Image.linear_gradient("L").convert("RGB").save(folder / "beach.png")
    Image.radial_gradient("L").convert("RGB").save(folder / "exam.png")

    def extract(_: Path) -> list[Loader]:
        return [
            file_loader(folder / f"{name}.png", picture_id=name, group=name, kind="background")
            for name in ("beach", "exam")
        ]

    return Source(
        name="fruit",
        registry="npm",
        package="@garden/fruit",
        version="1.0.0",
        licence="CC0-1.0",
        licence_file="LICENSE",
        author="A. Gardener",
        extract=extract,
    )


def test_the_command_fills_a_store_leaves_the_evaluation_set_out_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sources, "SOURCES", (fruit(tmp_path),))
    monkeypatch.setattr(sources, "fetch", lambda *_: (tmp_path, "1.0.0"))
    exam = hashlib.sha256((tmp_path / "exam.png").read_bytes()).hexdigest()
    (tmp_path / "exam.json").write_text(json.dumps([{"source_sha256": exam}]))
    monkeypatch.setattr(sources, "EVALUATION_INDEX", tmp_path / "exam.json")

    status = sources.main(["--pictures", str(tmp_path / "pictures")])

    printed = capsys.readouterr().out
    assert status == 0
    assert "1 kept for evaluation" in printed
    assert [file.name for file in (tmp_path / "pictures").rglob("*.jpg")] == ["beach.jpg"]


@pytest.mark.parametrize(
    ("error", "warning"),
    [
        (DownloadError("apt-get is not on this machine"), "left out fruit: apt-get is not on this machine"),
        (ModuleNotFoundError(name="OpenEXR"), "left out fruit: it needs `pip install OpenEXR`"),
    ],
)
def test_a_source_that_cannot_be_had_is_left_out_with_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    warning: str,
) -> None:
    def refuse(source: Source, downloads: Path) -> tuple[Path, str]:
        raise error

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sources, "SOURCES", (fruit(tmp_path),))
    monkeypatch.setattr(sources, "fetch", refuse)

    status = sources.main(["--pictures", str(tmp_path / "pictures")])

    assert status == 1
    assert warning in capsys.readouterr().out


def test_the_credits_name_the_source_its_licence_and_each_maker(tmp_path: Path) -> None:
    store = Store(tmp_path / "pictures")
    beach = Image.linear_gradient("L").convert("RGB")

    def load() -> Original:
        return Original(id="beach", group="beach", kind="background", image=beach, sha256="ab12", author="B. Painter")

    store.add(fruit(tmp_path), [load], version="1.0.0")

    assert write_credits(store) == (
        "# Whose pictures these are\n"
        "\n"
        "- **fruit**, CC0-1.0: A. Gardener.\n"
        "  From npm `@garden/fruit` 1.0.0, `LICENSE`.\n"
        "  Among them B. Painter.\n"
    )


def test_help_names_every_source_and_its_licence() -> None:
    command = [sys.executable, "-m", "training.sources", "--help"]

    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert all(source.name in shown and source.licence in shown for source in SOURCES)
