"""SAM 2 without state, held against `SAM2ImagePredictor` number for number, but for the resizing of pictures."""

import json
import math
import pickle
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image as PillowImage
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils.transforms import SAM2Transforms

from labelstudio_sam2.errors import BusyError, DeviceLostError, GpuMemoryError, ModelUnavailableError
from labelstudio_sam2.segmenter import sam2_model
from labelstudio_sam2.segmenter.checkpoint import find_checkpoint
from labelstudio_sam2.segmenter.embedding_cache import DamagedEmbeddingError
from labelstudio_sam2.segmenter.prompt import FloatArray, Image, Mask, Prompt, Segmentation
from labelstudio_sam2.segmenter.sam2_model import (
    Sam2Embedding,
    Sam2Model,
    _checksum,
    _keep_to_quota,
    _normalize,
    _resize,
    load_sam2,
    memory_bytes,
    wait_for,
)
from labelstudio_sam2.segmenter.zoo import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from labelstudio_sam2.segmenter.segmenter import Model

NANO = MODELS["nano"]
PHOTOGRAPHS = Path(__file__).parent.parent / "data" / "photographs"
HEIGHT, WIDTH = 180, 300


def ellipse(*, center: tuple[float, float], radii: tuple[float, float]) -> Mask:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside: Mask = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 <= 1
    return inside


def paint(*masks: Mask) -> Image:
    image = np.full((HEIGHT, WIDTH, 3), (60, 80, 100), np.uint8)
    for mask, color in zip(masks, [(230, 120, 40), (40, 160, 70)], strict=False):
        image[mask] = color
    return image


def click(x: float, y: float) -> Prompt:
    return Prompt(point_coords=np.array([[x, y]], np.float32), point_labels=np.array([1], np.int32))


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def assert_same(one: Sam2Embedding, other: Sam2Embedding) -> None:
    torch.testing.assert_close(one.image_embed, other.image_embed, rtol=0, atol=0)
    torch.testing.assert_close(one.high_res_feats, other.high_res_feats, rtol=0, atol=0)


TOP_RIGHT = ellipse(center=(220, 60), radii=(50, 35))
BOTTOM_LEFT = ellipse(center=(80, 120), radii=(40, 40))


@pytest.fixture(scope="module")
def nano() -> Sam2Model:
    return load_sam2(NANO, NANO.checkpoint, device="cpu")


# The pixels are nearly SAM2Transforms', the other numbers SAM2ImagePredictor's

SIDES = st.sampled_from([1, 2, 15, 16, 17, 64, 65, 400]) | st.integers(1, 300)
STEPS = [1, 51, 128]
"""Between a picture's values: noise, six grey levels, two."""


@pytest.fixture(scope="module")
def references() -> dict[int, SAM2Transforms]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # sam2's own
        return {size: SAM2Transforms(resolution=size, mask_threshold=0) for size in (16, 64)}


@settings(max_examples=150, deadline=None)
@given(size_hw=st.tuples(SIDES, SIDES), size=st.sampled_from([16, 64]), step=st.sampled_from(STEPS))
@example(size_hw=(1, 1), size=16, step=1)
@example(size_hw=(1, 40), size=16, step=1)
@example(size_hw=(40, 1), size=16, step=1)
@example(size_hw=(16, 1), size=16, step=1)
@example(size_hw=(1, 16), size=16, step=1)
@example(size_hw=(16, 40), size=16, step=1)
@example(size_hw=(40, 16), size=16, step=1)
def test_prepared_pictures_are_within_one_grey_level_of_the_reference(
    references: dict[int, SAM2Transforms], size_hw: tuple[int, int], size: int, step: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8) // step * step

    prepared = _normalize(_resize(image, size))

    difference = prepared - references[size](image)
    grey_levels = difference * 255 * torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    assert prepared.shape == (1, 3, size, size)
    assert grey_levels.abs().max() < 1.01  # one by rounding twice, and a little for torch's weights of 16 bits


