"""The page of a bench: its table, intervals drawn, sheets of the worst answers; one file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rsvlm.metrics.metric_definitions import METRICS
from rsvlm.metrics.names import PROTOCOLS, parse
from rsvlm.report.html import inline
from rsvlm.report.page import whole_page

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """A picture of an evaluation.

    Attributes:
        title: whose it is.
        path: a PNG; a dark variant may lie beside it.
    """

    title: str
    path: Path


def bench_page(
    title: str,
    about: str,
    *,
    tables: Mapping[str, Sequence[Sequence[str]]],
    notes: Sequence[str],
    rows: Sequence[Row],
    shown: Mapping[str, Sequence[str]],
    sheets: Sequence[Sheet],
) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        about: what the suite is.
        tables: heading -> cells, a head first; the first stands at the top, the others folded.
        notes: sentences under the first table.
        rows: all values, as the table's JSON has them.
        shown: evaluation -> metric words whose intervals are drawn; none draws its first.
        sheets: pictures of answers.
    """
    (_, first), *others = tables.items()
    folded = "".join(
        f"<details><summary>{escape(name)}</summary>{_table(cells)}</details>"
        for name, cells in others
    )
    listed = "".join(f"<li>{escape(text)}</li>" for text in notes)
    pictures = "".join(
        f"<figure><img alt={_quoted(one.title)} src={_quoted(inline(one.path))}>"
        f"<figcaption>{escape(one.title)}</figcaption></figure>"
        for one in sheets
    )
    answers = (
        f"<section><h2>The worst answers, or what else a run draws</h2>{pictures}</section>"
        if pictures
        else ""
    )
    return whole_page(
        title,
        f"<style>{_STYLE}</style>"
        f"<section><h1>{escape(title)}</h1><p>{escape(about)}</p>{_table(first)}"
        f"<ul class='notes'>{listed}</ul>{folded}</section>"
        f"<section><h2>Values and their intervals</h2>{_intervals(rows, shown)}</section>"
        f"{answers}{_protocols(rows)}",
    )


def _table(cells: Sequence[Sequence[str]]) -> str:
    head, *body = cells
    numbers = {n for n, name in enumerate(head) if name in ("n", "chance", "seconds")}

    def line(row: Sequence[str], tag: str) -> str:
        kinds = ["n" if n in numbers else "" for n in range(len(row))]
        words = [
            f"<{tag} class='{kind}{' no' if _said(cell) else ''}'>{escape(cell)}</{tag}>"
            for kind, cell in zip(kinds, row, strict=True)
        ]
        return f"<tr>{''.join(words)}</tr>"

    lines = "".join(line(row, "td") for row in body)
    return (
        f'<div class="scroll"><table><thead>{line(head, "th")}</thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _said(cell: str) -> bool:
    return cell.startswith(("cannot: ", "no data: ", "failed: ", "not run"))


def _intervals(rows: Sequence[Row], shown: Mapping[str, Sequence[str]]) -> str:
    """A track for each model under each shown metric."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "value" in row and math.isfinite(row["value"]):
            groups.setdefault((row["entry"], row["name"]), []).append(row)
    out = []
    met: set[str] = set()
    order = list(shown)
    for (entry, name), held in sorted(
        groups.items(), key=lambda one: order.index(one[0][0]) if one[0][0] in order else -1
    ):
        words = shown.get(entry) or ()
        if (words and parse(name).metric not in words) or (not words and entry in met):
            continue
        met.add(entry)
        tracks = "".join(_track(row, _top(held)) for row in held)
        known = METRICS.get(parse(name).metric)
        better = " (lower is better)" if known and not known.higher else ""
        heading = escape(name.partition("/")[2]) + better
        out.append(f"<h3>{escape(entry)} <span>{heading}</span></h3><div>{tracks}</div>")
    return "".join(out) or "<p>No values.</p>"


def _top(rows: Sequence[Row]) -> float:
    """The end of the axis: 100 per cent, or a round number above all that is drawn."""
    if all(row.get("unit") == "%" for row in rows):
        return 100.0
    most = max(max(row["value"], row.get("high") or 0, row.get("chance") or 0) for row in rows)
    scale = 10 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return math.ceil(most / scale) * scale or 1.0


def _track(row: Row, top: float) -> str:
    def at(value: float) -> float:
        return min(max(value / top, 0.0), 1.0) * 100

    low, high = (float(row.get(word, math.nan)) for word in ("low", "high"))
    known = math.isfinite(low) and math.isfinite(high)
    span = ""
    text = f"{row['value']:.2f}"
    if known:
        span = f'<u style="left:{at(low):.2f}%;width:{max(at(high) - at(low), 0.3):.2f}%"></u>'
        text += f" [{low:.2f}, {high:.2f}]"
    chance = row.get("chance")
    tick = (
        f'<s style="left:{at(float(chance)):.2f}%" title="chance"></s>'
        if chance is not None
        else ""
    )
    seed = f", seed {row['seed']}" if row.get("seed") else ""
    return (
        f'<div class="track"><span>{escape(row["model"])}{seed}</span><i>{span}{tick}'
        f'<b style="left:{at(row["value"]):.2f}%"></b></i><em>{text}</em></div>'
    )


def _protocols(rows: Sequence[Row]) -> str:
    used: dict[str, str] = {}
    for row in rows:
        known = METRICS.get(str(row.get("metric")))
        text = PROTOCOLS.get(known.task, {}).get(str(row.get("protocol"))) if known else None
        if known and text:
            used[f"{row['protocol']} ({known.task})"] = text
    if not used:
        return ""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in used.items())
    return f'<section><h2>Protocols</h2><dl class="protocols">{items}</dl></section>'


def _quoted(text: str) -> str:
    return f'"{escape(text, quote=True)}"'


_STYLE = """
main{max-width:1180px}.no{color:var(--quiet);font-size:12.5px}
.notes{color:var(--quiet);font-size:13.5px}.notes li{margin:4px 0}
.track{display:grid;grid-template-columns:150px 1fr 190px;gap:14px;align-items:center;
font-size:13px;margin:4px 0}
.track span{overflow-wrap:anywhere}
.track i{position:relative;height:14px;border-bottom:1px solid var(--line)}
.track u{position:absolute;top:4px;height:6px;background:var(--first);opacity:.35;
border-radius:3px}
.track b{position:absolute;top:1px;width:12px;height:12px;margin-left:-6px;border-radius:50%;
background:var(--first)}
.track s{position:absolute;top:0;width:2px;height:14px;background:var(--tick)}
.track em{font-style:normal;font-variant-numeric:tabular-nums}
"""
