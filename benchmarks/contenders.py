"""The plain code and ours with the same weights, on the same pictures, on the same device."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from sam2.build_sam import build_sam2

from benchmarks.ours import OurBackend
from benchmarks.plain import PlainBackend
from benchmarks.stages import Click, StageClock
from labelstudio_sam2.segmenter.zoo import MODELS

_SEED = 0


@dataclass(frozen=True)
class Contenders:
    """Two backends with one model each, of equal weights."""

    plain: PlainBackend
    ours: OurBackend
    _plain_stages: StageClock
    _our_stages: StageClock

    def plain_click(self, body: bytes) -> Click:
        """Let the plain code answer."""
        return self._plain_stages.measure(lambda: self.plain.click(body))

    def our_click(self, body: bytes) -> Click:
        """Let our backend answer."""
        return self._our_stages.measure(lambda: self.ours.click(body))


def build_contenders(model_id: str, folder: Path, device: str) -> Contenders:
    """Build both. The official models get random weights, equal in every run; nano has its own.

    Random weights cost what trained ones do; only the masks are noise, which is dearer to write than real ones.

    Args:
        model_id: A known model, such as `nano` or `sam2/hiera_tiny`.
        folder: Where the pictures are.
        device: `cuda`, `mps` or `cpu`.
    """
    net = _build(model_id, device)
    our_net = deepcopy(net)
    return Contenders(
        PlainBackend(net, folder), OurBackend(our_net, folder, device), StageClock(net), StageClock(our_net)
    )


def _build(model_id: str, device: str) -> torch.nn.Module:
    spec = MODELS[model_id]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        net: torch.nn.Module = build_sam2(
            f"/{spec.config}" if spec.config.is_absolute() else str(spec.config), device=device
        )
    if spec.checkpoint.is_absolute():  # it ships
        net.load_state_dict(safetensors.torch.load_file(spec.checkpoint))
    return net
