"""What became of each evaluation of a bench: a small file beside its run, written when it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.files import write_text

FILE = "bench_entry.json"
#: Status -> how a table says it; `{}` is the reason.
STATUS = {
    "done": "",
    "unable": "cannot: {}",
    "absent": "no data: {}",
    "failed": "failed: {}",
    "waiting": "not run yet",
}


@dataclass
class State:
    """How an evaluation ended.

    Attributes:
        status: a word of `STATUS`.
        why: the reason, where it did not end well.
        seconds: of asking and measuring, without building the model; all goes together.
        tokens_in: of questions, as an endpoint counts them; None where nobody does.
        tokens_out: of answers.
        model: what was built: its class and where its weights are from.
        notes: what a reader must know of the answers, see `evaluation.records.endpoint_notes`.
    """

    status: str = "waiting"
    why: str = ""
    seconds: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        """The state in a cell of the table; empty where values stand there."""
        return STATUS[self.status].format(self.why)

    def write(self, folder: Path) -> None:
        """Keeps it, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, json.dumps(asdict(self), indent=1))


def state_of(folder: Path) -> State:
    """The state of an evaluation's folder; one that is not there waits."""
    try:
        held = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return State(**held)
    except (OSError, ValueError, TypeError):
        return State()


def results_of(folder: Path) -> list[Mapping[str, Any]]:
    """Rows of a run's metrics.json; none without one."""
    try:
        held = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return list(held["results"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
