import base64
import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelstudio_sam2.errors import (
    BackendError,
    BadRequestError,
    ImageTooLargeError,
    ImageUnavailableError,
    ImageUnreadableError,
    UrlRefusedError,
)
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.sam2_api.inputs import ImageInputs, is_empty
from labelstudio_sam2.settings import Settings


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    """6 x 8, red at the top left, blue elsewhere: a swap of axes or channels shows."""
    image = np.full((6, 8, 3), (0, 0, 200), np.uint8)
    image[:2, :3] = (200, 0, 0)
    return image


@pytest.fixture
def file(rgb: NDArray[np.uint8], png: Any) -> bytes:
    data: bytes = png(rgb)
    return data


@pytest.fixture
def on_server() -> ImageInputs:
    """As the server has it: no files, no host allowed."""
    settings = Settings.model_construct(max_image_mb=1, max_image_megapixels=1)
    return ImageInputs(ImageSource(settings, strict_pillow=False), ImageLimits.from_settings(settings))


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "given",
    [
        lambda _, path: str(path),
        lambda _, path: path,
        lambda data, _: data,
        lambda data, _: bytearray(data),
        lambda data, _: as_base64(data),
        lambda data, _: f"data:image/png;base64,{as_base64(data)}",
        lambda data, _: {"type": "base64", "value": as_base64(data)},
        lambda data, _: {"type": "BASE64", "value": f"data:image/png;base64,{as_base64(data)}"},
        lambda data, _: {"type": "base64", "value": base64.encodebytes(data).decode()},
        lambda data, _: {"type": "base64", "value": as_base64(data).rstrip("=")},
        lambda _, path: {"type": "file", "value": str(path)},
    ],
    ids=[
        "path",
        "Path",
        "bytes",
        "bytearray",
        "base64",
        "data-url",
        "typed",
        "capitals",
        "lines",
        "no-padding",
        "typed-file",
    ],
)
def test_a_file_is_known_by_its_bytes_however_it_comes(
    inputs: ImageInputs, file: bytes, rgb: NDArray[np.uint8], tmp_path: Path, given: Callable[[bytes, Path], object]
) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(file)

    picture = inputs.picture(given(file, path))

    assert picture.sha256 == hashlib.sha256(file).hexdigest()
    assert picture.size_hw == (6, 8)
    np.testing.assert_array_equal(picture.load(), rgb)


@pytest.mark.parametrize("given", [lambda url: url, lambda url: {"type": "url", "value": url}], ids=["text", "typed"])
def test_a_web_address_is_opened(
    inputs: ImageInputs, file: bytes, picture_server: Any, given: Callable[[str], object]
) -> None:
    picture_server.files["/a.png"] = file

    picture = inputs.picture(given(f"{picture_server.url}/a.png"))

    assert picture.sha256 == hashlib.sha256(file).hexdigest()
    assert picture_server.requests == [("/a.png", None)]


def test_a_web_address_without_a_file_is_told_apart(inputs: ImageInputs, picture_server: Any) -> None:
    with pytest.raises(ImageUnavailableError, match="404"):
        inputs.picture(f"{picture_server.url}/none.png")


@pytest.mark.parametrize(
    "given",
    [
        lambda rgb: rgb[..., ::-1],
        lambda rgb: np.dstack([rgb[..., ::-1], np.full((6, 8), 255, np.uint8)]),
        Image.fromarray,
        lambda rgb: {"type": "numpy", "value": rgb[..., ::-1]},
        lambda rgb: {"type": "numpy_object", "value": np.asfortranarray(rgb[..., ::-1])},
        lambda rgb: {"type": "pil", "value": Image.fromarray(rgb)},
    ],
    ids=["bgr", "bgra", "pillow", "numpy", "numpy_object", "pil"],
)
def test_a_bgr_array_and_a_pillow_image_are_the_same_picture(
    inputs: ImageInputs, rgb: NDArray[np.uint8], given: Callable[[NDArray[np.uint8]], object]
) -> None:
    picture = inputs.picture(given(rgb))

    assert picture.sha256 == inputs.picture(Image.fromarray(rgb)).sha256
    assert picture.size_hw == (6, 8)
    np.testing.assert_array_equal(picture.load(), rgb)


