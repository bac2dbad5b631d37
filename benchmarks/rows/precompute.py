"""How much of the image encoder's own rate is left when a whole project is embedded ahead."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench import FULL_HD, NANO, TINY, Bench, short_name
from benchmarks.clicks import LABEL_CONFIG
from benchmarks.picture_server import serve_picture
from benchmarks.pictures import scene_file
from benchmarks.report import Outcome, Row, at_least
from benchmarks.timings import Times, in_turns, ratio
from labelstudio_sam2.images.decode import ImageLimits, decode_image
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.labelstudio.label_studio_tasks import Page
from labelstudio_sam2.labelstudio.precompute import Precompute, find_project
from labelstudio_sam2.labelstudio.wire import Task
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.settings import load_settings

_PICTURES = {"cpu": 4, "cuda": 64}
"""In a round, by the device: on a CPU each takes seconds."""
_PICTURES_NANO = 32
_ROOM = 1_000
_DISK_BYTES = 2**30
"""Older rounds' embeddings go: what is written takes their place."""
_HOUR = 3_600


@dataclass(frozen=True)
class _Tasks:
    """One project's tasks, all in one page: what is timed is what comes after it was listed."""

    addresses: Sequence[str]

    def label_config(self, project: str) -> str:  # noqa: ARG002  there is one
        return LABEL_CONFIG

    def tasks_after(self, project: str, task_id: int, count: int, *, unfinished_only: bool) -> Page:  # noqa: ARG002
        numbers = range(task_id + 1, len(self.addresses) + 1)
        return Page([Task(number, {"image": self.addresses[number - 1]}) for number in numbers][:count], len(numbers))


def precompute(bench: Bench) -> Outcome:
    """Measure embedding a project's pictures ahead, from download to file, beside the image encoder alone."""
    model_id = NANO if bench.is_quick else TINY
    model = bench.contenders(model_id).ours.model
    count = _PICTURES_NANO if bench.is_quick else _PICTURES.get(bench.device, _PICTURES["cpu"])
    picture = scene_file(bench.folder, FULL_HD)
    with TemporaryDirectory(dir=bench.folder) as folder, serve_picture(bench.folder / picture.name) as host:
        segmenter: Segmenter[Any] = Segmenter(
            lambda: model,
            model_version="benchmark",
            cache=EmbeddingCache(2**30),
            device=DeviceSchedule(max_waiting=1, wait_seconds=_HOUR),
            disk=EmbeddingDisk(Path(folder), _DISK_BYTES),
        )
        segmenter.start().join()
        segmenter.check_ready()
        settings = load_settings(allowed_image_hosts=host, image_download_seconds=_HOUR)
        source = ImageSource(settings, strict_pillow=False)
        image = decode_image((bench.folder / picture.name).read_bytes(), ImageLimits.from_settings(settings))

        def encode(_number: int) -> None:
            for _ in range(count):
                model.embed(image)

        def embed_ahead(number: int) -> None:
            tasks = _Tasks([f"http://{host}/{number}/{each}.jpg" for each in range(count)])
            run = Precompute(tasks, source, segmenter, room=_ROOM)
            run.start([find_project(tasks, "1", unfinished_only=True)])
            run.wait(_HOUR)
            if run.tally.embedded != count:
                raise RuntimeError(f"not every picture was embedded: {run.tally}")

        alone, ahead = in_turns(
            encode,
            embed_ahead,
            rounds=bench.rounds(3, 3),
            announce=lambda text: bench.announce(f"a project embedded ahead: {text}"),
        )
    times = Times.of(ahead)
    row = Row(
        title=f"a project embedded ahead, against the encoder alone, {short_name(model_id)}, 1920 x 1080",
        figure=ratio(alone, ahead, bench.basis),
        unit="x",
        gate=None if bench.is_quick else at_least(0.9),
        plain=Times.of(alone),
        ours=times,
        note=f"{count} pictures a round, downloaded, decoded, embedded and written: "
        f"{count / times.wall.median:.2f} a second on the wall, the encoder alone "
        f"{count / Times.of(alone).wall.median:.2f}; plain is the encoder",
    )
    return Outcome(rows=[row])
