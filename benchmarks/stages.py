"""Where the time of a click goes: the model's parts say when they begin and end, everything else is ours to save."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.timings import NOTHING, Took


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A click, cut into pieces that add up to it.

    Attributes:
        before: Reading the request, opening the picture, preparing it.
        encoder: SAM 2's image encoder; nothing where the embedding was cached.
        decoder: Its prompt encoder and its mask decoder.
        after: From the low-res logits to the answer's last byte.
    """

    before: Took
    encoder: Took
    decoder: Took
    after: Took

    @property
    def total(self) -> Took:
        """The whole click."""
        return self.outside_encoder + self.encoder

    @property
    def outside_encoder(self) -> Took:
        """All but the image encoder."""
        return self.before + self.decoder + self.after

    @property
    def outside_model(self) -> Took:
        """All but encoder and decoder."""
        return self.before + self.after


def mean_stages(clicks: Sequence[Stages]) -> Stages:
    """Return the mean of some clicks, stage by stage."""
    return Stages(
        before=sum((click.before for click in clicks), NOTHING) / len(clicks),
        encoder=sum((click.encoder for click in clicks), NOTHING) / len(clicks),
        decoder=sum((click.decoder for click in clicks), NOTHING) / len(clicks),
        after=sum((click.after for click in clicks), NOTHING) / len(clicks),
    )


@dataclass(frozen=True, kw_only=True)
class Click:
    """One click from request to answer."""

    answer: bytes
    stages: Stages


class StageClock:
    """Listens to a model with forward hooks. For one click at a time.

    Args:
        net: A `SAM2Base`.
    """

    def __init__(self, net: Any) -> None:
        self._marks: dict[str, Took] = {}
        for name, first, last in (
            ("encoder", net.image_encoder, net.image_encoder),
            ("decoder", net.sam_prompt_encoder, net.sam_mask_decoder),
        ):
            first.register_forward_pre_hook(partial(self._mark, f"{name} begins"))
            last.register_forward_hook(partial(self._mark, f"{name} ends"))

    def measure(self, click: Callable[[], bytes]) -> Click:
        """Let a click be answered.

        Args:
            click: Returns the answer.

        Raises:
            RuntimeError: The mask decoder did not run, or not where it is listened to.
        """
        gc.collect()  # nobody pays for another's garbage
        self._marks.clear()
        begins = Took.now()
        answer = click()
        ends = Took.now()
        marks = self._marks
        if "decoder ends" not in marks:
            raise RuntimeError("a click was answered and the mask decoder was not seen to run")
        encoder = marks["encoder ends"] - marks["encoder begins"] if "encoder ends" in marks else NOTHING
        decoder = marks["decoder ends"] - marks["decoder begins"]
        after = ends - marks["decoder ends"]
        before = ends - begins - encoder - decoder - after
        return Click(answer=answer, stages=Stages(before=before, encoder=encoder, decoder=decoder, after=after))

    def _mark(self, name: str, *_: object) -> None:
        self._marks[name] = Took.now()
