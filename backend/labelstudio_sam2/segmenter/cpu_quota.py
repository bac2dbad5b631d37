"""How much of a machine a container may use. Nothing here needs torch."""

import math
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def cpu_quota(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> float:
    """Return how many CPUs' time this process may use; infinite where nothing says so. Instant.

    Docker's `--cpus` and Kubernetes' limits are such quotas. What counts CPUs does not see them, unlike CPUs a process
    is bound to: torch starts a thread for each of the host's, and the kernel then stops them all most of the time.

    Args:
        cgroups: Where the kernel shows its control groups, version 2.
        own_cgroup: The file that names this process's own; the quotas of those above it hold too.
    """
    try:
        lines = own_cgroup.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return math.inf
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folders = [cgroups / above for name in names for above in (PurePosixPath(name), *PurePosixPath(name).parents)]
    return min((_quota(folder / "cpu.max") for folder in folders), default=math.inf)


def _quota(cpu_max: Path) -> float:
    """Read `cpu.max`: microseconds of a period of so many, or `max`; see Control Group v2 in the kernel's manual."""
    try:
        quota, period = cpu_max.read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
