"""Places for requests: whoever takes long holds one, so that threads stay free for those that take no time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, g

from labelstudio_sam2.errors import BusyError

STRANGERS = 4
"""Bodies that are read at once to see whether there is a key in them. They have threads of their own."""


class Places:
    """How many requests of an application are served at once. Thread-safe; nobody waits for a place.

    Whom only a body can show to be let in does not hold a place while it is read, or strangers that send slowly would
    keep everybody else out.

    Args:
        count: For requests that are let in.
        strangers: For bodies of those that are not yet.
    """

    def __init__(self, count: int, strangers: int = STRANGERS) -> None:
        self._count = count
        self._free = threading.BoundedSemaphore(count)
        self._strangers = strangers
        self._free_for_strangers = threading.BoundedSemaphore(strangers)

    def init_app(self, app: Flask) -> None:
        """Have the application's requests give their places back at their end."""
        app.teardown_request(self._give_back)

    def take(self) -> None:
        """Give the current request a place until its end; one that has a place keeps it.

        Raises:
            BusyError: None is free.
        """
        if g.get("has_place"):
            return
        if not self._free.acquire(blocking=False):
            raise BusyError(f"{self._count} requests are being served already")
        g.has_place = True

    @contextmanager
    def for_a_stranger(self) -> Iterator[None]:
        """Give the current request one of the strangers' places for the length of the block.

        Raises:
            BusyError: None is free.
        """
        if not self._free_for_strangers.acquire(blocking=False):
            raise BusyError(
                f"{self._strangers} requests without credentials outside their bodies are being read already"
            )
        try:
            yield
        finally:
            self._free_for_strangers.release()

    def _give_back(self, _: BaseException | None) -> None:
        if g.pop("has_place", False):
            self._free.release()
