"""Figures as people read them."""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration(seconds: float) -> str:
    """Write how long something took, to two or three digits: `0.4 ms`, `12 ms`, `1.5 s`, `42 s`."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def bound(seconds: float) -> str:
    """Write the upper bound of a histogram's bucket as it is: `2.5 ms`, `250 ms`, `2.5 s`, `60 s`."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def age(seconds: float) -> str:
    """Write how long ago something was, or how long it has lasted, in its largest unit: `12 s`, `3 min`, `5 h`."""
    for unit, name in ((_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def mebibytes(nbytes: float) -> str:
    """Write a size in MiB: `0.4 MiB`, `24 MiB`, `20,480 MiB`."""
    size = nbytes / 2**20
    return f"{size:.1f} MiB" if 0 < size < 9.95 else f"{size:,.0f} MiB"


def count(number: float) -> str:
    """Write a whole number: `12,345`."""
    return f"{number:,.0f}"


def moment(timestamp: float) -> str:
    """Write a moment, in seconds since the epoch: `2026-01-31 14:02:11 UTC`."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"
