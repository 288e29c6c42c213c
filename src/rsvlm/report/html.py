"""One self-contained HTML page from the folders of runs."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.files import write_text
from rsvlm.metrics.metric_definitions import METRICS
from rsvlm.metrics.names import PROTOCOLS, MetricName, parse
from rsvlm.report.curves import HEADLINES, loss_curves
from rsvlm.report.page import whole_page
from rsvlm.report.sources import sources

CAPTIONS = {
    "loss": "Training: values of the loop; the faint line is each step, the strong one its mean.",
    "retrieval_texts": "Retrieval, texts to images: evenly spread queries, not chosen ones. "
    "A green frame and a tick mark what counts as right under the protocol.",
    "retrieval_images": "Retrieval, images to texts: evenly spread queries, not chosen ones.",
    "confusion": "Confusion: of each true class (row), how many per cent were predicted as what.",
    "predictions": "Predictions: evenly spread samples with their two most probable classes.",
}


@dataclass
class Run:
    """What a run's folder holds.

    Attributes:
        folder: where it is.
        name: the configuration's name, or the folder's.
        config: text of config.yaml.
        facts: metrics.json without its results.
        results: rows of metrics.json.
        pictures: stem -> (light, dark or None).
    """

    folder: Path
    name: str
    config: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, tuple[Path, Path | None]] = field(default_factory=dict)


def read_run(folder: Path) -> Run:
    """Reads a run's folder and draws its curves, if there is a log.

    Raises:
        UserError: neither results, nor a log, nor a configuration are there.
    """
    run = Run(folder, folder.name)
    config, results, log = (folder / n for n in ("config.yaml", "metrics.json", "metrics.csv"))
    if not any(file.is_file() for file in (config, results, log)):
        raise UserError(
            f"{folder} holds no config.yaml, metrics.json or metrics.csv: it is no run's folder."
        )
    if config.is_file():
        run.config = config.read_text(encoding="utf-8")
        run.name = _config_name(run.config) or run.name
    if results.is_file():
        try:
            held = json.loads(results.read_text(encoding="utf-8"))
            run.results = list(held.pop("results"))
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"{results} is not a run's metrics.json ({error}): evaluate the run again."
            ) from error
        run.facts = held
    if log.is_file():
        loss_curves(log, folder / "pictures" / "loss.png")
    for light in sorted((folder / "pictures").rglob("*.png")):
        if light.name.endswith(".dark.png"):
            continue
        dark = light.with_suffix(".dark.png")
        name = light.relative_to(folder / "pictures").with_suffix("").as_posix()
        run.pictures[name] = (light, dark if dark.is_file() else None)
    return run


def write_report(*runs: str | Path, out: str | Path | None = None) -> Path:
    """Writes one page for one or several runs: no other file, script or address is needed.

    Args:
        runs: folders with config.yaml, metrics.json, metrics.csv, pictures/*.png, as far as they
            are there.
        out: the page; by default report.html in the first folder.

    Returns:
        Where the page is.

    Raises:
        UserError: a folder that is no run's.
    """
    if not runs:
        raise UserError("a report needs the folder of at least one run.")
    held = [read_run(Path(run)) for run in runs]
    names = [run.name for run in held]
    for run in held:
        if names.count(run.name) > 1:  # jobs of a sweep, seeds of a recipe
            run.name = f"{run.name} {_apart(run.folder)}"
    out = Path(out) if out is not None else held[0].folder / "report.html"
    title = held[0].name if len(held) == 1 else ", ".join(dict.fromkeys(r.name for r in held))
    body = "".join(_section(run, number) for number, run in enumerate(held))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, whole_page(title, f"{body}{_protocols(held)}"))
    return out


def _apart(folder: Path) -> str:
    """What tells a run from others of its name: the words of its job, else its folder's name."""
    path = folder / ".hydra" / "overrides.yaml"
    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        words = []
    given = [word.removeprefix("- ").strip() for word in words if word.startswith("- ")]
    own = [word for word in given if not word.startswith(("experiment=", "hydra", "trainer"))]
    return f"{folder.name} ({' '.join(own)})" if own else folder.name


def _section(run: Run, number: int) -> str:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in run.results:
        known = METRICS.get(_word(row))
        parts = (row.get(name, "") for name in ("dataset", "split", "protocol"))
        groups.setdefault((known.task if known else "", *map(str, parts)), []).append(row)
    tables = "".join(_group(*key, rows=rows) for key, rows in groups.items())
    if not tables:
        tables = '<p class="quiet">No results: the run has not been evaluated.</p>'
    order = {name: place for place, name in enumerate(CAPTIONS)}
    names = sorted(run.pictures, key=lambda name: (order.get(name, len(order)), name))
    pictures = "".join(_picture(name, *run.pictures[name]) for name in names)
    heading = "h1" if number == 0 else "h2"
    config = (
        f"<details><summary>Configuration</summary><pre>{escape(run.config)}</pre></details>"
        if run.config
        else ""
    )
    return (
        f"<section><header><{heading}>{escape(run.name)}</{heading}>{_facts(run)}</header>"
        f"{tables}{pictures}{sources(run.folder, run.config, number)}{config}</section>"
    )


def _facts(run: Run) -> str:
    commit = run.facts.get("git_commit")
    skipped = run.facts.get("skipped") or []
    rows = {
        "Run": str(run.facts.get("run") or run.folder),
        "Checkpoint": str(run.facts.get("checkpoint") or "none"),
        "rsvlm": str(run.facts.get("version") or "unknown"),
        "Git commit": _commit(commit),
        "Skipped samples": ", ".join(map(str, skipped)) if skipped else "none",
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in rows.items()
    )
    return f'<dl class="facts">{cells}</dl>'


def _commit(commit: Any) -> str:
    if not commit:
        return "not from a checkout"
    text = str(commit)
    return f"{text.rstrip('+')[:12]}{' with changes on top' if text.endswith('+') else ''}"


def _group(
    task: str, dataset: str, split: str, protocol: str, *, rows: Sequence[dict[str, Any]]
) -> str:
    words = [_word(row) for row in rows]
    counts = {row.get("count") for row in rows if row.get("count") is not None}
    count = f", {counts.pop():,} samples" if len(counts) == 1 else ""
    cards = "".join(
        _card(word, row) for word, row in zip(words, rows, strict=True) if word in HEADLINES
    )
    lines = "".join(_line(word, row) for word, row in zip(words, rows, strict=True))
    return (
        f"<h3>{escape(dataset)} <span>{escape(task)}, {escape(split)} split, protocol "
        f"<code>{escape(protocol)}</code>{count}</span></h3>"
        + (f'<div class="cards">{cards}</div>' if cards else "")
        + '<div class="scroll"><table><thead><tr><th>metric</th><th class="n">value</th>'
        '<th class="bar"></th><th class="n">chance</th><th class="why">meaning</th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _card(word: str, row: dict[str, Any]) -> str:
    chance = row.get("chance")
    below = ""
    if chance is not None:
        below = f"chance {_number(chance)}"
        if chance > 0 and math.isfinite(row["value"]):
            below += f" · {row['value'] / chance:.1f} × chance"
    return (
        f'<div class="card"><div class="what">{escape(word.replace("_", " "))}</div>'
        f'<div class="big">{_number(row["value"])}<small> {escape(row.get("unit", ""))}</small>'
        f'</div><div class="quiet">{below}</div></div>'
    )


def _line(word: str, row: dict[str, Any]) -> str:
    known = METRICS.get(word)
    unit = row.get("unit", known.unit if known else "")
    top = 100.0 if unit == "%" else 1.0
    value, chance = float(row["value"]), row.get("chance")
    share = min(max(value / top, 0), 1) * 100 if math.isfinite(value) else 0
    tick = ""
    if chance is not None:
        at = min(max(chance / top, 0), 1) * 100
        tick = f'<b style="left:{at:.2f}%" title="chance"></b>'
    meaning = escape(known.text) if known else ""
    if known and not known.higher:
        meaning += " (lower is better)"
    return (
        f"<tr><td><code>{escape(word)}</code></td>"
        f'<td class="n">{_number(value)} {escape(unit)}{_interval(row)}</td>'
        f'<td class="bar"><i><u style="width:{share:.2f}%"></u>{tick}</i></td>'
        f'<td class="n quiet">{"" if chance is None else _number(chance)}</td>'
        f'<td class="quiet why">{meaning}</td></tr>'
    )


def _interval(row: dict[str, Any]) -> str:
    if "low" not in row:
        return ""
    title = f"{row['level']} % of {row['bootstrap']} bootstrap samples, seed {row['seed']}"
    bounds = f"[{_number(row['low'])}, {_number(row['high'])}]"
    return f'<br><small class="quiet" title={_quoted(title)}>{bounds}</small>'


def _picture(name: str, light: Path, dark: Path | None) -> str:
    part, _, kind = name.rpartition("/")
    text = CAPTIONS.get(kind, kind.replace("_", " "))
    text = f"{part}: {text}" if part else text
    source = (
        f'<source media="(prefers-color-scheme: dark)" srcset="{inline(dark)}">' if dark else ""
    )
    kind = "" if dark else ' class="paper"'
    return (
        f"<figure{kind}><picture>{source}<img alt={_quoted(text)} src={_quoted(inline(light))}>"
        f"</picture><figcaption>{escape(text)}</figcaption></figure>"
    )


def inline(path: Path) -> str:
    """The picture in the page itself; sheets of photographs as WebP, a tenth of their PNG."""
    from PIL import Image, features

    content, kind = path.read_bytes(), "png"
    if len(content) > 250_000 and features.check("webp"):
        held = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").save(held, "WEBP", quality=88)
        content, kind = held.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _protocols(runs: Sequence[Run]) -> str:
    used: dict[tuple[str, str], str] = {}
    for run in runs:
        for row in run.results:
            known = METRICS.get(_word(row))
            protocol = str(row.get("protocol", ""))
            if known and protocol in PROTOCOLS[known.task]:
                used[known.task, protocol] = PROTOCOLS[known.task][protocol]
    if not used:
        return ""
    items = "".join(
        f"<dt><code>{escape(protocol)}</code> ({escape(task)})</dt><dd>{escape(text)}</dd>"
        for (task, protocol), text in used.items()
    )
    return (
        f'<section><h2>Protocols</h2><dl class="protocols">{items}</dl>'
        '<p class="quiet">Chance is what a random order, or a uniform guess, is expected to score '
        "on the same samples. Numbers of different protocols are not to be compared."
        + _about_intervals(runs)
        + "</p></section>"
    )


def _about_intervals(runs: Sequence[Run]) -> str:
    found = [row for run in runs for row in run.results if "low" in row]
    if not found:
        return ""
    return (
        f" In brackets below a value: its {found[0]['level']} % interval, from a bootstrap over "
        "images; document frequencies and galleries are those of the whole set."
    )


def _word(row: dict[str, Any]) -> str:
    """The metric word of a row; a name that is not ours is shown as it is."""
    name = str(row.get("name", ""))
    try:
        parsed: MetricName = parse(name)
    except ValueError:
        return name.rsplit("/", 1)[-1]
    return parsed.metric


def _number(value: float) -> str:
    """Two decimals, and more for small values."""
    value = float(value)
    if not math.isfinite(value):
        return "not a number"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def _config_name(text: str) -> str | None:
    import yaml

    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return str(held["name"]) if isinstance(held, dict) and held.get("name") else None


def _quoted(text: str) -> str:
    return f'"{escape(text, quote=True)}"'
