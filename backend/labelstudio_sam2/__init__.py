"""A Label Studio ML backend for SAM 2.

`SegmentAnything2`, `masks2poly` and `masks2multipoly` are the Python API. Importing this package imports nothing else;
each name is looked up when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelstudio_sam2.sam2_api.masks import masks2multipoly, masks2poly
    from labelstudio_sam2.sam2_api.segment_anything2 import SegmentAnything2

__all__ = ["SegmentAnything2", "masks2multipoly", "masks2poly"]

_MODULES = {
    "SegmentAnything2": "labelstudio_sam2.sam2_api.segment_anything2",
    "masks2multipoly": "labelstudio_sam2.sam2_api.masks",
    "masks2poly": "labelstudio_sam2.sam2_api.masks",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
