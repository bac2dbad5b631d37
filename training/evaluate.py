"""Measure nano: `python -m training.evaluate`. A table of mean IoU for every way of prompting, and pictures to look at.

The prompts are made as an annotator would; the masks are what the backend answers, without any postprocessing. Beside
the models stands OpenCV's GrabCut with the same prompts.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeAlias

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from labelstudio_sam2.segmenter.prompt import FloatArray, Mask, Prompt
from labelstudio_sam2.segmenter.sam2_model import Sam2Embedding, Sam2Model, load_sam2
from labelstudio_sam2.segmenter.zoo import ModelSpec, resolve
from training.composites import compose
from training.overlays import contact_sheet
from training.pictures import Pictures
from training.prompts import POSITIVE, as_logits, click_inside, corrective_click, rough_mask, tight_box

Uint8Array = NDArray[np.uint8]
Click: TypeAlias = tuple[tuple[float, float], int]

PHOTOGRAPHS = Path("tests/data/photographs")
COMPOSITE_SIZE = 256
_COMPOSITE_SEED = 2_000_003
_ROUGH_SEED = 3_000_017
_EASY_SEED = 4_000_037
_SMALLEST_OVERLAP = 0.25
"""Of the unwanted object: where the first answer covers less of it, there is nothing to take away."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One object to find.

    Attributes:
        name: For the pictures.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) bool.
        unwanted: (H, W) bool, another object on the same image, or None.
        first_click: xy in pixels.
    """

    name: str
    image: Uint8Array
    truth: Mask
    unwanted: Mask | None
    first_click: tuple[float, float]


class Segments(Protocol):
    """Whatever answers prompts on one image."""

    def __call__(self, prompt: Prompt) -> tuple[Mask, FloatArray | None]:
        """Return the (H, W) mask, and the (1, M, M) logits to refine it with, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one contender reached on one set.

    Attributes:
        rows: By measure, one figure for each case; None where it does not apply to the case.
        masks: By measure, the masks, for the pictures.
    """

    rows: dict[str, list[float | None]] = field(default_factory=dict)
    masks: dict[str, list[Mask | None]] = field(default_factory=dict)

    def note(self, measure: str, figure: float | None, mask: Mask | None = None) -> None:
        """Add one case's figure."""
        self.rows.setdefault(measure, []).append(figure)
        self.masks.setdefault(measure, []).append(mask)

    def mean(self, measure: str) -> float | None:
        """Return the mean over the cases that have a figure."""
        figures = [figure for figure in self.rows.get(measure, []) if figure is not None]
        return float(np.mean(figures)) if figures else None


MEASURES = {
    "click": "1 click",
    "clicks_3": "3 clicks",
    "clicks_3_logits": "3 clicks, logits handed back",
    "box": "box",
    "box_click": "box + click",
    "negative": "unwanted removed",
    "negative_raised": "times raised",
    "rough": "rough mask",
    "refined": "rough mask refined",
}


def iou(mask: Mask, truth: Mask) -> float:
    """Return the intersection over union."""
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def measure(case: Case, segments: Segments, into: Measured, index: int) -> None:
    """Ask for one object in every way."""
    first: Click = (case.first_click, POSITIVE)

    mask, logits = segments(_prompt([first]))
    into.note("click", iou(mask, case.truth), mask)

    for name, hands_back in (("clicks_3", False), ("clicks_3_logits", True)):
        clicks, answer, prior = [first], mask, logits
        for _ in range(2):
            clicks = [*clicks, corrective_click(case.truth, answer)]
            answer, prior = segments(_prompt(clicks, mask_input=prior if hands_back else None))
        into.note(name, iou(answer, case.truth), answer)

    box = tight_box(case.truth)
    boxed, _ = segments(_prompt([], box=box))
    into.note("box", iou(boxed, case.truth), boxed)
    boxed, _ = segments(_prompt([first], box=box))
    into.note("box_click", iou(boxed, case.truth), boxed)

    _measure_negative(case, segments, into, first)

    rough = rough_mask(case.truth, np.zeros_like(case.truth), np.random.default_rng([_ROUGH_SEED, index]))
    refined, _ = segments(_prompt([], mask_input=as_logits(rough, 256, 4.0)[None]))
    into.note("rough", iou(rough, case.truth))
    into.note("refined", iou(refined, case.truth), refined)


