"""A page of a knowledge base's record: its picture, its fields, and the texts that are searched."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.files import write_text
from rsvlm.report.page import whole_page

#: Longer side of the picture, pixels.
_SIDE = 640


def record_page(
    record: Any, chunks: Sequence[Any], root: str | Path | None, out: Path, *, index: str = ""
) -> Path:
    """Writes one self-contained page: no other file, script or address is needed.

    Args:
        record: a `retrieval.knowledge_records.KnowledgeRecord`.
        chunks: its texts as the base holds them, with `type`, `text` and `span`.
        root: folder of the base's pictures.
        out: the page.
        index: file name of a page that leads to all records.
    """
    title = record.name or record.id
    back = f'<p><a href="{escape(index, quote=True)}">All records</a></p>' if index else ""
    body = f"<section>{back}<h1>{escape(title)}</h1>{record_body(record, chunks, root)}</section>"
    write_text(out, whole_page(title, body))
    return out


def record_body(
    record: Any, chunks: Sequence[Any], root: str | Path | None, *, side: int = _SIDE
) -> str:
    """A record as HTML: picture, fields, and the texts that are searched.

    Args:
        record: see `record_page`.
        chunks: see `record_page`.
        root: see `record_page`.
        side: longer side of its picture at most, pixels.
    """
    facts = {
        "id": record.id,
        "category": record.category,
        "location": record.location,
        "date": record.date,
        "split": record.split,
        "picture": record.image,
    }
    parts = [
        _picture(record.image, root, side),
        _list(facts),
        _table("World knowledge", record.world),
        _table("Measured", record.expert),
        *(_table(f"Measured, {month}", held) for month, held in record.monthly.items()),
        _text("What the picture shows", record.description),
        _chunks(chunks),
    ]
    return "".join(parts)


def index_page(records: Sequence[Any], names: Sequence[str], out: Path) -> Path:
    """Writes a table of records with links to their pages.

    Args:
        records: see `record_page`.
        names: the pages' file names.
        out: the page.
    """
    # Columns that no record fills are left out.
    words = [
        w for w in ("category", "location", "date", "split") if any(getattr(r, w) for r in records)
    ]
    rows = []
    for one, name in zip(records, names, strict=True):
        link = f'<a href="{escape(name, quote=True)}">{escape(one.name or one.id)}</a>'
        cells = "".join(f"<td>{escape(str(getattr(one, word)))}</td>" for word in words)
        rows.append(f"<tr><td>{link}</td>{cells}</tr>")
    head = "".join(f"<th>{word}</th>" for word in ("record", *words))
    table = f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"
    write_text(
        out, whole_page("records", f"<section><h1>{len(records)} records</h1>{table}</section>")
    )
    return out


def _picture(image: str, root: str | Path | None, side: int) -> str:
    """The picture, or why it is not there."""
    from rsvlm.data.images import read_any
    from rsvlm.data.transforms import to_pil

    if not image:
        return '<p class="quiet">a record without a picture</p>'
    try:
        held = to_pil(read_any(Path(root or ".", image))[0]).convert("RGB")
    except (UserError, OSError) as error:
        return f'<p class="quiet">its picture cannot be read: {escape(str(error))}</p>'
    held.thumbnail((side, side))
    file = io.BytesIO()
    held.save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    name = escape(image, quote=True)
    return f'<figure class="seen"><img alt="{name}" src="data:image/jpeg;base64,{data}"></figure>'


def _list(facts: Mapping[str, str]) -> str:
    rows = (
        f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items() if v
    )
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _table(title: str, held: Mapping[str, Any]) -> str:
    if not held:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(key).replace('_', ' '))}</td><td>{_value(value)}</td></tr>"
        for key, value in held.items()
    )
    return f"<h3>{escape(title)}</h3><div class=scroll><table>{rows}</table></div>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{escape(str(k))}: {_value(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "<br>".join(_value(one) for one in value)
    return escape("" if value is None else str(value))


def _text(title: str, text: str) -> str:
    return f"<h3>{escape(title)}</h3><p>{escape(text)}</p>" if text.strip() else ""


def _chunks(chunks: Sequence[Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.type)}</td><td class=n>{one.span[0]}-{one.span[1]}</td>"
        f"<td>{escape(one.text)}</td></tr>"
        for one in chunks
    )
    head = "<tr><th>type</th><th>characters</th><th>text</th></tr>"
    title = f"<h3>Texts that are searched <span>{len(chunks)}</span></h3>"
    return f"{title}<div class=scroll><table>{head}{rows}</table></div>"