@pytest.mark.parametrize("size", [16, 64])
def test_a_picture_of_the_models_own_size_is_prepared_as_the_reference_does(
    references: dict[int, SAM2Transforms], size: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    before = image.copy()

    prepared = _normalize(_resize(image, size))

    torch.testing.assert_close(prepared[0], references[size](image), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "view", [np.s_[:, ::-1], np.s_[::2, ::3], np.s_[..., ::-1]], ids=["mirrored", "thinned", "BGR"]
)
def test_a_view_is_prepared_as_its_copy(view: Any) -> None:
    seen = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)[view]

    torch.testing.assert_close(_resize(seen, 16), _resize(seen.copy(), 16), rtol=0, atol=0)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Model and predictor with the same weights and the same resized picture; its embedding is not rounded."""

    model: Sam2Model
    embedding: Sam2Embedding
    predictor: SAM2ImagePredictor


@pytest.fixture(scope="module", params=["nano", "2.1 tiny at 1024", "2.0 tiny at 256"])
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    match request.param:
        case "nano":
            model = load_sam2(NANO, NANO.checkpoint, device="cpu", stored_precision="fp32")
            oracle = build_sam2(f"/{NANO.config_path}", device="cpu")
        case "2.1 tiny at 1024":
            config_path = MODELS["sam2/hiera_tiny"].config_path
            model = Sam2Model.from_config(config_path, device="cpu", stored_precision="fp32")
            oracle = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
        case _:
            config = OmegaConf.load(MODELS["sam2.0/hiera_tiny"].config_path)
            OmegaConf.update(config, "model.image_size", 256)
            path = tmp_path_factory.mktemp("config") / "small.yaml"
            path.write_text(f"# @package _global_\n{OmegaConf.to_yaml(config)}")
            model = Sam2Model.from_config(path, device="cpu", stored_precision="fp32")
            oracle = build_sam2(f"/{path}", device="cpu")
    oracle.load_state_dict(model._net.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # sam2's own
        predictor = SAM2ImagePredictor(oracle)
    predictor._bb_feat_sizes = [(oracle.image_size // stride,) * 2 for stride in (4, 8, 16)]
    predictor._transforms.to_tensor = lambda image: _resize(image, oracle.image_size)[0] / 255
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) // 4 + paint(TOP_RIGHT) // 2
    predictor.set_image(image)
    return Compared(model=model, embedding=model.embed(image), predictor=predictor)


def test_the_embedding_is_the_predictors(compared: Compared) -> None:
    features = compared.predictor._features

    torch.testing.assert_close(compared.embedding.image_embed, features["image_embed"], rtol=1e-4, atol=1e-5)
    assert len(compared.embedding.high_res_feats) == len(features["high_res_feats"]) == 2
    for ours, theirs in zip(compared.embedding.high_res_feats, features["high_res_feats"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multimask_output", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize(
    "asked",
    [
        {"point_coords": [[220.25, 60.5]], "point_labels": [1]},
        {"point_coords": [[220, 60], [80, 120], [250, 75]], "point_labels": [1, 0, 1]},
        {"box": [170, 25, 270, 95]},
        {"box": [170, 25, 270, 95], "point_coords": [[220, 60], [180, 30]], "point_labels": [1, 0]},
        {"mask_input": True},
        {"mask_input": True, "point_coords": [[220, 60]], "point_labels": [1]},
        {"mask_input": True, "box": [170, 25, 270, 95]},
    ],
    ids=["click", "three clicks", "box", "box and clicks", "mask", "mask and click", "mask and box"],
)
def test_masks_and_scores_are_the_predictors(compared: Compared, asked: dict[str, Any], multimask_output: bool) -> None:  # noqa: FBT001
    side = compared.model.low_res_size
    arrays: dict[str, NDArray[Any]] = {
        name: np.asarray(value, np.int32 if name == "point_labels" else np.float32) for name, value in asked.items()
    }
    if "mask_input" in asked:
        arrays["mask_input"] = np.linspace(-20, 20, side * side, dtype=np.float32).reshape(1, side, side)

    segmentation = compared.model.predict(compared.embedding, Prompt(**arrays), multimask_output=multimask_output)

    logits, scores, low_res = compared.predictor.predict(
        **arrays, multimask_output=multimask_output, return_logits=True
    )
    assert segmentation.low_res_logits.shape == ((3 if multimask_output else 1), side, side)
    np.testing.assert_allclose(np.clip(segmentation.low_res_logits, -32, 32), low_res, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(segmentation.scores, scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(segmentation.logits(0), logits[0], rtol=1e-3, atol=1e-2)


def test_an_embedding_comes_back_from_bytes_as_it_was(compared: Compared) -> None:
    data = compared.model.to_bytes(compared.embedding, "a")

    back = compared.model.from_bytes(data, "a")

    assert back.size_hw == (HEIGHT, WIDTH)
    assert_same(back, compared.embedding)


# What it draws


@pytest.mark.parametrize("multimask_output", [True, False], ids=["three masks", "one mask"])
def test_nano_finds_the_shape_under_a_click(nano: Sam2Model, multimask_output: bool) -> None:  # noqa: FBT001
    embedding = nano.embed(paint(TOP_RIGHT))

    segmentation = nano.predict(embedding, click(220, 60), multimask_output=multimask_output)

    assert iou(segmentation.mask(), TOP_RIGHT) >= 0.9


def test_nano_finds_the_clicked_one_of_two_shapes(nano: Sam2Model) -> None:
    embedding = nano.embed(paint(TOP_RIGHT, BOTTOM_LEFT))

    segmentation = nano.predict(embedding, click(80, 120), multimask_output=False)

    assert iou(segmentation.mask(), BOTTOM_LEFT) >= 0.9


def test_an_image_that_may_not_be_written_to_is_embedded(nano: Sam2Model) -> None:
    image = paint(TOP_RIGHT)
    image.setflags(write=False)

    assert nano.embed(image).size_hw == (HEIGHT, WIDTH)


def test_low_res_logits_are_not_clamped(nano: Sam2Model) -> None:
    embedding = nano.embed(paint(TOP_RIGHT))

    segmentation = nano.predict(embedding, click(220, 60), multimask_output=True)

    assert np.abs(segmentation.low_res_logits).max() > 32


def test_a_mask_input_beyond_32_counts_as_32(nano: Sam2Model) -> None:
    embedding = nano.embed(paint(TOP_RIGHT))
    left_half = np.where(np.arange(64) < 32, 1.0, -1.0).astype(np.float32) * np.ones((1, 64, 1), np.float32)

    at_limit = nano.predict(embedding, Prompt(mask_input=32 * left_half), multimask_output=False)
    beyond = nano.predict(embedding, Prompt(mask_input=5000 * left_half), multimask_output=False)

    np.testing.assert_array_equal(beyond.low_res_logits, at_limit.low_res_logits)


@pytest.mark.parametrize("side", [16, 256])
def test_a_mask_input_of_another_size_is_resized(nano: Sam2Model, side: int) -> None:
    embedding = nano.embed(paint(TOP_RIGHT, BOTTOM_LEFT))
    columns = (np.arange(side) + 0.5) / side
    right_half = np.where(columns > 0.5, 8.0, -8.0).astype(np.float32) * np.ones((1, side, 1), np.float32)

    segmentation = nano.predict(embedding, Prompt(mask_input=right_half), multimask_output=False)

    assert iou(segmentation.mask(), TOP_RIGHT) > 10 * iou(segmentation.mask(), BOTTOM_LEFT)


# Values, threads, memory


def test_nbytes_is_what_the_tensors_hold(nano: Sam2Model) -> None:
    embedding = nano.embed(paint(TOP_RIGHT))

    # S = 256, C = 128: (128 x 16 x 16 + 16 x 64 x 64 + 32 x 32 x 32) x 2 bytes
    assert embedding.nbytes == (32768 + 65536 + 32768) * 2


def test_threads_with_two_pictures_each_get_their_own_mask(nano: Sam2Model) -> None:
    shapes = {(220.0, 60.0): TOP_RIGHT, (80.0, 120.0): BOTTOM_LEFT}
    together = threading.Barrier(2)

    def work(center: tuple[float, float]) -> list[FloatArray]:
        answers = []
        for _ in range(6):
            together.wait(timeout=30)
            embedding = nano.embed(paint(shapes[center]))
            together.wait(timeout=30)
            answers.append(nano.predict(embedding, click(*center), multimask_output=True).low_res_logits)
        return answers

    with ThreadPoolExecutor(2) as threads:
        answers = dict(zip(shapes, threads.map(work, shapes), strict=True))

    for center, mask in shapes.items():
        alone = nano.predict(nano.embed(paint(mask)), click(*center), multimask_output=True).low_res_logits
        for answer in answers[center]:
            np.testing.assert_allclose(answer, alone, rtol=1e-3, atol=1e-3)


def test_clicks_between_two_blocks_of_the_encoder_change_nothing_in_either(nano: Sam2Model) -> None:
    image = paint(TOP_RIGHT)
    embedding = nano.embed(image)
    expected = nano.predict(embedding, click(220, 60), multimask_output=True)
    answers: list[Segmentation] = []

    def step_aside() -> None:
        with ThreadPoolExecutor(1) as thread:  # as in the server, where clicks have threads of their own
            answers.append(thread.submit(nano.predict, embedding, click(220, 60), multimask_output=True).result())

    again = nano.embed(image, step_aside)

    assert len(answers) == 9  # one for each block
    for answer in answers:
        np.testing.assert_array_equal(answer.low_res_logits, expected.low_res_logits)
    assert torch.equal(again.image_embed, embedding.image_embed)


def test_what_stepping_aside_raises_ends_the_embedding_and_not_the_next(nano: Sam2Model) -> None:
    def step_aside() -> None:
        raise BusyError("made up")

    with pytest.raises(BusyError):
        nano.embed(paint(TOP_RIGHT), step_aside)

    nano.embed(paint(TOP_RIGHT))


def test_embedding_and_predicting_write_nothing_into_the_weights(nano: Sam2Model) -> None:
    before = {name: tensor.clone() for name, tensor in nano._net.state_dict().items()}

    nano.predict(nano.embed(paint(TOP_RIGHT)), click(220, 60), multimask_output=True)

    after = nano._net.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert not any(parameter.requires_grad for parameter in nano._net.parameters())


def test_an_embedding_is_stored_in_half_precision_and_its_masks_stay_the_same(nano: Sam2Model) -> None:
    unrounded = load_sam2(NANO, NANO.checkpoint, device="cpu", stored_precision="fp32")
    photographs = json.loads((PHOTOGRAPHS / "index.json").read_text())

    for entry in photographs:
        image = np.asarray(PillowImage.open(PHOTOGRAPHS / entry["photo"]).convert("RGB"))
        half, full = nano.embed(image), unrounded.embed(image)
        assert half.nbytes == full.nbytes / 2
        assert half.image_embed.dtype == torch.float16
        for shown in entry["objects"]:
            for multimask_output in (True, False):
                one, other = (
                    model.predict(embedding, click(*shown["click_xy"]), multimask_output=multimask_output).mask()
                    for model, embedding in ((nano, half), (unrounded, full))
                )
                assert iou(one, other) >= 0.999, shown["name"]


def test_masks_of_pictures_resized_as_bytes_differ_little_from_those_resized_as_floats(
    nano: Sam2Model, resize_floats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = json.loads((PHOTOGRAPHS / "index.json").read_text())
    images = [np.asarray(PillowImage.open(PHOTOGRAPHS / entry["photo"]).convert("RGB")) for entry in photographs]
    as_bytes = [nano.embed(image) for image in images]

    monkeypatch.setattr(sam2_model, "_resize", resize_floats)
    as_floats = [nano.embed(image) for image in images]

    overlaps = [
        iou(*(nano.predict(one, click(*shown["click_xy"]), multimask_output=True).mask() for one in pair))
        for *pair, entry in zip(as_bytes, as_floats, photographs, strict=True)
        for shown in entry["objects"]
    ]
    assert np.median(overlaps) >= 0.995  # docs/adr/0009


def test_an_explicit_precision_holds_in_worker_threads(nano: Sam2Model) -> None:
    half = load_sam2(NANO, NANO.checkpoint, device="cpu", precision="bf16")
    image = paint(TOP_RIGHT)

    with ThreadPoolExecutor(1) as thread:
        in_worker = thread.submit(half.embed, image).result()

    torch.testing.assert_close(in_worker.image_embed, half.embed(image).image_embed, rtol=0, atol=0)
    full = nano.embed(image).image_embed.float()
    error = (in_worker.image_embed.float() - full).abs().max()
    assert error > full.abs().max() / 2**10  # more than rounding both to float16 alone would do
    assert iou(half.predict(in_worker, click(220, 60), multimask_output=False).mask(), TOP_RIGHT) >= 0.9


def test_the_math_kernel_of_attention_stays_allowed() -> None:
    assert torch.backends.cuda.math_sdp_enabled()  # type: ignore[no-untyped-call]


class FullDevice:
    """An image encoder whose device is full: fails half-way, as torch does, with a tensor already made."""

    made: weakref.ref[torch.Tensor]

    def forward_image(self, pixels: torch.Tensor) -> NoReturn:
        features = pixels + 1
        self.made = weakref.ref(features)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_full_gpu_is_a_catalogued_error_that_keeps_no_tensor_alive() -> None:
    full = FullDevice()
    model = Sam2Model.from_config(NANO.config_path, device="cpu")
    model._net.forward_image = full.forward_image

    with pytest.raises(GpuMemoryError, match="CUDA out of memory") as refusal:
        model.embed(paint(TOP_RIGHT))

    assert refusal.value.__context__ is None
    assert full.made() is None


def test_a_cpu_has_no_memory_of_its_own_and_a_gpus_is_told_without_asking_its_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, nbytes in (("memory_allocated", 10), ("memory_reserved", 20)):
        monkeypatch.setattr(torch.cuda, name, lambda device, nbytes=nbytes: nbytes if device == "cuda:1" else 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80))

    assert memory_bytes("cuda:1") == {"allocated": 10, "reserved": 20, "total": 80}
    assert memory_bytes("cpu") == {}


def test_a_gpu_is_waited_for_and_a_cpu_is_done_already(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))

    for device in ("cpu", "cuda:1", "mps"):
        wait_for(device)

    assert waited == ["cuda:1", "mps"]


def test_what_the_gpu_says_while_it_embeds_is_said_of_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> NoReturn:
        raise RuntimeError(FAILED_KERNEL)

    model = Sam2Model.from_config(NANO.config_path, device="cpu")
    monkeypatch.setattr(sam2_model, "wait_for", fail)

    with pytest.raises(DeviceLostError, match="device-side assert"):
        model.embed(paint(TOP_RIGHT))


FAILED_KERNEL = "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call"
ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError(FAILED_KERNEL), DeviceLostError),
        (ACCELERATOR_ERROR(FAILED_KERNEL), DeviceLostError),
        (RuntimeError("CUDA error: out of memory"), GpuMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), GpuMemoryError),
        (RuntimeError("shapes cannot be multiplied"), RuntimeError),
    ],
)
@pytest.mark.parametrize("call", ["embed", "predict", "to_bytes", "from_bytes", "free_memory", "load"])
def test_a_failed_call_of_the_gpu_is_a_lost_device_and_a_full_one_is_not(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception], call: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise raised

    model = Sam2Model.from_config(NANO.config_path, device="cpu")
    embedding = model.embed(paint(TOP_RIGHT))
    data = model.to_bytes(embedding, "key")
    model._net.forward_image = model._net.sam_mask_decoder.forward = fail
    monkeypatch.setattr(sam2_model, "_checksum", fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    monkeypatch.setattr(sam2_model, "_lay_out_positions", fail)
    calls: dict[str, Callable[[], object]] = {
        "embed": lambda: model.embed(paint(TOP_RIGHT)),
        "predict": lambda: model.predict(embedding, click(220, 60), multimask_output=True),
        "to_bytes": lambda: model.to_bytes(embedding, "key"),
        "from_bytes": lambda: model.from_bytes(data, "key"),
        "free_memory": model.free_memory,
        "load": lambda: load_sam2(NANO, find_checkpoint(NANO, Path()), device="cpu"),
    }
    model.device = "cuda" if call == "free_memory" else "cpu"

    with pytest.raises(expected) as failure:
        calls[call]()

    assert type(failure.value) is expected
    assert str(failure.value) == str(raised).partition("\n")[0]


def test_several_models_may_share_one_net(nano: Sam2Model) -> None:
    other = Sam2Model(nano._net, device="cpu")
    embedding = nano.embed(paint(TOP_RIGHT))

    one, same = (model.predict(embedding, click(220, 60), multimask_output=True) for model in (nano, other))

    np.testing.assert_array_equal(one.low_res_logits, same.low_res_logits)


# Embeddings as bytes


@pytest.fixture(scope="module")
def packed(nano: Sam2Model) -> bytes:
    """Nano's embedding of a picture, under the key `a`."""
    return nano.to_bytes(nano.embed(paint(TOP_RIGHT)), "a")


