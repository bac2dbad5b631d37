"""The coverage-guided fuzzer of brush RLE, for some seconds; `make fuzz` lets it run for minutes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("fuzz_brush_rle.py")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
def test_no_bytes_and_no_json_decode_otherwise_than_in_the_sdk(tmp_path: Path) -> None:
    options = ["-seed=1", "-runs=20000", "-max_total_time=10"]
    options += ["-rss_limit_mb=0"]  # the kernel's peak goes on from this process's, which may be gigabytes by now
    command = [sys.executable, str(HARNESS), *options]

    fuzzed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert fuzzed.returncode == 0, fuzzed.stderr[-4000:]
    assert "Done " in fuzzed.stderr  # it did run
