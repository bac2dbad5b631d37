"""Answers from logits that one can count by hand."""

import io
import tracemalloc

import numpy as np
import pytest

from labelstudio_sam2.errors import BadPromptError, BadRequestError
from labelstudio_sam2.sam2_api.schema import EmbedRequest, SegmentRequest, check_size, decode, npz, predictions
from labelstudio_sam2.segmenter.prompt import Segmentation

RING = Segmentation(
    low_res_logits=np.stack([np.full((8, 8), -50, np.float32), np.full((8, 8), -40, np.float32)]),
    scores=np.array([0.25, 0.75], np.float32),
    size_hw=(8, 8),
)
RING.low_res_logits[1, 1:6, 2:7] = 60
RING.low_res_logits[1, 3, 4] = -60


def test_a_ring_becomes_its_outer_contour_and_the_best_masks_score() -> None:
    (prediction,) = predictions([RING], "json")

    assert prediction["format"] == "polygon"
    assert prediction["confidence"] == 0.75
    (polygon,) = prediction["masks"]
    assert sorted(polygon) == [[2, 1], [2, 5], [6, 1], [6, 5]]
    assert {type(number) for corner in polygon for number in corner} == {int}


def test_a_rings_run_lengths_keep_its_hole() -> None:
    (prediction,) = predictions([RING], "rle")

    assert prediction["format"] == "rle"
    assert prediction["masks"]["size"] == [8, 8]
    assert _runs(prediction["masks"]["counts"]) == [17, 5, 3, 5, 3, 2, 1, 2, 3, 5, 3, 5, 10]


def test_an_empty_mask_is_an_answer_too() -> None:
    nothing = Segmentation(
        low_res_logits=np.full((1, 8, 8), -1, np.float32), scores=np.array([0.1], np.float32), size_hw=(6, 8)
    )

    assert predictions([nothing], "json")[0]["masks"] == [[]]
    assert _runs(predictions([nothing], "rle")[0]["masks"]["counts"]) == [48]


def test_npz_has_the_best_masks_logits_and_clamps_the_low_res_ones() -> None:
    arrays = np.load(io.BytesIO(npz([RING, RING])))

    assert arrays["masks"].shape == arrays["low_res_masks"].shape == (2, 8, 8)
    assert arrays["masks"][0, 1, 2] == 60
    assert (arrays["low_res_masks"].min(), arrays["low_res_masks"].max()) == (-32, 32)


def test_npz_takes_little_more_memory_than_its_answer() -> None:
    large = Segmentation(low_res_logits=RING.low_res_logits, scores=RING.scores, size_hw=(500, 1000))
    tracemalloc.start()

    try:
        size = len(npz([large] * 8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size > 8 * 4 * 500 * 1000
    assert peak < 1.6 * size


@pytest.mark.parametrize(
    ("size_hw", "count", "answer_format"),
    [
        ((4096, 8192), 8, "json"),  # 2**25 pixels each
        ((4096, 8192), 8, "rle"),
        ((4096, 8192), 1, "binary"),
    ],
)
def test_masks_up_to_the_limit_are_answered_and_one_more_is_not(
    size_hw: tuple[int, int], count: int, answer_format: str
) -> None:
    check_size(size_hw, count, answer_format)

    with pytest.raises(BadRequestError, match=rf"^{count + 1} masks of 8192 x 4096 pixels are too much"):
        check_size(size_hw, count + 1, answer_format)


def test_the_first_servers_points_are_one_prompt() -> None:
    asked = decode(b'{"point_coords": [[3, 4.5], [1, 2]], "point_labels": [1, 0]}', SegmentRequest)

    (prompt,) = asked.one_or_more_prompts
    np.testing.assert_array_equal(prompt.point_coords, [[3, 4.5], [1, 2]])
    np.testing.assert_array_equal(prompt.point_labels, [1, 0])


@pytest.mark.parametrize(
    "fields",
    [
        b'"point_coords": [[3, 4]]',
        b'"point_labels": [1]',
        b'"point_coords": [[3, 4]], "point_labels": [1, 0]',
        b'"point_coords": [[3, 4], 5], "point_labels": [1, 0]',
        b'"point_coords": {"x": 3}, "point_labels": [1]',
        b'"point_coords": "x", "point_labels": "y"',
        b'"point_coords": ' + b"[" * 200 + b"1" + b"]" * 200 + b', "point_labels": [1]',
        b'"point_coords": [[3, 4]], "point_labels": [1], "prompts": []',
    ],
    ids=lambda fields: fields.decode()[:60],
)
def test_points_that_are_no_prompt_are_refused(fields: bytes) -> None:
    asked = decode(b"{" + fields + b"}", SegmentRequest)

    with pytest.raises((BadPromptError, BadRequestError)):
        _ = asked.one_or_more_prompts


def test_a_version_goes_before_a_model_id() -> None:
    bodies = [
        b"{}",
        b'{"model_id": "sam2/a"}',
        b'{"sam2_version_id": "b"}',
        b'{"model_id": "a", "sam2_version_id": "b"}',
    ]

    assert [decode(body, EmbedRequest).model for body in bodies] == [None, "sam2/a", "b", "b"]


def test_a_refusal_names_the_field_and_not_what_came() -> None:
    with pytest.raises(BadRequestError) as refusal:
        decode(b'{"image_id": ["secret"]}', SegmentRequest)

    assert "$.image_id" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def _runs(counts: str) -> list[int]:
    """Read COCO's text: six bits a character from 48 on, the fifth a sign, the sixth "goes on"; deltas from run 3."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode():
        bits = byte - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
