"""How much one request of Label Studio may ask for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from labelstudio_sam2.errors import BadConfigError, BadPromptError, BadRequestError, BusyError
from labelstudio_sam2.labelstudio.regions import DrawnRegion
from labelstudio_sam2.labelstudio.wire import PredictRequest, Region
from labelstudio_sam2.settings import Settings

MAX_CORNERS = 2000
"""Of a polygon. To fill one that crosses itself takes the more than quadratic time of its corners: 0.03 s for 2,000,
4 s for 10,000."""
MAX_STROKES = 1000
"""Of a brush region."""
MAX_POINTS = 100_000
"""Of all regions together."""
STROKE_POINTS = 20
"""What a stroke counts for besides its points: it is drawn as a whole, and its ends are."""


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """The most that one request may ask for.

    Attributes:
        tasks: With something to answer.
        regions: In the context, and in a draft: of one with more the newest count.
        objects: Masks, for each task.
        label_config_bytes: Of the labeling configuration, in UTF-8.
        seconds: After which no further task is begun.
    """

    tasks: int = 100
    regions: int = 1000
    objects: int = 256
    label_config_bytes: int = 256_000
    seconds: float = 60

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read `MAX_TASKS`, `MAX_REGIONS`, `MAX_OBJECTS`, `MAX_LABEL_CONFIG_KB` and `REQUEST_SECONDS`."""
        return cls(
            tasks=settings.max_tasks,
            regions=settings.max_regions,
            objects=settings.max_objects,
            label_config_bytes=settings.max_label_config_kb * 1000,
            seconds=settings.request_seconds,
        )

    def check(self, request: PredictRequest) -> None:
        """Do nothing if a request asks for no more than it may.

        Raises:
            BadConfigError: Its labeling configuration is too long.
            BadRequestError: It has too many tasks.
            BadPromptError: It has too many regions.
        """
        regions = request.context.result if request.context is not None else []
        if len(request.label_config.encode()) > self.label_config_bytes:
            raise BadConfigError(f"the labeling configuration is longer than {self.label_config_bytes} bytes")
        if regions and len(request.tasks) > self.tasks:
            raise BadRequestError(f"tasks: at most {self.tasks} at once, got {len(request.tasks)}")
        if len(regions) > self.regions:
            raise BadPromptError(f"a context takes at most {self.regions} regions, got {len(regions)}")
        if not all(map(_is_drawable, regions)):
            raise BadPromptError(f"a region takes at most {MAX_CORNERS} corners or {MAX_STROKES} strokes")
        if sum(map(_points, regions)) > MAX_POINTS:
            raise BadPromptError(f"the regions of a context take at most {MAX_POINTS} points")

    def on_screen(self, draft: Sequence[Region]) -> list[Region]:
        """Return the newest regions of a draft, as many as may be looked at, in their order.

        One that is too much by itself is passed over, as one is that cannot be read: it is not what was asked.
        """
        newest, points = [], 0
        for region in reversed(draft[-self.regions :]):
            if _is_drawable(region):
                points += _points(region)
                if points > MAX_POINTS:
                    break
                newest.append(region)
        return newest[::-1]

    def check_objects(self, regions: Sequence[DrawnRegion]) -> None:
        """Do nothing if regions ask for no more masks than they may: one for each that is no click.

        Raises:
            BadPromptError: They ask for more.
        """
        count = sum(region.kind != "keypoint" for region in regions)
        if count > self.objects:
            raise BadPromptError(f"a request takes at most {self.objects} objects, got {count}")

    def check_time(self, by: float) -> None:
        """Do nothing if a request has time left for another task.

        Args:
            by: When it is over, on the monotonic clock.

        Raises:
            BusyError: It has none.
        """
        if time.monotonic() > by:
            raise BusyError(f"the request took longer than {self.seconds:g} s")


def _is_drawable(region: Region) -> bool:
    return len(region.value.points or ()) <= MAX_CORNERS and len(region.value.touches or ()) <= MAX_STROKES


def _points(region: Region) -> int:
    strokes = region.value.touches or ()
    in_strokes = sum(STROKE_POINTS + len(stroke.relative_points) // 2 for stroke in strokes)
    return len(region.value.points or ()) + in_strokes
