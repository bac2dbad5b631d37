"""Pictures that a real Label Studio keeps, fetched with the tokens it gives."""

from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.errors import ImageForbiddenError
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.settings import load_settings

pytestmark = pytest.mark.label_studio


@pytest.fixture
def address(demo: Any) -> str:
    """The address of the demo's first picture, as its task has it."""
    task_id = demo.task_ids(demo.state.project_id)[0]
    data: dict[str, str] = demo.get(f"/api/tasks/{task_id}/")["data"]
    return data["image"]


def test_a_legacy_token_opens_an_uploaded_picture(demo: Any, address: str, scenes: Any) -> None:
    picture = _source(demo, demo.state.token).find(address, project="1", task_id=1)

    np.testing.assert_array_equal(picture.load(), scenes["fruit"].image)


def test_a_personal_access_token_is_exchanged_and_opens_it_too(demo: Any, address: str, scenes: Any) -> None:
    picture = _source(demo, demo.personal_token()).find(address, project="1", task_id=1)

    np.testing.assert_array_equal(picture.load(), scenes["fruit"].image)


@pytest.mark.parametrize("token", [None, "f" * 40])
def test_without_a_good_token_the_error_names_the_setting(demo: Any, address: str, token: str | None) -> None:
    with pytest.raises(ImageForbiddenError, match="LABEL_STUDIO_API_KEY"):
        _source(demo, token).find(address, project="1", task_id=1)


def _source(demo: Any, token: str | None) -> ImageSource:
    return ImageSource(load_settings(label_studio_url=demo.state.label_studio_url, label_studio_api_key=token))
