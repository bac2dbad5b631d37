"""Several annotators at once, on nano."""

from collections.abc import Callable, Sequence
from itertools import product

from benchmarks.bench import NANO, Bench
from benchmarks.clicks import click_body
from benchmarks.crowd import Crowd, Question, ask_together, pauses
from benchmarks.pictures import disc_files
from benchmarks.report import Curve, Outcome, Point, Row, at_most
from benchmarks.timings import Spread, round_text

_PICTURES = 16
_THREADS = 8
_ANNOTATORS = (1, 4, 16)
_USED = 0.2
"""Which share of the time the device works where annotators think between their clicks."""


def wrong_answers(bench: Bench) -> Outcome:
    """Count masks of other pictures among the answers of 8 threads that click on 8 pictures in different order."""
    each = 8 if bench.is_quick else 64
    backends = _backends(bench)
    crowds = {name: Crowd() for name in backends}
    for name, click in backends.items():
        known = _questions(click, bench)[:_THREADS]
        bench.announce(f"8 threads x {each} clicks: {name}")
        asked = [[known[(thread + number) % _THREADS] for number in range(each)] for thread in range(_THREADS)]
        ask_together(click, asked, crowds[name])
    ours, plain = crowds["ours"], crowds["plain"]
    row = Row(
        title=f"wrong answers, {_THREADS} threads x {each} requests, nano",
        figure=Spread.exactly(ours.wrong + ours.failed),
        unit="",
        gate=at_most(0),
        note=f"the plain code with one predictor for all threads: {plain.share_wrong:.0%} "
        f"({plain.wrong} wrong and {plain.failed} failed of {plain.asked})",
    )
    return Outcome(rows=[row])


def annotators(bench: Bench) -> Outcome:
    """Measure how long 1, 4 and 16 annotators wait who click without a pause, each on their own picture."""
    rounds = bench.rounds(4, 1)
    backends = _backends(bench)
    questions = {name: _questions(click, bench) for name, click in backends.items()}
    crowds = {(name, count): Crowd() for count, name in product(_ANNOTATORS, backends)}
    for number, count in product(range(rounds), _ANNOTATORS):
        for name, click in backends.items():
            bench.announce(f"{count} annotators, {round_text(number, rounds)}: {name}")
            clicks = max(2, _PICTURES // count)
            ask_together(click, [[own] * clicks for own in questions[name][:count]], crowds[name, count])
    rows = []
    for count in _ANNOTATORS:
        ours, plain = crowds["ours", count], crowds["plain", count]
        mine, theirs = ours.percentiles().times(1000), plain.percentiles().times(1000)
        rows.append(
            Row(
                title=f"wait for a click, {count} at once without a pause, nano, 640 x 480",
                figure=mine,
                unit="ms",
                note=f"p95 {mine.high:.0f} ms, {ours.wrong + ours.failed} wrong of {ours.asked}; "
                f"plain p50 {theirs.median:.0f} ms, p95 {theirs.high:.0f} ms, {plain.share_wrong:.0%} wrong",
            )
        )
    curves = [
        Curve(
            plot="annotators",
            label=name,
            points=[Point(x=count, y=crowds[name, count].percentiles()) for count in _ANNOTATORS],
        )
        for name in backends
    ]
    return Outcome(rows=rows, curves=curves)


def thinking_annotators(bench: Bench) -> Outcome:
    """Measure how long 1 and 16 annotators wait who think between clicks, so that the device is a fifth used."""
    click = bench.contenders(NANO).ours.click
    questions = _questions(click, bench)
    many, rounds, clicks = len(questions), bench.rounds(4, 2), 10 if bench.is_quick else 24
    alone, crowd = Crowd(), Crowd()
    costs = []
    for number in range(rounds):
        bench.announce(f"annotators who think, {round_text(number, rounds)}: the cost of a click")
        busy = Crowd()
        ask_together(click, [questions], busy)
        costs.append(busy.percentiles().median)  # anew each round: what slows the machine slows the pace as well
        mean = many * costs[-1] / _USED - costs[-1]
        for count, into in ((1, alone), (many, crowd)):
            bench.announce(f"annotators who think, {round_text(number, rounds)}: {count}")
            thinking = pauses(count, clicks, mean_seconds=mean, seed=number)
            ask_together(click, [[own] * clicks for own in questions[:count]], into, thinking)
    one, all_of_them = alone.percentiles().times(1000), crowd.percentiles().times(1000)
    cost = Spread.of(costs).times(1000)
    row = Row(
        title=f"p95 of {many} annotators who think between clicks, of a single one's, nano, 640 x 480",
        figure=Spread.exactly(all_of_them.high / one.high),
        unit="x",
        gate=at_most(2),
        note=f"p50 {all_of_them.median:.1f} ms and p95 {all_of_them.high:.1f} ms of {crowd.asked} clicks, "
        f"{crowd.wrong + crowd.failed} wrong; alone {one.median:.1f} and {one.high:.1f} ms of {alone.asked}; "
        f"a click without a pause takes {cost.median:.1f} ms, from which follows the pace: {many} clicks in "
        f"{many * cost.median / _USED / 1000:.2g} s; a queue of equal clicks that come at random gives 1.86x; time on "
        f"the wall, which needs an idle machine",
    )
    return Outcome(rows=[row])


def _backends(bench: Bench) -> dict[str, Callable[[bytes], bytes]]:
    contenders = bench.contenders(NANO)
    return {"plain": contenders.plain.click, "ours": contenders.ours.click}


def _questions(click: Callable[[bytes], bytes], bench: Bench) -> Sequence[Question]:
    """Return a click on each picture with the answer that it gets when nobody else asks."""
    bodies = [(picture, click_body(picture, center)) for picture, center in disc_files(bench.folder, _PICTURES)]
    return [Question(body=body, size_wh=picture.size_wh, right_answer=click(body)) for picture, body in bodies]
