"""Rows that benchmarks leave for one table: `gpu.sh` prints them at its end.

python benchmarks/rows.py runs/gpu/rows.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

#: Key of a row → heading of its column.
COLUMNS = {
    "part": "part",
    "side": "side",
    "seconds": "step, s",
    "rate": "a second",
    "share": "share of peak, 4·P·T",
    "gib": "peak GiB",
    "times": "times the other side",
    "aim": "aim",
    "note": "",
}
#: Dense bfloat16 FLOP/s, from NVIDIA's data sheets.
PEAKS = {"H200": 989.4e12, "H100": 989.4e12, "A100": 312e12}


def record(file: Path | None, **row: str | float | None) -> None:
    """Appends a row, for whoever reads the file while the next part runs.

    Args:
        file: JSON Lines; None writes nothing.
        row: values by the keys of `COLUMNS`.
    """
    assert row.keys() <= COLUMNS.keys(), row
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def share_of_peak(rate: float, device: str) -> float | None:
    """The share of a GPU's peak that so many FLOP/s are; None where its peak is not known."""
    if not device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate / peak for word, peak in PEAKS.items() if word in name), None)


def memory(device: str) -> float | None:
    """GiB that tensors took at most since the last call; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    most = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return most


def table(lines: list[str]) -> str:
    """Markdown of all rows; columns that no row fills are left out."""
    rows = [json.loads(line) for line in lines if line.strip()]
    keys = [key for key in COLUMNS if any(row.get(key) not in (None, "") for row in rows)]
    shown = [
        "| " + " | ".join(COLUMNS[key] for key in keys) + " |",
        "|" + "".join("---|" if key in ("part", "side", "note") else "---:|" for key in keys),
    ]
    shown += ["| " + " | ".join(_cell(key, row.get(key)) for key in keys) + " |" for row in rows]
    return "\n".join(shown)


def _cell(key: str, value: str | float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value.replace("|", "/")
    return f"{value:.0%}" if key == "share" else f"{value:.4g}"


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
