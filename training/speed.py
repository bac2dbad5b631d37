"""Measure how fast nano is beside SAM 2's smallest official model: `python -m training.speed`.

Both run in turns on one core in one process, with random weights, which cost what trained ones do. The ratio is the
figure to trust: it hardly depends on the machine.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from labelstudio_sam2.segmenter.prompt import Prompt
from labelstudio_sam2.segmenter.sam2_model import Sam2Model
from labelstudio_sam2.segmenter.zoo import MODELS

T = TypeVar("T")

_OFFICIAL = "sam2/hiera_tiny"
_PREDICTIONS = 10
"""For each embedding: a prediction is too short to be timed alone."""


def main(rounds: Annotated[int, typer.Option(help="How often each model embeds.")] = 5) -> None:
    """Print milliseconds of process CPU time for `embed` and `predict`, and nano's ratio to hiera_tiny."""
    torch.set_num_threads(1)
    console = Console()
    models = {name: Sam2Model.from_config(MODELS[name].config_path, device="cpu") for name in ("nano", _OFFICIAL)}
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    click = Prompt(point_coords=np.array([[300, 200]], np.float32), point_labels=np.array([1], np.int32))
    embed_ms: dict[str, list[float]] = {name: [] for name in models}
    predict_ms: dict[str, list[float]] = {name: [] for name in models}
    for number in track(range(rounds + 1), "measuring", console=console):
        for name, model in models.items():
            embedding, milliseconds = _timed(partial(model.embed, image))
            predict = partial(model.predict, embedding, click, multimask_output=True)
            _, together = _timed(lambda: [predict() for _ in range(_PREDICTIONS)])  # noqa: B023  called at once
            if number:  # the first round warms up
                embed_ms[name].append(milliseconds)
                predict_ms[name].append(together / _PREDICTIONS)
    table = Table("one CPU core, median", *models, "ratio", title=f"{rounds} rounds in turns, 640 x 480, ms")
    for what, measured in (("embed", embed_ms), ("predict", predict_ms)):
        medians = {name: float(np.median(times)) for name, times in measured.items()}
        ratio = medians[_OFFICIAL] / medians["nano"]
        table.add_row(what, *(f"{median:,.1f}" for median in medians.values()), f"{ratio:.1f}x")
    console.print(table)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    result = call()
    return result, (time.process_time() - started) * 1000


if __name__ == "__main__":
    typer.run(main)
