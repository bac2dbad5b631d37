"""The training for real, on very few and very small pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.utils.data import default_collate
from training.curve import draw_curve
from training.export import export
from training.losses import dice, iou, mask_loss
from training.network import Network
from training.pictures import Pictures
from training.samples import Samples
from training.train import CONFIG, Run, Settings, Stage, Training, start_replicas

from labelstudio_sam2.segmenter.sam2_model import load_sam2
from labelstudio_sam2.segmenter.zoo import ModelSpec

STAGES = (
    Stage(size=64, images=4, batch=2, easy=True),
    Stage(size=128, images=4, batch=2),
)


def settings(replicas: int = 1) -> Settings:
    return Settings(seed=3, stages=STAGES, precision=torch.float32, replicas=replicas, workers=0)


def run(store: Path, output: Path, replicas: int = 1) -> Run:
    output.mkdir(exist_ok=True)
    return Run(settings(replicas), store, output, validate_every=2, save_minutes=60, composites=2)


def test_a_training_leaves_checkpoint_log_and_curve(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    run(store, output).replica(0)

    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == 4
    assert 0 <= entries[-1]["held_out"]["click"] <= 1
    assert (output / "curve.png").stat().st_size > 10_000
    assert torch.load(output / "last.pt", weights_only=True)["step"] == 4


def test_a_broken_off_training_ends_as_an_unbroken_one(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, tmp_path / "unbroken").replica(0)
    learn = Training.learn

    def stop_at_3(training: Training, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if training.step == 3:
            training.save(tmp_path / "broken" / "last.pt")
            raise KeyboardInterrupt
        return learn(training, batch)

    broken_off = run(store, tmp_path / "broken")
    monkeypatch.setattr(Training, "learn", stop_at_3)
    with pytest.raises(KeyboardInterrupt):
        broken_off.replica(0)
    monkeypatch.setattr(Training, "learn", learn)
    run(store, tmp_path / "broken").replica(0)

    unbroken, broken = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["average"] for name in ("unbroken", "broken")
    )
    for name, tensor in unbroken.items():
        torch.testing.assert_close(broken[name], tensor)


def test_replicas_learn_together(store: Path, tmp_path: Path) -> None:
    """Each sees half of every batch and both end with the same weights, near a single process' own."""
    run(store, tmp_path / "alone").replica(0)
    start_replicas(run(store, tmp_path / "together", replicas=2))

    alone, together = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("alone", "together"))
    assert together["step"] == alone["step"] == 4
    weights = "sam_mask_decoder.iou_token.weight"
    torch.testing.assert_close(together["average"][weights], alone["average"][weights], atol=5e-3, rtol=0)


def test_learning_the_same_batch_lowers_its_loss(pictures: Pictures) -> None:
    torch.manual_seed(0)
    training = Training(settings(), torch.device("cpu"))
    training.steps = 10_000  # the learning rate stays up
    training.network.set_size(64)
    samples = Samples(pictures=pictures, size=64, seed=1, first=0, count=4, easy=True)
    batch = default_collate([samples[index] for index in range(4)])

    losses = [training.learn(batch)["loss"] for _ in range(12)]

    assert losses[-1] < losses[0]


def test_samples_are_named_by_their_index(pictures: Pictures) -> None:
    whole = Samples(pictures=pictures, size=64, seed=1, first=0, count=8, easy=False)
    rest = Samples(pictures=pictures, size=64, seed=1, first=5, count=3, easy=False)

    for name, tensor in whole[6].items():
        torch.testing.assert_close(rest[1][name], tensor)


def test_what_is_exported_is_what_the_backend_loads(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "out").replica(0)
    exported = tmp_path / "nano.safetensors"

    sha256 = export(tmp_path / "out" / "last.pt", exported)

    assert {tensor.dtype for tensor in safetensors.torch.load_file(exported).values()} == {torch.float16}
    spec = ModelSpec(model_id="own", config=CONFIG.absolute(), checkpoint=exported, sha256=sha256)
    model = load_sam2(spec, exported, device="cpu")
    assert model.low_res_size == 64


