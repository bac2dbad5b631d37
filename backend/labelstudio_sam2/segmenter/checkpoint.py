"""Finds a model's checkpoint and makes sure that it is the right one, at every start."""

import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.segmenter.zoo import ModelSpec, file_sha256


class Condition(Enum):
    """What is to be said of a checkpoint."""

    OK = "OK"
    MISSING = "missing"
    INCOMPLETE = "incomplete"  # shorter than it should be
    DAMAGED = "damaged"  # other bytes than it should have
    UNKNOWN = "unknown"  # a checkpoint of one's own: there is nothing to compare it with


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found where a model's checkpoint belongs.

    Attributes:
        path: Where that is, absolute.
        size_bytes: The file's size, None if it is missing.
        sha256: Of the file's bytes; None if it is missing, or already its size is wrong.
    """

    path: Path
    condition: Condition
    size_bytes: int | None = None
    sha256: str | None = None


def inspect(spec: ModelSpec, weights_dir: Path) -> Inspection:
    """Compare a model's checkpoint with the size and the SHA-256 that it should have.

    Reads the whole file, if its size is right: about a second for the largest official one.

    Raises:
        OSError: The file is there and cannot be read.
    """
    path = (weights_dir / spec.checkpoint).absolute()
    if not path.is_file():
        return Inspection(path=path, condition=Condition.MISSING)
    size = path.stat().st_size
    if spec.size_bytes is not None and size != spec.size_bytes:
        condition = Condition.INCOMPLETE if size < spec.size_bytes else Condition.DAMAGED
        return Inspection(path=path, condition=condition, size_bytes=size)
    sha256 = file_sha256(path)
    if spec.sha256 is None:
        condition = Condition.UNKNOWN
    else:
        condition = Condition.OK if sha256 == spec.sha256 else Condition.DAMAGED
    return Inspection(path=path, condition=condition, size_bytes=size, sha256=sha256)


def find_checkpoint(spec: ModelSpec, weights_dir: Path) -> Path:
    """Return the absolute path of the model's checkpoint after checking its size and SHA-256. Slow, as `inspect`.

    Raises:
        ModelUnavailableError: The file is missing, cannot be read, or is not the one it should be; the detail says
            what to do.
    """
    try:
        found = inspect(spec, weights_dir)
    except OSError as error:
        path = (weights_dir / spec.checkpoint).absolute()
        raise ModelUnavailableError(f"{path} cannot be read: {error.strerror}") from error
    match found.condition:
        case Condition.OK | Condition.UNKNOWN:
            return found.path
        case Condition.MISSING:
            raise ModelUnavailableError(f"{found.path} is missing; {_how_to_get(spec, weights_dir)}{_NANO_HINT}")
    raise ModelUnavailableError(f"{difference(spec, found)}; {_how_to_replace(spec, weights_dir)}")


def difference(spec: ModelSpec, found: Inspection) -> str:
    """Say in what a checkpoint that is incomplete or damaged differs from what it should be."""
    if found.size_bytes != spec.size_bytes:
        return f"{found.path} has {found.size_bytes} bytes instead of {spec.size_bytes}"
    return f"{found.path} has SHA-256 {found.sha256} instead of {spec.sha256}"


def fetch_command(spec: ModelSpec, weights_dir: Path) -> str:
    """Return the command that puts an official checkpoint into the folder, for a shell in any other folder."""
    folder = shlex.quote(str(weights_dir.absolute()))
    return f"labelstudio-sam2 weights fetch --model {spec.model_id} --weights-dir {folder}"


def _how_to_get(spec: ModelSpec, weights_dir: Path) -> str:
    if spec.url is None:
        return ""
    return f"get it with `{fetch_command(spec, weights_dir)}` and start again; "


def _how_to_replace(spec: ModelSpec, weights_dir: Path) -> str:
    if spec.url is None:
        return "put the right file there and start again"
    return f"replace it with `{fetch_command(spec, weights_dir)}` and start again"


_NANO_HINT = "MODEL=nano works without a download"
