"""The models this backend knows: where each one's config and checkpoint are, and how to tell it is the right one."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")

_SAM2_1 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"
_SAM2_0 = "https://dl.fbaipublicfiles.com/segment_anything_2/072824"
_NANO = Path(__file__).parent / "nano"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model: its name, its config, its checkpoint, and what is known of the checkpoint's content.

    Attributes:
        model_id: Name in the MODEL setting and in `model_version`.
        config: YAML file, absolute or relative to the folder of the `sam2` package.
        checkpoint: Checkpoint file, absolute or relative to the weights folder.
        url: Where the checkpoint can be had, or None where it ships with this package or is the user's own.
        size_bytes: The checkpoint's size; None only for one of the user's own.
        sha256: The checkpoint's SHA-256 in lower-case hex; None only for one of the user's own that is not there.
    """

    model_id: str
    config: Path
    checkpoint: Path
    url: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.checkpoint.suffix not in CHECKPOINT_SUFFIXES:
            raise ValueError(f"a checkpoint ends in one of {', '.join(CHECKPOINT_SUFFIXES)}, got {self.checkpoint}")
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"sha256 must be 64 lower-case hex digits, got {self.sha256!r}")

    @property
    def config_path(self) -> Path:
        """The config's absolute path. Does not import `sam2`, which would take seconds."""
        return self.config if self.config.is_absolute() else _sam2_folder() / self.config


def known(name: str) -> ModelSpec | None:
    """Return the model of that id, which may lack its `sam2/` or `sam2/hiera_`, such as `small`; else None. Instant."""
    return MODELS.get(name) or MODELS.get(f"sam2/{name}") or MODELS.get(f"sam2/hiera_{name}")


def resolve(model: str, model_config_file: Path | None = None) -> ModelSpec:
    """Find the model that the MODEL and MODEL_CONFIG_FILE settings name.

    Instant for a known model; a checkpoint of the user's own is read once, for its SHA-256, if it is there.

    Args:
        model: What `known` takes, or the path of a checkpoint.
        model_config_file: Only for a checkpoint of one's own: a YAML file, or the name of an official config, such as
            `sam2.1_hiera_t.yaml`.

    Raises:
        ValueError: The settings name no model; the message says what is wanted.
    """
    if Path(model).suffix in CHECKPOINT_SUFFIXES:
        return _own_model(Path(model), model_config_file)
    spec = known(model)
    if spec is None:
        raise ValueError(
            f"MODEL: {model!r} is not a known model; use one of {', '.join(MODELS)}, "
            f"or the path of a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)})"
        )
    if model_config_file is not None:
        raise ValueError(f"MODEL_CONFIG_FILE: {model} has its own config; set it only with a checkpoint of your own")
    return spec


def model_version(spec: ModelSpec, precision: str) -> str:
    """Name model, checkpoint and precision in one word, such as `sam2/hiera_tiny@7402e0d864fa+fp16`.

    Instant. The hash is left out where it is not known, the precision where it is `auto`. A checkpoint of one's own
    also carries the hash of its config.
    """
    checkpoint = f"@{spec.sha256[:12]}" if spec.sha256 is not None else ""
    own_config = f"-{file_sha256(spec.config_path)[:6]}" if spec.model_id not in MODELS else ""
    explicit = "" if precision == "auto" else f"+{precision}"
    return f"{spec.model_id}{checkpoint}{own_config}{explicit}"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in lower-case hex.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_model(checkpoint: Path, model_config_file: Path | None) -> ModelSpec:
    if model_config_file is None:
        raise ValueError(
            f"MODEL_CONFIG_FILE: {checkpoint.name} is a checkpoint of your own; set this to its config (YAML), "
            f"or to the name of an official one: {', '.join(sorted(_official_configs()))}"
        )
    absolute = checkpoint.absolute()
    return ModelSpec(
        model_id=checkpoint.stem,
        config=_own_config(model_config_file),
        checkpoint=absolute,
        sha256=file_sha256(absolute) if absolute.is_file() else None,
    )


def _own_config(path: Path) -> Path:
    if path.is_file():
        return path.absolute()
    official = _official_configs().get(path.name)
    if official is not None and path in (Path(path.name), official):
        return official
    raise ValueError(
        f"MODEL_CONFIG_FILE: {path} is neither a file nor the name of an official config: "
        f"{', '.join(sorted(_official_configs()))}"
    )


def _official_configs() -> dict[str, Path]:
    return {spec.config.name: spec.config for spec in MODELS.values() if not spec.config.is_absolute()}


def _sam2_folder() -> Path:
    package = find_spec("sam2")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the package sam2 is not installed", name="sam2")
    return Path(package.submodule_search_locations[0])


def _official(model_id: str, config: str, url: str, size_bytes: int, sha256: str) -> ModelSpec:
    return ModelSpec(
        model_id=model_id,
        config=Path("configs") / config,
        checkpoint=Path(url.rpartition("/")[2]),
        url=url,
        size_bytes=size_bytes,
        sha256=sha256,
    )


MODELS = {
    spec.model_id: spec
    for spec in (
        ModelSpec(
            model_id="nano",
            config=_NANO / "sam2_nano.yaml",
            checkpoint=_NANO / "sam2_nano.safetensors",
            size_bytes=8_641_696,
            sha256="9f481d00c1873aa64fcbed36dbd076f6d9b37a050b65b1bd82ea208776bcfa8a",
        ),
        _official(
            "sam2/hiera_tiny",
            "sam2.1/sam2.1_hiera_t.yaml",
            f"{_SAM2_1}/sam2.1_hiera_tiny.pt",
            156_008_466,
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        ),
        _official(
            "sam2/hiera_small",
            "sam2.1/sam2.1_hiera_s.yaml",
            f"{_SAM2_1}/sam2.1_hiera_small.pt",
            184_416_285,
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        ),
        _official(
            "sam2/hiera_b_plus",
            "sam2.1/sam2.1_hiera_b+.yaml",
            f"{_SAM2_1}/sam2.1_hiera_base_plus.pt",
            323_606_802,
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        ),
        _official(
            "sam2/hiera_large",
            "sam2.1/sam2.1_hiera_l.yaml",
            f"{_SAM2_1}/sam2.1_hiera_large.pt",
            898_083_611,
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        ),
        _official(
            "sam2.0/hiera_tiny",
            "sam2/sam2_hiera_t.yaml",
            f"{_SAM2_0}/sam2_hiera_tiny.pt",
            155_906_050,
            "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
        ),
        _official(
            "sam2.0/hiera_small",
            "sam2/sam2_hiera_s.yaml",
            f"{_SAM2_0}/sam2_hiera_small.pt",
            184_309_650,
            "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
        ),
        _official(
            "sam2.0/hiera_b_plus",
            "sam2/sam2_hiera_b+.yaml",
            f"{_SAM2_0}/sam2_hiera_base_plus.pt",
            323_493_298,
            "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
        ),
        _official(
            "sam2.0/hiera_large",
            "sam2/sam2_hiera_l.yaml",
            f"{_SAM2_0}/sam2_hiera_large.pt",
            897_952_466,
            "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
        ),
    )
}
"""Every model known by name. The official checkpoints' sizes and hashes are from public records, not compared with a
download. Several independent records agree on those of the 2.1 ones; whether those of the 2.0 ones are independent was
not checked."""
