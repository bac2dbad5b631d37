"""`make demo`: a real Label Studio, this backend with the small model, and pictures to click on."""

from labelstudio_sam2.demo.processes import DemoError
from labelstudio_sam2.demo.run import run_demo, stop_demo

__all__ = ["DemoError", "run_demo", "stop_demo"]
