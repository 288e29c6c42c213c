"""Image-text retrieval: images find their captions and captions their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.prediction_records import (
    DatasetFacts,
    PredictionRecord,
    pack_features,
    position,
    unpack_features,
)
from rsvlm.errors import UserError
from rsvlm.evaluation.base import ALONE, Evaluation, Measurement
from rsvlm.metrics.recall import Protocol, chance_of, recalls, statistics
from rsvlm.metrics.retrieval import Example, Retrieval, text_keys


class RetrievalEvaluation(Evaluation):
    """Images find their captions and captions their images; see `metrics/retrieval.py`.

    While the gallery is encoded, records hold features; once it is whole, there is a record for
    each image and for each text, with the places of all its right candidates and its ten best.

    Args:
        protocol: `remoteclip`, `rs5m` or `skyscript`.
        prefix: put before each caption; None takes the protocol's.
        block: scores computed at a time, squared.
        **shared: see `Evaluation`.
    """

    needs = "search"

    def __init__(
        self,
        *,
        protocol: Protocol = "remoteclip",
        prefix: str | None = None,
        block: int = 1024,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.metric = Retrieval(protocol, prefix=prefix, block=block)
        self.protocol, self.block = protocol, block

    def prompt(self, text: str) -> str:
        """What is encoded for a caption."""
        return self.metric.prompt(text)

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric that validation uses."""
        super().start(model, dataset, device)
        self.metric.to(device).reset()

    def update(self, model: Any, batch: Any, samples: Sequence[int] = ()) -> None:
        """Encodes a batch; without files, its features never become text."""
        if self.writer is not None:
            super().update(model, batch, samples)
            return
        images, texts = self._encode(model, batch)
        keys = text_keys(batch.texts).to(images.device)
        self.metric.update(images, texts, batch.image_of_text, batch.index, keys)

    def _encode(self, model: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images = model.encode_image(batch.images, normalize=True)
        return images, model.encode_text(batch.input_ids, normalize=True)

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Encodes images with all their captions."""
        images, texts = (part.float().cpu() for part in self._encode(model, batch))
        owner = batch.image_of_text.cpu()
        records = []
        for row, (id, name) in enumerate(zip(batch.index.tolist(), batch.ids, strict=True)):
            own = (owner == row).nonzero().flatten()
            features = {
                "image": pack_features(images[row].numpy()),
                "texts": pack_features(texts[own].numpy()),
            }
            said = [batch.texts[n] for n in own.tolist()]
            records.append(PredictionRecord(id, str(name), references=said, features=features))
        return records

    def compute(self) -> dict[str, Any]:
        """Recalls in per cent."""
        values = {word: float(value) for word, value in self.metric.compute().items()}
        # Facts are taken here, where the ranks have met.
        self.measured = Measurement(
            values, _facts(values, self.metric.counts()["images"], self.metric.chance())
        )
        return dict(values)

    def complete(
        self, records: Sequence[PredictionRecord], facts: DatasetFacts
    ) -> list[PredictionRecord]:
        """Rankings in place of features.

        Raises:
            UserError: records of which some have features and some have ranks.
        """
        del facts
        raw = [one for one in records if one.features]
        if not raw:
            return list(records)
        if len(raw) < len(records):
            raise UserError(
                f"{len(records) - len(raw)} of {len(records)} predictions hold no features: they "
                "are of another evaluation. Evaluate again, in a new folder."
            )
        metric = Retrieval(self.metric.protocol, block=self.block, **ALONE)
        for one in raw:
            images, texts = (unpack_features(one.features[k]) for k in ("image", "texts"))
            metric.update(
                torch.from_numpy(images)[None],
                torch.from_numpy(texts),
                torch.zeros(len(texts), dtype=torch.long),
                torch.tensor([position(one.id)]),
                text_keys(one.references),
            )
        known = {position(one.id): one for one in raw}
        out = []
        for way, found in zip(("i2t", "t2i"), metric.rankings(), strict=True):
            for ranking in found:
                place, caption = ranking.query
                own = known[place]
                asked = "" if way == "i2t" else own.references[caption]
                best = ranking.best
                names = [p if way == "t2i" else f"{p}#{c}" for p, c in best]
                out.append(
                    PredictionRecord(
                        place if way == "i2t" else f"{place}#{caption}",
                        own.sample,
                        question=asked,
                        ranks=ranking.ranks,
                        retrieved=[list(pair) for pair in zip(names, ranking.scores, strict=True)],
                    )
                )
        return out

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Recalls from the places of right candidates.

        Raises:
            UserError: a record without them.
        """
        del facts
        for one in records:
            if not one.ranks:
                raise UserError(
                    f"prediction {one.id!r} has no ranks: it is of another evaluation, or its "
                    "gallery was never whole. Evaluate again."
                )
        i2t = [one for one in records if not _is_text(one)]
        t2i = [one for one in records if _is_text(one)]
        best = [torch.tensor([one.ranks[0] for one in way]) for way in (i2t, t2i)]
        right = [torch.tensor([len(one.ranks) for one in way]) for way in (i2t, t2i)]
        values = {w: float(v) for w, v in recalls(self.protocol, *best).items()}
        chance = chance_of(self.protocol, (len(t2i), right[0]), (len(i2t), right[1]))
        rows = {
            name: [(position(one.id), one.ranks[0]) for one in way]
            for name, way in (("i2t", i2t), ("t2i", t2i))
        }
        about = _facts(values, len(i2t), chance)
        return Measurement(values, about, [statistics(self.protocol, rows)])

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Sheets of texts with the images they found, and the other way round."""
        from rsvlm.report import draw_retrieval

        ways = [[one for one in records if _is_text(one) == text] for text in (True, False)]
        firsts = {position(one.id): one for one in reversed(ways[0])}
        images = ways[1]
        count = min(6, len(images))
        # The middles of equal stretches of the data set, and the first caption of each.
        shown = [images[int((i + 0.5) * len(images) / count)] for i in range(count)]
        texts = [firsts[position(one.id)] for one in shown if position(one.id) in firsts]
        by_text, by_image = ([_example(one) for one in way] for way in (texts, shown))
        draw_retrieval(by_text, by_image, self.protocol, dataset, folder)


def _is_text(one: PredictionRecord) -> bool:
    return "#" in str(one.id)


def _place(id: Any) -> tuple[int, int]:
    image, _, caption = str(id).partition("#")
    return int(image), int(caption or 0)


def _example(one: PredictionRecord) -> Example:
    best = one.retrieved[:5]
    return Example(
        query=_place(one.id),
        answers=[_place(id) for id, _ in best],
        hits=[n in one.ranks for n in range(len(best))],
        scores=[score for _, score in best],
        rank=one.ranks[0] + 1,
    )


def _facts(
    values: dict[str, float], images: int, chance: dict[str, float]
) -> dict[str, dict[str, Any]]:
    return {word: {"count": images, "unit": "%", "chance": chance[word]} for word in values}