def saved(levels: dict[str, torch.Tensor] | None = None, **metadata: str) -> bytes:
    """A file of an embedding's form, with the right checksum."""
    full = {
        "image_embed": torch.zeros(1, 128, 16, 16),
        "high_res_feats.0": torch.zeros(1, 16, 64, 64),
        "high_res_feats.1": torch.zeros(1, 32, 32, 32),
    }
    tensors = {name: level.half() for name, level in full.items()} | (levels or {})
    crc32 = _checksum("a", "[180, 300]", tensors)
    return safetensors.torch.save(tensors, {"key": "a", "size_hw": "[180, 300]", "crc32": crc32} | metadata)


def test_masks_from_bytes_are_the_same(nano: Sam2Model, packed: bytes) -> None:
    kept, back = nano.embed(paint(TOP_RIGHT)), nano.from_bytes(packed, "a")

    one = nano.predict(kept, click(220, 60), multimask_output=True)
    other = nano.predict(back, click(220, 60), multimask_output=True)

    np.testing.assert_array_equal(one.low_res_logits, other.low_res_logits)
    assert other.size_hw == (HEIGHT, WIDTH)


def test_as_bytes_an_embedding_takes_little_more_than_in_memory(nano: Sam2Model, packed: bytes) -> None:
    assert 0 < len(packed) - nano.from_bytes(packed, "a").nbytes < 1024


