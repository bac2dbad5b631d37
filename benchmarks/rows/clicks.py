"""One annotator's clicks: the first on a picture, the next ones, and where their time goes."""

from collections.abc import Callable

import torch

from benchmarks.bench import FULL_HD, LARGE, NANO, PHONE, TINY, Bench, Clicks, short_name, size_text
from benchmarks.report import Bar, Curve, Gate, Outcome, Point, Row, at_least, at_most
from benchmarks.stages import Stages
from benchmarks.timings import NOTHING, Spread, Times, Took, ratio

_SIZES = ((640, 480), FULL_HD, PHONE, (6000, 4000), (8000, 6000))
"""0.3, 2, 12, 24 and 48 megapixels."""
_STAGES = ("open and prepare", "image encoder", "mask decoder", "mask to answer")


def second_click(bench: Bench) -> Outcome:
    """Measure every click but a picture's first."""
    asked: list[tuple[str, tuple[int, int], Gate | None]] = [
        (TINY, FULL_HD, at_least(30)),
        (TINY, PHONE, at_least(30)),
        (LARGE, FULL_HD, at_least(120)),
    ]
    if bench.is_quick:
        asked = [(NANO, FULL_HD, None), (NANO, PHONE, None), (TINY, FULL_HD, at_least(30))]
    rows = []
    for model_id, size_wh, gate in asked:
        clicks = bench.clicks(model_id, size_wh)
        rows.append(
            _compared(
                f"second click, {short_name(model_id)}, {size_text(size_wh)}",
                clicks.plain,
                clicks.second,
                lambda stages: stages.total,
                bench,
                gate=gate,
                note=f"masks agree to an IoU of {clicks.agreement:.3f} or more",
            )
        )
    return Outcome(rows=rows)


def first_click(bench: Bench) -> Outcome:
    """Measure a picture's first click, with and without the image encoder, and cut it into stages."""
    model_id = NANO if bench.is_quick else TINY
    clicks = bench.clicks(model_id, PHONE)
    where = f"{short_name(model_id)}, {size_text(PHONE)}"
    gate = None if bench.is_quick else at_least(3)
    rows = [
        _compared(
            f"first click outside the encoder, {where}",
            clicks.plain,
            clicks.first,
            lambda stages: stages.outside_encoder,
            bench,
            gate=gate,
        ),
        _compared(f"first click, {where}", clicks.plain, clicks.first, lambda stages: stages.total, bench),
    ]
    bars = [
        _bar(f"plain, every click\n{where}", clicks.plain),
        _bar("ours, first click", clicks.first),
        _bar("ours, next clicks", clicks.second),
    ]
    return Outcome(rows=rows, bars=bars)


def after_decoder(bench: Bench) -> Outcome:
    """Measure what comes after the mask decoder: from its logits to the answer's bytes."""
    clicks = bench.clicks(NANO if bench.is_quick else TINY, PHONE)
    row = _compared(
        f"after the decoder, {size_text(PHONE)}",
        clicks.plain,
        clicks.second,
        lambda stages: stages.after,
        bench,
        gate=at_least(20),
    )
    return Outcome(rows=[row])


def picture_size(bench: Bench) -> Outcome:
    """Measure clicks against the picture's size, 0.3 to 48 megapixels."""
    model_id = NANO if bench.is_quick else TINY
    measured = [bench.clicks(model_id, size_wh) for size_wh in (_SIZES[:3] if bench.is_quick else _SIZES)]
    shares = [
        Spread.of(100 * stages.outside_model.by(bench.basis) / stages.total.by(bench.basis) for stages in each.second)
        for each in measured
    ]
    worst = max(shares, key=lambda share: share.median)
    listed = ", ".join(
        f"{each.picture.megapixels:.2g}: {share.median:.0f} %" for each, share in zip(measured, shares, strict=True)
    )
    row = Row(
        title=f"a cached click's share outside the decoder, {short_name(model_id)}, at the worst size",
        figure=worst,
        unit="%",
        gate=None if bench.is_quick else at_most(10),
        note=f"by megapixels: {listed}",
    )
    picks: dict[str, Callable[[Clicks], list[Stages]]] = {
        "plain, every click": lambda clicks: clicks.plain,
        "ours, first click": lambda clicks: clicks.first,
        "ours, next clicks": lambda clicks: clicks.second,
    }
    curves = [
        Curve(
            plot="size",
            label=f"{label} ({short_name(model_id)})",
            points=[
                Point(x=clicks.picture.megapixels, y=Times.of([stages.total for stages in pick(clicks)]).wall)
                for clicks in measured
            ],
        )
        for label, pick in picks.items()
    ]
    return Outcome(rows=[row], curves=curves)


def gpu_clicks(bench: Bench) -> Outcome:
    """Measure the large model's clicks in milliseconds; only where there is a GPU."""
    if not bench.device.startswith("cuda"):
        return Outcome()
    clicks = bench.clicks(TINY if bench.is_quick else LARGE, FULL_HD)
    name = short_name(TINY if bench.is_quick else LARGE)
    is_h100 = "H100" in torch.cuda.get_device_name() and not bench.is_quick
    rows = []
    for title, stages, limit in (("first", clicks.first, 40), ("second", clicks.second, 8)):
        times = Times.of([each.total for each in stages])
        rows.append(
            Row(
                title=f"{title} click end to end, {name}, {size_text(FULL_HD)}",
                figure=times.wall.times(1000),
                unit="ms",
                gate=at_most(limit) if is_h100 else None,
                ours=times,
            )
        )
    return Outcome(rows=rows)


def _compared(
    title: str,
    plain: list[Stages],
    ours: list[Stages],
    part: Callable[[Stages], Took],
    bench: Bench,
    *,
    gate: Gate | None = None,
    note: str = "",
) -> Row:
    """Return a row that compares a part of two contenders' clicks."""
    theirs, mine = [part(stages) for stages in plain], [part(stages) for stages in ours]
    return Row(
        title=title,
        figure=ratio(theirs, mine, bench.basis),
        unit="x",
        gate=gate,
        plain=Times.of(theirs),
        ours=Times.of(mine),
        note=note,
    )


def _bar(label: str, clicks: list[Stages]) -> Bar:
    parts = zip(*((each.before, each.encoder, each.decoder, each.after) for each in clicks), strict=True)
    seconds = [(sum(rounds, NOTHING) / len(clicks)).wall for rounds in parts]
    return Bar(label=label, stages=dict(zip(_STAGES, seconds, strict=True)))
