"""Brush RLE beside label-studio-sdk's."""

from typing import Any

import numpy as np
from label_studio_sdk.converter import brush as untyped_brush

from benchmarks.bench import FULL_HD, Bench, size_text
from benchmarks.pictures import blob, ragged
from benchmarks.report import Outcome, Row, at_least, at_most
from benchmarks.timings import Spread, Times, in_turns, ratio
from labelstudio_sam2.labelstudio.brush_rle import decode_brush_rle, encode_brush_rle
from labelstudio_sam2.segmenter.prompt import Mask

brush: Any = untyped_brush
_SIZE_HW = (FULL_HD[1], FULL_HD[0])
_TIMES = 5
"""Of ours in each round: it is short."""


def brush_rle(bench: Bench) -> Outcome:
    """Measure writing and reading masks of one part and of many."""
    masks: dict[str, Mask] = {"a blob": blob(_SIZE_HW) > 0, "a ragged mask": ragged(_SIZE_HW, seed=0)}
    rounds = bench.rounds(9, 3)
    rows, differing = [], 0
    for (name, mask), limit in zip(masks.items(), (10, 15), strict=True):
        differing += encode_brush_rle(mask).tolist() != _sdk_rle(mask)
        plain, ours = in_turns(
            lambda _: _sdk_rle(mask),  # noqa: B023  called at once
            lambda _: encode_brush_rle(mask).tolist(),  # noqa: B023
            rounds=rounds,
            ours_times=_TIMES,
            announce=lambda text: bench.announce(f"brush RLE of {name}: {text}"),  # noqa: B023
        )
        rows.append(_row(f"brush RLE encode, {name}, {size_text(FULL_HD)}", plain, ours, bench, limit))
    rle = _sdk_rle(masks["a ragged mask"])
    differing += not np.array_equal(decode_brush_rle(rle, _SIZE_HW), _sdk_mask(rle))
    plain, ours = in_turns(
        lambda _: _sdk_mask(rle),
        lambda _: decode_brush_rle(rle, _SIZE_HW),
        rounds=rounds,
        ours_times=_TIMES,
        announce=lambda text: bench.announce(f"reading brush RLE: {text}"),
    )
    rows.append(_row(f"brush RLE decode, a ragged mask, {size_text(FULL_HD)}", plain, ours, bench, 8))
    same = Row(
        title="brush RLE that differs from the SDK's, of 3",
        figure=Spread.exactly(differing),
        unit="",
        gate=at_most(0),
    )
    return Outcome(rows=[*rows, same])


def _row(title: str, plain: Any, ours: Any, bench: Bench, limit: float) -> Row:
    return Row(
        title=title,
        figure=ratio(plain, ours, bench.basis),
        unit="x",
        gate=at_least(limit),
        plain=Times.of(plain),
        ours=Times.of(ours),
    )


def _sdk_rle(mask: Mask) -> list[int]:
    rle: list[int] = brush.mask2rle(mask.astype(np.uint8) * 255)
    return rle


def _sdk_mask(rle: list[int]) -> Mask:
    rgba = brush.decode_rle(rle).reshape(*_SIZE_HW, 4)
    return np.asarray(rgba[:, :, 3] > 127)
