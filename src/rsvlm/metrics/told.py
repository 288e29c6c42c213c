"""What was asked, told and true of each item, over all ranks: predictions.jsonl and its sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rsvlm.errors import UserError
from rsvlm.metrics.gather import Id, RecordMetric


class Told(RecordMetric):
    """Keeps one record for each item and gives all of them back after `compute`.

    Args:
        empty: what to tell where nothing was given.
        kwargs: of `torchmetrics.Metric`.
    """

    def __init__(self, empty: str = "nothing was asked.", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.empty = empty
        self.rows: list[dict[str, Any]] = []

    def update(self, ids: Sequence[Id], rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a batch.

        Args:
            ids: b positions or names.
            rows: b records of what JSON can hold.
        """
        named = self.name_items(len(rows), ids)
        self.keep([id, dict(row)] for id, row in zip(named, rows, strict=True))

    def compute(self) -> Tensor:
        """The number of items; afterwards `rows` holds their records with their ids.

        Raises:
            UserError: nothing was given.
        """
        if self.held("records") is None:
            raise UserError(self.empty)
        items = sorted(self.items(), key=lambda item: _place(item[0]))
        self.rows = [{"id": id, **row} for id, row in items]
        return torch.tensor(len(self.rows))


def position(id: Id) -> int:
    """Where in its data set the sample of a question stands; see `lit.answering.question_ids`."""
    return id if isinstance(id, int) else int(id.partition("#")[0])


def _place(id: Id) -> tuple[bool, tuple[int, ...], str]:
    """The data set's order: by sample, then by question; other names behind them."""
    parts = str(id).split("#")
    numbers = all(part.isdecimal() for part in parts)
    return not numbers, tuple(map(int, parts)) if numbers else (), str(id)
