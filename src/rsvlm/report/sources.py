"""What an evaluation's answers rest on: its questions with their passages, and each record's page.

The passages are those that the run kept in predictions.jsonl; pictures, fields and texts of their
records come from the base that it asked, as far as that can be opened where the report is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.data.prediction_files import WHOLE, read_predictions
from rsvlm.errors import UserError
from rsvlm.report.knowledge_page import record_body
from rsvlm.retrieval.knowledge_base import KnowledgeBase

#: Questions and records in the page at most, and the longer side of their pictures in pixels.
QUESTIONS, RECORDS, SIDE = 100, 60, 320


@dataclass
class Used:
    """A record, and the questions that were asked with passages of it.

    Attributes:
        id: the record's.
        asked: (question's record, whether the picture is this record's own, whether it is cited).
        texts: the passages that were given of it, each once.
    """

    id: str
    asked: list[tuple[Any, bool, bool]] = field(default_factory=list)
    texts: dict[str, None] = field(default_factory=dict)


def sources(folder: Path, config: str, number: int = 0) -> str:
    """A section of HTML; empty of a run that asked no knowledge base.

    Args:
        folder: the run's.
        config: text of its config.yaml.
        number: of the run in the page, for links.
    """
    import yaml

    file = folder / WHOLE
    if not file.is_file() or "knowledge" not in config:
        return ""
    try:
        told = (yaml.safe_load(config) or {}).get("knowledge")
        held = read_predictions([file])
    except (yaml.YAMLError, UserError) as error:
        return f'<p class="quiet">{escape(str(error))}</p>'
    rows = [one for one in held.records if one.knowledge] if held else []
    if not rows or not isinstance(told, Mapping):
        return ""
    used: dict[str, Used] = {}
    for one in rows:
        own = set(one.knowledge.get("own") or [])
        by_record: dict[str, bool] = {}
        for source in one.knowledge["sources"]:
            id = str(source["record"])
            by_record[id] = by_record.get(id, False) or bool(source.get("cited"))
            used.setdefault(id, Used(id)).texts[str(source["text"])] = None
        for id, cited in by_record.items():
            used[id].asked.append((one, id in own, cited))
    order = sorted(used.values(), key=lambda each: (-len(each.asked), each.id))
    anchors = {each.id: f"record-{number}-{n}" for n, each in enumerate(order[:RECORDS])}
    return _questions(rows, anchors) + _records(order, anchors, told, len(used))


def _questions(rows: Sequence[Any], anchors: Mapping[str, str]) -> str:
    shown = _spread(rows, QUESTIONS)
    lines = []
    for one in shown:
        own = set(one.knowledge.get("own") or [])
        passages = []
        for id, group in itertools.groupby(
            one.knowledge["sources"], key=lambda source: str(source["record"])
        ):
            held = list(group)
            name = escape(id)
            name = f'<a href="#{anchors[id]}">{name}</a>' if id in anchors else name
            mark = ' <span class="right" title="the record of this picture">✓</span>'
            texts = "; ".join(escape(_short(str(source["text"]))) for source in held)
            cited = " (cited)" if any(source.get("cited") for source in held) else ""
            passages.append(f"{name}{mark if id in own else ''}{cited}: {texts}")
        told = "<br>".join(passages) or '<span class="quiet">nothing was found</span>'
        truth = one.answer if one.answer is not None else "; ".join(one.references[:1])
        lines.append(
            f"<tr><td>{escape(_short(one.question, 160))}</td>"
            f"<td>{escape(_short(one.prediction, 160))}</td>"
            f"<td>{escape(_short(truth or '', 160))}</td><td>{told}</td></tr>"
        )
    head = "<tr><th>question</th><th>answer</th><th>true</th><th>passages, best first</th></tr>"
    note = f"{len(rows)} questions" + (
        f", {len(shown)} of them here, evenly spread" if len(shown) < len(rows) else ""
    )
    return (
        "<details><summary>Questions with the passages that they were asked with"
        f"<span>{note}; ✓ is the record of the question's own picture</span></summary>"
        f'<div class="scroll"><table class="cut">{head}{"".join(lines)}</table></div></details>'
    )


def _records(
    order: Sequence[Used], anchors: Mapping[str, str], told: Mapping[str, Any], count: int
) -> str:
    base, why = _opened(told)
    places = {} if base is None else {r.id: n for n, r in enumerate(base.version.records)}
    wanted = np.array([places[id] for id in anchors if id in places], dtype=np.int64)
    texts: dict[int, list[int]] = {int(place): [] for place in wanted}
    if base is not None:
        for row in np.flatnonzero(np.isin(base.version.record_of, wanted)):
            texts[int(base.version.record_of[row])].append(int(row))
    parts = []
    for each in order[: len(anchors)]:
        body, name = "", each.id
        if base is not None and each.id in places:
            place = places[each.id]
            record = base.version.records[place]
            name = record.name or record.id
            chunks = [base.version.chunk(row) for row in texts[place]]
            body = record_body(record, chunks, base.facts.get("root"), side=SIDE)
        else:
            gone = "The base holds no such record any more; of it the questions got:"
            body = f'<p class="quiet">{gone if base is not None else "What the questions got:"}</p>'
            body += "".join(f"<p>{escape(text)}</p>" for text in each.texts)
        own = sum(mine for _, mine, _ in each.asked)
        cited = sum(said for _, _, said in each.asked)
        note = f"given to {_times(len(each.asked))}, {own} on its own picture, cited in {cited}"
        parts.append(
            f'<details class="record"><summary>{escape(name)}<span>{note}</span></summary>'
            f'<div id="{anchors[each.id]}">{body}{_asked(each)}</div></details>'
        )
    path = str(told.get("path", ""))
    more = (
        f" {count - len(anchors)} more have no page here: rsvlm knowledge page {path} --out pages."
        if count > len(anchors)
        else ""
    )
    note = escape(f"From {path}, most used first.{more}" if base is not None else why)
    return (
        f"<h3>Records that answers rest on <span>{count}</span></h3>"
        f'<p class="quiet">{note}</p>{"".join(parts)}'
    )


def _asked(each: Used) -> str:
    lines = "".join(
        f"<tr><td>{escape(_short(one.question, 160))}</td>"
        f"<td>{escape(_short(one.prediction, 160))}</td>"
        f"<td>{escape(_short(one.answer or '', 160))}</td>"
        f"<td>{'its own picture' if own else 'another place'}</td></tr>"
        for one, own, _ in each.asked[:20]
    )
    head = "<tr><th>question</th><th>answer</th><th>true</th><th>asked on</th></tr>"
    title = f"<h3>Questions that got it <span>{len(each.asked)}</span></h3>"
    return f'{title}<div class="scroll"><table class="cut">{head}{lines}</table></div>'


def _opened(told: Mapping[str, Any]) -> tuple[KnowledgeBase | None, str]:
    """The base as the run asked it, or why there is none."""
    path = told.get("path")
    kept = "What stands here is what the run kept of them."
    if not path or not Path(str(path)).expanduser().is_dir():
        return None, f"The base {path} is no folder on this machine. {kept}"
    try:
        return KnowledgeBase(Path(str(path)).expanduser(), version=told.get("version")), ""
    except (UserError, OSError) as error:
        return None, f"{error} {kept}"


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    if len(rows) <= most:
        return list(rows)
    return [rows[i * len(rows) // most] for i in range(most)]


def _short(text: str, most: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _times(count: int) -> str:
    return "1 question" if count == 1 else f"{count} questions"
