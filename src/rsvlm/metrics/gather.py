"""Metrics that keep what they were given and put it together over all ranks at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from rsvlm.data.prediction_records import Id, record_order
from rsvlm.errors import UserError

_WORD = 8  # bytes of the integers that records travel in


class GatherMetric(Metric):
    """States are lists of tensors with a common first dimension.

    torchmetrics gathers list states tensor by tensor and invents a shape for a rank without any,
    so that ranks with different numbers of batches, or with none, wait for each other for good.
    Here each rank brings one tensor per state.

    Args:
        states: name -> whether it holds features ([n, D] float32) or integers ([n] int64).
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, states: dict[str, bool], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._features = dict(states)
        for name in states:
            self.add_state(name, default=[], dist_reduce_fx=_join)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers over ranks; see the class."""
        meeting = dist.is_available() and dist.is_initialized()
        for name, features in self._features.items():
            held = getattr(self, name)
            if meeting and isinstance(held, list):
                empty = (
                    torch.empty((0, 0), dtype=torch.float32, device=self.device)
                    if features
                    else torch.empty((0,), dtype=torch.int64, device=self.device)
                )
                setattr(self, name, [_join(held or [empty])])
        super().sync(*args, **kwargs)

    def parts(self, name: str) -> list[Tensor]:
        """A state as the tensors that it came in, without those that hold nothing."""
        state = getattr(self, name)
        return [part for part in ([state] if isinstance(state, Tensor) else state) if part.numel()]

    def held(self, name: str) -> Tensor | None:
        """A state as one tensor; None where nothing was given."""
        state = getattr(self, name)
        if isinstance(state, list):
            if not state:
                return None
            state = _join(state)
        return state if state.numel() else None


class RecordMetric(GatherMetric):
    """Keeps one line of JSON for each item, `[id, ...]`, and counts each id once.

    Samplers pad the last batch with copies, and ranks see different numbers of items: what is
    counted is the set of items, whatever the batches and the number of processes.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    records: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__({"records": False}, **kwargs)
        self._seen = 0
        self._facts: dict[str, Any] | None = None

    def name_items(self, count: int, ids: Sequence[Id] | None, what: str = "item") -> Sequence[Id]:
        """The ids of a batch; None counts on, which several processes cannot.

        Raises:
            UserError: no ids under several processes, another number of them, or an id that is
                neither a string nor an integer.
        """
        if ids is None:
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                raise UserError(f"several processes count {what}s from 0 each: give ids to update.")
            ids = range(self._seen, self._seen + count)
        if len(ids) != count:
            raise UserError(f"{len(ids)} ids for {count} {what}s: give one of each.")
        for id in ids:
            if isinstance(id, bool) or not isinstance(id, int | str):
                raise UserError(f"{what} id {id!r} must be a string or an integer.")
        self._seen += count
        return ids

    def keep(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds items, each `[id, ...]` of what JSON can hold."""
        lines = [json.dumps(list(row)) for row in rows]
        if lines:
            self.records.append(pack(lines).to(self.device))

    def items(self) -> list[list[Any]]:
        """Each item once, by ascending id: integers first, then names.

        Raises:
            UserError: nothing was given, or one id with two contents.
        """
        known: dict[Id, list[Any]] = {}
        for row in unpack(self.held("records")):
            if known.setdefault(row[0], row) != row:
                raise UserError(
                    f"item {row[0]!r} was given twice, once as {known[row[0]][1:]!r:.80} and once "
                    f"as {row[1:]!r:.80}: give each id once."
                )
        if not known:
            raise UserError("nothing was given: a metric of no items has no value.")
        return sorted(known.values(), key=lambda row: (isinstance(row[0], str), row[0]))

    def reset(self) -> None:
        """Empties the metric."""
        super().reset()
        self._seen = 0

    def note(self, truths: Iterable[Any], **more: Any) -> None:
        """Remembers what a result must carry to be compared."""
        listed = list(truths)
        facts = {"count": len(listed), "references": digest(listed), "settings": {}}
        self._facts = facts | more

    def facts(self, word: str | None = None) -> dict[str, Any]:
        """What the last `compute`'s results rest on: count, truths' digest, settings.

        Args:
            word: a metric word whose unit is wanted too.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._facts is None:
            raise RuntimeError("facts are there after compute; call that first.")
        return dict(self._facts) | with_unit(word)


class KeptRecords(RecordMetric):
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
        items = sorted(self.items(), key=lambda item: record_order(item[0]))
        self.rows = [{"id": id, **row} for id, row in items]
        return torch.tensor(len(self.rows))


def with_unit(word: str | None) -> dict[str, Any]:
    """The unit of a metric word, as `facts` gives it; nothing for None."""
    from rsvlm.metrics.names import METRICS

    return {} if word is None else {"unit": METRICS[word].unit}


def text_of(answer: Any, what: str) -> str:
    """The answer, if it is a string.

    Raises:
        UserError: it is something else.
    """
    if isinstance(answer, str):
        return answer
    raise UserError(
        f"{what}: the answer is {answer!r} ({type(answer).__name__}), not a string. "
        'Write "" where the model gave none.'
    )


def digest(truths: Iterable[Any]) -> str:
    """Tells whether two results rest on the same truths, whatever the ids and the order."""
    each = sorted(hashlib.sha256(json.dumps(truth).encode()).digest() for truth in truths)
    return hashlib.sha256(b"".join(each)).hexdigest()[:16]


def pack(lines: Sequence[str]) -> Tensor:
    """[n] int64 that hold the lines' bytes; line ends fill the last one."""
    data = ("\n".join(lines) + "\n").encode("ascii")
    data += b"\n" * (-len(data) % _WORD)
    return torch.frombuffer(bytearray(data), dtype=torch.int64)


def unpack(packed: Tensor | None) -> list[Any]:
    """What `pack` was given, read as JSON."""
    if packed is None:
        return []
    data = packed.cpu().contiguous().numpy().tobytes()
    return [json.loads(line) for line in data.split(b"\n") if line]


def _join(parts: list[Tensor] | Tensor) -> Tensor:
    """Concatenation that passes over empty parts, whose width is not known."""
    if isinstance(parts, Tensor):
        return parts
    full = [part for part in parts if part.numel()]
    return torch.cat(full) if full else parts[0]
