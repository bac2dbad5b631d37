"""Whether a labeling configuration lets an annotator prompt, and takes the answer. Pure."""

from collections.abc import Iterable, Iterator

from labelstudio_sam2.doctor.advice import sentence
from labelstudio_sam2.doctor.findings import Check, Finding, ok, problem, warning
from labelstudio_sam2.errors import BackendError, BadConfigError
from labelstudio_sam2.labelstudio.label_config import ControlTag, LabelConfig, parse_label_config

_RULES = "docs/labeling-configurations.md has the rules and examples."
_SILENT = ("brush", "bitmask")
"""Kinds of smart tags that send nothing to any backend."""


def check_labeling(xml: str) -> Check[LabelConfig | None]:
    """Look at a project's labeling configuration. Returns it, or None where nothing can be prompted or answered."""
    try:
        config = parse_label_config(xml)
    except BadConfigError as error:
        yield problem("labeling-configuration", sentence(error), f"Mend it: {_RULES}")
        return None
    images = list(config.images.values())
    lists = ", a list per task" if any(image.is_list for image in images) else ""
    yield ok("labeling-configuration", f"{len(images)} image tag{'s' * (len(images) > 1)}{lists}")
    promptable = [name for name in config.images if config.prompt_tags(name)]
    if not promptable:
        yield _no_prompt_tag(config)
        return None
    yield from _check_prompt_tags(config, promptable)
    answerable = [name for name in promptable if _has_answer_tag(config, name)]
    without = [name for name in promptable if name not in answerable]
    if without:
        yield problem(
            "answer-tag",
            f"No <BrushLabels>, <PolygonLabels> or <RectangleLabels> holds the mask of {_listed(without)}.",
            f"Add one with the prompt tag's labels; {_RULES}",
        )
    else:
        yield ok("answer-tag", f"masks go to {_tags(_answer_tags(config, answerable))}")
    yield from _check_labels(config, answerable)
    yield from _check_brushes(config)
    return config if answerable else None


def _no_prompt_tag(config: LabelConfig) -> Finding:
    dull = [tag for tag in config.controls.values() if tag.plain in ("keypoint", "rectangle") and not tag.is_smart]
    smart = [tag for tag in config.controls.values() if tag.plain in _SILENT and tag.is_smart]
    if dull:
        found = f'{_tags(dull)} could prompt, but says smart="false".'
    elif smart:
        found = f"{_tags(smart)} is smart, but sends nothing to any backend."
    else:
        found = "There is no tag to prompt with."
    return problem(
        "prompt-tag",
        found,
        f'Add a <KeyPointLabels> or <RectangleLabels> with smart="true" and the labels of the answer tag; {_RULES}',
    )


def _check_prompt_tags(config: LabelConfig, promptable: list[str]) -> Iterator[Finding]:
    tags = _unique(tag for name in promptable for tag in config.prompt_tags(name))
    without = [name for name in config.images if name not in promptable]
    if without:
        yield warning(
            "prompt-tag",
            f"No smart tag works on the image {_listed(without)}, only {_tags(tags)} on another.",
            f"Add a <KeyPointLabels> with toName for it, if it is to be clicked on; {_RULES}",
        )
    else:
        yield ok("prompt-tag", f"annotators prompt with {_tags(tags)}")
    plain = [tag for tag in tags if not tag.is_smart_only and not tag.kind]
    if plain:
        yield warning(
            "smart-only",
            f"{_tags(plain)} also offers its ordinary tool, which leaves a dot and asks for no mask.",
            'Add smartOnly="true" to it.',
        )
    else:
        yield ok("smart-only", "no ordinary point tool can be taken by mistake")


def _has_answer_tag(config: LabelConfig, to_name: str) -> bool:
    return any(tag.kind and tag.prefers is not False and to_name in tag.to_names for tag in config.controls.values())


def _check_labels(config: LabelConfig, to_names: list[str]) -> Iterator[Finding]:
    """See that each label that can be clicked is one that an answer tag has, and the other way round."""
    asked: dict[str, None] = {}
    refused: dict[str, None] = {}
    takes_any = False
    for to_name in to_names:
        for tag in config.prompt_tags(to_name):
            takes_any |= tag.accepts_any
            for naming, class_name in config.prompt_classes(tag):
                (value,) = config.label_values(naming, (class_name,))
                asked[value] = None
                if not _is_answered(config, to_name, naming, class_name):
                    refused[value] = None
    if refused:
        yield problem(
            "labels",
            f"No answer tag has the label {_listed(refused)}: a click with it gets no mask.",
            "Give the answer tag the same labels as the prompt tag, letter by letter.",
        )
        return
    silent = _unclickable(config, to_names, set(asked))
    if silent and not takes_any and asked:
        yield warning(
            "labels",
            f"No prompt tag has the label {_listed(silent)}: there is no way to click for it.",
            "Give the prompt tag the same labels as the answer tag, letter by letter.",
        )
    elif to_names:
        yield ok("labels", f"{len(asked)} can be clicked, and an answer tag has each" if asked else "none are needed")


def _answer_tags(config: LabelConfig, to_names: list[str]) -> list[ControlTag]:
    """Return where the masks of prompts go; every tag that can hold one where no label fits."""
    answers = [
        config.controls[answer.from_name]
        for to_name in to_names
        for tag in config.prompt_tags(to_name)
        for naming, class_name in config.prompt_classes(tag) or [(tag.name, "")]
        if _is_answered(config, to_name, naming, class_name)
        for answer in config.answer_tags(to_name, naming, (class_name,) if class_name else ())
    ]
    return _unique(answers) or [tag for tag in config.controls.values() if tag.kind]


def _is_answered(config: LabelConfig, to_name: str, naming: str, class_name: str) -> bool:
    try:
        config.answer_tags(to_name, naming, (class_name,) if class_name else ())
    except BackendError:
        return False
    return True


def _unclickable(config: LabelConfig, to_names: list[str], asked: set[str]) -> list[str]:
    holders = [
        tag
        for tag in config.controls.values()
        if tag.kind and tag.prefers is not False and not set(to_names).isdisjoint(tag.to_names)
    ]
    return [value for value in dict.fromkeys(v for tag in holders for v in tag.classes.values()) if value not in asked]


def _check_brushes(config: LabelConfig) -> Iterator[Finding]:
    silent = [tag for tag in config.controls.values() if tag.plain in _SILENT and tag.is_smart]
    if silent:
        yield warning(
            "smart-brush",
            f"{_tags(silent)} offers Label Studio's smart brush, which sends nothing to any backend.",
            'Add smart="false" to it; the ordinary brush works with Ctrl+click.',
        )
    else:
        yield ok("smart-brush", "no smart brush, which would send nothing")


def _unique(tags: Iterable[ControlTag]) -> list[ControlTag]:
    return list({tag.name: tag for tag in tags}.values())


def _tags(tags: Iterable[ControlTag]) -> str:
    return ", ".join(f"<{tag.tag} name={tag.name!r}>" for tag in tags)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
