"""Captions against references, over all processes, under one named protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError
from rsvlm.metrics.captions.protocols import NUMBERED, Scores, check, score
from rsvlm.metrics.captions.records import Id, Record, distinct, fingerprint, record
from rsvlm.metrics.captions.statistics import statistics
from rsvlm.metrics.gather import RecordMetric, pack, unpack, with_unit
from rsvlm.metrics.intervals import Statistics


class Captions(RecordMetric):
    """Caption metrics of a protocol, in per cent.

    Ranks exchange their records, and the first one scores them all, so that corpus statistics and
    document frequencies are those of the whole set and METEOR's program runs once. An image that
    comes twice (samplers pad the last batch) counts once.

    Formula: that of each metric, see `bleu`, `rouge_l`, `cider_d`, `meteor`, `spice`; SPIDEr is the
    mean of SPICE and CIDEr-D, S*m that of BLEU-4, METEOR, ROUGE-L and CIDEr-D. Range: 0 to 100
    (CIDEr-D to 1000, S*m to 325, SPIDEr to 550). Higher is better. Protocols: coco, nltk,
    earthdial, rs_rag, token_ids, open_questions. Used in: the caption tables of the metrics' own
    entries; S*m in RSCaMa's table I.

    What counts how: an empty prediction is an empty sentence and scores what the formula gives (0
    but for brevity of the whole corpus); one reference is enough; of zero images there is no
    value, which is an error; so are answers that are no strings (None, NaN), but for lists of
    integers under `token_ids` without a vocabulary.

    Args:
        protocol: `coco`, `nltk`, `earthdial`, `rs_rag`, `token_ids` or `open_questions`, see
            `names.PROTOCOLS["captions"]`.
        metrics: the words wanted. None takes all of the protocol's that can run here; the others
            are then in `skipped`. A metric that is named and cannot run is an error.
        vocabulary: of `token_ids` and `open_questions`: word -> id, with an `<unk>`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self,
        protocol: str = "coco",
        *,
        metrics: Sequence[str] | None = None,
        vocabulary: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check(protocol, metrics, vocabulary)  # here, and not after an epoch of generation
        self.protocol = protocol
        self.metrics = None if metrics is None else tuple(metrics)
        self.vocabulary = None if vocabulary is None else dict(vocabulary)
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
        self._add(predictions, references, ids)

    def _add(
        self,
        predictions: Sequence[Any],
        references: Sequence[Sequence[Any]],
        ids: Sequence[Id] | None,
        flags: Sequence[bool | None] | None = None,
    ) -> None:
        named = len(predictions) if ids is None else len(ids)
        if not len(predictions) == len(references) == named:
            raise UserError(
                f"{len(predictions)} predictions, {len(references)} lists of references and "
                f"{named} ids: give one of each per image."
            )
        ids = self.name_items(len(predictions), ids, "image")
        numbers = self.protocol in NUMBERED and self.vocabulary is None
        rows = zip(ids, predictions, references, flags or [None] * named, strict=True)
        lines = [record(*row[:3], token_ids=numbers, flag=row[3]).line() for row in rows]
        if lines:
            self.records.append(pack(lines).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> corpus score in per cent.

        Afterwards `per_image`, `ids` and `skipped` hold what belongs to it, over all ranks.

        Raises:
            UserError: no images, copies that differ, or a metric that cannot run.
        """
        held = self.held("records")
        self._used = distinct(Record(i, p, tuple(r), flag) for i, p, r, flag in unpack(held))
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
    def used(self) -> list[Record]:
        """[N] predictions with their references, in the order of `ids`."""
        self._last()
        return list(self._used)

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

    def facts(self, word: str | None = None) -> dict[str, Any]:
        """What a result must carry to be compared: count, unit, references, settings.

        Args:
            word: the metric word; all of a protocol's rest on the same images.
        """
        self._last()
        settings: dict[str, Any] = {}
        if self.vocabulary is not None:
            words = json.dumps(sorted(self.vocabulary.items())).encode()
            digest = hashlib.sha256(words).hexdigest()[:8]
            settings["vocabulary"] = f"{len(self.vocabulary)} words, {digest}"
        return {
            "count": len(self._used),
            "empty": sum(not one.prediction.strip() for one in self._used),
            **(with_unit(word) or {"unit": "%"}),
            "references": fingerprint(self._used),
            "settings": settings,
        }

    @property
    def scores(self) -> Scores:
        """All that the last `compute` found, before it becomes per cent."""
        return self._last()

    def statistics(self) -> list[Statistics]:
        """What each image brings to the values of the last `compute`."""
        return [statistics(self._last(), [image_of(one.id) for one in self._used])]

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
        outcome: list[Scores | UserError | None] = [None]
        if dist.get_rank() == first:
            try:
                outcome[0] = self._score()
            except UserError as error:
                outcome[0] = error  # for all ranks, or the others would wait for good
        device = self.device if self.device.type != "cpu" else None
        dist.broadcast_object_list(outcome, src=first, group=group, device=device)
        found = outcome[0]
        if isinstance(found, Scores):
            return found
        raise found if found is not None else UserError("the first rank gave no scores.")
