"""The `segment` command as a shell runs it, with the nano model."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from labelstudio_sam2.cli import app

HAND = Path(__file__).parents[2] / "examples" / "sam2" / "hand.png"


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs `labelstudio-sam2 segment` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MODEL", "nano")
    monkeypatch.setenv("DEVICE", "cpu")
    return lambda *arguments: CliRunner().invoke(app, ["segment", *map(str, arguments)])


@pytest.fixture
def picture(tmp_path: Path, disc_and_box: Any) -> Path:
    """640 x 480: a disc around (200, 180) and a box from (400, 250) to (560, 400)."""
    path = tmp_path / "picture.png"
    path.write_bytes(disc_and_box.png())
    return path


def read_mask(path: Path) -> NDArray[np.bool_]:
    with Image.open(path) as file:
        assert file.mode == "L"
        values = np.array(file)
    assert set(np.unique(values)) == {0, 255}
    return np.asarray(values == 255)


def test_a_point_gives_the_mask_of_the_object_under_it(
    segment: Callable[..., Result], picture: Path, tmp_path: Path, disc_and_box: Any, iou: Any
) -> None:
    result = segment(picture, "--point", "200,180.5", "--out", "mask.png")

    assert result.exit_code == 0, result.output
    assert "wrote  mask.png" in result.output
    assert iou(read_mask(tmp_path / "mask.png"), disc_and_box.masks["disc"]) >= 0.9


def test_a_box_gives_the_mask_of_the_object_in_it(
    segment: Callable[..., Result], picture: Path, tmp_path: Path, disc_and_box: Any, iou: Any
) -> None:
    result = segment(picture, "--box", "390,240,570,410", "--out", "mask.png")

    assert result.exit_code == 0, result.output
    assert iou(read_mask(tmp_path / "mask.png"), disc_and_box.masks["box"]) >= 0.9


def test_a_box_that_goes_over_the_edge_is_cut_at_it(segment: Callable[..., Result], picture: Path) -> None:
    cut = segment(picture, "--box", "390,240,640,480")
    beyond = segment(picture, "--box", "390,240,700,99999")

    assert cut.exit_code == 0, cut.output
    assert beyond.output == cut.output


@pytest.mark.parametrize(("option", "with_sleeve"), [("--point", True), ("--negative", False)])
def test_points_of_both_signs_describe_one_object(
    segment: Callable[..., Result], tmp_path: Path, option: str, *, with_sleeve: bool
) -> None:
    result = segment(HAND, "--point", "390,440", option, "250,800", "--out", "mask.png")

    assert result.exit_code == 0, result.output
    mask = read_mask(tmp_path / "mask.png")
    assert [mask[440, 390], mask[800, 250]] == [True, with_sleeve]


def test_a_negative_point_alone_is_taken_away_from_the_most_prominent_object(
    segment: Callable[..., Result], tmp_path: Path
) -> None:
    segment(HAND, "--out", "prominent.png")
    segment(HAND, "--negative", "250,800", "--out", "corrected.png")

    prominent, corrected = read_mask(tmp_path / "prominent.png"), read_mask(tmp_path / "corrected.png")
    assert [prominent[440, 390], prominent[800, 250]] == [True, True]
    assert [corrected[440, 390], corrected[800, 250]] == [True, False]


def test_the_summary_tells_the_masks_score_area_and_box(
    segment: Callable[..., Result], picture: Path, tmp_path: Path
) -> None:
    result = segment(picture, "--point", "200,180", "--out", "mask.png")

    rows, columns = np.nonzero(read_mask(tmp_path / "mask.png"))
    score, area, box, _ = result.output.splitlines()
    assert 0 < float(score.removeprefix("score")) <= 1
    assert area == f"area   {len(rows)} pixels, {len(rows) / 3072:.1f} % of 640 x 480"
    assert box == f"box    {columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"


def test_the_polygons_outline_the_mask(segment: Callable[..., Result], picture: Path, tmp_path: Path) -> None:
    segment(picture, "--point", "480,320", "--out", "mask.png", "--polygons", "outline.json")

    outline = json.loads((tmp_path / "outline.json").read_text())
    filled = np.zeros((480, 640), np.uint8)
    cv2.fillPoly(filled, [np.array(polygon, np.int32) for polygon in outline["polygons"]], 1)
    mask = read_mask(tmp_path / "mask.png")
    assert (outline["width"], outline["height"]) == (640, 480)
    assert filled[mask].all()
    assert (filled.astype(bool) & ~mask).mean() < 0.001  # holes, if any


def test_the_overlay_has_the_pictures_size_and_shows_the_mask(
    segment: Callable[..., Result], picture: Path, tmp_path: Path, disc_and_box: Any
) -> None:
    segment(picture, "--point", "200,180", "--overlay", "overlay.png")

    with Image.open(tmp_path / "overlay.png") as file:
        overlay = np.array(file)
    changed = (overlay != disc_and_box.image).any(axis=2)
    assert overlay.shape == (480, 640, 3)
    assert changed[disc_and_box.masks["disc"]].mean() > 0.9
    assert changed[disc_and_box.masks["box"]].mean() < 0.01


def test_coordinates_and_mask_are_of_the_upright_picture(
    segment: Callable[..., Result], tmp_path: Path, disc_and_box: Any, iou: Any
) -> None:
    lying = Image.fromarray(np.rot90(disc_and_box.image))  # 480 x 640; orientation 6 turns it upright again
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "turned.jpg", exif=exif, quality=95)

    result = segment("turned.jpg", "--point", "200,180", "--out", "mask.png")

    assert result.exit_code == 0, result.output
    assert iou(read_mask(tmp_path / "mask.png"), disc_and_box.masks["disc"]) >= 0.85


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--point", "12"], "--point: x,y is wanted, numbers in pixels, got '12'"),
        (["--point", "a,b"], "--point: x,y is wanted"),
        (["--negative", "nan,3"], "--negative: x,y is wanted"),
        (["--point", "1e400,3"], "--point: x,y is wanted"),
        (["--box", "1,2,3"], "--box: x0,y0,x1,y1 is wanted"),
        (["--box", "300,80,100,90"], "--box: left,top,right,bottom is wanted, left < right and top < bottom"),
        (["--point", "641,10"], "the point 641,10 lies outside the picture of 640 x 480 pixels"),
        (["--point", "-1,10"], "the point -1,10 lies outside"),
        (["--negative", "10,480.5"], "the point 10,480.5 lies outside"),
        (["--box", "640,10,700,20"], "the box 640,10,700,20 lies outside"),
        (["--out", "mask.jpg"], "--out: the file's name must end in .png, got mask.jpg"),
        (["--overlay", "overlay.tiff"], "--overlay: the file's name must end in"),
        (["--polygons", "missing/p.json"], "--polygons: there is no folder missing"),
        (["--out", "o.png", "--overlay", "o.png"], "--out and --overlay name the same file: o.png"),
        (["--out", "o.png", "--overlay", "../{here}/o.png"], "--out and --overlay name the same file"),
        (["--model", "sam3"], "sam2/hiera_tiny"),
        (["--device", "tpu"], "DEVICE"),
    ],
)
def test_what_cannot_be_asked_is_named_with_what_is_wanted(
    segment: Callable[..., Result], picture: Path, arguments: list[str], told: str
) -> None:
    result = segment(picture, *(argument.format(here=picture.parent.name) for argument in arguments))

    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("option", ["--out", "--overlay"])
@pytest.mark.parametrize("name", ["picture.png", "link.png"])
def test_the_picture_is_never_overwritten(
    segment: Callable[..., Result], picture: Path, tmp_path: Path, option: str, name: str
) -> None:
    (tmp_path / "link.png").symlink_to(picture)
    before = picture.read_bytes()

    result = segment("./picture.png", option, name)

    assert result.exit_code == 2
    assert f"{option}: {name} is the picture itself and would be overwritten" in result.stderr
    assert picture.read_bytes() == before


def test_a_private_host_is_asked_once_it_is_allowed_as_the_error_advises(
    segment: Callable[..., Result], disc_and_box: Any, picture_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_server.files["/picture.png"] = disc_and_box.png()

    refused = segment(f"{picture_server.url}/picture.png", "--point", "200,180")
    asked_before = list(picture_server.requests)
    monkeypatch.setenv("ALLOWED_IMAGE_HOSTS", "127.0.0.1")
    allowed = segment(f"{picture_server.url}/picture.png", "--point", "200,180")

    assert refused.exit_code == 1
    assert "name 127.0.0.1 in ALLOWED_IMAGE_HOSTS" in refused.stderr
    assert asked_before == []
    assert allowed.exit_code == 0, allowed.output


@pytest.mark.parametrize(
    ("variable", "size_wh", "file_bytes", "told"),
    [
        ("MAX_IMAGE_MEGAPIXELS", (1250, 801), 0, "the picture is 1250 x 801, over 1,000,000 pixels"),
        ("MAX_IMAGE_MB", (6, 8), 1_000_001, "large.png is larger than 1,000,000 bytes"),
    ],
)
def test_a_picture_over_the_limits_of_the_settings_is_refused(
    segment: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    size_wh: tuple[int, int],
    file_bytes: int,
    told: str,
) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", size_wh).save(large)
    large.write_bytes(large.read_bytes().ljust(file_bytes, b"\0"))
    monkeypatch.setenv(variable, "1")

    result = segment(large)

    assert result.exit_code == 1
    assert told in result.stderr


def test_a_missing_picture_is_named(segment: Callable[..., Result]) -> None:
    result = segment("photo.png")

    assert result.exit_code == 1
    assert "'photo.png' is neither a file that is there" in result.stderr


def test_a_file_that_is_no_picture_says_so(segment: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("shopping list")

    result = segment("notes.png")

    assert result.exit_code == 1
    assert "not a PNG, JPEG, WEBP, GIF, BMP or TIFF picture" in result.stderr


def test_a_file_that_cannot_be_written_is_named(segment: Callable[..., Result], picture: Path, tmp_path: Path) -> None:
    (tmp_path / "mask.png").mkdir()

    result = segment(picture, "--point", "200,180", "--out", "mask.png")

    assert result.exit_code == 1
    assert "mask.png" in result.stderr


def test_missing_weights_say_once_which_command_gets_them(picture: Path, tmp_path: Path) -> None:
    main = "from labelstudio_sam2.cli import main; main()"
    command = [sys.executable, "-c", main, "segment", str(picture), "--model", "hiera_tiny"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 1
    assert done.stderr.count("sam2.1_hiera_tiny.pt is missing; get it with `labelstudio-sam2 weights fetch") == 1
    assert "Traceback" not in done.stderr


def test_help_teaches_every_option_with_examples(segment: Callable[..., Result]) -> None:
    result = segment("--help")

    for word in ("--point", "--negative", "--box", "--model", "--out", "--overlay", "--polygons", "Default: MODEL"):
        assert word in result.output
    assert "labelstudio-sam2 segment photo.jpg --point 320,240 --negative 400,260 --out mask.png" in result.output
    assert "\\b" not in result.output
