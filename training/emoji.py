"""Emoji of several vendors, named by what they show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.original import Loader, decode, draw, file_loader

_IGNORED = {0x200D, 0xFE0F, 0x2640, 0x2642, *range(0x1F3FB, 0x1F400)}
"""Joiner, colour selector, the two signs of gender, five skin tones."""
_PERSON = {0x1F468: 0x1F9D1, 0x1F469: 0x1F9D1, 0x1F466: 0x1F9D2, 0x1F467: 0x1F9D2}
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_FAMILIES = (
    ("book", range(0x1F4D3, 0x1F4DB)),
    ("circle", (0x26AA, 0x26AB, 0x1F534, 0x1F535, *range(0x1F7E0, 0x1F7E5))),
    ("clock", range(0x1F550, 0x1F568)),
    ("diamond", range(0x1F536, 0x1F53A)),
    ("globe", range(0x1F30D, 0x1F310)),
    ("heart", (0x2764, 0x1F90D, 0x1F90E, *range(0x1F493, 0x1F49D), 0x1F5A4, 0x1F9E1, *range(0x1FA75, 0x1FA78))),
    ("moon", range(0x1F311, 0x1F319)),
    ("moon-face", range(0x1F31A, 0x1F31E)),
    ("square", (*range(0x25FB, 0x25FF), 0x2B1B, 0x2B1C, *range(0x1F7E5, 0x1F7EC))),
)
_FAMILY = {code: name for name, codes in _FAMILIES for code in codes}
"""Emoji that differ in a colour or in the hour."""


def emoji_group(codes: Sequence[int]) -> str:
    """Name the thing an emoji shows, the same for every vendor, skin tone and gender.

    >>> emoji_group([0x1F469, 0x1F3FD, 0x200D, 0x1F692])  # woman, medium skin, fire engine
    'emoji-1f9d1-1f692'
    """
    kept = [_PERSON.get(code, code) for code in codes if code not in _IGNORED] or codes
    if len(kept) == 1 and kept[0] in _FAMILY:
        return f"emoji-{_FAMILY[kept[0]]}"
    return f"emoji-{_spell(kept)}"


def emoji_files(folder: Path) -> list[Loader]:
    """Take the pictures of a folder that are named by their code points, 1f34e.webp."""
    spelled = [(file, [int(part, 16) for part in file.stem.split("-")]) for file in sorted(folder.glob("*.webp"))]
    return [
        file_loader(file, picture_id=_spell(codes), group=emoji_group(codes), kind="cutout")
        for file, codes in spelled
        if _is_wanted(codes)
    ]


def noto_emoji(font_file: Path) -> list[Loader]:
    """Take the bitmaps of Noto Color Emoji, the font's table CBDT."""
    from fontTools.ttLib import TTFont  # noqa: PLC0415  # only this source needs it

    font = TTFont(font_file)
    codes_of = _glyph_codes(font)
    bitmaps = font["CBDT"].strikeData[0]
    return [
        _bitmap_loader(bitmap.imageData, codes_of[glyph])
        for glyph, bitmap in bitmaps.items()
        if glyph in codes_of and _is_wanted(codes_of[glyph])
    ]


def _glyph_codes(font: Any) -> dict[str, list[int]]:
    """Tell which code points each glyph stands for: the character map, and GSUB for what several code points spell."""
    private = 0xFE000  # from here on stand old codes for emoji that ligatures spell today
    code_of = {glyph: code for code, glyph in reversed(font.getBestCmap().items()) if code < private}
    codes_of = {glyph: [code] for glyph, code in code_of.items()}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for subtable in lookup.SubTable:
            for first, ligatures in getattr(subtable, "ligatures", {}).items():
                for ligature in ligatures:
                    parts = [first, *ligature.Component]
                    if all(part in code_of for part in parts):
                        codes_of.setdefault(ligature.LigGlyph, [code_of[part] for part in parts])
    return codes_of


def _bitmap_loader(data: bytes, codes: Sequence[int]) -> Loader:
    return lambda: decode(data, picture_id=_spell(codes), group=emoji_group(codes), kind="cutout")


def _is_wanted(codes: Sequence[int]) -> bool:
    """Leave out digits, keycaps and flags, which are rectangles, and seven of eight skin tones."""
    if max(codes) < 0x2000 or 0x20E3 in codes or any(code in _FLAG_LETTERS or code >= 0xE0000 for code in codes):
        return False
    has_tone = len(codes) > 1 and any(0x1F3FB <= code < 0x1F400 for code in codes)
    return not has_tone or draw(_spell(codes)) < 1 / 8


def _spell(codes: Sequence[int]) -> str:
    return "-".join(f"{code:04x}" for code in codes)
