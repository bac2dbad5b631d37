"""The table of models, and what the MODEL settings resolve to."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec, model_version, resolve


@pytest.fixture
def own_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "leaves.pt"
    path.write_bytes(b"abc")
    return path


def test_every_model_of_the_table_has_a_config_that_is_installed() -> None:
    missing = [spec.model_id for spec in MODELS.values() if not spec.config_path.is_file()]

    assert missing == []


def test_the_shipped_checkpoint_is_the_one_in_the_table() -> None:
    content = MODELS["nano"].checkpoint.read_bytes()

    assert len(content) == MODELS["nano"].size_bytes
    assert hashlib.sha256(content).hexdigest() == MODELS["nano"].sha256


@pytest.mark.parametrize(
    ("model", "config", "url"),
    [
        ("sam2/hiera_tiny", "sam2.1_hiera_t.yaml", "092824/sam2.1_hiera_tiny.pt"),
        ("sam2/hiera_small", "sam2.1_hiera_s.yaml", "092824/sam2.1_hiera_small.pt"),
        ("sam2/hiera_b_plus", "sam2.1_hiera_b+.yaml", "092824/sam2.1_hiera_base_plus.pt"),
        ("sam2/hiera_large", "sam2.1_hiera_l.yaml", "092824/sam2.1_hiera_large.pt"),
        ("sam2.0/hiera_tiny", "sam2_hiera_t.yaml", "072824/sam2_hiera_tiny.pt"),
        ("sam2.0/hiera_small", "sam2_hiera_s.yaml", "072824/sam2_hiera_small.pt"),
        ("sam2.0/hiera_b_plus", "sam2_hiera_b+.yaml", "072824/sam2_hiera_base_plus.pt"),
        ("sam2.0/hiera_large", "sam2_hiera_l.yaml", "072824/sam2_hiera_large.pt"),
    ],
)
def test_an_official_id_means_its_own_config_and_checkpoint(model: str, config: str, url: str) -> None:
    spec = resolve(model)

    assert spec.model_id == model
    assert spec.config_path.name == config
    assert spec.url == f"https://dl.fbaipublicfiles.com/segment_anything_2/{url}"
    assert spec.checkpoint == Path(url).relative_to(Path(url).parent)


@pytest.mark.parametrize("name", ["hiera_tiny", "tiny"])
def test_the_prefix_of_the_current_checkpoints_may_be_left_out(name: str) -> None:
    assert resolve(name) is resolve("sam2/hiera_tiny")


def test_all_that_can_be_downloaded_can_be_verified() -> None:
    official = [spec for spec in MODELS.values() if spec.url is not None]

    assert len(official) == len({spec.sha256 for spec in official}) == len({spec.size_bytes for spec in official}) == 8
    assert all(spec.sha256 and spec.size_bytes for spec in official)


def test_an_unknown_id_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"MODEL: 'hiera_huge' is not a known model; use one of nano, sam2/hiera_tiny"):
        resolve("hiera_huge")


def test_a_config_beside_a_known_id_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MODEL_CONFIG_FILE: nano has its own config"):
        resolve("nano", tmp_path / "mine.yaml")


def test_a_checkpoint_of_ones_own_takes_a_config_file(own_checkpoint: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("model: {}")

    spec = resolve(str(own_checkpoint), config)

    assert (spec.model_id, spec.config_path, spec.checkpoint) == ("leaves", config, own_checkpoint)


@pytest.mark.parametrize("name", ["sam2.1_hiera_b+.yaml", "configs/sam2.1/sam2.1_hiera_b+.yaml"])
def test_a_checkpoint_of_ones_own_takes_the_name_of_an_official_config(own_checkpoint: Path, name: str) -> None:
    spec = resolve(str(own_checkpoint), Path(name))

    assert spec.config_path == MODELS["sam2/hiera_b_plus"].config_path


@pytest.mark.parametrize("name", ["other.yaml", "elsewhere/sam2.1_hiera_t.yaml"])
def test_a_config_that_is_nowhere_is_refused_by_name(own_checkpoint: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"MODEL_CONFIG_FILE: {name} is neither a file nor"):
        resolve(str(own_checkpoint), Path(name))


def test_a_checkpoint_of_ones_own_needs_a_config(own_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"MODEL_CONFIG_FILE: leaves\.pt is a checkpoint of your own"):
        resolve(str(own_checkpoint))


@pytest.mark.parametrize(
    ("model", "precision", "version"),
    [
        ("nano", "auto", "nano@9f481d00c187"),
        ("hiera_tiny", "auto", "sam2/hiera_tiny@7402e0d864fa"),
        ("hiera_tiny", "fp16", "sam2/hiera_tiny@7402e0d864fa+fp16"),
        ("sam2.0/hiera_tiny", "auto", "sam2.0/hiera_tiny@65b50056e05b"),
    ],
)
def test_the_version_names_model_checkpoint_and_explicit_precision(model: str, precision: str, version: str) -> None:
    assert model_version(resolve(model), precision) == version


def test_the_version_of_an_own_checkpoint_changes_with_its_config(own_checkpoint: Path) -> None:
    versions = {
        model_version(resolve(str(own_checkpoint), Path(name)), "auto")
        for name in ("sam2.1_hiera_t.yaml", "sam2.1_hiera_s.yaml")
    }

    assert len(versions) == 2


def test_the_version_of_an_own_checkpoint_changes_with_its_content(own_checkpoint: Path) -> None:
    # SHA-256 of "abc", from FIPS 180-2
    before = model_version(resolve(str(own_checkpoint), Path("sam2.1_hiera_t.yaml")), "auto")
    own_checkpoint.write_bytes(b"abd")
    after = model_version(resolve(str(own_checkpoint), Path("sam2.1_hiera_t.yaml")), "auto")

    assert before.startswith("leaves@ba7816bf8f01-")
    assert after != before


def test_resolving_a_model_imports_neither_torch_nor_sam2() -> None:
    program = (
        "import sys\n"
        "from labelstudio_sam2.segmenter.zoo import model_version, resolve\n"
        "spec = resolve('hiera_small')\n"
        "model_version(spec, 'auto'), spec.config_path\n"
        "print(sorted({'torch', 'sam2', 'hydra'} & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("sha256", ["ABC", "zz" * 32, "ab" * 31])
def test_a_hash_that_is_no_sha256_is_refused(sha256: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        ModelSpec(model_id="x", config=Path("x.yaml"), checkpoint=Path("x.pt"), sha256=sha256)


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of \.pt, \.pth, \.safetensors, got x\.onnx"):
        ModelSpec(model_id="x", config=Path("x.yaml"), checkpoint=Path("x.onnx"))
