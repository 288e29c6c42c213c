"""The order of prediction records: by sample, then by question."""

from __future__ import annotations

#: A position in a data set, a name, or `<position>#<k>` for the k-th question on a sample.
Id = int | str


def position(id: Id) -> int:
    """Where in its data set the sample of a question stands; see `lit.answering.question_ids`."""
    return id if isinstance(id, int) else int(id.partition("#")[0])


def record_order(id: Id) -> tuple[bool, tuple[int, ...], str]:
    """The data set's order: by sample, then by question; other names behind them."""
    parts = str(id).split("#")
    numbers = all(part.isdecimal() for part in parts)
    return not numbers, tuple(map(int, parts)) if numbers else (), str(id)
