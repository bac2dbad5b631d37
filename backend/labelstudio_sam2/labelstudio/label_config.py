"""Labeling configurations: where the picture is, and which tags can hold a mask.

Three attributes of `<BrushLabels>`, `<PolygonLabels>`, `<RectangleLabels>` and their forms without `Labels` are ours:

- `model_answer="true"`: answers go to this tag even where another one comes first; several tags may say so and each
  gets its region. `"false"`: never to this tag.
- `model_parts="clicked"`: of a mask in several parts, only those stay that hold a positive click. `"all"`, the default:
  every part stays.
- `model_tolerance="1"` (polygons): about how many pixels the outline may move when corners are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from labelstudio_sam2.errors import BadConfigError, NoAnswerTagError

DEFAULT_TOLERANCE = 1.0

AnswerKind = Literal["brush", "polygon", "rectangle"]
Parts = Literal["all", "clicked"]
KINDS: tuple[AnswerKind, ...] = ("brush", "polygon", "rectangle")
"""What an answer can be, in the order they are preferred."""
PROMPTS = ("keypoint", "rectangle")
"""Kinds of the tags that Label Studio's editor asks a backend with."""


@dataclass(frozen=True)
class ImageTag:
    """An `<Image>`: the key of the task's data that holds its address, or the list of them."""

    name: str
    data_key: str
    is_list: bool


@dataclass(frozen=True)
class ControlTag:
    """A control tag that knows classes or draws regions.

    Attributes:
        kind: What it can hold, or None (`<Labels>`, `<KeyPointLabels>`, …).
        to_names: The object tags it works on.
        classes: By what a region says (a label's alias, else its value), the label's value. Empty without labels.
        has_labels: Whether it carries classes itself.
        accepts_any: Its labels come from the task's data, so any class may be one of them.
        is_smart: Whether the annotator prompts with it.
        is_smart_only: Whether its ordinary tool is hidden.
        prefers: `model_answer`.
        parts: `model_parts`.
        tolerance: `model_tolerance`, in pixels.
    """

    name: str
    tag: str
    kind: AnswerKind | None
    to_names: tuple[str, ...]
    classes: Mapping[str, str] = field(default_factory=dict)
    has_labels: bool = False
    accepts_any: bool = False
    is_smart: bool = True
    is_smart_only: bool = False
    prefers: bool | None = None
    parts: Parts = "all"
    tolerance: float = DEFAULT_TOLERANCE

    @property
    def plain(self) -> str:
        """What it draws: `keypoint` for `<KeyPoint>` and `<KeyPointLabels>`."""
        return self.tag.removesuffix("Labels").lower()

    def written(self, value: str) -> str | None:
        """Return what this tag's regions say for a label of this value, or None if it has no such label."""
        for written, own_value in self.classes.items():
            if own_value == value:
                return written
        return value if self.accepts_any else None


@dataclass(frozen=True)
class AnswerTag:
    """Where an answer goes.

    Attributes:
        from_name: The control tag that holds the region.
        kind: What the region is.
        labels_from: The separate `<Labels>` tag that names the class, or None where the control tag does it itself.
        class_names: What the region says, empty for an unlabelled one.
        tolerance: Of polygons, in pixels.
        parts: Which parts of a mask are kept.
    """

    from_name: str
    to_name: str
    kind: AnswerKind
    labels_from: str | None
    class_names: tuple[str, ...]
    tolerance: float = DEFAULT_TOLERANCE
    parts: Parts = "all"