def test_a_file_of_the_right_form_is_taken(nano: Sam2Model) -> None:
    assert nano.from_bytes(saved(), "a").size_hw == (180, 300)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 262_500,
        b"<html>not found</html>",
        (2**63).to_bytes(8, "little") + b"{}",
        (1).to_bytes(8, "little") + b"{",
        saved({"image_embed": torch.zeros(1, 128, 16, 17).half()}),
        saved({"image_embed": torch.zeros(1, 128, 16, 16)}),
        saved({"extra": torch.zeros(1).half()}),
        safetensors.torch.save({}),
        saved(key="b"),
        saved(crc32="00000000"),
        saved(size_hw="[300, 180]"),
        safetensors.torch.save(safetensors.torch.load(saved())),
    ],
    ids=[
        "empty",
        "zeros",
        "a page",
        "a huge header",
        "a broken header",
        "a shape",
        "a dtype",
        "one tensor more",
        "no tensors",
        "another key",
        "a wrong checksum",
        "another size",
        "no metadata",
    ],
)
def test_what_is_not_this_embedding_is_damaged(nano: Sam2Model, data: bytes) -> None:
    with pytest.raises(DamagedEmbeddingError):
        nano.from_bytes(data, "a")


def test_a_file_that_lacks_a_level_is_damaged(nano: Sam2Model) -> None:
    levels = safetensors.torch.load(saved())
    del levels["high_res_feats.1"]

    with pytest.raises(DamagedEmbeddingError):
        nano.from_bytes(safetensors.torch.save(levels, {"key": "a"}), "a")


