"""Nano as it is trained: SAM 2's own modules at any input size, and heads that only the training uses."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

_QUERY_SIZE = 32
_FIRST_ATTENTION_GAIN = 1.8
_FIRST_PROMPT_SCALE = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """What the image encoder makes of a batch of B images of S pixels.

    Attributes:
        image: (B, C, S/16, S/16).
        high_res: (B, C/8, S/4, S/4) and (B, C/4, S/8, S/8).
    """

    image: Tensor
    high_res: tuple[Tensor, Tensor]

    def repeat(self, times: int) -> "Embeddings":
        """Each image's embedding `times` times in a row, for as many prompts."""
        first, second = self.high_res
        return Embeddings(
            image=self.image.repeat_interleave(times, 0),
            high_res=(first.repeat_interleave(times, 0), second.repeat_interleave(times, 0)),
        )


class Network(nn.Module):
    """A `SAM2Base` for pictures whose input size can change between two batches.

    Args:
        config_path: Nano's config.
        precision: What encoder and decoder compute in; weights, positions and losses stay float32.
    """

    def __init__(self, config_path: Path, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.precision = precision
        config = OmegaConf.load(config_path)
        OmegaConf.resolve(config)
        self.sam: Any = instantiate(config.model)
        self.size = int(self.sam.image_size)
        _start_where_training_gets_going(self.sam)

    def set_size(self, size: int) -> None:
        """Take images of this size from now on."""
        self.size = size
        encoder = self.sam.sam_prompt_encoder
        encoder.input_image_size = (size, size)
        encoder.image_embedding_size = (size // 16, size // 16)
        encoder.mask_input_size = (size // 4, size // 4)

    def embed(self, pixels: Tensor) -> Embeddings:
        """Run the image encoder on (B, 3, S, S) uint8."""
        mean = pixels.new_tensor((0.485, 0.456, 0.406), dtype=torch.float32).reshape(1, 3, 1, 1)
        std = pixels.new_tensor((0.229, 0.224, 0.225), dtype=torch.float32).reshape(1, 3, 1, 1)
        with self.autocast(pixels.device):
            levels = self.sam.forward_image((pixels.float() / 255 - mean) / std)["backbone_fpn"]
        first, second, image = (level.float() for level in levels[-3:])
        return Embeddings(image=image + self.sam.no_mem_embed.reshape(1, -1, 1, 1), high_res=(first, second))

    def predict(
        self, embeddings: Embeddings, points: Tensor, labels: Tensor, mask_input: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run prompt encoder and mask decoder on one prompt per embedding.

        Args:
            embeddings: Of N images.
            points: (N, P, 2) float32, xy in pixels.
            labels: (N, P) int64.
            mask_input: (N, S/4, S/4) float32 logits.
            has_mask: (N,) bool, whether to look at `mask_input`.

        Returns:
            Logits (N, 4, S/4, S/4), the single mask first, then the three; and predicted IoU (N, 4).
        """
        encoder = self.sam.sam_prompt_encoder
        sparse = encoder._embed_points(points, labels, pad=True)  # noqa: SLF001  forward() takes no mixture
        without = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = torch.where(has_mask.reshape(-1, 1, 1, 1), encoder._embed_masks(mask_input[:, None]), without)  # noqa: SLF001
        positions = encoder.get_dense_pe()
        with self.autocast(points.device):
            logits, scores, _, _ = self.sam.sam_mask_decoder.predict_masks(
                image_embeddings=embeddings.image,
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                repeat_image=False,
                high_res_features=list(embeddings.high_res),
            )
        return logits.float(), scores.float()

    def autocast(self, device: torch.device) -> torch.autocast:
        """Compute in the chosen precision."""
        return torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32)


class TrainingHeads(nn.Module):
    """Dense tasks on the embeddings that teach the encoder from the first step on; thrown away afterwards.

    What is an object and where its border runs; and which pixels belong to the same object as a given one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(c, 64, 1) for c in (channels // 8, channels // 4, channels))
        self.mix = nn.Conv2d(64, 64, 3, padding=1)
        self.scene = nn.Conv2d(64, 2, 1)
        self.query = nn.Conv2d(64, _QUERY_SIZE, 1)
        self.gain = nn.Parameter(torch.tensor([8.0, -4.0]))

    def forward(self, embeddings: Embeddings) -> tuple[Tensor, Tensor]:
        """Return scene logits (B, 2, S/4, S/4) and unit vectors (B, 32, S/4, S/4)."""
        size = embeddings.high_res[0].shape[-2:]
        levels = (*embeddings.high_res, embeddings.image)
        spread = [
            functional.interpolate(project(level), size, mode="bilinear", align_corners=False)
            for project, level in zip(self.projections, levels, strict=True)
        ]
        mixed = torch.stack(spread).sum(dim=0)
        mixed = functional.gelu(self.mix(functional.gelu(mixed)))
        return self.scene(mixed), functional.normalize(self.query(mixed), dim=1)

    def alike(self, vectors: Tensor, pixel: Tensor) -> Tensor:
        """Return logits of belonging to the same object.

        Args:
            vectors: (B, 32, h, w) from `forward`.
            pixel: (B, P) int64, flat indices into h x w.

        Returns:
            (B, P, h, w).
        """
        flat = vectors.flatten(2)
        asked = flat.gather(2, pixel[:, None].expand(-1, flat.shape[1], -1))
        cosine = torch.einsum("bcp,bcn->bpn", asked, flat)
        logits: Tensor = self.gain[0] * cosine + self.gain[1]
        return logits.reshape(*logits.shape[:2], *vectors.shape[-2:])


def _start_where_training_gets_going(sam: Any) -> None:
    """Start cross-attention aligned with positions.

    From the usual random start the decoder answers with empty masks for hundreds of steps: a click's token does not
    find its place in the image. With equal query and key projections it attends to where it was clicked at once.
    """
    transformer = sam.sam_mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in crossings:
            rows = torch.empty_like(attention.q_proj.weight)
            nn.init.orthogonal_(rows, gain=_FIRST_ATTENTION_GAIN)
            attention.q_proj.weight.copy_(rows)
            attention.k_proj.weight.copy_(rows)
        encoder = sam.sam_prompt_encoder
        for embedding in (*encoder.point_embeddings, encoder.not_a_point_embed, encoder.no_mask_embed):
            embedding.weight.mul_(_FIRST_PROMPT_SCALE)
        nn.init.trunc_normal_(sam.no_mem_embed, std=0.02)
        sam.sam_mask_decoder.iou_prediction_head.layers[-1].bias.fill_(math.log(0.6 / 0.4))