def test_the_network_answers_as_the_backend_does(pictures: Pictures) -> None:
    """Training must see the very prompts that the backend makes, or its figures mean nothing."""
    from labelstudio_sam2.segmenter.prompt import Prompt  # noqa: PLC0415
    from labelstudio_sam2.segmenter.sam2_model import Sam2Model  # noqa: PLC0415

    torch.manual_seed(0)
    network = Network(CONFIG).eval()
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    with torch.inference_mode():
        embeddings = network.embed(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
        logits, scores = network.predict(
            embeddings,
            torch.tensor([[[30.0, 40.0], [200.0, 180.0], [100.0, 90.0]]]),
            torch.tensor([[2, 3, 1]]),
            torch.full((1, 64, 64), 4.0),
            torch.tensor([True]),
        )
    model = Sam2Model(network.sam, device="cpu")
    prompt = Prompt(
        point_coords=np.array([[100, 90]], np.float32),
        point_labels=np.array([1], np.int32),
        box=np.array([30, 40, 200, 180], np.float32),
        mask_input=np.full((1, 64, 64), 4, np.float32),
    )

    answer = model.predict(model.embed(image), prompt, multimask_output=True)

    np.testing.assert_allclose(answer.low_res_logits, logits[0, 1:].numpy(), atol=2e-3)
    np.testing.assert_allclose(answer.scores, scores[0, 1:].numpy(), atol=1e-3)


def test_iou_counts_pixels() -> None:
    mask, truth = torch.zeros(2, 6, 8, dtype=torch.bool), torch.zeros(2, 6, 8, dtype=torch.bool)
    mask[0, :2], truth[0, :4] = True, True  # 16 of 32
    mask[1, 0], truth[1, 5] = True, True

    assert iou(mask, truth).tolist() == [0.5, 0.0]


def test_a_right_answer_costs_less_than_a_wrong_one() -> None:
    truth = torch.zeros(1, 12, 16)
    truth[:, 3:9, 4:12] = 1
    right = torch.nn.functional.avg_pool2d(truth[:, None], 2).expand(-1, 4, -1, -1) * 20 - 10
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0]])

    good, good_iou = mask_loss(right, scores, truth)
    bad, bad_iou = mask_loss(-right, scores, truth)

    assert good < bad
    assert good_iou.min() > 0.6 > bad_iou.max()


def test_the_best_of_three_is_what_counts() -> None:
    truth = torch.zeros(1, 12, 16)
    truth[:, 2:10, 4:12] = 1
    right = (torch.nn.functional.avg_pool2d(truth[:, None], 2) * 20 - 10)[:, 0]
    one_right = torch.stack([right, -right, right, -right], dim=1)
    none_right = torch.stack([right, -right, -right, -right], dim=1)
    scores = torch.zeros(1, 4)

    assert mask_loss(one_right, scores, truth)[0] < mask_loss(none_right, scores, truth)[0]


def test_dice_is_zero_for_the_same_and_near_one_for_the_opposite() -> None:
    truth = torch.zeros(1, 1, 6, 8)
    truth[..., :3, :] = 1

    assert float(dice(truth * 40 - 20, truth)) < 0.01
    assert float(dice(20 - truth * 40, truth)) > 0.9


def test_a_curve_is_drawn_over_a_change_of_size(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    looked = {"click": 0.5, "best_of_3": 0.6, "clicks_3": 0.7, "box": 0.8}
    entries = [
        {"step": step, "size": 128 * step, "time": 4000 * step, "loss": 1 / step, "held_out": looked} for step in (1, 2)
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    draw_curve(log, tmp_path / "curve.png")

    assert (tmp_path / "curve.png").stat().st_size > 10_000
