from pathlib import Path

import pytest
from PIL import Image
from training.emoji import emoji_files, emoji_group


@pytest.mark.parametrize(
    ("codes", "group"),
    [
        pytest.param([0x1F34E], "emoji-1f34e", id="apple"),
        pytest.param([0x1F3D8, 0xFE0F], "emoji-1f3d8", id="houses, with the colour selector"),
        pytest.param([0x1F469, 0x1F3FD, 0x200D, 0x1F692], "emoji-1f9d1-1f692", id="woman, medium skin, fire engine"),
        pytest.param([0x1F468, 0x200D, 0x1F692], "emoji-1f9d1-1f692", id="man, fire engine"),
        pytest.param([0x1F3C4, 0x1F3FF, 0x200D, 0x2640, 0xFE0F], "emoji-1f3c4", id="woman surfing, dark skin"),
        pytest.param([0x1F552], "emoji-clock", id="three o'clock"),
        pytest.param([0x1F49A], "emoji-heart", id="green heart"),
        pytest.param([0x1F3FD], "emoji-1f3fd", id="a skin tone alone"),
    ],
)
def test_one_thing_has_one_group_whatever_the_vendor_tone_or_gender(codes: list[int], group: str) -> None:
    assert emoji_group(codes) == group


def test_an_emoji_file_is_named_by_its_code_points(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6)).save(tmp_path / "1f34e.webp")

    (load,) = emoji_files(tmp_path)
    original = load()

    assert original is not None
    assert (original.id, original.group, original.kind) == ("1f34e", "emoji-1f34e", "cutout")


@pytest.mark.parametrize("name", ["0031-fe0f-20e3", "00a9", "1f1e9-1f1ea"])
def test_keycaps_letters_and_flags_are_left_out(tmp_path: Path, name: str) -> None:
    Image.new("RGBA", (8, 6)).save(tmp_path / f"{name}.webp")

    assert emoji_files(tmp_path) == []
