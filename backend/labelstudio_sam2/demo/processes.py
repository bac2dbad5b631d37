"""Child processes that can outlive this one: started with a log, known by a lock, ended by their process group."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 15
"""How long a process may take to end after SIGTERM before it is killed."""
LOG_TAIL_LINES = 15


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


class Service:
    """One long-running child process, known by the files `NAME.pid`, `NAME.log` and `NAME.lock` in a folder.

    The child and all its descendants hold an inherited lock on `NAME.lock`; the kernel frees it when the last of them
    ends. So a process id read from an older run is trusted only while the lock is held, and no stranger who got the
    same id later is ever signalled.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Name a service; starts nothing."""
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._folder = folder
        self._pid_path = folder / f"{name}.pid"
        self._lock_path = folder / f"{name}.lock"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command in a process group of its own, its output in the log.

        Raises:
            DemoError: It runs already, or the program does not exist.
        """
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.log_path.open("wb") as log:
                self._child = subprocess.Popen(  # noqa: S603  the command is ours
                    list(command),
                    cwd=self._folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except BlockingIOError:
            raise DemoError(f"{self.name} is running already") from None
        except FileNotFoundError as error:
            raise DemoError(f"cannot start {self.name}: {error.filename} does not exist") from None
        finally:
            os.close(lock)  # this process's hold on the lock; the child keeps its own
        self._pid_path.write_text(str(self._child.pid), encoding="ascii")

    def is_running(self) -> bool:
        """Whether the process, or any of its descendants, lives; also for one that another run has started."""
        if self._child is not None:
            self._child.poll()  # a child that ended must be reaped
        if not self._lock_path.exists():
            return False
        lock = os.open(self._lock_path, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def stop(self) -> bool:
        """End the process group and wait until it is gone; kill it where it takes too long.

        Returns:
            Whether there was anything to end.
        """
        if not self.is_running():
            return False
        group = int(self._pid_path.read_text(encoding="ascii"))
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(group, sign)
            deadline = time.monotonic() + STOP_SECONDS
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(0.05)
        return True

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
