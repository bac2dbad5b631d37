"""docs/weights.md: its table is the zoo's, and a checkpoint of one's own is used as it says."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from labelstudio_sam2.segmenter.models import load_model
from labelstudio_sam2.segmenter.sam2_model import Sam2Model
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec, known, resolve

PAGE = (Path(__file__).parent.parent / "docs" / "weights.md").read_text()


def row(spec: ModelSpec) -> str:
    """A model's line of the table."""
    if spec.url is None:
        return f"| `{spec.model_id}` | ships with this package | | |"
    short = spec.model_id.removeprefix("sam2/hiera_")
    names = f"`{spec.model_id}`, or `{short}`" if short != spec.model_id else f"`{spec.model_id}`"
    size = f"{round((spec.size_bytes or 0) / 1_000_000)} MB"
    return f"| {names} | `{spec.checkpoint.name}` | {size} | `{spec.config.name}` |"


def test_the_table_of_models_is_the_zoos() -> None:
    rows = re.findall(r"^\| `(?:nano|sam2).*$", PAGE, re.MULTILINE)

    assert rows == [row(spec) for spec in MODELS.values()]


def test_a_short_name_in_the_table_is_that_model() -> None:
    short = dict(re.findall(r"^\| `(\S+)`, or `(\w+)` ", PAGE, re.MULTILINE))

    assert [known(name) for name in short.values()] == [MODELS[model_id] for model_id in short]
    assert len(short) == 4


@pytest.fixture
def trained(nano_model: Sam2Model, tmp_path: Path) -> Path:
    """A checkpoint as SAM 2's own training code writes one, with nano's weights."""
    optimizer = torch.optim.AdamW(nano_model._net.parameters(), lr=1e-5)
    rest = {"optimizer": optimizer.state_dict(), "epoch": 3, "steps": {"train": 40}, "best_meter_values": {}}
    torch.save({"model": nano_model._net.state_dict(), **rest}, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("name", ["checkpoint.pt", "leaves.safetensors"])
def test_a_trainings_checkpoint_and_what_is_left_of_it_are_the_same_model(
    nano_model: Sam2Model, trained: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(trained.parent)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("extract.py").write_text(code)
    runpy.run_path("extract.py")

    model = load_model(resolve(name, MODELS["nano"].config_path), Path("weights"), device="cpu", precision="auto")

    torch.testing.assert_close(dict(model._net.state_dict()), dict(nano_model._net.state_dict()), rtol=0, atol=0)
