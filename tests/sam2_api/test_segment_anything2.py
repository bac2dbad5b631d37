import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import labelstudio_sam2
from labelstudio_sam2 import SegmentAnything2, masks2poly
from labelstudio_sam2.errors import BadPromptError, BadRequestError, ModelUnavailableError
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import Picture
from labelstudio_sam2.segmenter.sam2_model import Sam2Model

Gray = Callable[..., NDArray[np.uint8]]
POINT = {"x": 3, "y": 2, "positive": True}
OTHER_POINT = {"x": 5, "y": 4, "positive": False}
BOX = {"x": 4, "y": 3, "width": 4, "height": 2}


@pytest.fixture
def image_path(tmp_path: Path, disc_and_box: Any) -> str:
    path = tmp_path / "hand.png"
    path.write_bytes(disc_and_box.png())
    return str(path)


def test_the_seeds_lines_run_as_they_are_written(image_path: str, disc_and_box: Any, iou: Any) -> None:
    m = SegmentAnything2(model_id="nano")

    # call embed_image before segment_image to precompute embeddings
    embedding, img_shape, id_ = m.embed_image(image_path)
    # segments image using cached embedding if it exists, else computes it on the fly
    raw_masks, raw_low_res_masks = m.segment_image(image_path)
    # convert binary masks to polygons
    raw_masks = raw_masks >= m.predictor.mask_threshold  # type: ignore[assignment]  # as the seed writes it
    poly_masks = masks2poly(raw_masks)
    point = [480, 325]
    # uses cached masks from prior call
    raw_masks2, raw_low_res_masks2 = m.segment_image(
        image_path,
        point_coords=[point],
        point_labels=[0],
    )
    raw_masks2 = raw_masks2 >= m.predictor.mask_threshold  # type: ignore[assignment]

    assert set(embedding) == {"image_embed", "high_res_feats"}
    assert img_shape == (480, 640)
    assert len(id_) == 64
    assert raw_masks.shape == raw_masks2.shape == (480, 640)
    assert raw_masks.dtype == raw_masks2.dtype == bool
    assert raw_low_res_masks.shape == raw_low_res_masks2.shape == (64, 64)  # nano's low resolution
    assert max(iou(raw_masks, truth) for truth in disc_and_box.masks.values()) > 0.85
    assert len(poly_masks) == 1
    assert not np.array_equal(raw_low_res_masks, raw_low_res_masks2)


def test_todays_call_segments_a_click_and_a_box_in_one_request(
    nano_api: SegmentAnything2, image_path: str, disc_and_box: Any, iou: Any
) -> None:
    prompts = [
        {"points": [{"x": 200, "y": 180, "positive": True}]},
        {"box": {"x": 480, "y": 325, "width": 160, "height": 150}},
    ]

    masks, scores, low_res_logits = nano_api.segment_image(image_path, prompts=prompts)

    assert (masks.shape, scores.shape, low_res_logits.shape) == ((2, 480, 640), (2,), (2, 64, 64))
    assert masks.dtype == scores.dtype == low_res_logits.dtype == np.float32
    assert iou(masks[0] >= 0, disc_and_box.masks["disc"]) > 0.9
    assert iou(masks[1] >= 0, disc_and_box.masks["box"]) > 0.9


def test_a_path_a_pillow_image_and_a_bgr_array_of_one_picture_give_equal_masks(
    nano_api: SegmentAnything2, image_path: str, disc_and_box: Any
) -> None:
    click: dict[str, Any] = {"point_coords": [[200, 180]], "point_labels": [1], "use_previous_mask": False}
    rgb = disc_and_box.image

    of_path, of_pillow, of_bgr, of_rgb = (
        nano_api.segment_image(image, **click)[1] for image in (image_path, Image.open(image_path), rgb[..., ::-1], rgb)
    )

    np.testing.assert_array_equal(of_path, of_pillow)
    np.testing.assert_array_equal(of_path, of_bgr)
    assert not np.array_equal(of_path, of_rgb)  # numpy is BGR


