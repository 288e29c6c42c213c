"""The data card of a set that a pipeline built: one page for people, Croissant for machines.

    out/card.html       counts, sources, terms, what was dropped and why, language, places, samples
    out/card.json       the same numbers
    out/croissant.json  files with their hashes and fields, as MLCommons' Croissant 1.0 has it

All of it is read from manifest.json and from the set itself, through the data set's own reader.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.curate.croissant import croissant
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.base import overrides
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.contact_sheet import sheet
from rsvlm.data.inspection.statistics import annotations_only
from rsvlm.errors import UserError
from rsvlm.files import write_text
from rsvlm.report.page import whole_page

#: Samples of a split whose words are counted.
MOST = 50_000
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def write(out: str | Path, *, samples: int = 12) -> Path:
    """Writes the three files into the folder of a finished run.

    Args:
        out: the folder.
        samples: rows of the sheet.

    Returns:
        The page.

    Raises:
        UserError: no finished run is there, or its files cannot be read.
    """
    out = Path(out).expanduser()
    manifest = _manifest(out)
    datasets = _opened(out, manifest)
    facts = {
        "name": out.resolve().name,
        "pipeline": manifest["pipeline"],
        "records": manifest["records"],
        "stages": manifest["stages"],
        "sources": manifest["written"].get("sources", {}),
        "licences": manifest["written"].get("licences", {}),
        "read_with": manifest["written"].get("read_with", ""),
        "notes": manifest["written"].get("notes", []),
        "splits": {split: _language(found) for split, found in datasets.items()},
        "places": _places(datasets),
        "fingerprint": manifest.get("fingerprint", ""),
    }
    pictures = {}
    where = facts["places"].pop("points", [])
    if where:
        pictures["Places: the middles of the pictures, in degrees"] = _map(where)
    if any(len(found) for found in datasets.values()) and samples:
        page = sheet([d for d in datasets.values() if len(d)], samples, 192)
        pictures["Samples, spread evenly over the splits; not chosen"] = page
    write_text(out / "card.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    described = croissant(out, facts, manifest["written"].get("reader"))
    write_text(out / "croissant.json", json.dumps(described, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "card.html", _page(facts, pictures))
    return out / "card.html"


def _manifest(out: Path) -> dict[str, Any]:
    file = out / "manifest.json"
    try:
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if held["dry_run"]:
            raise UserError(f"{out} is a dry run, which built no set: run it without dry_run=true.")
        held["written"], held["stages"], held["records"], held["pipeline"]
    except FileNotFoundError as error:
        raise UserError(
            f"{file} is not there: a card is made of a folder that rsvlm curate has finished; the "
            "same command goes on with one that was stopped."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is no manifest of rsvlm curate ({error!r}).") from error
    return held


def _opened(out: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Split → the set, through its own reader."""
    reader = manifest["written"].get("reader")
    if not reader:
        return {}
    kind, options = DATASETS[reader["data"]], dict(reader.get("options") or {})
    make: Any = kind
    return {split: make(out, split, **options) for split in reader["splits"]}


def _samples(dataset: Any) -> Iterator[tuple[list[str], list[Any], dict[str, Any]]]:
    """Captions, turns and facts of samples, spread evenly where there are many; no pictures."""
    entries, asked = dataset.entries, overrides(dataset, "annotate")
    count = min(len(dataset), MOST)
    for k in range(count):
        index = k * len(dataset) // count
        entry = entries[index]
        turns: list[Any] = []
        if asked:
            try:
                turns = annotations_only(dataset, index).turns
            except BrokenImage:  # told by rsvlm inspect
                continue
        yield list(entry.texts), turns, entry.meta


def _language(dataset: Any) -> dict[str, Any]:
    """What is said in a split."""
    texts: Counter[str] = Counter()
    words: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    lengths: list[int] = []
    for captions, turns, _ in _samples(dataset):
        kinds.update(turn.kind or "no kind" for turn in turns if turn.role == "user")
        # Questions have few forms; what is learnt is in captions and answers.
        said = captions or [turn.text for turn in turns if turn.role == "assistant"]
        for text in said:
            found = _WORD.findall(text.lower())
            texts[text] += 1
            words.update(found)
            lengths.append(len(found))
    facts: dict[str, Any] = {"samples": len(dataset), "counted": min(len(dataset), MOST)}
    if kinds:
        facts["kinds"] = dict(kinds.most_common())
    if lengths:
        total = sum(texts.values())
        facts |= {
            "texts": total,
            "distinct_texts": len(texts),
            "most_repeated": [texts.most_common(1)[0][0][:200], texts.most_common(1)[0][1]],
            "words_per_text": {
                "min": min(lengths),
                "median": float(np.median(lengths)),
                "mean": round(float(np.mean(lengths)), 2),
                "max": max(lengths),
            },
            "distinct_words": len(words),
            "words_once": sum(n == 1 for n in words.values()),
            "frequent_words": dict(words.most_common(25)),
            "not_ascii": round(sum(n for t, n in texts.items() if not t.isascii()) / total, 4),
        }
    facts["problems"] = list(dataset.problems)
    return facts