def test_an_array_in_rgb_order_is_another_picture(inputs: ImageInputs, rgb: NDArray[np.uint8]) -> None:
    assert inputs.picture(rgb).sha256 != inputs.picture(rgb[..., ::-1]).sha256


def test_a_gray_array_has_three_equal_channels(inputs: ImageInputs) -> None:
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)

    np.testing.assert_array_equal(inputs.picture(gray).load(), np.dstack([gray] * 3))


def test_transparency_is_laid_on_white(inputs: ImageInputs) -> None:
    image = inputs.picture(np.zeros((6, 8, 4), np.uint8)).load()

    np.testing.assert_array_equal(image, np.full((6, 8, 3), 255))


def test_equal_bytes_of_another_shape_are_another_picture(inputs: ImageInputs) -> None:
    wide, high = (inputs.picture(np.zeros(size_hw, np.uint8)) for size_hw in ((10, 20), (20, 10)))

    assert (wide.size_hw, high.size_hw) == ((10, 20), (20, 10))
    assert wide.sha256 != high.sha256


def test_what_the_caller_does_to_an_array_later_does_not_change_the_picture(inputs: ImageInputs) -> None:
    array = np.zeros((6, 8, 3), np.uint8)

    picture = inputs.picture(array)
    array[:] = 255

    assert picture.load().max() == 0


def test_a_pillow_image_is_turned_as_its_exif_says(inputs: ImageInputs, rgb: NDArray[np.uint8]) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(rgb).save(file, "PNG", exif=exif)

    of_pillow = inputs.picture(Image.open(file))
    of_bytes = inputs.picture(file.getvalue())

    np.testing.assert_array_equal(of_pillow.load(), np.rot90(rgb, -1))
    np.testing.assert_array_equal(of_pillow.load(), of_bytes.load())
    assert of_pillow.size_hw == of_bytes.size_hw == (8, 6)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (None, BadRequestError, "image is missing"),
        (7, BadRequestError, "got a int"),
        ([b""], BadRequestError, "got a list"),
        ({}, BadRequestError, "image.type"),
        ({"type": 7, "value": "x"}, BadRequestError, "image.type must be a text"),
        ({"type": "video", "value": "x"}, BadRequestError, "image.type must be base64 or url"),
        ({"type": "base64", "value": 7}, BadRequestError, "image.value does not fit image.type, got a int"),
        ({"type": "base64", "value": {"type": "base64"}}, BadRequestError, "does not fit image.type, got a dict"),
        ({"type": "url", "value": ["x"]}, BadRequestError, "image.value does not fit"),
        ({"type": "numpy", "value": "gASV"}, BadRequestError, "pickled arrays are never read"),
        ({"type": "base64"}, ImageUnreadableError, "payload is empty"),
        ({"type": "base64", "value": ""}, ImageUnreadableError, "payload is empty"),
        ({"type": "base64", "value": "data:image/png;base64,"}, ImageUnreadableError, "payload is empty"),
        ({"type": "base64", "value": "%%%"}, ImageUnreadableError, "malformed base64"),
        ({"type": "base64", "value": "ümläut"}, ImageUnreadableError, "malformed base64"),
        ({"type": "base64", "value": "\ud800"}, ImageUnreadableError, "malformed base64"),
        ({"type": "base64", "value": "aGVsbG8="}, ImageUnreadableError, "not a PNG"),
        ({"type": "url", "value": "ftp://example.org/a.png"}, UrlRefusedError, "http"),
        ({"type": "url", "value": "/data/upload/1/a.png"}, UrlRefusedError, "http"),
        (b"", ImageUnreadableError, "empty"),
        (np.zeros((6, 8, 3)), BadRequestError, r"uint8 .* got float64 of shape \(6, 8, 3\)"),
        (np.zeros((6, 8, 2), np.uint8), BadRequestError, r"got uint8 of shape \(6, 8, 2\)"),
        (np.zeros(8, np.uint8), BadRequestError, r"got uint8 of shape \(8,\)"),
        (np.zeros((0, 8), np.uint8), ImageUnreadableError, "no pixels"),
        (np.zeros((1001, 1000), np.uint8), ImageTooLargeError, "1000 x 1001"),
        ("no such file.png", ImageUnreadableError, "'no such file.png' is neither a file that is there"),
        ("hand", ImageUnreadableError, "'hand' is neither a file"),  # is base64, too
        (Path("no such file.png"), ImageUnreadableError, "there is no file no such file"),
        (Path("zero\0byte"), ImageUnreadableError, "there is no file"),
        (Path("x" * 300), ImageUnreadableError, "there is no file"),
        (Path("\ud800"), ImageUnreadableError, "there is no file"),
        ("x" * 300, ImageUnreadableError, "is neither a file"),
        ("zero\0byte", ImageUnreadableError, "is neither a file"),
        ("\ud800", ImageUnreadableError, "is neither a file"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(
    inputs: ImageInputs, image: object, error: type[BackendError], message: str
) -> None:
    with pytest.raises(error, match=message):
        inputs.picture(image)


def test_base64_that_reads_like_an_overlong_name_is_base64(inputs: ImageInputs, png: Any) -> None:
    pictures = (png(np.full((6, 8, 3), gray, np.uint8)) + bytes(300) for gray in range(256))
    data = next(each for each in pictures if "/" not in as_base64(each))  # no folder, and no name has 256 characters

    assert inputs.picture(as_base64(data)).sha256 == hashlib.sha256(data).hexdigest()


def test_a_body_of_any_depth_is_refused_in_words(inputs: ImageInputs) -> None:
    image: dict[str, object] = {"type": "base64"}
    for depth in range(1, 1001):
        image = {"type": "base64", "value": image}
        if depth >= 900:
            assert not is_empty(image)
            with pytest.raises(BadRequestError, match="got a dict"):
                inputs.picture(image)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(1_000_001))

    with pytest.raises(ImageTooLargeError, match=r"large\.png is larger than 1,000,000 bytes"):
        ImageInputs.local(max_image_mb=1).picture(tmp_path / "large.png")


