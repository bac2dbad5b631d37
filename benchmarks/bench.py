"""What every measurement works with: models, pictures, how many rounds, and clicks that were measured already."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clicks import agreement, click_body, mask_in, places
from benchmarks.contenders import Contenders, build_contenders
from benchmarks.pictures import PictureFile, scene_file
from benchmarks.stages import Click, Stages, mean_stages
from benchmarks.timings import Basis, round_text

NANO, TINY, LARGE = "nano", "sam2/hiera_tiny", "sam2/hiera_large"
FULL_HD, PHONE = (1920, 1080), (4000, 3000)
"""(W, H) in pixels."""

_SECOND_CLICKS = 3
"""Further clicks for each one of the plain code: they are short."""
_GPU_ROUNDS = 4
"""How many times more rounds where each takes milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """Clicks on one picture, measured in turns, the warm-up left out; one entry for each round.

    Attributes:
        picture: What was clicked on.
        plain: The plain code's, all alike: it remembers nothing.
        first: Ours, on a picture never seen before.
        second: Ours, on the same picture, the mean of some.
        agreement: The least intersection over union of two masks for the same click.
    """

    picture: PictureFile
    plain: list[Stages]
    first: list[Stages]
    second: list[Stages]
    agreement: float


@dataclass(kw_only=True)
class Bench:
    """One run of the benchmark.

    Attributes:
        folder: Where the pictures are drawn.
        device: `cuda`, `mps` or `cpu`.
        is_quick: Whether to leave out what takes minutes.
        wanted_rounds: How many rounds count, or None for each measurement's own number.
        announce: Told what is done now.
    """

    folder: Path
    device: str = "cpu"
    is_quick: bool = False
    wanted_rounds: int | None = None
    announce: Callable[[str], None] = lambda _: None
    _contenders: dict[str, Contenders] = field(default_factory=dict)
    _clicks: dict[tuple[str, tuple[int, int]], Clicks] = field(default_factory=dict)

    @property
    def basis(self) -> Basis:
        """The clock that ratios are made of."""
        return "cpu" if self.device == "cpu" else "wall"

    def rounds(self, full: int, quick: int) -> int:
        """Return how many rounds count."""
        if self.wanted_rounds is not None:
            return self.wanted_rounds
        return (quick if self.is_quick else full) * (1 if self.device == "cpu" else _GPU_ROUNDS)

    def contenders(self, model_id: str) -> Contenders:
        """Return the plain code and ours with a model. Nano and one official model stay in memory."""
        if model_id not in self._contenders:
            self.announce(f"building {model_id}")
            for other in self._contenders.keys() - {NANO}:
                del self._contenders[other]
            self._contenders[model_id] = build_contenders(model_id, self.folder, self.device)
        return self._contenders[model_id]

    def clicks(self, model_id: str, size_wh: tuple[int, int]) -> Clicks:
        """Return clicks with a model on a picture of a size; measured once, however often it is asked for."""
        key = model_id, size_wh
        if key not in self._clicks:
            rounds = self.rounds(3 if model_id == LARGE or size_wh[0] > PHONE[0] else 5, 2)
            self._clicks[key] = self._measure_clicks(model_id, size_wh, rounds)
        return self._clicks[key]

    def _measure_clicks(self, model_id: str, size_wh: tuple[int, int], rounds: int) -> Clicks:
        contenders = self.contenders(model_id)
        title = f"clicks with {short_name(model_id)} on {size_text(size_wh)}"
        self.announce(f"{title}: drawing the picture")
        picture = scene_file(self.folder, size_wh)
        plain: list[Stages] = []
        first: list[Stages] = []
        second: list[Stages] = []
        agreements = []
        for number in range(-1, rounds):
            self.announce(f"{title}: {round_text(number, rounds)}")
            bodies = [click_body(picture, place, version=number) for place in places(_SECOND_CLICKS, seed=number + 1)]
            theirs = contenders.plain_click(bodies[0])
            contenders.ours.forget()
            never_seen = contenders.our_click(bodies[0])
            seen = [contenders.our_click(body) for body in bodies]
            if number >= 0:
                plain.append(theirs.stages)
                first.append(never_seen.stages)
                second.append(mean_stages([click.stages for click in seen]))
                agreements.append(_agreement(theirs, seen[0], picture))
        return Clicks(picture=picture, plain=plain, first=first, second=second, agreement=min(agreements))


def short_name(model_id: str) -> str:
    """Return what a model is called in titles: tiny."""
    return model_id.removeprefix("sam2/hiera_")


def size_text(size_wh: tuple[int, int]) -> str:
    """Return a picture's size for titles: 1920 x 1080."""
    return f"{size_wh[0]} x {size_wh[1]}"


def _agreement(one: Click, other: Click, picture: PictureFile) -> float:
    return agreement(mask_in(one.answer, picture.size_wh), mask_in(other.answer, picture.size_wh))