def test_every_cut_and_every_flipped_bit_is_noticed_or_changes_nothing(nano: Sam2Model, packed: bytes) -> None:
    rng = np.random.default_rng(0)
    whole = nano.from_bytes(packed, "a")
    header = int.from_bytes(packed[:8], "little")
    places = [*rng.integers(0, 8 + header, 200), *rng.integers(8 + header, len(packed), 100)]
    damaged = [packed[:place] for place in places[::10]]
    for place, bit in zip(places, rng.integers(0, 8, len(places)), strict=True):
        flipped = bytearray(packed)
        flipped[place] ^= 1 << int(bit)
        damaged.append(bytes(flipped))

    unnoticed = 0
    for data in damaged:
        try:
            back = nano.from_bytes(data, "a")
        except DamagedEmbeddingError:
            continue
        assert_same(back, whole)
        assert back.size_hw == whole.size_hw
        unnoticed += 1

    assert unnoticed < 10  # spaces at the end of the header


def test_code_inside_a_file_is_not_run(nano: Sam2Model, tmp_path: Path) -> None:
    with pytest.raises(DamagedEmbeddingError):
        nano.from_bytes(pickle.dumps(TouchOnLoad(tmp_path / "ran")), "a")

    assert not (tmp_path / "ran").exists()


def test_the_format_names_what_else_the_numbers_depend_on(nano: Sam2Model) -> None:
    net = nano._net
    formats = {
        Sam2Model(net, device="cpu", precision=precision, stored_precision=stored).embedding_format
        for precision in ("fp32", "bf16")
        for stored in ("fp32", "fp16")
    }

    assert nano.embedding_format == "2-fp32-fp16"
    assert len(formats) == 4