def test_the_server_reads_no_file(on_server: ImageInputs, file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(file)

    for image in ({"type": "file", "value": str(path)}, path):
        with pytest.raises(BadRequestError, match="files of this machine are not read"):
            on_server.picture(image)
    with pytest.raises(ImageUnreadableError, match="malformed base64"):
        on_server.picture(str(path))


def test_the_server_asks_no_host_that_is_not_listed(on_server: ImageInputs, picture_server: Any, file: bytes) -> None:
    picture_server.files["/a.png"] = file

    with pytest.raises(UrlRefusedError, match="ALLOWED_IMAGE_HOSTS"):
        on_server.picture({"type": "url", "value": f"{picture_server.url}/a.png"})
    assert picture_server.requests == []


@pytest.mark.parametrize("text", ["!" * 5000, as_base64(bytes(4000)), "A" * 5_000_000])
def test_no_error_repeats_what_may_be_the_picture(on_server: ImageInputs, inputs: ImageInputs, text: str) -> None:
    for where in (on_server, inputs):
        with pytest.raises(BackendError) as caught:
            where.picture({"type": "base64", "value": text})
        assert text[:20] not in str(caught.value)


def test_inputs_of_a_program_read_no_environment_and_leave_its_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_IMAGE_MB", "not a number")
    before = list(warnings.filters)

    ImageInputs.local()

    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("image", "empty"),
    [
        (None, True),
        ("", True),
        ({}, True),
        ({"type": "base64"}, True),
        ({"type": "base64", "value": None}, True),
        ({"type": "base64", "value": ""}, True),
        ("x", False),
        ({"type": "base64", "value": "x"}, False),
        ({"type": "base64", "value": {"type": "base64"}}, False),
        (np.zeros((6, 8), np.uint8), False),
    ],
)
def test_an_empty_image_is_told_from_one(image: object, *, empty: bool) -> None:
    assert is_empty(image) is empty
