"""Train nano: `python -m training.train`. Stops and goes on wherever it was; draws its curve as it goes."""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from numpy.random import Generator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from training.curve import draw_curve
from training.losses import dense_loss, mask_loss
from training.network import Network, TrainingHeads
from training.pictures import Pictures
from training.prompts import PADDING, corrective_click
from training.samples import Samples
from training.validate import MEASURES, validate

CONFIG = Path("backend/labelstudio_sam2/segmenter/nano/sam2_nano.yaml")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training with images of one size.

    Attributes:
        size: S, of the images, in pixels.
        images: How many.
        batch: Images in one step.
        easy: Whether scenes are simple.
    """

    size: int
    images: int
    batch: int
    easy: bool = False

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.images // self.batch


STAGES = (
    Stage(size=128, images=12_000, batch=24, easy=True),
    Stage(size=128, images=120_000, batch=24),
    Stage(size=256, images=102_400, batch=16),
)
"""Small images first: they cost a quarter, and what is learned on them holds for large ones."""

_LEARNING_RATE = 1.5e-3
_HELD_SHARE = 0.55
"""Of the training with the full learning rate; then it falls in a straight line."""
_LAST_LEARNING_RATE = 0.01
"""Of the full one, at the end."""
_WARM_UP_STEPS = 200
_WEIGHT_DECAY = 0.05
_LARGEST_GRADIENT = 1.0
_AVERAGE_DECAY = 0.998
"""Of the moving average of the weights, which is what ships."""
_DENSE_WEIGHT = 1.0
"""Of the training heads' loss; it fades out along the training."""
_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one training is started with.

    Attributes:
        seed: Of everything random.
        stages: What to see, in this order.
        precision: What the network computes in.
        replicas: Processes that each learn from a share of every batch; their gradients are averaged.
        workers: Processes that make samples for each replica; 0 to make them in between.
    """

    seed: int
    stages: tuple[Stage, ...]
    precision: torch.dtype
    replicas: int
    workers: int


class Training:
    """Weights, their average, optimizers and how far it is: all that a checkpoint holds."""

    def __init__(self, settings: Settings, device: torch.device, replica: int = 0) -> None:
        self.settings = settings
        self.replica = replica
        self.device = device
        # torch's fused attention for CPUs is half as fast as plain matrices for heads as narrow as these
        self.attention = [SDPBackend.MATH] if device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        torch.manual_seed(settings.seed)
        self.network = Network(CONFIG, settings.precision).to(device)
        self.heads = TrainingHeads(self.network.sam.hidden_dim).to(device)
        self.average: dict[str, Tensor] = {k: v.detach().clone() for k, v in self.network.sam.state_dict().items()}
        self.optimizers = _optimizers(self.network, self.heads)
        self.step = 0
        self.steps = sum(stage.steps for stage in settings.stages)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.heads.load_state_dict(state["heads"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]

    def learn(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Take one optimizer step; return what it measured."""
        progress = self.step / self.steps
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(self.step, progress)
        self.network.train()
        with sdpa_kernel(self.attention):
            loss, measured = self._loss(batch, progress)
            torch.autograd.backward(loss)
        parameters = [p for p in (*self.network.parameters(), *self.heads.parameters()) if p.grad is not None]
        self._share_gradients([p.grad for p in parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(_AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.sam.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - decay)
        return {**measured, "loss": float(loss.detach()), "gradient": float(norm)}

    def _share_gradients(self, gradients: list[Tensor]) -> None:
        """Replace the gradients by their mean over all replicas."""
        if self.settings.replicas == 1:
            return
        together = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        together /= self.settings.replicas
        parts = torch.split(together, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _loss(self, batch: dict[str, Tensor], progress: float) -> tuple[Tensor, dict[str, float]]:
        rounds = 1 + int(np.random.default_rng([self.settings.seed, 1, self.step]).choice(3, p=[0.25, 0.4, 0.35]))
        rng = np.random.default_rng([self.settings.seed, 2, self.step, self.replica])
        embeddings = self.network.embed(batch["image"])
        with self.network.autocast(self.device):
            scene, vectors = self.heads(embeddings)
        truth = batch["truth"]
        dense = dense_loss(scene.float(), batch["scene"].float()) + self._alike_loss(vectors.float(), truth, rng)
        repeated = embeddings.repeat(truth.shape[1])
        truth = truth.flatten(0, 1)
        wanted = truth.float()
        points, labels = batch["points"].flatten(0, 1), batch["labels"].flatten(0, 1)
        used = int((labels != PADDING).any(dim=0).nonzero().amax()) + 1 if (labels != PADDING).any() else 0
        points, labels = points[:, :used], labels[:, :used]
        mask_input, has_mask = batch["mask_input"].flatten(0, 1), batch["has_mask"].flatten()
        total = dense.new_zeros(())
        measured: dict[str, float] = {"dense": float(dense.detach())}
        for turn in range(rounds):
            logits, scores = self.network.predict(repeated, points, labels, mask_input, has_mask)
            loss, true_iou = mask_loss(logits, scores, wanted)
            total = total + loss / rounds
            measured[f"iou_{turn + 1}"] = float(true_iou[:, 0].mean())
            measured.setdefault("score_error", float((scores.detach() - true_iou).abs().mean()))
            if turn + 1 < rounds:
                best = _answer(logits.detach(), scores.detach(), ambiguous=turn == 0 and used <= 1)
                points, labels = self._correct(best, truth, points, labels, rng)
                keep = torch.from_numpy(rng.random(len(best)) < 0.85).to(self.device)
                mask_input = torch.where(keep[:, None, None], best.clamp(-32, 32), mask_input)
                has_mask = has_mask | keep
        fade = _DENSE_WEIGHT * (1 - progress)
        return total + fade * dense, measured

    def _alike_loss(self, vectors: Tensor, truth: Tensor, rng: Generator) -> Tensor:
        """Loss of telling from one pixel of each object which others belong to it."""
        small = functional.max_pool2d(truth.float(), 2)
        flat = small.flatten(2)
        noise = torch.from_numpy(rng.random(flat.shape, np.float32)).to(flat)
        pixel = (flat * (1 + noise)).argmax(dim=2)
        return dense_loss(self.heads.alike(vectors, pixel), small)

    def _correct(
        self, answer: Tensor, truth: Tensor, points: Tensor, labels: Tensor, rng: Generator
    ) -> tuple[Tensor, Tensor]:
        """Add to every prompt a click where its answer is wrong."""
        shape = truth.shape[-2:]
        masks = functional.interpolate(answer[:, None], shape, mode="bilinear", align_corners=False)[:, 0] > 0
        wrong, true = masks.cpu().numpy(), truth.cpu().numpy().astype(bool)
        clicks = [corrective_click(t, w, rng) for t, w in zip(true, wrong, strict=True)]
        at = (
            torch.tensor([xy for xy, _ in clicks], dtype=torch.float32) * 2 + 0.5
        )  # the truth has half the image's size
        new = torch.tensor([[label] for _, label in clicks])
        return torch.cat([points, at[:, None].to(points)], 1), torch.cat([labels, new.to(labels)], 1)


def _answer(logits: Tensor, scores: Tensor, *, ambiguous: bool) -> Tensor:
    """What the backend would show: the best-scored of the three for a lone click, else the single mask."""
    if not ambiguous:
        return logits[:, 0]
    best = scores[:, 1:].argmax(dim=1) + 1
    return logits[torch.arange(len(logits), device=logits.device), best]


def _learning_rate(step: int, progress: float) -> float:
    share = 1 - (1 - _LAST_LEARNING_RATE) * max(0.0, progress - _HELD_SHARE) / (1 - _HELD_SHARE)
    return _LEARNING_RATE * share * min(1.0, (step + 1) / _WARM_UP_STEPS)


def _optimizers(network: Network, heads: TrainingHeads) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of hidden layers, AdamW for everything else."""
    matrices, others, plain = [], [], []
    for name, parameter in [*network.named_parameters(), *heads.named_parameters()]:
        if not parameter.requires_grad or name.startswith(("sam.memory", "sam.mask_downsample", "sam.obj_ptr")):
            continue
        if parameter.ndim == 2 and min(parameter.shape) >= 32:
            matrices.append(parameter)
        elif parameter.ndim >= 2:
            others.append(parameter)
        else:
            plain.append(parameter)
    return [
        torch.optim.Muon(matrices, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": others, "weight_decay": _WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
            lr=_LEARNING_RATE,
            betas=(0.9, 0.98),
        ),
    ]


def _batches(training: Training, pictures: Pictures) -> Iterator[tuple[Stage, dict[str, Tensor]]]:
    """Yield what is left for this replica to see, from the training's step on."""
    settings = training.settings
    first_step, first_image = 0, 0
    for stage in settings.stages:
        done = min(max(training.step - first_step, 0), stage.steps)
        if done < stage.steps:
            samples = Samples(
                pictures=pictures,
                size=stage.size,
                seed=settings.seed,
                first=first_image,
                easy=stage.easy,
                count=stage.steps * stage.batch,
            )
            own = range(done * stage.batch + training.replica, len(samples), settings.replicas)
            loader = DataLoader(
                samples,
                sampler=own,
                batch_size=stage.batch // settings.replicas,
                num_workers=settings.workers,
                prefetch_factor=4 if settings.workers else None,
            )
            for batch in loader:
                yield stage, {name: tensor.to(training.device) for name, tensor in batch.items()}
        first_step += stage.steps
        first_image += stage.steps * stage.batch


def _choose_precision(*, on_gpu: bool) -> torch.dtype:
    """bf16 where the machine computes in it, else fp32: on a CPU without such units it is many times slower."""
    if on_gpu:
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def main(
    pictures_folder: Annotated[
        Path, typer.Option("--pictures", help="What `python -m training.sources` wrote.")
    ] = Path(".nano/pictures"),
    output: Annotated[Path, typer.Option(help="Checkpoints, log and curve; go on from what is there.")] = Path(
        ".nano/training"
    ),
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    scale: Annotated[float, typer.Option(help="Share of the full recipe's images; below 1 for a try.")] = 1.0,
    validate_every: Annotated[int, typer.Option(help="Steps between two looks at held-out composites.")] = 500,
    save_minutes: Annotated[float, typer.Option(help="Minutes between two checkpoints.")] = 3,
) -> None:
    """Train nano from scratch on composites, on a GPU where there is one. Ctrl-C stops; the same command goes on."""
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1
    on_gpu = torch.cuda.is_available()
    settings = Settings(
        seed=seed,
        stages=tuple(replace(stage, images=round(stage.images * scale)) for stage in STAGES),
        precision=_choose_precision(on_gpu=on_gpu),
        # A CPU's cores each learn for themselves: threads that share every small step mostly wait for one another.
        replicas=1 if on_gpu else _largest_divisor(cores, [stage.batch for stage in STAGES]),
        workers=max(1, cores - 1) if on_gpu else 0,
    )
    run = Run(settings, pictures_folder, output, validate_every, save_minutes)
    output.mkdir(parents=True, exist_ok=True)
    start_replicas(run)


@dataclass(frozen=True)
class Run:
    """One call of the command: what every replica does."""

    settings: Settings
    pictures_folder: Path
    output: Path
    validate_every: int
    save_minutes: float
    composites: int = 64

    def distributed_replica(self, replica: int, store: str) -> None:
        """Be one of several replicas, on one core."""
        torch.set_num_threads(1)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=replica, world_size=self.settings.replicas
        )
        self.replica(replica)
        distributed.destroy_process_group()

    def replica(self, replica: int) -> None:
        """Train to the end; the first replica also measures, shows, logs and saves."""
        cv2.setNumThreads(0)  # its pool does not survive the fork into the workers
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        training = Training(self.settings, device, replica)
        checkpoint, log_path = self.output / "last.pt", self.output / "log.jsonl"
        if checkpoint.exists():
            training.load(checkpoint)
        pictures = Pictures.load(self.pictures_folder, "train")
        held_out = Pictures.load(self.pictures_folder, "held_out")
        console = Console(quiet=replica > 0)
        console.print(
            f"{training.step:,} of {training.steps:,} steps done; "
            f"{self.settings.replicas} x {device.type}, {self.settings.precision}"
        )
        if replica == 0:
            _forget_after(log_path, training.step)
        saved = time.monotonic()
        sums: dict[str, list[float]] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("training", total=training.steps, completed=training.step)
            for stage, batch in _batches(training, pictures):
                if not _parent_is_alive():
                    return
                training.network.set_size(stage.size)
                for name, value in training.learn(batch).items():
                    sums.setdefault(name, []).append(value)
                bar.update(
                    task, completed=training.step, description=f"{stage.size} px, loss {np.mean(sums['loss']):.3f}"
                )
                last = training.step == training.steps
                looks = training.step % self.validate_every == 0 or last
                held_out_iou = self._validate(training, held_out, stage.size) if looks else None
                if replica == 0 and (training.step % _LOG_EVERY == 0 or last):
                    means = {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
                    _log(
                        log_path,
                        {"step": training.step, "size": stage.size, "time": round(time.time()), **means},
                        held_out_iou,
                    )
                    sums.clear()
                    if held_out_iou is not None:
                        console.print(training.step, held_out_iou)
                        draw_curve(log_path, self.output / "curve.png")
                if replica == 0 and (last or time.monotonic() - saved > self.save_minutes * 60):
                    training.save(checkpoint)
                    saved = time.monotonic()

    def _validate(self, training: Training, held_out: Pictures, size: int) -> dict[str, float]:
        """Look at the held-out composites, each replica at its share."""
        own = range(training.replica, self.composites, self.settings.replicas)
        sums = validate(training.network, training.average, held_out, size, own)
        if self.settings.replicas > 1:
            distributed.all_reduce(sums)
        return {name: round(float(total) / self.composites, 4) for name, total in zip(MEASURES, sums, strict=True)}


def start_replicas(run: Run) -> None:
    """Train to the end, in this process or in one for each replica."""
    if run.settings.replicas == 1:
        run.replica(0)
        return
    with tempfile.TemporaryDirectory() as meeting_point:
        spawn(  # type: ignore[no-untyped-call]
            run.distributed_replica, (f"{meeting_point}/store",), nprocs=run.settings.replicas
        )


def _parent_is_alive() -> bool:
    """Whether the process that started this replica is still there; a killed one does not take its replicas along."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def _log(log_path: Path, entry: dict[str, Any], held_out_iou: dict[str, float] | None) -> None:
    if held_out_iou is not None:
        entry["held_out"] = held_out_iou
    with log_path.open("a") as log:
        log.write(json.dumps(entry) + "\n")


def _largest_divisor(limit: int, numbers: list[int]) -> int:
    """Return the largest number up to the limit that divides them all."""
    return next(candidate for candidate in range(limit, 0, -1) if all(number % candidate == 0 for number in numbers))


def _forget_after(log_path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint that the training goes on from: it comes again."""
    if log_path.exists():
        lines = [line for line in log_path.read_text().splitlines() if json.loads(line)["step"] <= step]
        log_path.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    typer.run(main)