def test_a_picture_is_embedded_once_and_then_known(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    embedding, size_hw, image_id = api.embed_image(gray(40))
    api.segment_image(gray(40))
    _, scores, _ = api.segment_image(image_id=image_id, prompts=[{"points": [POINT]}])

    assert embedding == {"image_embed": "image_embed of 40", "high_res_feats": ["fine of 40", "coarse of 40"]}
    assert size_hw == (6, 8)
    assert scores == pytest.approx([0.4])
    assert model.embedded == [40]


def test_segmenting_alone_embeds(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    masks, _ = api.segment_image(gray(40))

    assert masks.shape == (6, 8)
    assert model.embedded == [40]


def test_a_click_through_label_studio_and_a_call_here_share_the_embedding(
    api: SegmentAnything2, segmenter: Any, model: Any, gray: Gray, png: Any, tmp_path: Path
) -> None:
    data = png(gray(40))
    (tmp_path / "a.png").write_bytes(data)

    segmenter.embed(Picture.of(data, ImageLimits(10_000, 10_000)))
    api.segment_image(tmp_path / "a.png")

    assert model.embedded == [40]


def test_the_seeds_call_goes_on_from_the_mask_of_the_call_before(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40))
    api.segment_image(gray(40), point_coords=[[3, 2]], point_labels=[0])

    assert model.prompts[0].mask_input is None
    np.testing.assert_array_equal(model.prompts[1].mask_input, np.full((1, 4, 4), 10))
    np.testing.assert_array_equal(model.prompts[1].point_coords, [[3, 2]])
    np.testing.assert_array_equal(model.prompts[1].point_labels, [0])
    assert model.multimask == [True, True]


def test_going_on_from_the_call_before_can_be_switched_off(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40))
    api.segment_image(gray(40), point_coords=[[3, 2]], point_labels=[0], use_previous_mask=False)

    assert model.prompts[1].mask_input is None


def test_no_call_goes_on_from_another_pictures_mask(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40), image_id="same id")
    api.segment_image(gray(50), image_id="same id")

    assert model.prompts[1].mask_input is None


def test_a_mask_input_of_the_callers_goes_before_the_mask_of_the_call_before(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    api.segment_image(gray(40))
    api.segment_image(gray(40), mask_input=np.full((4, 4), 7))

    np.testing.assert_array_equal(model.prompts[1].mask_input, np.full((1, 4, 4), 7))


def test_what_the_caller_does_to_returned_logits_does_not_change_the_next_call(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    _, low_res_logits = api.segment_image(gray(40))
    low_res_logits[:] = -5
    api.segment_image(gray(40))

    np.testing.assert_array_equal(model.prompts[1].mask_input, np.full((1, 4, 4), 10))


def test_low_res_logits_are_clamped_to_32_and_masks_are_not(api: SegmentAnything2, gray: Gray) -> None:
    masks, scores, low_res_logits = api.segment_image(gray(40), prompts=[{}, {}, {}, {}])

    assert low_res_logits[:, 0, 0].tolist() == [10, 20, 30, 32]
    assert masks[:, 0, 0].tolist() == [10, 20, 30, 40]
    assert scores == pytest.approx([0.4] * 4)


def test_todays_call_saves_nothing_unless_asked(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40), prompts=[{"points": [POINT]}])
    api.segment_image(gray(40), prompts=[{"points": [POINT, OTHER_POINT]}], load_logits_from_cache=True)

    assert [prompt.mask_input for prompt in model.prompts] == [None, None]


def test_todays_call_loads_nothing_unless_asked(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40))
    api.segment_image(gray(40), prompts=[{"points": [POINT]}], save_logits_to_cache=True)
    api.segment_image(gray(40), prompts=[{"points": [POINT, OTHER_POINT]}])

    assert [prompt.mask_input for prompt in model.prompts] == [None, None, None]


