"""The table of a robustness suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsvlm.data.loading.corruptions import CORRUPTIONS, SEVERITIES


def robustness_table(rows: Sequence[dict[str, Any]]) -> str:
    """Metrics by corruption and severity, as Markdown.

    Columns are the metrics, all pairs first and then the changed and the unchanged ones, as the
    evaluation names them; a value on corrupted pairs is followed by its distance from the clean
    one.

    Args:
        rows: of metrics.json.

    Returns:
        The table; empty without a corrupted data set.
    """
    held: dict[str, dict[str, float]] = {}
    for row in rows:
        held.setdefault(row["dataset"], {})[row["name"].split("/")[-1]] = row["value"]
    ends = {f"_{word}_{s}": (word, s) for word in CORRUPTIONS for s in SEVERITIES}
    found = {d: e for d in held for end, e in ends.items() if d.endswith(end)}
    if not found:
        return ""
    words = list(dict.fromkeys(word for values in held.values() for word in values))
    clean = next((held[d] for d in held if d not in found), {})
    lines = ["| corruption | severity | " + " | ".join(words) + " |"]
    lines.append("|---" * (len(words) + 2) + "|")
    for dataset, values in held.items():
        what, severity = found.get(dataset, ("none", 0))
        cells = []
        for word in words:
            cell = "-"
            if word in values:
                cell = f"{values[word]:.2f}"
                if severity and word in clean:
                    cell += f" ({values[word] - clean[word]:+.2f})"
            cells.append(cell)
        lines.append(f"| {what} | {severity or '-'} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
