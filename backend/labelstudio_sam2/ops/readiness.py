"""Whether requests should be sent here: the one place that knows every reason why not."""

from typing import Literal, Protocol, TypeAlias

from labelstudio_sam2.errors import BackendError

State: TypeAlias = Literal["loading", "ready", "failed", "withdrawn"]


class ModelState(Protocol):
    """Tells how far the served model is."""

    @property
    def state(self) -> Literal["loading", "ready", "failed"]:
        """Ready after its weights were loaded and a first prediction was made."""
        ...

    def check_ready(self) -> None:
        """Raise the catalogue's error if it cannot be asked."""
        ...

    def check_device(self) -> None:
        """Raise the catalogue's error if its device has failed for good. Instant."""
        ...


class Readiness:
    """The served model's readiness, until this process is withdrawn. Thread-safe; never waits.

    Args:
        model: The served one.
    """

    def __init__(self, model: ModelState) -> None:
        self._model = model
        self._withdrawn: BackendError | None = None

    @property
    def state(self) -> State:
        """Of this process."""
        return self._model.state if self._withdrawn is None else "withdrawn"

    def withdraw(self, why: BackendError) -> None:
        """Say that no more requests should be sent here, for good. Those that are here are answered all the same.

        Only sets an attribute, so a signal's handler may call it.

        Args:
            why: What `check_ready` raises from now on.
        """
        self._withdrawn = why

    def check_ready(self) -> None:
        """Do nothing if requests should be sent here.

        Raises:
            BackendError: What it was withdrawn with.
            ModelLoadingError: The model is still being loaded.
            ModelUnavailableError: It could not be; the message says why.
            DeviceLostError: The device has failed for good.
        """
        if (why := self._withdrawn) is not None:
            raise type(why)(*why.args)  # each thread raises its own
        self._model.check_ready()

    def check_device(self) -> None:
        """Do nothing unless the model's device has failed for good.

        Raises:
            DeviceLostError: It has; the message says why.
        """
        self._model.check_device()
