"""Finding and verifying a checkpoint, without reading a model."""

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.segmenter.checkpoint import Condition, fetch_command, find_checkpoint, inspect
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec, resolve

CONTENT = b"ten bytes!"
URL = "https://example.org/tiny.pt"


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        model_id="tiny",
        config=Path("tiny.yaml"),
        checkpoint=Path("tiny.pt"),
        url=URL,
        size_bytes=10,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


def test_the_right_file_in_the_weights_folder_is_found(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(CONTENT)

    assert find_checkpoint(spec, tmp_path) == tmp_path / "tiny.pt"


def test_nano_is_found_whatever_the_weights_folder(tmp_path: Path) -> None:
    assert find_checkpoint(MODELS["nano"], tmp_path / "nowhere") == MODELS["nano"].checkpoint


def test_a_missing_file_is_answered_with_place_command_and_way_out(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelUnavailableError) as refusal:
        find_checkpoint(spec, Path("weights"))

    assert str(refusal.value) == (
        f"{tmp_path}/weights/tiny.pt is missing; get it with `labelstudio-sam2 weights fetch --model tiny "
        f"--weights-dir {tmp_path}/weights` and start again; MODEL=nano works without a download"
    )


def test_a_missing_file_of_ones_own_is_answered_without_an_address(spec: ModelSpec, tmp_path: Path) -> None:
    own = replace(spec, url=None, checkpoint=tmp_path / "mine.pt")

    with pytest.raises(ModelUnavailableError, match=r"mine\.pt is missing; MODEL=nano works without a download"):
        find_checkpoint(own, tmp_path)


def test_one_swapped_byte_is_refused_and_the_file_named(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"ten bytez!")

    with pytest.raises(
        ModelUnavailableError,
        match=r"tiny\.pt has SHA-256 .* replace it with `labelstudio-sam2 weights fetch --model tiny",
    ):
        find_checkpoint(spec, tmp_path)


def test_a_refused_file_of_an_official_model_is_taken_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "sam2_hiera_tiny.pt"
    file.write_bytes(b"trusted, and of another hash than the table's")

    with pytest.raises(ModelUnavailableError, match=r"sam2_hiera_tiny\.pt has 45 bytes instead of 155906050"):
        find_checkpoint(resolve("sam2.0/hiera_tiny"), tmp_path)

    assert find_checkpoint(resolve(str(file), Path("sam2_hiera_t.yaml")), tmp_path) == file


def test_half_a_download_is_refused_with_both_sizes(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(CONTENT[:5])

    with pytest.raises(ModelUnavailableError, match=r"tiny\.pt has 5 bytes instead of 10"):
        find_checkpoint(spec, tmp_path)


def test_a_checkpoint_of_unknown_content_only_has_to_exist(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"anything")
    own = replace(spec, url=None, size_bytes=None, sha256=None)

    assert find_checkpoint(own, tmp_path) == tmp_path / "tiny.pt"


@pytest.mark.parametrize(
    ("content", "condition"),
    [
        (CONTENT, Condition.OK),
        (None, Condition.MISSING),
        (CONTENT[:5], Condition.INCOMPLETE),
        (CONTENT + b"!", Condition.DAMAGED),
        (b"ten bytez!", Condition.DAMAGED),
    ],
)
def test_a_file_is_called_what_it_is(
    spec: ModelSpec, tmp_path: Path, content: bytes | None, condition: Condition
) -> None:
    if content is not None:
        (tmp_path / "tiny.pt").write_bytes(content)

    assert inspect(spec, tmp_path).condition is condition


def test_the_command_to_fetch_with_survives_a_folder_with_a_space_in_its_name(spec: ModelSpec, tmp_path: Path) -> None:
    command = fetch_command(spec, tmp_path / "my weights")

    assert shlex.split(command)[-2:] == ["--weights-dir", str(tmp_path / "my weights")]


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.pt").write_bytes(CONTENT)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    # File permissions do not stop a test that runs as root.
    monkeypatch.setattr("labelstudio_sam2.segmenter.checkpoint.file_sha256", refuse)

    with pytest.raises(ModelUnavailableError, match=r"tiny\.pt cannot be read: Permission denied"):
        find_checkpoint(spec, tmp_path)
