"""A quick look at held-out composites while the training runs; `training.evaluate` measures for good."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from training.composites import Mask, Uint8Array, compose
from training.losses import iou
from training.network import Embeddings, Network
from training.pictures import Pictures
from training.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE, click_inside, corrective_click, tight_box

MEASURES = ("click", "best_of_3", "clicks_3", "box")
_SEED = 1_000_003


def validate(
    network: Network, weights: dict[str, Tensor], held_out: Pictures, size: int, composites: Iterable[int]
) -> Tensor:
    """Return the sums of `MEASURES` over composites, named by their numbers.

    They are IoU for one click, for the best of its three masks, for three clicks, and for a box.
    """
    own = {name: value.clone() for name, value in network.sam.state_dict().items()}
    network.sam.load_state_dict(weights)
    network.eval()
    network.set_size(size)
    sums = torch.zeros(len(MEASURES))
    with torch.inference_mode():
        for number in composites:
            composite = compose(held_out, np.random.default_rng([_SEED, number]), size)
            truth = composite.masks[number % len(composite.masks)]
            sums += torch.tensor(_measure(network, composite.image, truth))
    network.sam.load_state_dict(own)
    return sums


def _measure(network: Network, image: Uint8Array, truth: Mask) -> tuple[float, float, float, float]:
    device = next(network.parameters()).device
    truth_tensor = torch.from_numpy(truth).to(device)
    size = len(truth)
    embeddings = network.embed(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(device))

    def ask(
        points: list[tuple[float, float]], labels: list[int], prior: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, scores = _predict(network, embeddings, points, labels, prior, size)
        masks = torch.nn.functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)[0] > 0
        return logits[0], scores[0], iou(masks, truth_tensor)

    points, labels = [click_inside(truth)], [POSITIVE]
    logits, scores, ious = ask(points, labels, None)
    best = int(scores[1:].argmax()) + 1
    click, best_of_three, prior = float(ious[best]), float(ious[1:].max()), logits[best]
    for _ in range(2):
        answer = torch.nn.functional.interpolate(prior[None, None], (size, size), mode="bilinear", align_corners=False)
        point, label = corrective_click(truth, (answer[0, 0] > 0).cpu().numpy())
        points, labels = [*points, point], [*labels, label]
        logits, _, ious = ask(points, labels, prior)
        prior = logits[0]
    three = float(ious[0])
    x1, y1, x2, y2 = tight_box(truth)
    _, _, ious = ask([(x1, y1), (x2, y2)], [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], None)
    return click, best_of_three, three, float(ious[0])


def _predict(
    network: Network,
    embeddings: Embeddings,
    points: list[tuple[float, float]],
    labels: list[int],
    prior: Tensor | None,
    size: int,
) -> tuple[Tensor, Tensor]:
    device = embeddings.image.device
    mask_input = torch.zeros(1, size // 4, size // 4, device=device) if prior is None else prior[None].clamp(-32, 32)
    return network.predict(
        embeddings,
        torch.tensor([points], dtype=torch.float32, device=device),
        torch.tensor([labels], device=device),
        mask_input,
        torch.tensor([prior is not None], device=device),
    )
