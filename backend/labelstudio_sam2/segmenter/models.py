"""Several models on one device: the served one, and those that are loaded when they are first asked for."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from labelstudio_sam2.errors import UnknownModelError
from labelstudio_sam2.segmenter.embedding_cache import Embedding
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.segmenter.zoo import MODELS, ModelSpec

E = TypeVar("E", bound=Embedding)
V = TypeVar("V")

_FAMILY = "sam2/"
"""What an id may be written with or without."""


def extra_specs(names: Iterable[str]) -> dict[str, ModelSpec]:
    """Return the models that the EXTRA_MODELS setting lists, by id. Instant.

    Args:
        names: Ids of known models, with or without their `sam2/`.

    Raises:
        ValueError: One of them is not known; checkpoints of one's own are for the MODEL setting.
    """
    specs = {}
    for name in names:
        spec = MODELS.get(name) or MODELS.get(f"{_FAMILY}{name}")
        if spec is None:
            raise ValueError(f"EXTRA_MODELS: {name!r} is not a known model; use any of {', '.join(MODELS)}")
        specs[spec.model_id] = spec
    return specs


@dataclass(frozen=True, eq=False)
class _Loaded(Generic[E, V]):
    """A model that was asked for.

    Attributes:
        loading: Ends when the model is there, or failed.
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
        wait_seconds: How long a request waits for a model that is being loaded.
    """

    def __init__(
        self,
        served_id: str,
        served: Segmenter[E],
        *,
        extras: Mapping[str, Callable[[], Segmenter[E]]],
        view: Callable[[Segmenter[E]], V],
        wait_seconds: float = 60,
    ) -> None:
        self.served_id = served_id
        self._served = view(served)
        self._extras = {model_id: make for model_id, make in extras.items() if model_id != served_id}
        self._view = view
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded[E, V]] = {}

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
            loaded = self._loaded.get(model_id)
            if loaded is None:
                loaded = self._loaded[model_id] = self._load(model_id)
        loaded.loading.join(self._wait_seconds)
        loaded.segmenter.check_ready()
        return loaded.view

    def remove(self, name: str) -> None:
        """Take an extra model out of memory, as soon as the requests that use it are answered. The served one stays.

        Raises:
            UnknownModelError: As `get`.
        """
        with self._lock:
            self._loaded.pop(self._id(name), None)

    def clear(self) -> None:
        """Take every extra model out of memory; otherwise as `remove`."""
        with self._lock:
            self._loaded.clear()

    def _id(self, name: str | None) -> str:
        if name is None:
            return self.served_id
        for candidate in (name, f"{_FAMILY}{name}", name.removeprefix(_FAMILY)):
            if candidate == self.served_id or candidate in self._extras:
                return candidate
        raise UnknownModelError(f"this model is not served here, ask for one of: {', '.join(self.ids)}")

    def _load(self, model_id: str) -> _Loaded[E, V]:
        segmenter = self._extras[model_id]()
        return _Loaded(segmenter, segmenter.start(), self._view(segmenter))