def test_a_saved_mask_is_loaded_by_the_prompt_that_adds_to_its_points(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    api.segment_image(gray(40), prompts=[{"points": [POINT]}], save_logits_to_cache=True)
    more = [{"points": [POINT, OTHER_POINT]}, {"points": [OTHER_POINT], "box": BOX}, {"points": [POINT]}]
    api.segment_image(gray(40), prompts=more, load_logits_from_cache=True)

    _, adding, with_box, the_same = (prompt.mask_input for prompt in model.prompts)
    np.testing.assert_array_equal(adding, np.full((1, 4, 4), 10))
    assert with_box is None
    assert the_same is None


def test_returned_low_res_logits_of_two_prompts_can_be_handed_back(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    two = [{"points": [POINT]}, {"box": BOX}]
    _, _, low_res_logits = api.segment_image(gray(40), prompts=two)
    api.segment_image(gray(40), prompts=two, mask_input=low_res_logits)

    assert [prompt.mask_input[0, 0, 0] for prompt in model.prompts[2:]] == [10, 20]


def test_multimask_output_is_the_callers_choice(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.segment_image(gray(40), prompts=[{"points": [POINT]}], multimask_output=False)

    assert model.multimask == [False]


def test_segment_gives_the_id_and_a_segmentation_per_prompt(api: SegmentAnything2, gray: Gray) -> None:
    image_id, segmentations = api.segment(gray(40), "mine", [{"points": [POINT]}, {"box": BOX}])

    assert image_id == "mine"
    assert [each.low_res_logits[each.best, 0, 0] for each in segmentations] == [10, 20]
    assert [each.size_hw for each in segmentations] == [(6, 8), (6, 8)]


def test_an_id_stands_for_its_picture(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    api.embed_image(gray(40), image_id="mine")

    _, size_hw, image_id = api.embed_image(image_id="mine")
    _, scores, _ = api.segment_image({"type": "base64"}, "mine", prompts=[])

    assert (size_hw, image_id) == ((6, 8), "mine")
    assert scores == pytest.approx([0.4])
    assert model.embedded == [40]


def test_an_id_given_with_another_picture_stands_for_that_one(api: SegmentAnything2, gray: Gray) -> None:
    api.embed_image(gray(40), image_id="mine")
    _, with_picture, _ = api.segment_image(gray(50), "mine", prompts=[])
    _, id_alone, _ = api.segment_image(image_id="mine", prompts=[])

    assert with_picture == pytest.approx([0.5])
    assert id_alone == pytest.approx([0.5])


def test_a_contents_id_never_stands_for_another_picture(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    content_id = api.embed_image(gray(40))[2]
    model.embedded.clear()

    for taken in (content_id, content_id.upper(), "0" * 64):
        with pytest.raises(BadRequestError, match="another picture's content"):
            api.embed_image(gray(50), image_id=taken)

    _, scores, _ = api.segment_image(image_id=content_id, prompts=[])
    assert scores == pytest.approx([0.4])
    assert model.embedded == []


def test_a_picture_may_come_with_its_contents_id(api: SegmentAnything2, model: Any, gray: Gray) -> None:
    content_id = api.embed_image(gray(40))[2]

    _, size_hw, image_id = api.embed_image(gray(40), image_id=content_id)

    assert (size_hw, image_id) == ((6, 8), content_id)
    assert model.embedded == [40]


def test_an_id_of_ones_own_for_every_picture_forgets_no_contents_id(
    api: SegmentAnything2, gray: Gray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api._ids, "_max_entries", 1)
    content_id = api.embed_image(gray(40))[2]
    api.embed_image(gray(50), image_id="mine")
    api.embed_image(gray(50), image_id="mine, too")

    assert api.embed_image(image_id=content_id)[2] == content_id
    with pytest.raises(BadRequestError, match="send the image along"):
        api.embed_image(image_id="mine")


def test_an_empty_id_is_none(api: SegmentAnything2, gray: Gray) -> None:
    first, second = api.embed_image(gray(40), image_id="")[2], api.embed_image(gray(50), image_id="")[2]
    _, scores, _ = api.segment_image(gray(50), "", prompts=[])

    assert len({first, second, ""}) == 3
    assert scores == pytest.approx([0.5])
    with pytest.raises(BadRequestError, match="image is missing"):
        api.embed_image(image_id="")


def test_black_pictures_of_10_x_20_and_20_x_10_are_two(api: SegmentAnything2, gray: Gray) -> None:
    _, wide, wide_id = api.embed_image(gray(0, (10, 20)))
    _, high, high_id = api.embed_image(gray(0, (20, 10)))

    assert (wide, high) == ((10, 20), (20, 10))
    assert wide_id != high_id


def test_an_id_that_was_never_given_is_refused(api: SegmentAnything2) -> None:
    with pytest.raises(BadRequestError, match="send the image along"):
        api.segment_image(image_id="never given")


@pytest.mark.parametrize("image_id", [7, "x" * 257])
def test_an_id_is_a_text_of_some_length(api: SegmentAnything2, gray: Gray, image_id: Any) -> None:
    with pytest.raises(BadRequestError, match="image_id"):
        api.embed_image(gray(40), image_id=image_id)


def test_with_its_embedding_an_id_and_the_mask_of_the_call_before_go(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    api.segment_image(gray(40), image_id="mine")
    api.embed_image(gray(50))
    api.embed_image(gray(60))  # two fit

    with pytest.raises(BadRequestError, match="send the image along"):
        api.segment_image(image_id="mine")
    api.segment_image(gray(40), image_id="mine")
    assert model.prompts[-1].mask_input is None


def test_8_threads_get_their_own_pictures_masks_from_one_embedding_each(
    model: Any, make_segmenter: Any, inputs: Any, gray: Gray
) -> None:
    api = SegmentAnything2.on(make_segmenter(model), inputs)
    model.embedded.clear()

    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda i: api.segment(gray(10 + i % 8), f"id {i % 8}", [{}])[1][0].score, range(160))
        )

    assert answers == pytest.approx([(10 + i % 8) / 100 for i in range(160)])
    assert sorted(model.embedded) == [10, 11, 12, 13, 14, 15, 16, 17]


def test_both_ways_to_ask_at_once_are_refused(api: SegmentAnything2, gray: Gray) -> None:
    with pytest.raises(BadRequestError, match="not both"):
        api.segment_image(gray(40), point_coords=[[1, 1]], prompts=[])  # type: ignore[call-overload]


def test_a_malformed_prompt_is_refused_before_the_picture_is_embedded(
    api: SegmentAnything2, model: Any, gray: Gray
) -> None:
    with pytest.raises(BadPromptError):
        api.segment_image(gray(40), point_coords=[[np.nan, 1]], point_labels=[1])

    assert model.embedded == []


def test_a_model_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="sam2/hiera_tiny"):
        SegmentAnything2(model_id="hiera_gigantic")


def test_a_cache_that_holds_no_embedding_is_refused_with_the_least_that_would() -> None:
    with pytest.raises(ValueError, match=r"embedding_cache_mb=0 holds no embedding of this model: .* at least 1"):
        SegmentAnything2("nano", embedding_cache_mb=0)


def test_in_the_smallest_cache_the_last_picture_keeps_its_embedding_and_its_mask(gray: Gray, disc_and_box: Any) -> None:
    api = SegmentAnything2("nano", embedding_cache_mb=1)
    image_id = api.embed_image(disc_and_box.image)[2]
    negative: dict[str, Any] = {"image_id": image_id, "point_coords": [[480, 325]], "point_labels": [0]}

    _, from_nothing = api.segment_image(**negative)
    _, going_on = api.segment_image(**negative)

    assert not np.array_equal(from_nothing, going_on)


def test_a_folder_keeps_embeddings_for_the_next_process(
    tmp_path: Path,
    disc_and_box: Any,
    monkeypatch: pytest.MonkeyPatch,
    until: Any,
) -> None:
    before = SegmentAnything2("nano", embedding_disk_dir=tmp_path)
    masks, _ = before.segment_image(disc_and_box.image, point_coords=[[200, 180]], point_labels=[1])
    until(lambda: list(tmp_path.rglob("*.safetensors")))

    again = SegmentAnything2("nano", embedding_disk_dir=tmp_path)
    monkeypatch.setattr(Sam2Model, "embed", lambda *_: pytest.fail("embedded again"))
    masks_again, _ = again.segment_image(disc_and_box.image, point_coords=[[200, 180]], point_labels=[1])

    np.testing.assert_array_equal(masks_again, masks)


@pytest.mark.parametrize("model_id", ["sam2/hiera_large", "hiera_large"])
def test_a_missing_checkpoint_is_named_with_the_command_that_gets_it(tmp_path: Path, model_id: str) -> None:
    with pytest.raises(
        ModelUnavailableError,
        match=r"sam2\.1_hiera_large\.pt is missing; get it with .*weights fetch --model sam2/hiera_large",
    ):
        SegmentAnything2(model_id, weights_dir=tmp_path)


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'torch', 'cv2', 'PIL', 'pydantic', 'flask'} & set(sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", f"import sys, labelstudio_sam2; print({heavy})"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "set()\n"


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="SegmentAnything3"):
        labelstudio_sam2.SegmentAnything3  # noqa: B018
