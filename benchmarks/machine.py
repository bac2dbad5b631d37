"""Which machine a benchmark ran on, without naming it."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What figures depend on.

    Attributes:
        cpu: The CPU's model.
        cores: How many of them this process may use.
        gpu: The GPU's name, or None where the models ran on the CPU.
        memory_gib: Of the machine.
        torch: PyTorch's version.
        python: Python's version.
        load: The load average of the last minute, before anything was measured: with more than a little, be careful.
    """

    cpu: str
    cores: int
    gpu: str | None
    memory_gib: float
    torch: str
    python: str
    load: float

    def describe(self) -> str:
        """Return it as a sentence without a full stop."""
        where = f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB"
        gpu = f", {self.gpu}" if self.gpu else ", no GPU"
        return f"{where}{gpu}; PyTorch {self.torch}, Python {self.python}; load average {self.load:.1f} at the start"


def this_machine(device: str) -> Machine:
    """Describe the machine this runs on."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name() if device.startswith("cuda") else None,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        torch=torch.__version__,
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    """Return what the kernel calls the CPU; Python's own answer is empty on many Linux machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
