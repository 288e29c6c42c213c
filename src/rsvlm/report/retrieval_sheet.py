"""A sheet of pictures that were found for a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rsvlm.data.folders import printable

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_CELL, _EDGE, _LINE = 256, 12, 18


def found_sheet(found: Sequence[tuple[Image.Image, str, float]], text: str, path: Path) -> Path:
    """The pictures in a row, best first, with their names and scores below the text.

    Args:
        found: picture, name, score.
        text: what was looked for.
        path: the sheet.
    """
    width = _EDGE + (_CELL + _EDGE) * len(found)
    sheet = Image.new("RGB", (width, _CELL + 3 * _EDGE + 3 * _LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((_EDGE, _EDGE), _fit(pen, text, font, width - 2 * _EDGE), fill="#1d2530", font=font)
    top = 2 * _EDGE + _LINE
    for place, (image, name, score) in enumerate(found):
        left = _EDGE + (_CELL + _EDGE) * place
        small = image.copy()
        small.thumbnail((_CELL, _CELL), Image.Resampling.BICUBIC)
        if max(small.size) < _CELL:
            scale = _CELL / max(small.size)
            size = (round(small.width * scale), round(small.height * scale))
            small = small.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(small, (left, top))
        below = top + _CELL + 4
        pen.text((left, below), _fit(pen, name, font, _CELL), fill="#1d2530", font=font)
        pen.text((left, below + _LINE), f"{score:.4f}", fill="#66717f", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _fit(pen: ImageDraw.ImageDraw, text: str, font: Font, room: int) -> str:
    """The text on one line, cut at its end to a width in pixels."""
    text = printable(text)
    if pen.textlength(text, font=font) <= room:
        return text
    while text and pen.textlength(f"{text}…", font=font) > room:
        text = text[:-1]
    return f"{text}…"
