"""What the demo keeps between runs: ports, the made-up user, the project."""

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
FILE_NAME = "state.json"


@dataclass(frozen=True, kw_only=True)
class DemoState:
    """The demo's memory, in `state.json`, readable by its owner only.

    Attributes:
        label_studio_port: Where Label Studio listens, on 127.0.0.1.
        backend_port: Where the SAM 2 backend listens, on 127.0.0.1.
        user: Login name (an e-mail address) of the only user.
        password: That user's password, random.
        token: That user's legacy API token, 40 random hex digits.
        project_id: The demo's project, once created.
    """

    label_studio_port: int
    backend_port: int
    user: str
    password: str
    token: str
    project_id: int | None = None

    @property
    def label_studio_url(self) -> str:
        """Label Studio's address."""
        return f"http://{LOOPBACK}:{self.label_studio_port}"

    @property
    def backend_url(self) -> str:
        """The SAM 2 backend's address."""
        return f"http://{LOOPBACK}:{self.backend_port}"

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the state of an earlier run, or None where there was none."""
        path = folder / FILE_NAME
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    @classmethod
    def make(cls, *, label_studio_port: int, backend_port: int) -> Self:
        """Make the state of a first run, with a fresh password and token."""
        return cls(
            label_studio_port=label_studio_port,
            backend_port=backend_port,
            user="demo@example.com",
            password=secrets.token_urlsafe(12),
            token=secrets.token_hex(20),
        )

    def with_free_ports(self) -> Self:
        """Return the state with each port that somebody else listens on replaced by a free one."""
        first = free_port(self.label_studio_port)
        return replace(self, label_studio_port=first, backend_port=free_port(self.backend_port, avoid=first))

    def save(self, folder: Path) -> None:
        """Write the state so that a crash leaves the old or the new one."""
        fresh = folder / f"{FILE_NAME}.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
        fresh.replace(folder / FILE_NAME)


def free_port(wanted: int, *, avoid: int | None = None) -> int:
    """Return the wanted port of 127.0.0.1, or one the system picks where that is taken or to be avoided."""
    for port in (wanted, 0, 0):
        if port and port == avoid:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            chosen = int(probe.getsockname()[1])
            if chosen != avoid:
                return chosen
    raise OSError(f"no free port on {LOOPBACK}")
