"""The training's curve as a picture."""

import itertools
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_BREAK_SECONDS = 1800
_NAMES = {"click": "1 click", "best_of_3": "1 click, best of three", "clicks_3": "3 clicks", "box": "box"}


def draw_curve(log_path: Path, picture: Path) -> None:
    """Draw loss and held-out IoU over the steps of a log that `training.train` wrote."""
    entries = [json.loads(line) for line in log_path.read_text().splitlines()]
    looked = [entry for entry in entries if "held_out" in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    left.plot([e["step"] for e in entries], [e["loss"] for e in entries], color="0.3", linewidth=0.8)
    left.set(title="training loss", xlabel="step", ylim=(0, None))
    for name, title in _NAMES.items():
        right.plot([e["step"] for e in looked], [e["held_out"][name] for e in looked], label=title)
    for axes in (left, right):
        for before, after in itertools.pairwise(entries):
            place = {"transform": axes.get_xaxis_transform(), "color": "0.5", "fontsize": 8}
            if before["size"] != after["size"]:
                axes.axvline(after["step"], color="0.8", linewidth=1)
                axes.text(after["step"], 0.03, f" {after['size']} px", **place)
            if after["time"] - before["time"] > _BREAK_SECONDS:
                axes.axvline(before["step"], color="0.6", linewidth=1, linestyle="--")
                axes.text(before["step"], 0.09, " went on after a break", **place)
    right.set(title="mean IoU, held-out composites", xlabel="step", ylim=(0, 1))
    right.grid(color="0.92")
    right.legend(frameon=False)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
