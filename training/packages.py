"""Downloads packages with the registries' own clients, npm and apt-get, and unpacks them."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from training.original import Source


class DownloadError(Exception):
    """A package could not be had; the message says what to do."""


def fetch(source: Source, downloads: Path) -> tuple[Path, str]:
    """Download and unpack a source's package, unless that is done already.

    Returns:
        The unpacked package, and its version: Debian's releases have one each, not always the one asked for.

    Raises:
        DownloadError: The client is missing or failed.
    """
    folder = downloads / source.package.replace("/", "-").lstrip("@")
    version_file = folder / ".version"
    if version_file.exists():
        return folder, version_file.read_text()
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as temporary:
        unpacked = Path(temporary, "unpacked")
        unpacked.mkdir()
        fetcher = _fetch_npm if source.registry == "npm" else _fetch_debian
        version = fetcher(source, Path(temporary), unpacked)
        (unpacked / version_file.name).write_text(version)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return folder, version


def _fetch_npm(source: Source, folder: Path, unpacked: Path) -> str:
    _require("npm", "install Node.js, which brings it")
    _run(["npm", "pack", "--silent", f"{source.package}@{source.version}"], folder)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]  # without "package/"
            if member.name:
                archive.extract(member, unpacked, filter="data")
    return source.version


def _fetch_debian(source: Source, folder: Path, unpacked: Path) -> str:
    _require("apt-get", "run this on Debian or in a Debian container, or do without this source")
    try:
        _run(["apt-get", "download", "-qq", f"{source.package}={source.version}"], folder)
    except DownloadError:
        _run(["apt-get", "download", "-qq", source.package], folder)
    archive = next(folder.glob("*.deb"))
    _run(["dpkg-deb", "--extract", str(archive), str(unpacked)], folder)
    return _run(["dpkg-deb", "--field", str(archive), "Version"], folder).strip()


def _require(client: str, remedy: str) -> None:
    if shutil.which(client) is None:
        raise DownloadError(f"{client} is not on this machine: {remedy}")


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        hint = "; `apt-get update` may help" if command[0] == "apt-get" else ""
        raise DownloadError(f"`{' '.join(command)}` failed{hint}: {done.stderr.strip()[-400:]}")
    return done.stdout
