"""Finds a model's checkpoint and makes sure that it is the right one, at every start."""

from dataclasses import replace
from pathlib import Path

from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.segmenter.zoo import ModelSpec, file_sha256


def find_checkpoint(spec: ModelSpec, weights_dir: Path) -> Path:
    """Return the absolute path of the model's checkpoint after checking its size and SHA-256.

    Reads the whole file, where its hash is known: about a second for the largest official one.

    Raises:
        ModelUnavailableError: The file is missing, cannot be read, or is not the one it should be; the detail says
            what to do.
    """
    path = (weights_dir / spec.checkpoint).absolute()
    if not path.is_file():
        raise ModelUnavailableError(_missing(spec, path))
    try:
        _verify(spec, path)
    except OSError as error:
        raise ModelUnavailableError(f"{path} cannot be read: {error.strerror}") from error
    return path


def identify(spec: ModelSpec, weights_dir: Path) -> ModelSpec:
    """Return the model with its checkpoint's SHA-256, read from the file where no table has it.

    The 2.0 checkpoints are in no table: they cannot be verified, but what they answered can be traced to the file.
    """
    path = weights_dir / spec.checkpoint
    if spec.sha256 is not None or not path.is_file():
        return spec
    return replace(spec, sha256=file_sha256(path))


def _missing(spec: ModelSpec, path: Path) -> str:
    if spec.url is None:
        return f"{path} is missing; {_NANO_HINT}"
    return f"{path} is missing: download {spec.url}, put it there and start again; {_NANO_HINT}"


def _verify(spec: ModelSpec, path: Path) -> None:
    size = path.stat().st_size
    if spec.size_bytes is not None and size != spec.size_bytes:
        raise ModelUnavailableError(f"{path} has {size} bytes instead of {spec.size_bytes}; {_again(spec)}")
    if spec.sha256 is None:
        return
    sha256 = file_sha256(path)
    if sha256 != spec.sha256:
        raise ModelUnavailableError(f"{path} has SHA-256 {sha256} instead of {spec.sha256}; {_again(spec)}")


def _again(spec: ModelSpec) -> str:
    if spec.url is None:
        return "put the right file there and start again"
    return f"delete it, download {spec.url} again and start again"


_NANO_HINT = "MODEL=nano works without a download"
