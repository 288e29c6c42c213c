"""Captions against references, over all processes, under one named protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rsvlm.errors import UserError
from rsvlm.metrics.captions.protocols import Scores, check, score
from rsvlm.metrics.captions.records import Id, Record, distinct, fingerprint, record
from rsvlm.metrics.gather import GatherMetric

_WORD = 8  # bytes of the integers that records travel in


class Captions(GatherMetric):
    """Caption metrics of a protocol, in per cent.

    Ranks exchange their records, and the first one scores them all, so that corpus statistics and
    document frequencies are those of the whole set and METEOR's program runs once. An image that
    comes twice (samplers pad the last batch) counts once.

    What counts how: an empty prediction is an empty sentence and scores what the formula gives (0
    but for brevity of the whole corpus); one reference is enough; of zero images there is no
    value, which is an error; so are answers that are no strings (None, NaN), but for lists of
    integers under `token_ids` without a vocabulary.

    Args:
        protocol: `coco`, `nltk`, `earthdial`, `rs_rag` or `token_ids`, see
            `names.PROTOCOLS["captions"]`.
        metrics: the words wanted. None takes all of the protocol's that can run here; the others
            are then in `skipped`. A metric that is named and cannot run is an error.
        vocabulary: of protocol `token_ids`: word -> id, with an `<unk>`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    records: list[Tensor]

    def __init__(
        self,
        protocol: str = "coco",
        *,
        metrics: Sequence[str] | None = None,
        vocabulary: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__({"records": False}, **kwargs)
        check(protocol, metrics, vocabulary)  # here, and not after an epoch of generation
        self.protocol = protocol
        self.metrics = None if metrics is None else tuple(metrics)
        self.vocabulary = None if vocabulary is None else dict(vocabulary)
        self._seen = 0
        self._scored: Scores | None = None
        self._used: list[Record] = []

    def update(
        self,
        predictions: Sequence[Any],
        references: Sequence[Sequence[Any]],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            predictions: b answers.
            references: for each its references, at least one.
            ids: b positions in the data set or names. They order the images (see `ptb`) and tell
                copies; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, no references, or something that is not a string.
        """
        if ids is None:
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                raise UserError("several processes count images from 0 each: give ids to update.")
            ids = range(self._seen, self._seen + len(predictions))
        if not len(predictions) == len(references) == len(ids):
            raise UserError(
                f"{len(predictions)} predictions, {len(references)} lists of references and "
                f"{len(ids)} ids: give one of each per image."
            )
        self._seen += len(predictions)
        numbers = self.protocol == "token_ids" and self.vocabulary is None
        lines = [
            record(*one, token_ids=numbers).line()
            for one in zip(ids, predictions, references, strict=True)
        ]
        if lines:
            self.records.append(_pack(lines).to(self.device))

    def reset(self) -> None:
        """Empties the metric."""
        super().reset()
        self._seen = 0

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> corpus score in per cent.

        Afterwards `per_image`, `ids` and `skipped` hold what belongs to it, over all ranks.

        Raises:
            UserError: no images, copies that differ, or a metric that cannot run.
        """
        held = self.held("records")
        self._used = distinct(Record(i, p, tuple(r)) for i, p, r in _unpack(held))
        self._scored = self._score_once()
        return {
            word: torch.tensor(value * 100, dtype=torch.float64)
            for word, value in self._scored.corpus.items()
        }

    @property
    def ids(self) -> list[Id]:
        """[N] images of the last `compute`, in the order of `per_image`."""
        self._last()
        return [one.id for one in self._used]

    @property
    def per_image(self) -> dict[str, Tensor]:
        """Metric word -> [N] scores of single images in per cent, of the last `compute`."""
        scores = self._last().per_image
        return {
            word: torch.tensor(values, dtype=torch.float64) * 100 for word, values in scores.items()
        }

    @property
    def skipped(self) -> dict[str, str]:
        """Metric word -> why it has no value here and what to do, of the last `compute`."""
        return dict(self._last().skipped)

    def facts(self) -> dict[str, Any]:
        """What a result must carry to be compared: count, unit, references, settings."""
        self._last()
        settings: dict[str, Any] = {}
        if self.vocabulary is not None:
            words = json.dumps(sorted(self.vocabulary.items())).encode()
            digest = hashlib.sha256(words).hexdigest()[:8]
            settings["vocabulary"] = f"{len(self.vocabulary)} words, {digest}"
        return {
            "count": len(self._used),
            "empty": sum(not one.prediction.strip() for one in self._used),
            "unit": "%",
            "references": fingerprint(self._used),
            "settings": settings,
        }

    def _last(self) -> Scores:
        if self._scored is None:
            raise RuntimeError("scores are there after compute; call that first.")
        return self._scored

    def _score(self) -> Scores:
        return score(
            self.protocol,
            [one.prediction for one in self._used],
            [one.references for one in self._used],
            metrics=self.metrics,
            vocabulary=self.vocabulary,
        )

    def _score_once(self) -> Scores:
        """Scores on the first of the ranks that have met, which tells the others."""
        if not self._is_synced:
            return self._score()
        group = self.process_group
        first = dist.get_global_rank(group, 0) if group is not None else 0
        told: list[Scores | UserError | None] = [None]
        if dist.get_rank() == first:
            try:
                told[0] = self._score()
            except UserError as error:
                told[0] = error  # for all ranks, or the others would wait for good
        device = self.device if self.device.type != "cpu" else None
        dist.broadcast_object_list(told, src=first, group=group, device=device)
        found = told[0]
        if isinstance(found, Scores):
            return found
        raise found if found is not None else UserError("the first rank gave no scores.")


def _pack(lines: Sequence[str]) -> Tensor:
    """[n] int64 that hold the lines' bytes; line ends fill the last one."""
    data = ("\n".join(lines) + "\n").encode("ascii")
    data += b"\n" * (-len(data) % _WORD)
    return torch.frombuffer(bytearray(data), dtype=torch.int64)


def _unpack(packed: Tensor | None) -> list[Any]:
    if packed is None:
        return []
    data = packed.cpu().contiguous().numpy().tobytes()
    return [json.loads(line) for line in data.split(b"\n") if line]
