"""The `weights` command: official checkpoints, fetched, listed and verified from a shell."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from labelstudio_sam2.segmenter.checkpoint import Condition, Inspection, difference, fetch_command, inspect
from labelstudio_sam2.segmenter.models import extra_specs
from labelstudio_sam2.segmenter.zoo import CHECKPOINT_SUFFIXES, MODELS, ModelSpec, file_sha256, known, resolve
from labelstudio_sam2.settings import Settings
from labelstudio_sam2.weights.errors import WeightsError
from labelstudio_sam2.weights.fetch import Wanted, fetch, take
from labelstudio_sam2.weights.progress import megabytes, show_progress


def models_named(names: Sequence[str]) -> list[ModelSpec]:
    """Return the models of these ids, which may be short, such as `small`.

    Raises:
        ValueError: There is no such model; the message says which there are.
    """
    return list(dict.fromkeys(map(_known, names)))


def models_of(settings: Settings) -> list[ModelSpec]:
    """Return the models that a server with these settings may load.

    Raises:
        ValueError: MODEL or EXTRA_MODELS names none that is known.
    """
    served = resolve(settings.model, settings.model_config_file)
    return list(dict.fromkeys([served, *extra_specs(settings.extra_models).values()]))


def official_models() -> list[ModelSpec]:
    """Return every model whose checkpoint can be downloaded."""
    return [spec for spec in MODELS.values() if spec.url is not None]


def fetch_models(specs: Sequence[ModelSpec], settings: Settings, say: Callable[[str], None]) -> None:
    """Download each model's checkpoint that is not there yet; slow. Progress goes to stderr.

    Args:
        specs: The models.
        settings: Say to which folder, from which mirror, and whether anything may be downloaded at all.
        say: Told what came of each.

    Raises:
        WeightsError: One cannot be had, and those after it were not tried; or may not be downloaded, and all that are
            missing are described.
        KeyboardInterrupt: A person stopped it; what came is kept.
    """
    missing = []
    for spec in specs:
        wanted = _wanted(spec, settings)
        if wanted is None:
            say(f"{spec.model_id}: nothing to fetch, {_why_nothing(spec)}")
        elif settings.weights_offline:
            if _inspect(spec, settings).condition is Condition.OK:
                say(f"{spec.model_id}: is there, verified: {wanted.path}")
            else:
                missing.append(wanted.description())
        else:
            with show_progress(wanted.path.name, wanted.size_bytes, so_far=wanted.part.size_bytes) as report:
                is_new = fetch(wanted, report)
            say(f"{spec.model_id}: {'fetched' if is_new else 'is there'}, verified: {wanted.path}")
    if missing:
        raise WeightsError("WEIGHTS_OFFLINE is set, nothing is downloaded. Wanted:\n" + "\n".join(missing))


def take_file(file: Path, specs: Sequence[ModelSpec], settings: Settings, say: Callable[[str], None]) -> None:
    """Copy a checkpoint that was brought by hand into the weights folder, if it is what it should be.

    Args:
        file: The file.
        specs: The model it is of; without one, the file's name says that.
        settings: Say to which folder.
        say: Told where it is now.

    Raises:
        ValueError: It is not clear which model it is of.
        WeightsError: It is not the right file, or cannot be copied.
    """
    if not specs:
        specs = [spec for spec in official_models() if spec.checkpoint.name == file.name]
    wanted = _wanted(specs[0], settings) if len(specs) == 1 else None
    if wanted is None:
        raise ValueError(f"--file: say which model {file.name} is of, with one --model; nano ships with this package")
    with show_progress(wanted.path.name, wanted.size_bytes) as report:
        take(wanted, file, report)
    say(f"{wanted.spec.model_id}: copied, verified: {wanted.path}")


def list_models(settings: Settings) -> Iterator[str]:
    """Yield a line for each model of the table: its size, its file and what is there of it. Reads what is there."""
    yield f"In {settings.weights_dir.absolute()}:"
    id_width, file_width = (
        max(map(len, texts)) for texts in zip(*((s.model_id, s.checkpoint.name) for s in MODELS.values()), strict=True)
    )
    for spec in MODELS.values():
        size = "" if spec.size_bytes is None else megabytes(spec.size_bytes)
        state = _state(spec, settings)
        yield f"{spec.model_id:{id_width}}  {size:>9}  {spec.checkpoint.name:{file_width}}  {state}"


def verify_models(specs: Sequence[ModelSpec], settings: Settings) -> Iterator[tuple[str, bool]]:
    """Yield for each checkpoint a line that says what is to be said of it, and whether that is good. Reads all of them.

    Args:
        specs: The models whose checkpoints must be there; without any, whatever is in the folder.
        settings: Say which folder.
    """
    for spec in specs or MODELS.values():
        found = _inspect(spec, settings)
        is_part = found.condition is Condition.MISSING and _part_bytes(spec, settings) > 0
        if found.condition is Condition.MISSING and not specs and not is_part:
            continue
        yield _verdict(spec, found, settings), found.condition is Condition.OK
    for path in [] if specs else _strangers(settings.weights_dir):
        yield f"{Condition.UNKNOWN.value:10}  {path.name}: SHA-256 {file_sha256(path)}; no model of the table", True


def _known(name: str) -> ModelSpec:
    spec = known(name)
    if spec is None:
        raise ValueError(f"{name!r} is not a known model; use any of {', '.join(MODELS)}")
    return spec


def _wanted(spec: ModelSpec, settings: Settings) -> Wanted | None:
    mirror = None if settings.weights_url is None else str(settings.weights_url)
    return Wanted.of(spec, settings.weights_dir, mirror)


def _why_nothing(spec: ModelSpec) -> str:
    return "it ships with this package" if spec.model_id in MODELS else "it is a checkpoint of your own"


def _part_bytes(spec: ModelSpec, settings: Settings) -> int:
    wanted = _wanted(spec, settings)
    return 0 if wanted is None else wanted.part.size_bytes


def _inspect(spec: ModelSpec, settings: Settings) -> Inspection:
    try:
        return inspect(spec, settings.weights_dir)
    except OSError as error:
        raise WeightsError(f"{spec.checkpoint.name} cannot be read: {error.strerror}.") from error


def _state(spec: ModelSpec, settings: Settings) -> str:
    found = _inspect(spec, settings)
    part = _part_bytes(spec, settings)
    match found.condition:
        case Condition.OK if spec.url is None:
            return "ships with this package, verified"
        case Condition.OK:
            return "there, verified"
        case Condition.MISSING if part:
            return f"incomplete, {megabytes(part)} fetched so far"
        case Condition.INCOMPLETE:
            return f"incomplete, has only {megabytes(found.size_bytes or 0)}"
    return str(found.condition.value)


def _verdict(spec: ModelSpec, found: Inspection, settings: Settings) -> str:
    name = f"{spec.model_id}: {found.path}"
    command = fetch_command(spec, settings.weights_dir) if spec.url else "install this package again"
    again = f"\n            mend it: {command}"
    match found.condition:
        case Condition.OK:
            return f"{'OK':10}  {name}"
        case Condition.UNKNOWN:
            return f"{'unknown':10}  {name} has SHA-256 {found.sha256}; there is no record to compare it with"
        case Condition.MISSING if part := _part_bytes(spec, settings):
            return f"{'incomplete':10}  {name}: {part} of {spec.size_bytes} bytes were fetched so far{again}"
        case Condition.MISSING:
            return f"{'missing':10}  {name}{again}"
    return f"{found.condition.value:10}  {spec.model_id}: {difference(spec, found)}{again}"


def _strangers(folder: Path) -> list[Path]:
    """Return the checkpoints in the folder that belong to no model of the table."""
    ours = {str(spec.checkpoint) for spec in MODELS.values()}
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.suffix in CHECKPOINT_SUFFIXES and path.name not in ours)
