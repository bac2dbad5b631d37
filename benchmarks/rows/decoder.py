"""The mask decoder beside what this machine can compute at all."""

import torch

from benchmarks.bench import FULL_HD, TINY, Bench
from benchmarks.report import Outcome, Row, at_most
from benchmarks.timings import Spread, Times, timed

_DECODER_GFLOP = 3.6
_SIDE = 1024


def decoder(bench: Bench) -> Outcome:
    """Measure a prediction against its arithmetic at the machine's own matrix product; on a CPU only."""
    if bench.device != "cpu" or bench.is_quick:
        return Outcome()
    predictions = [stages.decoder for stages in bench.clicks(TINY, FULL_HD).second]
    matrix = torch.randn(_SIDE, _SIDE)
    bench.announce("matrix products")
    rounds = bench.rounds(9, 3)
    products = [timed(lambda: matrix @ matrix, times=8)[1] for _ in range(rounds + 1)][1:]
    gflops = 2 * _SIDE**3 / 1e9 / Times.of(products).cpu.median
    ideal = _DECODER_GFLOP / gflops
    row = Row(
        title="a prediction (prompt encoder and mask decoder), of its 3.6 GFLOP at matrix product speed, tiny",
        figure=Spread.of(took.cpu / ideal for took in predictions),
        unit="x",
        gate=at_most(2),
        ours=Times.of(predictions),
        note=f"this machine: {gflops:.0f} GFLOP per second of CPU time in float32",
    )
    return Outcome(rows=[row])
