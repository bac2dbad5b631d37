"""What the training minimises: masks by focal and dice loss, scores by their distance from the true IoU."""

import torch
from torch import Tensor
from torch.nn import functional

_FOCAL_WEIGHT = 10.0
_OTHERS_WEIGHT = 0.05
"""Of the two masks that were not the best of the three, so that none of them goes dead."""


def mask_loss(logits: Tensor, scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of N prompts' answers and their true IoU.

    Args:
        logits: (N, 4, h, w), the single mask first, then the three for ambiguous prompts.
        scores: (N, 4), predicted IoU.
        truth: (N, 2h, 2w) float32, 0 or 1.

    Returns:
        The mean loss, and (N, 4) IoU.
    """
    upsampled = functional.interpolate(logits, truth.shape[-2:], mode="bilinear", align_corners=False)
    wanted = truth[:, None].expand_as(upsampled)
    single_loss = _focal(upsampled, wanted) * _FOCAL_WEIGHT + dice(upsampled, wanted)
    three = single_loss[:, 1:]
    with torch.no_grad():
        true_iou = iou(upsampled > 0, wanted > 0.5)
    masks = single_loss[:, 0] + three.min(dim=1).values + _OTHERS_WEIGHT * three.mean(dim=1)
    return masks.mean() + (scores - true_iou).abs().mean(), true_iou


def dense_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and dice of (N, K, h, w) logits."""
    return functional.binary_cross_entropy_with_logits(logits, truth) + dice(logits, truth).mean()


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Return (N, K): one minus the dice coefficient of each mask's probabilities."""
    probability = logits.sigmoid()
    shared = (probability * truth).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1))
    return 1 - (2 * shared + 1) / (total + 1)


def iou(mask: Tensor, truth: Tensor) -> Tensor:
    """Return the intersection over union of (..., h, w) bool masks."""
    shared = (mask & truth).sum(dim=(-2, -1)).float()
    either = (mask | truth).sum(dim=(-2, -1)).float()
    return shared / either.clamp(min=1)


def _focal(logits: Tensor, truth: Tensor, gamma: float = 2.0, alpha: float = 0.4) -> Tensor:
    """Return (N, K): the focal loss (Lin et al. 2017), averaged over each mask's pixels."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    hit = torch.exp(-entropy)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * (1 - hit) ** gamma * entropy).mean(dim=(-2, -1))
