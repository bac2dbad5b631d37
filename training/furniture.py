"""Cut-outs drawn from the 3-D models of Sweet Home 3D, and the surfaces these are covered with.

The models come in furniture catalogs, `.sh3f`: zip archives of OBJ files with a Java properties file beside them.
"""

import re
import zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.original import Loader, Original, draw, file_loader, sha256
from training.renderer import Material, Mesh, read_obj, render

_VIEWS = 6
_LARGEST_MODEL = 12_000_000
"""Bytes of OBJ; a handful are larger and would take longer than all others."""
_DULL = ("Doors and windows", "Staircases")
"""Categories of flat or open things."""


def renderings(catalogs: Path) -> list[Loader]:
    """Photograph each model of each catalog from six sides, in other colours each time where it is only painted."""
    loaders: list[Loader] = []
    for catalog in _unpacked(catalogs):
        entries = _read_catalog(catalog / "PluginFurnitureCatalog.properties")
        for model, entry in sorted({entry["model"]: entry for entry in entries if "model" in entry}.items()):
            file = catalog / model.lstrip("/")
            if file.suffix == ".obj" and entry.get("category") not in _DULL and file.stat().st_size < _LARGEST_MODEL:
                loaders += [_rendering_loader(file, entry, number) for number in range(_VIEWS)]
    return loaders


def surfaces(catalogs: Path) -> list[Loader]:
    """Take the textures that look alike everywhere: wood, stone, cloth; not the skin of Reallusion's people."""
    loaders: list[Loader] = []
    seen: set[str] = set()
    for catalog in _unpacked(catalogs):
        if catalog.name == "Reallusion":
            continue
        for file in sorted(catalog.rglob("*.jpg")):
            digest = sha256(file.read_bytes())
            if digest not in seen and _is_surface(file):
                group = f"surface-{digest[:12]}"
                loaders.append(file_loader(file, picture_id=group, group=group, kind="background"))
            seen.add(digest)
    return loaders


def _unpacked(catalogs: Path) -> list[Path]:
    """Unpack the catalogs of a folder beside themselves, once."""
    folders: list[Path] = []
    for archive in sorted(catalogs.glob("*.sh3f")):
        folder = archive.with_suffix("")
        if not folder.exists():
            partial = archive.with_suffix(".partial")
            with zipfile.ZipFile(archive) as content:
                content.extractall(partial)
            partial.rename(folder)
        folders.append(folder)
    return folders


def _read_catalog(file: Path) -> list[dict[str, str]]:
    """Read `model#12=/scopia/bed1/bed1.obj` and its like into one dict per number."""
    entries: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", file.read_text("latin-1"), re.MULTILINE):
        entries.setdefault(number, {})[key] = value.strip()
    return list(entries.values())


# --- the views of a model


def _rendering_loader(file: Path, entry: dict[str, str], number: int) -> Loader:
    name = file.relative_to(file.parents[2]).with_suffix("").as_posix()  # scopia/bed1/bed1
    model = re.sub(r"[^a-z0-9_-]", "_", f"{file.parents[1].name}-{file.parent.name}-{file.stem}".lower())

    def load() -> Original | None:
        try:
            mesh = _read_model(file)
        except ValueError:
            return None
        if "modelRotation" in entry:
            mesh = mesh.turned(np.array(entry["modelRotation"].split(), np.float32).reshape(3, 3))
        chance = np.random.default_rng(int(draw(f"{name} {number}") * 2**53))
        if number % 2:
            mesh = _painted(mesh, chance)
        pixels = render(
            mesh,
            yaw=chance.uniform(-75, 75) if number < _VIEWS - 1 else chance.uniform(-180, 180),
            pitch=abs(chance.normal(0, 22)) + 3,
            light=chance.uniform(-80, 80),
        )
        return Original(
            id=f"{model}-{number}",
            group=f"model-{model}",
            kind="cutout",
            image=Image.fromarray(pixels),
            sha256=sha256(file.read_bytes()),
            author=entry.get("creator", ""),
        )

    return load


@lru_cache(maxsize=1)
def _read_model(file: Path) -> Mesh:
    """Read a model once for its views, which come one after the other."""
    return read_obj(file)


def _painted(mesh: Mesh, chance: np.random.Generator) -> Mesh:
    """Give each bright grey surface without a texture a colour: most furniture here is white."""
    return replace(mesh, materials=[_paint(material, chance) for material in mesh.materials])


def _paint(material: Material, chance: np.random.Generator) -> Material:
    hue = np.abs(((chance.random() + np.array([0, 2 / 3, 1 / 3])) % 1) * 6 - 3) - 1
    strength = chance.uniform(0.1, 0.9)
    tint = 1 - strength * (1 - hue.clip(0, 1))
    is_grey = np.ptp(material.color) < 0.1 and material.color.mean() > 0.25
    if material.texture is not None or not is_grey:
        return material
    return replace(material, color=(material.color * tint * chance.uniform(0.5, 1)).astype(np.float32))


# --- surfaces


def _is_surface(file: Path) -> bool:
    """Tell wood from the unfolded skin of a model: each sixteenth of it has nearly the same colours."""
    try:
        picture = Image.open(file).convert("RGB")
    except OSError:
        return False
    if min(picture.size) < 128 or max(picture.size) > 3 * min(picture.size):
        return False
    pixels = np.asarray(picture.resize((128, 128), Image.Resampling.BOX), np.float32)
    return bool(pixels.std(axis=(0, 1)).mean() > 2) and _unevenness(pixels) < 14


def _unevenness(pixels: NDArray[np.float32]) -> float:
    """How far the means and deviations of the sixteenths spread, in grey levels."""
    blocks = pixels.reshape(4, 32, 4, 32, 3).swapaxes(1, 2).reshape(16, -1, 3)
    return float(max(np.ptp(blocks.mean(axis=1), axis=0).max(), np.ptp(blocks.std(axis=1), axis=0).max()) / 2)
