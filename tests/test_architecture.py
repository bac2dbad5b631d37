"""The arrows between the parts of the package, read from its import statements."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import labelstudio_sam2

PACKAGE = "labelstudio_sam2"
ROOT = Path(labelstudio_sam2.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

DEEP_LEARNING = {"torch", "torchvision", "sam2", "hydra", "omegaconf"}
WEB = {"flask", "werkzeug", "gunicorn", "httpcore", "httpx"}
GROUND = {"errors", "single_flight", "stages"}
"""Modules anything may stand on; they stand on nothing but each other."""
UPPER_FLOORS = {"app", "wsgi", "commands", "cli"}

ONLY = {
    "errors": set[str](),
    "single_flight": GROUND,
    "stages": set[str](),
    "segmenter": GROUND | {"segmenter"},
}
"""Part -> the parts it may import, and no others."""

NEVER = {
    "images": UPPER_FLOORS | {"labelstudio", "sam2_api"},
    "labelstudio": UPPER_FLOORS | {"sam2_api"},
    "sam2_api": UPPER_FLOORS | {"labelstudio"},
    "ops": UPPER_FLOORS | {"doctor", "status"},
    "status": UPPER_FLOORS | {"labelstudio", "sam2_api", "segmenter", "images"},
    "demo": UPPER_FLOORS,
    "doctor": UPPER_FLOORS | {"sam2_api", "status"},
    "settings": UPPER_FLOORS,
    "weights": UPPER_FLOORS,
    "app": {"wsgi", "commands", "cli"},
    "wsgi": {"commands", "cli"},
    "commands": {"wsgi", "cli"},
}
"""Part -> the parts it must not import."""

ENTRANCES = {"labelstudio/ml_backend.py"}
"""Where another server starts: label-studio-ml's makes the class itself, so it composes, as `wsgi` does for ours."""


def imported_modules(source: str, module: str) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, wherever in it; `module` is its own dotted name."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                above = module.split(".")[: -node.level] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    module = ".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts])
    return set(imported_modules(path.read_text(encoding="utf-8"), module))


def named_files_of(part: str) -> list[tuple[str, Path]]:
    names = {path.relative_to(ROOT): path for path in FILES}
    return [(name.as_posix(), path) for name, path in names.items() if name.with_suffix("").parts[0] == part]


def parts_imported_by(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(path) if name.startswith(f"{PACKAGE}.")}


def libraries_imported_by(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("from labelstudio_sam2 import app", {"labelstudio_sam2.app"}),
        ("from . import predictions", {"labelstudio_sam2.labelstudio.predictions"}),
        ("from ..sam2_api import masks", {"labelstudio_sam2.sam2_api.masks"}),
        ("def late():\n    import torch", {"torch"}),
        ("if TYPE_CHECKING:\n    from flask import Flask", {"flask.Flask"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, modules: set[str]) -> None:
    assert set(imported_modules(source, "labelstudio_sam2.labelstudio.routes")) == modules


def test_torch_and_sam2_are_imported_by_one_module() -> None:
    importers = {path.relative_to(ROOT).as_posix() for path in FILES if libraries_imported_by(path) & DEEP_LEARNING}

    assert importers == {"segmenter/sam2_model.py"}


@pytest.mark.parametrize("part", ONLY)
def test_a_part_that_stands_below_imports_only_what_is_below_it(part: str) -> None:
    stray = {
        name: sorted(parts_imported_by(path) - ONLY[part])
        for name, path in named_files_of(part)
        if parts_imported_by(path) - ONLY[part]
    }

    assert stray == {}


@pytest.mark.parametrize("part", NEVER)
def test_no_part_imports_what_stands_above_or_beside_it(part: str) -> None:
    stray = {
        name: sorted(parts_imported_by(path) & NEVER[part])
        for name, path in named_files_of(part)
        if name not in ENTRANCES and parts_imported_by(path) & NEVER[part]
    }

    assert stray == {}


def test_the_segmenter_knows_no_http() -> None:
    importers = {name for name, path in named_files_of("segmenter") if libraries_imported_by(path) & WEB}

    assert importers == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    nameless = {"util", "utils", "helper", "helpers", "common", "core", "misc"}

    assert [path for path in ROOT.rglob("*") if path.stem.strip("_") in nameless] == []
