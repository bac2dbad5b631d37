"""Sites that stand for Label Studio and for a stranger, sources that ask them, and pictures to serve."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelstudio_sam2.images.decode import make_pillow_strict
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.settings import Settings, load_settings


@pytest.fixture
def label_studio(start_site: Callable[[], Any]) -> Any:
    return start_site()


@pytest.fixture
def stranger(start_site: Callable[[], Any]) -> Any:
    return start_site()


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return load_settings


@pytest.fixture
def make_source(
    make_settings: Callable[..., Settings], names: Any, network: Any, label_studio: Any
) -> Callable[..., ImageSource]:
    """Make a source for the label_studio site; keyword arguments are settings, and `clock`."""

    def make(**overrides: Any) -> ImageSource:
        clock = {"clock": overrides.pop("clock")} if "clock" in overrides else {}
        fixed = {"label_studio_url": label_studio.url, "image_revalidate_seconds": 10}
        settings = make_settings(**(fixed | overrides))
        return ImageSource(settings, resolver=names, network=network, **clock)

    return make


@pytest.fixture(autouse=True)
def _pillow_as_in_production() -> None:
    make_pillow_strict()


@pytest.fixture
def png() -> bytes:
    """Give a picture of 2 rows and 3 columns."""
    return png_of(0)


@pytest.fixture
def other_png() -> bytes:
    """Give another picture, of the same file size."""
    data = png_of(1)
    assert len(data) == len(png_of(0))
    return data


def png_of(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(file, "PNG", compress_level=0)
    return file.getvalue()