# Loading


def test_it_is_a_model_for_the_segmenter(nano: Sam2Model) -> None:
    model: Model[Sam2Embedding] = nano

    model.free_memory()  # nothing to free on a CPU

    assert (nano.device, nano.precision, nano.low_res_size) == ("cpu", "fp32", 64)


@pytest.mark.parametrize("name", ["under_model.pt", "bare.pth", "bare.safetensors"])
def test_every_form_of_checkpoint_gives_the_same_model(nano: Sam2Model, tmp_path: Path, name: str) -> None:
    state_dict = {key: weight.contiguous() for key, weight in nano._net.state_dict().items()}
    if name.endswith(".safetensors"):
        safetensors.torch.save_file(state_dict, tmp_path / name)
    else:
        torch.save({"model": state_dict} if name == "under_model.pt" else state_dict, tmp_path / name)

    model = load_sam2(NANO, tmp_path / name, device="cpu")

    torch.testing.assert_close(dict(model._net.state_dict()), dict(state_dict), rtol=0, atol=0)


def test_a_checkpoint_that_lacks_a_weight_is_refused_and_the_weight_named(nano: Sam2Model, tmp_path: Path) -> None:
    state_dict = nano._net.state_dict()
    del state_dict["no_mem_embed"]
    torch.save({"model": state_dict}, tmp_path / "lacking.pt")

    with pytest.raises(ModelUnavailableError, match=r"lacking\.pt does not fit sam2_nano\.yaml: (?s:.*)no_mem_embed"):
        load_sam2(NANO, tmp_path / "lacking.pt", device="cpu")


