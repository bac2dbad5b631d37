"""What the C library is told, in a process of its own: it cannot be taken back."""

import subprocess
import sys

import pytest

PAGES = """
import resource
import threading
import numpy as np
from labelstudio_sam2.ops.memory import reuse_freed_memory

assert reuse_freed_memory() is True
faults = []

def work():
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        [np.ones(2**22, np.uint8) for _ in range(12)]  # freed at once
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(max(faults[5:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_memory_that_one_thread_freed_is_used_again_by_the_next_without_the_kernel() -> None:
    ran = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, timeout=60)

    assert int(ran.stdout) < 100  # by default it is 48 MiB: 12288 pages
