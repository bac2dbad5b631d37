"""A report as plots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.report import Curve, Report

_DPI = 130
_PLAIN, _OURS, _LIGHTER = "#c2410c", "#2563eb", "#60a5fa"
_STAGE_COLORS = ("#94a3b8", "#c2410c", "#2563eb", "#16a34a")


def draw_plots(report: Report, folder: Path) -> list[str]:
    """Write `bench-<name>.png` for each plot there are figures for; return the names."""
    drawn = []
    for name, draw in _PLOTS.items():
        curves = [curve for curve in report.curves if curve.plot == name]
        if not curves and not (name == "stages" and report.bars):
            continue
        figure = draw(report, curves)
        figure.savefig(folder / f"bench-{name}.png", dpi=_DPI)
        plt.close(figure)
        drawn.append(name)
    return drawn


def _size(report: Report, curves: list[Curve]) -> Any:
    figure, axes = plt.subplots(figsize=(7.5, 4.2), constrained_layout=True)
    for curve, color in zip(curves, (_PLAIN, _LIGHTER, _OURS), strict=False):
        _line(axes, curve, color, factor=1)
    axes.set(xscale="log", yscale="log", xlabel="picture, megapixels", ylabel="one click, seconds on the wall")
    axes.set_xticks([point.x for point in curves[0].points], [f"{point.x:.2g}" for point in curves[0].points])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    return _finished(figure, axes, report, "One click against the picture's size")


def _annotators(report: Report, curves: list[Curve]) -> Any:
    figure, axes = plt.subplots(figsize=(7.5, 4.2), constrained_layout=True)
    for curve, color in zip(curves, (_PLAIN, _OURS), strict=False):
        _line(axes, curve, color, factor=1000)
    axes.set(yscale="log", xlabel="annotators who click without a pause", ylabel="one click, ms (p50; bars: p5 to p95)")
    axes.set_xticks([point.x for point in curves[0].points])
    axes.yaxis.set_major_formatter("{x:g}")
    return _finished(figure, axes, report, "Waiting for one click, nano")


def _cache(report: Report, curves: list[Curve]) -> Any:
    figure, axes = plt.subplots(figsize=(7.5, 4.2), constrained_layout=True)
    for curve in curves:
        _line(axes, curve, _OURS, factor=1e6)
    top = max(point.y.high for curve in curves for point in curve.points) * 1e6
    axes.set(xscale="log", ylim=(0, 1.6 * top), xlabel="cached pictures", ylabel="one hit, microseconds")
    return _finished(figure, axes, report, "Finding a cached embedding")


def _stages(report: Report, _curves: list[Curve]) -> Any:
    """Draw the whole click on the left, and on the right the same without the image encoder."""
    figure, (whole, rest) = plt.subplots(1, 2, figsize=(11, 3.2), constrained_layout=True, sharey=True)
    names = list(report.bars[0].stages)
    for axes, left_out in ((whole, None), (rest, "image encoder")):
        ends = [0.0] * len(report.bars)
        for name, color in zip(names, _STAGE_COLORS, strict=True):
            if name == left_out:
                continue
            widths = [bar.stages[name] for bar in report.bars]
            labels = [bar.label for bar in report.bars]
            axes.barh(labels, widths, left=ends, color=color, label=name, height=0.6)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        for row, end in enumerate(ends):
            axes.text(end, row, f" {end:.2f} s" if end >= 1 else f" {end * 1000:.0f} ms", va="center", fontsize=9)
        axes.set(xlabel="seconds on the wall", xlim=(0, 1.18 * max(ends)))
        axes.spines[["top", "right"]].set_visible(False)
    whole.invert_yaxis()
    whole.set_title("one click", fontsize=10)
    rest.set_title("the same without the image encoder", fontsize=10)
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(_caption(report), fontsize=8, color="0.45")
    return figure


_PLOTS: dict[str, Callable[[Report, list[Curve]], Any]] = {
    "size": _size,
    "stages": _stages,
    "annotators": _annotators,
    "cache": _cache,
}


def _line(axes: Any, curve: Curve, color: str, *, factor: float) -> None:
    middle = [point.y.median * factor for point in curve.points]
    below = [(point.y.median - point.y.low) * factor for point in curve.points]
    above = [(point.y.high - point.y.median) * factor for point in curve.points]
    places = [point.x for point in curve.points]
    axes.errorbar(places, middle, yerr=(below, above), color=color, marker="o", capsize=3, label=curve.label)


def _finished(figure: Any, axes: Any, report: Report, title: str) -> Any:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(f"{title}\n", fontsize=11)
    axes.text(0.5, 1.02, _caption(report), transform=axes.transAxes, ha="center", fontsize=7, color="0.45")
    return figure


def _caption(report: Report) -> str:
    machine = report.machine
    return f"{machine.gpu or f'{machine.cpu}, {machine.cores} cores'}; PyTorch {machine.torch}; {report.date}"