@dataclass(frozen=True)
class LabelConfig:
    """A labeling configuration, as far as this backend uses it."""

    images: Mapping[str, ImageTag]
    controls: Mapping[str, ControlTag]

    def image(self, to_name: str) -> ImageTag:
        """Return the image tag of this name.

        Raises:
            BadConfigError: There is none.
        """
        if to_name not in self.images:
            raise BadConfigError(f"the labeling configuration has no <Image name={to_name!r}>")
        return self.images[to_name]

    def answer_tags(self, to_name: str, prompt_name: str, class_names: tuple[str, ...]) -> list[AnswerTag]:
        """Return where a mask of these classes goes: one tag, or each that says `model_answer="true"`.

        Args:
            to_name: The image.
            prompt_name: The tag whose classes these are.
            class_names: As the prompt's region says them; empty for an unlabelled prompt.

        Raises:
            BadConfigError: No tag of this image can hold a mask at all.
            NoAnswerTagError: None of those that can accepts these classes.
        """
        holders = [tag for tag in self.controls.values() if tag.kind and to_name in tag.to_names]
        if not holders:
            raise BadConfigError(f"no <BrushLabels>, <PolygonLabels> or <RectangleLabels> works on {to_name!r}")
        values = self.label_values(prompt_name, class_names)
        accepting = [
            (tag, answer)
            for kind in KINDS
            for tag in holders
            if tag.kind == kind and tag.prefers is not False and (answer := self._accept(tag, to_name, values))
        ]
        if not accepting:
            raise NoAnswerTagError(f"no tag that can hold a mask on {to_name!r} has the label {'/'.join(values)!r}")
        preferred = [answer for tag, answer in accepting if tag.prefers]
        return preferred or [accepting[0][1]]

    def prompt_tags(self, to_name: str) -> list[ControlTag]:
        """Return the tags an annotator can prompt with on an image."""
        return [
            tag for tag in self.controls.values() if tag.is_smart and tag.plain in PROMPTS and to_name in tag.to_names
        ]

    def prompt_classes(self, tag: ControlTag) -> list[tuple[str, str]]:
        """Return what a prompt tag's regions can say: the tag that names the class, and the class as it writes it.

        Labels that come from the task's data are not known here; a tag without labels takes those of `<Labels>`.
        """
        naming = [tag] if tag.has_labels else self._labels_tags(tag.to_names)
        return [(each.name, class_name) for each in naming for class_name in each.classes]

    def is_smart(self, name: str) -> bool:
        """Return whether a control tag prompts; tags do unless they say `smart="false"`."""
        return name in self.controls and self.controls[name].is_smart

    def attributes(self, name: str) -> tuple[Parts, float]:
        """Return `model_parts` and `model_tolerance` of a control tag."""
        tag = self.controls.get(name)
        return (tag.parts, tag.tolerance) if tag else ("all", DEFAULT_TOLERANCE)

    def label_values(self, name: str, class_names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels' values for what a region of this control tag says: aliases, where there are some."""
        tag = self.controls.get(name)
        return tuple(tag.classes.get(class_name, class_name) for class_name in class_names) if tag else class_names

    def _accept(self, tag: ControlTag, to_name: str, values: tuple[str, ...]) -> AnswerTag | None:
        assert tag.kind is not None  # noqa: S101  the caller filtered; this tells the type checker
        if tag.has_labels:
            written = tuple(name for value in values if (name := tag.written(value)) is not None)
            if not written:
                return None
            return AnswerTag(tag.name, to_name, tag.kind, None, written, tag.tolerance, tag.parts)
        if not values:
            return AnswerTag(tag.name, to_name, tag.kind, None, (), tag.tolerance, tag.parts)
        for labels in self._labels_tags((to_name,)):
            written = tuple(name for value in values if (name := labels.written(value)) is not None)
            if written:
                return AnswerTag(tag.name, to_name, tag.kind, labels.name, written, tag.tolerance, tag.parts)
        return None

    def _labels_tags(self, to_names: tuple[str, ...]) -> list[ControlTag]:
        """Return the separate `<Labels>` of some images."""
        return [
            tag for tag in self.controls.values() if tag.tag == "Labels" and not set(to_names).isdisjoint(tag.to_names)
        ]


@lru_cache(maxsize=32)  # one of 256 kB takes 1.3 MB, read
def parse_label_config(xml: str) -> LabelConfig:
    """Read a labeling configuration. Cheap for one seen before.

    Raises:
        BadConfigError: Not well-formed, with a DOCTYPE, without an image, or one of our attributes is wrong.
    """
    try:
        root = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise BadConfigError(f"the labeling configuration is not usable XML: {type(error).__name__}") from None
    images = {image.name: image for element in root.iter("Image") if (image := _image_tag(element))}
    if not images:
        raise BadConfigError('the labeling configuration has no <Image> with a name and a value="$key"')
    controls = {tag.name: tag for element in root.iter() if (tag := _control_tag(element))}
    return LabelConfig(images, controls)


def _image_tag(element: Element) -> ImageTag | None:
    name = element.get("name")
    single, several = element.get("value", ""), element.get("valueList", "")
    key = several or single
    if not name or not key.startswith("$"):
        return None
    return ImageTag(name, key[1:], is_list=bool(several))


def _control_tag(element: Element) -> ControlTag | None:
    name, to_name = element.get("name"), element.get("toName")
    if not name or not to_name:
        return None
    has_labels = element.tag.endswith("Labels")
    kind = next((kind for kind in KINDS if kind == element.tag.removesuffix("Labels").lower()), None)
    return ControlTag(
        name=name,
        tag=element.tag,
        kind=kind,
        to_names=tuple(part.strip() for part in to_name.split(",")),
        classes=dict(_classes(element)) if has_labels else {},
        has_labels=has_labels,
        accepts_any=has_labels and element.get("value", "").startswith("$"),
        is_smart=element.get("smart", "true").lower() != "false",
        is_smart_only=element.get("smartOnly", "false").lower() == "true",
        prefers=_flag(element, "model_answer"),
        parts=_parts(element),
        tolerance=_pixels(element, "model_tolerance", DEFAULT_TOLERANCE),
    )


def _classes(element: Element) -> Iterator[tuple[str, str]]:
    for label in element.iter("Label"):
        value = label.get("value")
        if value:
            yield label.get("alias") or value, value


def _flag(element: Element, attribute: str) -> bool | None:
    text = element.get(attribute)
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise BadConfigError(f'{attribute} of <{element.tag}> must be "true" or "false"')
    return text.lower() == "true"


def _parts(element: Element) -> Parts:
    match element.get("model_parts", "all").lower():
        case "all":
            return "all"
        case "clicked":
            return "clicked"
    raise BadConfigError(f'model_parts of <{element.tag}> must be "all" or "clicked"')


def _pixels(element: Element, attribute: str, default: float) -> float:
    text = element.get(attribute)
    if text is None:
        return default
    try:
        pixels = float(text)
    except ValueError:
        pixels = -1.0
    if not 0 <= pixels <= 100:
        raise BadConfigError(f"{attribute} of <{element.tag}> must be a number of pixels from 0 to 100")
    return pixels