def _measure_negative(case: Case, segments: Segments, into: Measured, first: Click) -> None:
    """Ask for two objects, then take one of them away with a negative click."""
    removed = raised = None
    after = None
    if case.unwanted is not None:
        on_unwanted = click_inside(case.unwanted)
        before, _ = segments(_prompt([first, (on_unwanted, POSITIVE)]))
        covered = float((before & case.unwanted).sum() / case.unwanted.sum())
        if covered >= _SMALLEST_OVERLAP:
            after, _ = segments(_prompt([first, (on_unwanted, 0)]))
            left = float((after & case.unwanted).sum() / case.unwanted.sum())
            removed, raised = 1 - left / covered, float(left > covered)
    into.note("negative", removed, after)
    into.note("negative_raised", raised)


def _prompt(
    clicks: Sequence[Click], *, box: Sequence[float] | None = None, mask_input: FloatArray | None = None
) -> Prompt:
    return Prompt(
        point_coords=np.array([at for at, _ in clicks], np.float32).reshape(-1, 2),
        point_labels=np.array([label for _, label in clicks], np.int32),
        box=None if box is None else np.array(box, np.float32),
        mask_input=mask_input,
    )


def with_model(model: Sam2Model, image: Uint8Array) -> Segments:
    """Answer prompts as the backend does."""
    return partial(_model_segments, model, model.embed(image))


def _model_segments(model: Sam2Model, embedding: Sam2Embedding, prompt: Prompt) -> tuple[Mask, FloatArray | None]:
    segmentation = model.predict(embedding, prompt, multimask_output=prompt.is_ambiguous)
    best = segmentation.best
    return segmentation.mask(), segmentation.low_res_logits[best : best + 1]


def with_grabcut(image: Uint8Array) -> Segments:
    """Answer prompts with OpenCV's GrabCut (Rother et al. 2004)."""
    return partial(_grabcut_segments, image)