def _places(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Where pictures lie, of those that say it."""
    points = [
        [float(meta["lonlat"][0]), float(meta["lonlat"][1])]
        for dataset in datasets.values()
        for _, _, meta in _samples(dataset)
        if meta.get("lonlat")
    ]
    if not points:
        return {"known": 0}
    at = np.array(points)
    west, south, east, north = (float(v) for v in (*at.min(0), *at.max(0)))
    return {"known": len(points), "bounds": [west, south, east, north], "points": points}


def _map(points: Sequence[Sequence[float]]) -> Image.Image:
    """A map of places; degrees of both axes are as long as they are on the ground."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    at = np.array(points)
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.margins(0.1)
    axes.set_aspect(1 / max(0.05, np.cos(np.radians(float(at[:, 1].mean())))), "datalim")
    axes.plot(at[:, 0], at[:, 1], ".", markersize=5, color="#1f6fb2", alpha=0.5, mew=0)
    axes.set_xlabel("longitude, degrees")
    axes.set_ylabel("latitude, degrees")
    axes.ticklabel_format(useOffset=False)
    axes.grid(color="#e3e7ec")
    axes.spines[:].set_visible(False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _page(facts: Mapping[str, Any], pictures: Mapping[str, Image.Image]) -> str:
    records = facts["records"]
    samples = sum(split["samples"] for split in facts["splits"].values())
    head = [
        ("pipeline", facts["pipeline"]),
        ("records read", f"{records['read']:,}"),
        ("came through", f"{records['kept']:,}"),
        ("samples", f"{samples:,}"),
        ("fingerprint", facts["fingerprint"]),
    ]
    body = f"<section><h1>{escape(facts['name'])}</h1>{_facts(head)}"
    if facts["read_with"]:
        body += f"<h3>To read it</h3><pre>rsvlm train ... {escape(facts['read_with'])}</pre>"
    body += "</section>"
    rows = [[name, f"{count:,}"] for name, count in facts["sources"].items()]
    terms = [[name, text] for name, text in facts["licences"].items()]
    body += _table("Sources", ("source", "records"), rows) + _table("Terms", ("of", "terms"), terms)
    rows = [
        [stage["label"], stage["name"], f"{stage['came']:,}", f"{stage['went']:,}", _lost(stage)]
        for stage in facts["stages"]
    ]
    body += _table("What was dropped", ("stage", "does", "came", "went", "dropped"), rows)
    body += _table("To be known", ("",), [[text] for text in facts["notes"]])
    body += _splits(facts["splits"])
    for text, picture in pictures.items():
        body += (
            f'<figure class="paper"><img alt="{escape(text)}" src="{_inline(picture)}">'
            f"<figcaption>{escape(text)}</figcaption></figure>"
        )
    return whole_page(facts["name"], body)


def _splits(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """What is said in each split, a row each; the first one's frequent words; what was amiss."""
    rows = []
    for split, found in splits.items():
        row = [split, f"{found['samples']:,}", *[""] * 5]
        if "texts" in found:
            length, repeated = found["words_per_text"], found["most_repeated"]
            row[2] = f"{found['texts']:,} ({found['distinct_texts']:,} distinct)"
            row[3] = f"{length['min']} to {length['max']}, mean {length['mean']:g}"
            row[4] = f"{found['distinct_words']:,} words, {found['words_once']:,} once"
            row[5] = f"“{repeated[0]}”, {repeated[1]:,} times"
        row[6] = ", ".join(f"{kind} {count:,}" for kind, count in found.get("kinds", {}).items())
        rows.append(row)
    head = ("split", "samples", "texts", "words a text", "vocabulary", "most repeated", "questions")
    out = _table("What is said", head, rows)
    counted = [f for f in splits.values() if f["counted"] < f["samples"]]
    if counted:
        out += f'<p class="quiet">Words of {MOST:,} samples a split, spread evenly.</p>'
    first = next((found for found in splits.values() if "texts" in found), None)
    if first:
        words = ", ".join(f"{word} {n:,}" for word, n in first["frequent_words"].items())
        foreign = f"{100 * first['not_ascii']:.1f} % of texts go beyond ASCII."
        out += f'<p class="quiet">Frequent words of the first split: {escape(words)}. {foreign}</p>'
    problems = [[split, text] for split, found in splits.items() for text in found["problems"]]
    return out + _table("Problems", ("split", "problem"), problems)


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows if v)
    return f'<dl class="facts">{items}</dl>'


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(word)}</th>" for word in head) if any(head) else ""
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<section><h2>{escape(title)}</h2><div class="scroll"><table><tr>{top}</tr>{lines}'
        "</table></div></section>"
    )


def _lost(stage: Mapping[str, Any]) -> str:
    reasons = sorted(stage["dropped"].items(), key=lambda pair: -pair[1])
    return "; ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in reasons)


def _inline(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
