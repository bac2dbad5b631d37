"""Finding and verifying a checkpoint, without reading a model."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from labelstudio_sam2.errors import ModelUnavailableError
from labelstudio_sam2.segmenter.weights import find_checkpoint
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec

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


def test_a_missing_file_is_answered_with_address_place_and_way_out(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelUnavailableError) as refusal:
        find_checkpoint(spec, Path("weights"))

    assert str(refusal.value) == (
        f"{tmp_path}/weights/tiny.pt is missing: download {URL}, put it there and start again; "
        "MODEL=nano works without a download"
    )


def test_a_missing_file_of_ones_own_is_answered_without_an_address(spec: ModelSpec, tmp_path: Path) -> None:
    own = replace(spec, url=None, checkpoint=tmp_path / "mine.pt")

    with pytest.raises(ModelUnavailableError, match=r"mine\.pt is missing; MODEL=nano works without a download"):
        find_checkpoint(own, tmp_path)


def test_one_swapped_byte_is_refused_and_the_file_named(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"ten bytez!")

    with pytest.raises(
        ModelUnavailableError, match=rf"tiny\.pt has SHA-256 .* delete it, download {URL} again and start again"
    ):
        find_checkpoint(spec, tmp_path)


def test_half_a_download_is_refused_with_both_sizes(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(CONTENT[:5])

    with pytest.raises(ModelUnavailableError, match=r"tiny\.pt has 5 bytes instead of 10"):
        find_checkpoint(spec, tmp_path)


def test_a_checkpoint_of_unknown_content_only_has_to_exist(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"anything")

    assert find_checkpoint(replace(spec, size_bytes=None, sha256=None), tmp_path) == tmp_path / "tiny.pt"


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.pt").write_bytes(CONTENT)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    # File permissions do not stop a test that runs as root.
    monkeypatch.setattr("labelstudio_sam2.segmenter.weights.file_sha256", refuse)

    with pytest.raises(ModelUnavailableError, match=r"tiny\.pt cannot be read: Permission denied"):
        find_checkpoint(spec, tmp_path)
