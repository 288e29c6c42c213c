"""A sheet of what a pipeline kept and dropped: small pictures in rows, a row for each reason."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsvlm.curate.parts import Part
from rsvlm.curate.record import Record
from rsvlm.curate.work import shown_of
from rsvlm.files import written_whole

if TYPE_CHECKING:
    from PIL import Image

_SIDE, _WORDS, _GAP, _COLUMNS = 128, 62, 8, 8
_INK, _PAPER, _KEPT, _LOST, _NONE = "#181818", "#fafaf8", "#2f7d4f", "#b23a2f", "#e4e2dc"


def sample_of(parts: Sequence[Path], count: int = 2 * _COLUMNS) -> list[Record]:
    """Some of the records of parts, spread over them, as `shown_of` gives them."""
    found: list[Record] = []
    filled = [path for path in parts if path.is_file()]
    step = max(1, len(filled) // count)
    for path in filled[::step][:count]:
        records = Part.read(path).records
        share = -(-count // len(filled[::step][:count]))
        places = range(0, len(records), max(1, len(records) // share))
        found += [{"id": records[i]["id"], **shown_of(records[i])} for i in list(places)[:share]]
    return found[:count]


def draw(kept: Sequence[Record], dropped: Iterable[Record], path: Path) -> None:
    """Draws the sheet and writes it as PNG.

    Args:
        kept: `id`, `text` and `preview` of some records that came through.
        dropped: of some that did not, with `stage`, `reason` and `detail`.
        path: of the picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows: list[tuple[str, str, list[Record]]] = []
    for start in range(0, len(kept), _COLUMNS):
        name = "kept" if not start else ""
        rows.append((name, _KEPT, list(kept[start : start + _COLUMNS])))
    groups: dict[str, list[Record]] = {}
    for row in dropped:
        if "text" in row or "preview" in row:
            groups.setdefault(f"{row['stage']}: {row['reason']}", []).append(row)
    rows += [(name, _LOST, found[:_COLUMNS]) for name, found in groups.items()]
    font, title = ImageFont.load_default(size=10), ImageFont.load_default(size=14)
    tops, top = [], _GAP
    for _, _, found in rows:
        tops.append(top)
        top += 24 + _WORDS + _GAP + (_SIDE if _shows(found) else 0)
    page = Image.new("RGB", (_GAP + _COLUMNS * (_SIDE + _GAP), top), _PAPER)
    pen = ImageDraw.Draw(page)
    for top, (name, colour, found) in zip(tops, rows, strict=True):
        pen.text((_GAP, top), name, fill=colour, font=title)
        side = _SIDE if _shows(found) else 0
        for column, record in enumerate(found):
            left = _GAP + column * (_SIDE + _GAP)
            if side:
                _picture(page, pen, record.get("preview"), (left, top + 22), font)
            words = " - ".join(filter(None, (record.get("detail"), record.get("text"))))
            lines = textwrap.wrap(words or str(record["id"]), 23)
            lines = lines if len(lines) <= 5 else [*lines[:4], lines[4][:20] + "..."]
            pen.multiline_text(
                (left, top + 24 + side), "\n".join(lines), fill=_INK, font=font, spacing=2
            )
    with written_whole(path) as beside:
        page.save(beside, "PNG")


def _shows(records: Sequence[Record]) -> bool:
    return any("preview" in record for record in records)


def _picture(
    page: Image.Image, pen: Any, data: bytes | None, place: tuple[int, int], font: Any
) -> None:
    from PIL import Image

    left, top = place
    pen.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), fill=_NONE)
    if data is None:
        pen.text((left + 30, top + 58), "no picture", fill="#8a877f", font=font)
        return
    with Image.open(io.BytesIO(data)) as image:
        page.paste(image, (left + (_SIDE - image.width) // 2, top + (_SIDE - image.height) // 2))