class TouchOnLoad:
    """Pickles to a call that makes a file, as a malicious checkpoint would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": {}, "extra": TouchOnLoad(tmp_path / "ran")}, tmp_path / "malicious.pt")

    with pytest.raises(
        ModelUnavailableError, match=r"malicious\.pt cannot be loaded; it must hold nothing but tensors"
    ):
        load_sam2(NANO, tmp_path / "malicious.pt", device="cpu")

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>")

    with pytest.raises(ModelUnavailableError, match=rf"{name} cannot be loaded"):
        load_sam2(NANO, tmp_path / name, device="cpu")


def test_a_checkpoint_that_holds_a_list_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")

    with pytest.raises(ModelUnavailableError, match=r"list\.pt holds a list, no state dict"):
        load_sam2(NANO, tmp_path / "list.pt", device="cpu")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("trainer: {}", "has no entry `model`"),
        ("model: [unclosed", "cannot be used as a model's config"),
        ("model: {_target_: sam2.nowhere.Model}", "cannot be used as a model's config"),
        ("model: {_target_: sam2.modeling.sam2_base.SAM2Base}", "cannot be used as a model's config"),
        ("model: {image_size: 256}", "no SAM 2 model"),
        (None, "cannot be used as a model's config"),
    ],
    ids=["no model", "no YAML", "unknown class", "missing parts", "no class", "no file"],
)
def test_a_config_that_is_none_is_refused_by_name(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ModelUnavailableError, match=rf"mine\.yaml .*{complaint}"):
        load_sam2(replace(NANO, config=path), NANO.checkpoint, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has what the test asks for in vain")
def test_a_device_the_machine_lacks_is_refused() -> None:
    with pytest.raises(ModelUnavailableError, match="DEVICE=cuda is asked for"):
        load_sam2(NANO, NANO.checkpoint, device="cuda")


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.5, 2), (2.0, 2), (4.0, 3), (math.inf, 3)])
def test_torch_starts_no_more_threads_than_the_quota_has_cpus(cpus: float, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)

        _keep_to_quota(cpus)

        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)


def test_random_weights_follow_the_seed_and_leave_torchs_own_alone() -> None:
    state = torch.get_rng_state()

    one, same, other = (Sam2Model.from_config(NANO.config_path, seed=seed, device="cpu") for seed in (1, 1, 2))

    weights = [model._net.no_mem_embed for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)
