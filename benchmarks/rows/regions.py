"""What the regions that are on the annotator's screen already cost: Label Studio sends all of them with every click."""

from dataclasses import dataclass, field

from benchmarks.bench import FULL_HD, NANO, Bench
from benchmarks.clicks import click_body, existing_regions, never_seen
from benchmarks.pictures import scene_file
from benchmarks.report import Gate, Outcome, Row, at_most
from benchmarks.timings import Times, Took, ratio, round_text, timed, wait_until

_ON_EMPTY_GROUND = (3.0, 50.0)
"""Percent. The dearest place: every region must be asked whether it lies there."""


@dataclass
class _Extra:
    """What regions add to a click, outside the model; a time for each round.

    Attributes:
        plain: To the plain code's.
        first: To ours, beside regions that it has not seen before.
        again: To ours, beside the same regions: what an annotator has after the first click.
        learning: What ours does with regions that it has not seen, once the answer is made.
    """

    plain: list[Took] = field(default_factory=list)
    first: list[Took] = field(default_factory=list)
    again: list[Took] = field(default_factory=list)
    learning: list[Took] = field(default_factory=list)


def regions(bench: Bench) -> Outcome:
    """Measure what 100 and 300 existing regions add to a click on empty ground, outside the model."""
    rows = []
    for count, gate in ((100, at_most(0.6)), (300, None)):
        extra, megabytes = _measured(bench, count)
        what = f"a body of {megabytes:.1f} MB, a click on empty ground"
        learned = Times.of(extra.learning).cpu.median * 1000
        rows += [
            _row(bench, f"extra cost of {count} existing regions, ours in plain's", extra, extra.again, what, gate),
            _row(
                bench,
                f"the same where none of the {count} was seen before",
                extra,
                extra.first,
                f"{what}; some of {learned:.0f} ms of CPU time for looking at them behind the answer is in it",
            ),
        ]
    return Outcome(rows=rows)


def _measured(bench: Bench, count: int) -> tuple[_Extra, float]:
    """Return what some regions cost, and the megabytes of a body with them."""
    contenders = bench.contenders(NANO)
    picture = scene_file(bench.folder, FULL_HD)
    drawn = existing_regions(count, FULL_HD)
    alone = click_body(picture, _ON_EMPTY_GROUND)
    rounds = bench.rounds(9, 3)
    bench.announce(f"{count} existing regions: writing the requests")
    bodies = [  # all of them first: millions of numbers that come and go between two clicks slow the next one
        click_body(picture, _ON_EMPTY_GROUND, existing=never_seen(drawn, number)) for number in range(rounds + 1)
    ]
    extra = _Extra()
    for number, crowded in enumerate(bodies, start=-1):
        bench.announce(f"{count} existing regions: {round_text(number, rounds)}")
        plain = [contenders.plain_click(body).stages.outside_model for body in (alone, crowded)]
        ours = [contenders.our_click(body).stages.outside_model for body in (alone, crowded)]
        _, learning = timed(lambda: wait_until(lambda: not contenders.ours.is_learning))
        again = contenders.our_click(crowded).stages.outside_model
        if number >= 0:
            extra.plain.append(plain[1] - plain[0])
            extra.first.append(ours[1] - ours[0])
            extra.again.append(again - ours[0])
            extra.learning.append(learning)
    return extra, len(bodies[0]) / 1e6


def _row(bench: Bench, title: str, extra: _Extra, ours: list[Took], note: str, gate: Gate | None = None) -> Row:
    return Row(
        title=title,
        figure=ratio(ours, extra.plain, bench.basis),
        unit="x",
        gate=gate,
        plain=Times.of(extra.plain),
        ours=Times.of(ours),
        note=note,
    )
