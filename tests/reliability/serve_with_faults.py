"""`labelstudio-sam2`, with faults that files order; test_faults.py starts it in the command's place.

Usage: serve_with_faults.py FOLDER ARGUMENTS...

Files of FOLDER, looked at whenever they matter:

    once        the image encoder's next call raises what is named in it: `memory` or `lost`
    always      as do all its calls
    clock       seconds by which this machine's clock has been set forward
    life        seconds that a worker lives at least, if not 30
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from labelstudio_sam2 import app, cli
from labelstudio_sam2.ops import restart
from labelstudio_sam2.segmenter.models import load_model

FOLDER = Path(sys.argv.pop(1))
LOST = (
    "CUDA error: an illegal memory access was encountered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect."
)


def main() -> None:
    time.time = _set_forward(time.time, 1)
    time.time_ns = _set_forward(time.time_ns, 10**9)
    restart.SHORTEST_LIFE_SECONDS = float(_ordered("life") or restart.SHORTEST_LIFE_SECONDS)
    vars(app)["load_model"] = _with_faults(load_model)
    cli.main()


def _ordered(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


def _set_forward(clock: Callable[[], Any], unit: int) -> Callable[[], Any]:
    return lambda: clock() + int(_ordered("clock") or 0) * unit


def _with_faults(load_model: Callable[..., Any]) -> Callable[..., Any]:
    def load(*args: Any, **options: Any) -> Any:
        model = load_model(*args, **options)
        forward_image = model._net.forward_image

        def fail_or_forward(pixels: Any) -> Any:
            fault = _ordered("always") or _ordered("once")
            (FOLDER / "once").unlink(missing_ok=True)
            if fault:
                _fail(fault)
            return forward_image(pixels)

        model._net.forward_image = fail_or_forward
        return model

    return load


def _fail(fault: str) -> NoReturn:
    import torch  # noqa: PLC0415  in the worker only, as without faults

    match fault:
        case "memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        case "lost":
            raise RuntimeError(LOST)
    raise ValueError(fault)


if __name__ == "__main__":
    main()