def _grabcut_segments(image: Uint8Array, prompt: Prompt) -> tuple[Mask, FloatArray | None]:
    height, width = image.shape[:2]
    labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    radius = max(2, min(height, width) // 8)
    if prompt.mask_input is not None:
        resized: Any = cv2.resize(prompt.mask_input[0], (width, height))
        labels[np.asarray(resized) > 0] = cv2.GC_PR_FGD
    elif prompt.box is None:
        for x, y in prompt.point_coords[prompt.point_labels == POSITIVE]:
            cv2.circle(labels, (int(x), int(y)), radius, cv2.GC_PR_FGD, -1)
    if prompt.box is not None:
        x1, y1, x2, y2 = prompt.box.round().astype(int)
        labels[:] = cv2.GC_BGD
        labels[y1:y2, x1:x2] = cv2.GC_PR_FGD
    for (x, y), label in zip(prompt.point_coords, prompt.point_labels, strict=True):
        cv2.circle(labels, (int(x), int(y)), 3, cv2.GC_FGD if label == POSITIVE else cv2.GC_BGD, -1)
    if (labels % 2 == 1).any() and (labels % 2 == 0).any():
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(image, labels, (0, 0, 0, 0), background, foreground, 5, cv2.GC_INIT_WITH_MASK)
    return labels % 2 == 1, None


def composite_cases(held_out: Pictures, count: int, *, easy: bool = False) -> Iterator[Case]:
    """Yield composites of objects and backgrounds that no training has seen; easy ones have few, large objects."""
    seed = _EASY_SEED if easy else _COMPOSITE_SEED
    for number in range(count):
        composite = compose(held_out, np.random.default_rng([seed, number]), COMPOSITE_SIZE, easy=easy)
        own = number % len(composite.masks)
        others = [index for index in range(len(composite.masks)) if index != own]
        truth = composite.masks[own]
        yield Case(
            name=f"composite {number}",
            image=composite.image,
            truth=truth,
            unwanted=composite.masks[others[0]] if others else None,
            first_click=click_inside(truth),
        )


def photograph_cases(folder: Path) -> Iterator[Case]:
    """Yield the photographs with hand-made masks."""
    for entry in json.loads((folder / "index.json").read_text()):
        image = _read(folder / entry["photo"], cv2.IMREAD_COLOR_RGB)
        masks: list[Mask] = [_read(folder / shown["mask"], cv2.IMREAD_GRAYSCALE) > 0 for shown in entry["objects"]]
        for index, shown in enumerate(entry["objects"]):
            apart = [mask for mask in masks if not (mask & masks[index]).any()]
            x, y = shown["click_xy"]
            yield Case(
                name=f"{Path(entry['photo']).stem}, {shown['name'].replace('_', ' ')}",
                image=image,
                truth=masks[index],
                unwanted=apart[0] if apart else None,
                first_click=(float(x), float(y)),
            )


def _read(path: Path, mode: int) -> Uint8Array:
    pixels = cv2.imread(str(path), mode)
    if pixels is None:
        raise FileNotFoundError(f"{path} cannot be read as a picture")
    return np.asarray(pixels, np.uint8)


Contender: TypeAlias = Callable[[Uint8Array], Segments]


def main(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model of the backend, such as nano or sam2/hiera_tiny, or CHECKPOINT=CONFIG for one's own. Repeat "
            "it to compare; nano alone otherwise.",
        ),
    ] = None,
    weights_dir: Annotated[Path, typer.Option(help="Where official checkpoints are.")] = Path("weights"),
    pictures_folder: Annotated[
        Path, typer.Option("--pictures", help="What `python -m training.sources` wrote; photographs alone without.")
    ] = Path(".nano/pictures"),
    composites: Annotated[int, typer.Option(help="How many composites.")] = 300,
    output: Annotated[Path, typer.Option(help="Where table and pictures go.")] = Path(".nano/evaluation"),
) -> None:
    """Measure models on held-out composites and on photographs with hand-made masks, beside GrabCut."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    contenders: dict[str, Contender] = {}
    for name in models or ["nano"]:
        spec = _spec(name)
        contenders[spec.model_id] = partial(with_model, load_sam2(spec, weights_dir / spec.checkpoint))
    contenders["GrabCut"] = with_grabcut
    sets = {"photographs": list(photograph_cases(PHOTOGRAPHS))}
    if (pictures_folder / "index.json").exists():
        held_out = Pictures.load(pictures_folder, "held_out")
        hard, easy = composite_cases(held_out, composites), composite_cases(held_out, composites // 3, easy=True)
        sets = {"composites": list(hard), "easy composites": list(easy), **sets}
    else:
        console.print(f"no composites: there is no {pictures_folder}/index.json; run `python -m training.sources`")
    report: dict[str, Any] = {}
    for set_name, cases in sets.items():
        for contender_name, contender in contenders.items():
            measured = Measured()
            title = f"{contender_name} on {len(cases)} {set_name}"
            for index, case in enumerate(track(cases, title, console=console)):
                measure(case, contender(case.image), measured, index)
            report.setdefault(set_name, {})[contender_name] = _summary(measured, cases)
            if contender_name != "GrabCut":
                _draw(measured, cases, output / f"{set_name}-{contender_name.replace('/', '-')}")
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    markdown = _markdown(report, {name: len(cases) for name, cases in sets.items()})
    (output / "table.md").write_text(markdown)
    _print_table(console, report)
    console.print(f"table and pictures are in {output}")


def _spec(name: str) -> ModelSpec:
    checkpoint, _, config = name.partition("=")
    return resolve(checkpoint, Path(config) if config else None)


def _summary(measured: Measured, cases: Sequence[Case]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in MEASURES:
        figures = [figure for figure in measured.rows[name] if figure is not None]
        total = sum(figures) if name == "negative_raised" else float(np.mean(figures)) if figures else None
        summary[name] = total if total is None else round(total, 4)
    summary["negative_pairs"] = sum(figure is not None for figure in measured.rows["negative"])
    summary["by_size"] = {
        name: {measure: _mean(measured, measure, numbers) for measure in ("click", "clicks_3", "box")}
        | {"objects": len(numbers)}
        for name, numbers in _by_size(cases).items()
    }
    summary["by_case"] = {
        case.name: {name: _rounded(measured.rows[name][index]) for name in MEASURES} for index, case in enumerate(cases)
    }
    return summary


def _by_size(cases: Sequence[Case]) -> dict[str, list[int]]:
    """Sort the cases by the share of the image that their object takes."""
    shares = [float(case.truth.mean()) for case in cases]
    bounds = {"under 1 %": (0.0, 0.01), "1 to 5 %": (0.01, 0.05), "over 5 %": (0.05, 1.01)}
    return {
        name: [index for index, share in enumerate(shares) if low <= share < high]
        for name, (low, high) in bounds.items()
    }


def _mean(measured: Measured, measure_name: str, numbers: Sequence[int]) -> float | None:
    figures = [figure for index in numbers if (figure := measured.rows[measure_name][index]) is not None]
    return round(float(np.mean(figures)), 4) if figures else None


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


def _cells(summary: dict[str, Any]) -> list[str]:
    cells = []
    for name in MEASURES:
        figure = summary[name]
        if figure is None:
            cells.append("")
        elif name == "negative_raised":
            cells.append(f"{int(figure)} of {summary['negative_pairs']}")
        else:
            cells.append(f"{figure:.3f}".lstrip("0"))
    return cells


def _markdown(report: dict[str, Any], counts: dict[str, int]) -> str:
    lines = ["| | " + " | ".join(MEASURES.values()) + " |", "|---|" + "--:|" * len(MEASURES)]
    for set_name, contenders in report.items():
        for name, summary in contenders.items():
            lines.append(f"| {name}, {counts[set_name]} {set_name} | " + " | ".join(_cells(summary)) + " |")
    lines += [
        "",
        "| by the object's share of the image | objects | 1 click | 3 clicks | box |",
        "|---|--:|--:|--:|--:|",
    ]
    for set_name, contenders in report.items():
        for name, summary in contenders.items():
            for size, means in summary["by_size"].items():
                if means["objects"]:
                    figures = " | ".join(f"{means[key]:.3f}".lstrip("0") for key in ("click", "clicks_3", "box"))
                    lines.append(f"| {name}, {set_name}, {size} | {means['objects']} | {figures} |")
    return "\n".join(lines) + "\n"


def _print_table(console: Console, report: dict[str, Any]) -> None:
    for set_name, contenders in report.items():
        table = Table("", *MEASURES.values(), title=f"mean IoU, {set_name}")
        for name, summary in contenders.items():
            table.add_row(name, *_cells(summary))
        console.print(table)


def _draw(measured: Measured, cases: Sequence[Case], stem: Path) -> None:
    """Draw the best, the median and the worst answers to a click and to a box."""
    for name in ("click", "box"):
        figures = np.array(measured.rows[name], np.float64)
        order = np.argsort(-figures, kind="stable")
        middle = len(order) // 2
        chosen = {
            "best": order[:4],
            "median": order[middle - 2 : middle + 2],
            "worst": order[-4:],
        }
        rows = [
            [
                (
                    cases[i].image,
                    measured.masks[name][i],
                    cases[i].truth,
                    f"{title}, IoU {figures[i]:.2f}  {cases[i].name}",
                    marks(cases[i], name),
                )
                for i in numbers
            ]
            for title, numbers in chosen.items()
        ]
        contact_sheet(rows, stem.with_name(f"{stem.name}-{name}.png"))


def marks(case: Case, measure_name: str) -> tuple[float, ...]:
    """Return what was asked with, to be drawn: a click's xy, or a box's xyxy."""
    return case.first_click if measure_name == "click" else tight_box(case.truth)


if __name__ == "__main__":
    typer.run(main)
