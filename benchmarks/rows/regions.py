"""What the regions that are on the annotator's screen already cost: Label Studio sends all of them with every click."""

from benchmarks.bench import FULL_HD, NANO, Bench
from benchmarks.clicks import click_body, existing_regions
from benchmarks.pictures import scene_file
from benchmarks.report import Outcome, Row, at_most
from benchmarks.timings import Times, Took, ratio, round_text

_ON_EMPTY_GROUND = (3.0, 50.0)
"""Percent. The dearest place: every region must be asked whether it lies there."""


def regions(bench: Bench) -> Outcome:
    """Measure what 100 and 300 existing regions add to a click on empty ground, outside the model."""
    contenders = bench.contenders(NANO)
    backends = {"plain": contenders.plain_click, "ours": contenders.our_click}
    picture = scene_file(bench.folder, FULL_HD)
    drawn = existing_regions(300, FULL_HD)
    alone = click_body(picture, _ON_EMPTY_GROUND)
    rounds = bench.rounds(9, 3)
    rows = []
    for count, gate in ((100, at_most(0.6)), (300, None)):
        crowded = click_body(picture, _ON_EMPTY_GROUND, existing=drawn[:count])
        extra: dict[str, list[Took]] = {name: [] for name in backends}
        for number in range(-1, rounds):
            bench.announce(f"{count} existing regions: {round_text(number, rounds)}")
            for name, click in backends.items():
                without, with_regions = click(alone).stages, click(crowded).stages
                if number >= 0:
                    extra[name].append(with_regions.outside_model - without.outside_model)
        rows.append(
            Row(
                title=f"extra cost of {count} existing regions, ours in plain's",
                figure=ratio(extra["ours"], extra["plain"], bench.basis),
                unit="x",
                gate=gate,
                plain=Times.of(extra["plain"]),
                ours=Times.of(extra["ours"]),
                note=f"a body of {len(crowded) / 1e6:.1f} MB, a click on empty ground",
            )
        )
    return Outcome(rows=rows)
