"""Several models on one device: the served one, and those that are loaded when they are first asked for."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from labelstudio_sam2.errors import UnknownModelError
from labelstudio_sam2.segmenter.checkpoint import find_checkpoint
from labelstudio_sam2.segmenter.embedding_cache import Embedding
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec, known
from labelstudio_sam2.stages import stage

if TYPE_CHECKING:
    from labelstudio_sam2.segmenter.sam2_model import Sam2Model

E = TypeVar("E", bound=Embedding)
V = TypeVar("V")

_FAMILY = "sam2/"
"""What an id may be written with or without."""


def extra_specs(names: Iterable[str]) -> dict[str, ModelSpec]:
    """Return the models that the EXTRA_MODELS setting lists, by id. Instant.

    Args:
        names: Of known models, as `known` takes them.

    Raises:
        ValueError: One of them is not known; checkpoints of one's own are for the MODEL setting.
    """
    specs = {}
    for name in names:
        spec = known(name)
        if spec is None:
            raise ValueError(f"EXTRA_MODELS: {name!r} is not a known model; use any of {', '.join(MODELS)}")
        specs[spec.model_id] = spec
    return specs


def load_model(spec: ModelSpec, weights_dir: Path, *, device: str, precision: str) -> "Sam2Model":
    """Find a model's checkpoint, check it and load it. Slow: seconds.

    Raises:
        ModelUnavailableError: The checkpoint is missing or not the right one, or there is no such device.
    """
    from labelstudio_sam2.segmenter.sam2_model import load_sam2  # noqa: PLC0415  torch is slow to import

    return load_sam2(spec, find_checkpoint(spec, weights_dir), device=device, precision=precision)


def device_memory(device: str) -> dict[str, int]:
    """Return bytes of a device's memory by kind, as `sam2_model.memory_bytes`. Only for a model that is loaded."""
    from labelstudio_sam2.segmenter.sam2_model import memory_bytes  # noqa: PLC0415  torch is slow to import

    return memory_bytes(device)


@dataclass(frozen=True, eq=False)
class _Loaded(Generic[E, V]):
    """A model that was asked for.

    Attributes:
        loading: Ends soon after the model is there, or failed.
        view: What requests work with.
    """

    segmenter: Segmenter[E]
    loading: threading.Thread
    view: V


class Models(Generic[E, V]):
    """The models that can be asked, by name. Thread-safe.

    Args:
        served_id: The served model's id.
        served: Its segmenter, already started. It stays.
        extras: By id, what makes the segmenter of a further model; called when that is first asked for.
        view: Makes what requests work with from a segmenter, once for each model that is loaded.
        forget: Called with the `model_version` of a model that was taken out of memory, to free what it left behind.
        wait_seconds: How long a request waits for a model that is being loaded.
    """

    def __init__(
        self,
        served_id: str,
        served: Segmenter[E],
        *,
        extras: Mapping[str, Callable[[], Segmenter[E]]],
        view: Callable[[Segmenter[E]], V],
        forget: Callable[[str], None] = lambda _: None,
        wait_seconds: float = 60,
    ) -> None:
        self.served_id = served_id
        self._served = view(served)
        self._served_version = served.model_version
        self._extras = {model_id: make for model_id, make in extras.items() if model_id != served_id}
        self._view = view
        self._forget = forget
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded[E, V]] = {}
        self._unwanted: set[str] = set()  # removed while they were being loaded

    @property
    def ids(self) -> list[str]:
        """Every model that can be asked, the served one first."""
        return [self.served_id, *self._extras]

    @property
    def loaded_ids(self) -> list[str]:
        """The served model and the extra ones that are in memory."""
        with self._lock:
            loaded = list(self._loaded.items())
        return [self.served_id, *(model_id for model_id, model in loaded if model.segmenter.state == "ready")]

    def get(self, name: str | None = None) -> V:
        """Return a model to work with; an extra one is loaded if it is not there. The first call is slow: seconds.

        Args:
            name: An id, with or without its `sam2/`; None is the served model.

        Raises:
            UnknownModelError: It is not among those that can be asked; the detail names these.
            ModelLoadingError: An extra model was not there within `wait_seconds`.
            ModelUnavailableError: An extra model could not be loaded; this stays so until `remove`, or a restart.
        """
        model_id = self._id(name)
        if model_id == self.served_id:
            return self._served
        with self._lock:
            self._unwanted.discard(model_id)
            loaded = self._loaded.get(model_id)
            if loaded is None:
                loaded = self._loaded[model_id] = self._load(model_id)
        with stage("wait"):
            loaded.loading.join(self._wait_seconds)
        loaded.segmenter.check_ready()
        return loaded.view

    def remove(self, name: str) -> None:
        """Take an extra model and its embeddings out of memory. The served one stays.

        Requests that use it are still answered. One that is being loaded goes when it is there, unless it is asked for
        again until then: a model is never loaded twice at once.

        Raises:
            UnknownModelError: As `get`.
        """
        self._take_away([self._id(name)])

    def clear(self) -> None:
        """Take every extra model out of memory; otherwise as `remove`."""
        self._take_away(self._extras)

    def _take_away(self, model_ids: Iterable[str]) -> None:
        gone = []
        with self._lock:
            for model_id in self._loaded.keys() & set(model_ids):
                if self._loaded[model_id].segmenter.state == "loading":
                    self._unwanted.add(model_id)
                else:
                    gone.append(self._loaded.pop(model_id).segmenter.model_version)
        self._forget_all(gone)

    def _forget_all(self, model_versions: Iterable[str]) -> None:
        for model_version in model_versions:
            if model_version != self._served_version:  # an equal checkpoint's embeddings are the served one's too
                self._forget(model_version)

    def _id(self, name: str | None) -> str:
        if name is None:
            return self.served_id
        for candidate in (name, f"{_FAMILY}{name}", name.removeprefix(_FAMILY)):
            if candidate == self.served_id or candidate in self._extras:
                return candidate
        raise UnknownModelError(f"this model is not served here, ask for one of: {', '.join(self.ids)}")

    def _load(self, model_id: str) -> _Loaded[E, V]:
        segmenter = self._extras[model_id]()
        loading = threading.Thread(
            target=self._wait_for, args=(model_id, segmenter.start()), name="wait-for-model", daemon=True
        )
        loading.start()
        return _Loaded(segmenter, loading, self._view(segmenter))

    def _wait_for(self, model_id: str, loading: threading.Thread) -> None:
        """Wait until a model is there; take it away if it was removed meanwhile."""
        loading.join()
        with self._lock:
            is_unwanted = model_id in self._unwanted
            self._unwanted.discard(model_id)
        if is_unwanted:
            self._take_away([model_id])
